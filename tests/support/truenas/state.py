# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the simulated TrueNAS remembers: users, datasets and their snapshots, instances; and how it refuses."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support.truenas.dialects import Dialect
from support.truenas.engine import Engine, EngineError
from support.truenas.schema import Details

ENOENT, EFAULT, EBUSY, EEXIST, EINVAL, EACCES = 2, 14, 16, 17, 22, 13
NOT_LOGGED_IN = 207
POOL = "tank"
#: The hidden root of what Incus has on a pool.
HIDDEN = ".ix-virt"
_INCUS_NAME = re.compile(r"(?!\d+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


class Refused(Exception):
    """A CallError of the middleware: a text and a number, EFAULT when nobody gave one."""

    def __init__(self, reason: str, number: int = EFAULT) -> None:
        super().__init__(reason)
        self.number = number


class Invalid(Exception):
    """ValidationErrors of the middleware."""

    def __init__(self, details: Details) -> None:
        super().__init__("; ".join(f"[{field or ''}] {words}" for field, words, _number in details))
        self.details = details


def not_found(words: str) -> Invalid:
    """Return how the middleware says that something is not there: as an invalid request, the number in its details."""
    return Invalid([[None, words, ENOENT]])


@dataclass(frozen=True)
class User:
    """Who may log in; roles are those of TrueNAS, FULL_ADMIN has all."""

    name: str
    api_key: str = field(repr=False)
    roles: frozenset[str] = frozenset({"FULL_ADMIN"})
    #: What a login is answered with beside SUCCESS.
    answer: str = "SUCCESS"

    def may(self, needed: tuple[str, ...]) -> bool:
        """Say whether the user has one of the roles; no role at all needs a login only."""
        return not needed or "FULL_ADMIN" in self.roles or bool(self.roles & set(needed))


@dataclass
class Snapshot:
    """A snapshot of a dataset."""

    label: str
    txg: int
    created: float
    properties: dict[str, str] = field(default_factory=dict)


@dataclass
class Dataset:
    """A dataset; disk is what the engine calls its content, origin the snapshot that it is a clone of."""

    name: str
    user_properties: dict[str, str] = field(default_factory=dict)
    comments: str = ""
    origin: str = ""
    disk: str = ""
    mountpoint: str = ""
    snapshots: dict[str, Snapshot] = field(default_factory=dict)

    @property
    def hidden(self) -> bool:
        """Whether pool.dataset methods keep it to themselves."""
        return HIDDEN in self.name.split("/")


@dataclass
class Instance:
    """An instance as the middleware keeps it; its disk is that of its dataset."""

    name: str
    image: str
    pool: str
    cpu: str | None = None
    memory: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    autostart: bool = True
    devices: list[dict[str, Any]] = field(default_factory=list)
    privileged: bool = False

    @property
    def dataset(self) -> str:
        """The name of its root dataset."""
        return f"{self.pool}/{HIDDEN}/containers/{self.name}"


class State:
    """The whole of a simulated TrueNAS behind its API; safe for many threads."""

    def __init__(self, dialect: Dialect, engine: Engine, users: Mapping[str, User]) -> None:
        self.dialect = dialect
        self.engine = engine
        self.users = dict(users)
        self.lock = threading.RLock()
        self.initialized = True
        self.cores = 8
        self.memory = 16 << 30
        self.instances: dict[str, Instance] = {}
        names = (POOL, f"{POOL}/{HIDDEN}", f"{POOL}/{HIDDEN}/containers", f"{POOL}/{HIDDEN}/deleted", f"{POOL}/apps")
        self.datasets = {name: Dataset(name, mountpoint=f"/mnt/{name}") for name in names}
        #: Files of the NAS itself by path: what a host-side write did outside of a container.
        self.nas_files: dict[str, bytes] = {}
        self._txg = itertools.count(1000)
        self._disks = itertools.count(1)

    # -- instances

    def instance(self, name: str) -> Instance:
        """Return an instance; Invalid with ENOENT in its details when it is not there."""
        self.need_virt()
        found = self.instances.get(name)
        if found is None:
            raise not_found(f"VirtInstance {name} does not exist")
        return found

    def need_virt(self) -> None:
        """Refuse as long as there is no Incus."""
        if not self.initialized:
            raise Refused("Virtualization not initialized.")

    def status(self, instance: Instance) -> str:
        """Return the status; an instance without its dataset cannot run."""
        disk = self.disk_of(instance)
        if not disk:
            return "ERROR" if instance.name in self.instances else "UNKNOWN"
        try:
            return self.engine.status(disk)
        except EngineError:
            return "UNKNOWN"

    def disk_of(self, instance: Instance) -> str:
        """Return the disk in the place of an instance's root, empty when nothing is there."""
        dataset = self.datasets.get(instance.dataset)
        return dataset.disk if dataset else ""

    def raw(self, instance: Instance) -> dict[str, Any]:
        """Return the object of Incus, as if the engine's pool were that of the NAS."""
        found: dict[str, Any] = self._run(self.engine.raw, self.disk_of(instance))
        root = {**found["expanded_devices"]["root"], "pool": instance.pool}
        return {**found, "expanded_devices": {**found["expanded_devices"], "root": root}}

    def create(self, instance: Instance) -> None:
        """Have the engine make an instance; its name is checked there."""
        if not _INCUS_NAME.fullmatch(instance.name):
            raise Refused(f'Invalid instance name: Name "{instance.name}" is not a valid hostname')
        self._run(self.engine.create, instance.name, instance.image)
        with self.lock:
            self.datasets[instance.dataset] = Dataset(instance.dataset, disk=instance.name, mountpoint="legacy")
            self.instances[instance.name] = instance
        self.configure(instance)

    def configure(self, instance: Instance) -> None:
        """Have the engine take over the settings of an instance."""
        disk = self.disk_of(instance)
        if disk:
            self._run(
                self.engine.configure,
                disk,
                {
                    "cpu": instance.cpu,
                    "memory": instance.memory,
                    "environment": instance.environment,
                    "devices": instance.devices,
                    "privileged": instance.privileged,
                },
            )

    def start(self, instance: Instance) -> None:
        """Start an instance."""
        disk = self.disk_of(instance)
        if not disk:
            raise Refused(f"Failed to run: storage volume of {instance.name} not found: dataset does not exist")
        self._run(self.engine.start, disk)

    def stop(self, instance: Instance, timeout: int, force: bool) -> None:
        """Stop an instance."""
        self._run(self.engine.stop, self.disk_of(instance), timeout, force)

    def remove(self, instance: Instance) -> None:
        """Delete an instance; a dataset whose snapshots have clones stays, out of the way."""
        dataset = self.datasets.get(instance.dataset)
        if dataset and dataset.disk:
            if self.status(instance) == "RUNNING":
                self._run(self.engine.stop, dataset.disk, -1, True)
            self._run(self.engine.delete, dataset.disk)
        with self.lock:
            self.instances.pop(instance.name, None)
            if dataset is None:
                return
            del self.datasets[dataset.name]
            kept = {
                label: found for label, found in dataset.snapshots.items() if self.clones(f"{dataset.name}@{label}")
            }
            if kept:
                moved = Dataset(f"{instance.pool}/{HIDDEN}/deleted/{next(self._disks)}", snapshots=kept)
                self._adopt_clones(dataset.name, moved.name)
                self.datasets[moved.name] = moved

    def _run(self, work: Any, *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except EngineError as exc:
            raise Refused(str(exc)) from exc

    # -- datasets

    def clones(self, snapshot: str) -> list[str]:
        """Return the datasets that are clones of a snapshot."""
        return sorted(name for name, dataset in self.datasets.items() if dataset.origin == snapshot)

    def _adopt_clones(self, old: str, new: str) -> None:
        for dataset in self.datasets.values():
            if dataset.origin.startswith(f"{old}@"):
                dataset.origin = f"{new}@{dataset.origin.partition('@')[2]}"

    def children(self, name: str) -> list[str]:
        """Return a dataset's name and those of all below it."""
        return [found for found in self.datasets if found == name or found.startswith(f"{name}/")]

    def destroy(self, name: str, recursive: bool) -> None:
        """Destroy a dataset as ZFS does: what it has below or as snapshots needs recursion, clones forbid it."""
        with self.lock:
            if name not in self.datasets:
                raise Refused(f"cannot open '{name}': dataset does not exist", ENOENT)
            names = self.children(name)
            for found in names:
                dataset = self.datasets[found]
                if (len(names) > 1 or dataset.snapshots) and not recursive:
                    raise Refused(f"cannot destroy '{name}': filesystem has children", EBUSY)
                foreign = [
                    clone
                    for label in dataset.snapshots
                    for clone in self.clones(f"{found}@{label}")
                    if clone not in names
                ]
                if foreign:
                    raise Refused(
                        f"cannot destroy '{name}': filesystem has dependent clones: {', '.join(foreign)}", EBUSY
                    )
                if dataset.disk and self._run(self.engine.status, dataset.disk) == "RUNNING":
                    raise Refused(f"cannot destroy '{found}': dataset is busy", EBUSY)
            for found in names:
                dataset = self.datasets.pop(found)
                if dataset.disk:
                    self._run(self.engine.delete, dataset.disk)

    def rename(self, name: str, new: str) -> None:
        """Rename a dataset with its snapshots; one that takes the place of an instance's root becomes it."""
        with self.lock:
            if name not in self.datasets:
                raise Refused(f"cannot open '{name}': dataset does not exist", ENOENT)
            if new in self.datasets:
                raise Refused(f"cannot rename '{name}': dataset already exists", EEXIST)
            if new.rpartition("/")[0] not in self.datasets:
                raise Refused(f"cannot rename '{name}': parent does not exist", ENOENT)
            if name.partition("/")[0] != new.partition("/")[0]:
                raise Refused(f"cannot rename '{name}': datasets must be within same pool", EINVAL)
            disk = self.datasets[name].disk
            if disk and self._run(self.engine.status, disk) == "RUNNING":
                raise Refused(f"cannot rename '{name}': dataset is busy", EBUSY)
            for found in self.children(name):
                dataset = self.datasets.pop(found)
                dataset.name = new + found[len(name) :]
                self.datasets[dataset.name] = dataset
                self._adopt_clones(found, dataset.name)
            self._place(self.datasets[new])

    def _place(self, dataset: Dataset) -> None:
        """Have the engine call a disk by the instance in whose place it is now."""
        if not dataset.disk:
            return
        owner = next((found for found in self.instances.values() if found.dataset == dataset.name), None)
        name = owner.name if owner else f"ix-disk-{next(self._disks)}"
        if dataset.disk != name:
            self._run(self.engine.rename, dataset.disk, name)
            dataset.disk = name
        if owner:
            self.configure(owner)

    def promote(self, name: str) -> None:
        """Turn a clone and its origin around: snapshots up to the origin go over."""
        with self.lock:
            dataset = self.datasets.get(name)
            if dataset is None:
                raise not_found(f"Dataset {name} does not exist")
            if not dataset.origin:
                raise Refused(f"cannot promote '{name}': not a cloned filesystem", EINVAL)
            raise Refused("the simulation does not promote")

    # -- snapshots

    def dataset(self, name: str) -> Dataset:
        """Return a dataset, hidden or not."""
        found = self.datasets.get(name)
        if found is None:
            raise Refused(f"cannot open '{name}': dataset does not exist", ENOENT)
        return found

    def snapshot(self, identity: str) -> tuple[Dataset, Snapshot]:
        """Return a snapshot and its dataset by C(dataset@label)."""
        name, _at, label = identity.partition("@")
        dataset = self.datasets.get(name)
        if dataset is None or label not in dataset.snapshots:
            raise Refused(f"could not find any snapshots to destroy; check snapshot names: {identity}", ENOENT)
        return dataset, dataset.snapshots[label]

    def take(self, name: str, label: str) -> Snapshot:
        """Take a snapshot."""
        with self.lock:
            dataset = self.dataset(name)
            if not re.fullmatch(r"[A-Za-z0-9_.: -]+", label):
                raise Refused(f"Failed to snapshot {name}@{label}: invalid character in name", EINVAL)
            if label in dataset.snapshots:
                raise Refused(f"Failed to snapshot {name}@{label}: dataset already exists", EEXIST)
            if dataset.disk:
                self._run(self.engine.snapshot, dataset.disk, label)
            dataset.snapshots[label] = found = Snapshot(label, next(self._txg), time.time())
            return found

    def drop(self, identity: str, defer: bool) -> None:
        """Delete a snapshot; its clones forbid it."""
        with self.lock:
            dataset, snapshot = self.snapshot(identity)
            clones = self.clones(identity)
            if clones and not defer:
                words = f"Please set this attribute as '{identity}' snapshot has dependent clones: {', '.join(clones)}"
                raise Invalid([["options.defer", words, EINVAL]])
            if dataset.disk:
                self._run(self.engine.drop_snapshot, dataset.disk, snapshot.label)
            del dataset.snapshots[snapshot.label]

    def roll_back(self, identity: str, recursive: bool, clones_too: bool) -> None:
        """Roll a dataset back; newer snapshots need recursion, and are lost by it."""
        with self.lock:
            dataset, snapshot = self.snapshot(identity)
            newer = [found for found in dataset.snapshots.values() if found.txg > snapshot.txg]
            if newer and not recursive:
                names = "\n".join(f"{dataset.name}@{found.label}" for found in newer)
                words = "more recent snapshots or bookmarks exist\nuse '-r' to force deletion of the following:"
                raise Refused(f"cannot rollback to '{identity}': {words}\n{names}")
            held = [clone for found in newer for clone in self.clones(f"{dataset.name}@{found.label}")]
            if held and not clones_too:
                raise Refused(f"cannot rollback to '{identity}': clones of previous snapshots exist: {', '.join(held)}")
            if dataset.disk and self._run(self.engine.status, dataset.disk) == "RUNNING":
                raise Refused(f"cannot rollback to '{identity}': dataset is busy", EBUSY)
            for clone in held:
                self.destroy(clone, True)
            for found in newer:
                if dataset.disk:
                    self._run(self.engine.drop_snapshot, dataset.disk, found.label)
                del dataset.snapshots[found.label]
            if dataset.disk:
                self._run(self.engine.rollback, dataset.disk, snapshot.label)
                self._place(dataset)

    def clone(self, identity: str, target: str, properties: Mapping[str, Any]) -> None:
        """Clone a snapshot to a dataset that is not there yet, in the same pool."""
        with self.lock:
            dataset, snapshot = self.snapshot(identity)
            if target in self.datasets:
                raise Refused(f"cannot create '{target}': dataset already exists", EEXIST)
            if target.partition("/")[0] != dataset.name.partition("/")[0]:
                raise Refused(f"cannot create '{target}': source and target are in different pools", EINVAL)
            if target.rpartition("/")[0] not in self.datasets:
                raise Refused(f"cannot create '{target}': parent does not exist", ENOENT)
            disk = ""
            if dataset.disk:
                disk = f"ix-disk-{next(self._disks)}"
                self._run(self.engine.copy, dataset.disk, snapshot.label, disk)
            mountpoint = str(properties.get("mountpoint", f"/mnt/{target}"))
            users = {name: str(value) for name, value in properties.items() if ":" in name}
            made = Dataset(target, origin=identity, disk=disk, mountpoint=mountpoint, user_properties=users)
            self.datasets[target] = made
            self._place(made)
