# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""TrueNAS as a backend: containers of Incus that its API manages, and their inside over SSH."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ansible_collections.pixels.sandbox.plugins.module_utils._core import accounts, identity, names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    ConfigError,
    Conflict,
    DeadlineExceeded,
    NotFound,
    OperationFailed,
    OutcomeUnknown,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_UNFINISHED,
    PROVISION_PREFIX,
    RUNNING,
    Capabilities,
    Checkpoint,
    CloneSource,
    Console,
    ExecRequest,
    ExecResult,
    FileInfo,
    Image,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Limits,
    Ssh,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.possible import check_option, check_wanted
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas import bootstrap, ssh, wire
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.lacking import Lacking
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import READ_SECONDS, Rpc, rpc_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.snapshots import Snapshots
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.state import States
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.wire import State

_POLL_SECONDS = 0.3
_READY = "INITIALIZED"
#: The one server that a TrueNAS fetches images from.
_IMAGES = "images.linuxcontainers.org"
_BUSY_TRIES = 4
_BUSY_SECONDS = 2.0
#: How long what was begun before a broken creation may take until it is found and removed.
_DISCARD_SECONDS = 120.0
Record = dict[str, Any]


def truenas_backend(options: Mapping[str, object]) -> TrueNasBackend:
    """Return the backend that the options name; nothing is sent yet."""
    key_file = os.path.expanduser(str(options.get("truenas_ssh_key") or ""))
    return TrueNasBackend(rpc_from(options), str(options.get("truenas_pool") or ""), key_file)


class TrueNasBackend(Lacking):
    """The containers of one TrueNAS.

    pool is the one that our datasets are in, "" for that of the instances. key_file is the private key that lets us into
    sandboxes, "" for none: then nothing is done inside of them.
    """

    features = wire.FEATURES

    def __init__(self, rpc: Rpc, pool: str = "", key_file: str = "", guests: ssh.Guests | None = None) -> None:
        self._rpc = rpc
        self._given_pool = pool
        self._key_file = key_file
        self._guests = guests or ssh.Guests()
        self._snapshots = Snapshots(rpc)
        self._states = States(rpc, self._snapshots, lambda: self._given_pool or str(self._virt()["pool"]))
        self._config: Record | None = None
        #: How sandboxes that were read are reached, by name, for what is told of them without another question.
        self._seen: dict[str, Ssh | None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should be told of the way to the server."""
        return self._rpc.transport.endpoint.warnings

    # -- what there is

    def capabilities(self) -> Capabilities:
        """Return what the server can do."""
        self._virt()
        try:
            cores = int(self._rpc.call("system.info", [], Deadline(READ_SECONDS))["cores"])
        except (ApiError, AuthenticationFailed, Unsupported, KeyError):
            # it takes a right that nothing else here needs
            cores = 1
        return Capabilities("truenas", self._rpc.version_text(Deadline(READ_SECONDS)), cores=cores)

    def list_instances(self, addresses: bool = True) -> tuple[Instance, ...]:  # noqa: ARG002
        """Return the px- instances, sorted by name, and what is left of those that are gone."""
        entries = {names.bare(str(entry["name"])): entry for entry in self._query(["name", "^", names.PREFIX])}
        states = self._states.all()
        found = {name: self._instance(entry, states.get(name)) for name, entry in entries.items()}
        found.update({name: wire.leftover(name, state) for name, state in states.items() if name not in entries})
        return tuple(found[name] for name in sorted(found))

    def get_instance(self, name: str) -> Instance | None:
        """Return the instance called px-<name>, with its addresses."""
        entry, state = self._entry(name), self._states.get(name)
        if entry is None:
            return wire.leftover(name, state) if state else None
        return self._instance(entry, state)

    def list_images(self) -> tuple[Image, ...]:
        """Return the images that the server offers, by the names that it has for them; it has more, which it does not list."""
        choices = self._rpc.call("virt.instance.image_choices", [], Deadline(READ_SECONDS))
        return tuple(
            Image("", (alias,), description=str(entry.get("label") or "")) for alias, entry in sorted(choices.items())
        )

    def is_busy(self, name: str) -> bool:
        """Say whether a job on the instance is running."""
        jobs = self._rpc.call(
            "core.get_jobs",
            [[["state", "in", ["WAITING", "RUNNING"]], ["method", "^", "virt.instance."]], {}],
            Deadline(READ_SECONDS),
        )
        wanted = names.server_name(name)
        for job in jobs:
            first = (job.get("arguments") or [None])[0]
            if wanted == (first.get("name") if isinstance(first, Mapping) else first):
                return True
        return False

    # -- making and changing

    def check_origin(self, origin: ImageSource | CloneSource) -> None:
        """Raise ConfigError where the checkpoint is missing; which images there are only a creation tells."""
        if isinstance(origin, ImageSource) and origin.server and urlsplit(origin.server).hostname != _IMAGES:
            raise Unsupported(f"image_server: TrueNAS takes images from {_IMAGES} and from no other server")
        if isinstance(origin, CloneSource) and origin.label is not None:
            labels = [checkpoint.label for checkpoint in self.list_checkpoints(origin.instance)]
            if origin.label not in labels:
                there = ", ".join(labels) or "none"
                raise ConfigError(f"clone_from: {origin.instance} has no checkpoint {origin.label}; it has: {there}")

    def create_instance(self, spec: InstanceSpec, deadline: Deadline) -> None:
        """Make a stopped sandbox from an image or as a clone; see the interface."""
        check_wanted(self.features, spec)
        if spec.origin is None:
            check_option(self.features, "base")
        if spec.type != "container":
            raise Unsupported("type: virtual machines of TrueNAS are no sandboxes of this collection")
        if spec.target:
            raise Unsupported("target: TrueNAS is one server")
        self._check_network(spec.network)
        if isinstance(spec.origin, ImageSource):
            self.check_origin(spec.origin)
        if isinstance(spec.origin, CloneSource):
            self._clone(spec, spec.origin, deadline)
        elif isinstance(spec.origin, ImageSource):
            self._create(spec, spec.origin, deadline)

    def update_instance(self, instance: Instance, change: InstanceChange, deadline: Deadline) -> None:
        """Change the instance if it still is what was read."""
        check_wanted(self.features, change)
        self._check_network(change.network)
        name = instance.name

        def carry_out(state: State) -> State:
            entry = self._entry(name)
            if entry is None:
                raise NotFound(f"{name} is not there", 404)
            if wire.revision(entry, state if wire.is_ours(entry, state) else None) != instance.revision:
                raise Conflict(f"{name} was changed by somebody else meanwhile", 412)
            body: Record = wire.limits_to_wire(change.limits)
            if change.autostart is not None:
                body["autostart"] = change.autostart
            if body:
                self._rpc.job("virt.instance.update", [names.server_name(name), body], deadline)
            if change.network is not None:
                self._set_network(name, change.network, deadline)
            keys = {**state.keys, **change.keys}
            return replace(state, keys={key: value for key, value in keys.items() if value is not None})

        self._states.change(name, carry_out, deadline)

    def set_power(self, name: str, action: str, deadline: Deadline, force: bool = False) -> None:
        """Do start, stop or restart."""
        if action in ("freeze", "unfreeze"):
            check_option(self.features, "freeze")
        entry = self._there(name)
        status = str(entry["status"])
        if action in ("start", "restart"):
            self._finish_restore(name, deadline)
        if action == "start" and status == "RUNNING":
            raise OperationFailed(f"{name} is already running")
        if action == "stop" and status == "STOPPED":
            raise OperationFailed(f"{name} is already stopped")
        params: list[object] = [names.server_name(name)]
        if action != "start":
            # the API takes no shutdown without an end, which is ours
            params.append({"timeout": -1, "force": True} if force else {"timeout": _whole(deadline), "force": False})
        self._rpc.job(f"virt.instance.{action}", params, deadline)

    def delete_instance(self, name: str, deadline: Deadline) -> None:
        """Delete a stopped instance with its checkpoints."""
        entry, state = self._entry(name), self._states.get(name)
        if entry is None and state is None:
            raise NotFound(f"{name} is not there", 404)
        if entry is not None:
            if _runs(entry):
                # the server would switch it off by itself
                raise OperationFailed(f"{name} is {str(entry['status']).lower()}: only a stopped instance is deleted")
            self._check_owned(name, entry, state)
            self._drop_snapshots(self._dataset(entry), deadline)
            self._delete(name, deadline)
        if state is not None:
            self._drop_own_snapshot(name, state, deadline)
            self._states.drop(name, deadline)

    # -- checkpoints

    def list_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return the checkpoints, oldest first."""
        entry = self._there(name)
        state = self._states.get(name)
        protected = wire.protected_labels(state.keys if state else {})
        return tuple(
            wire.checkpoint_from_wire(record, protected)
            for record in self._records(entry)
            if str(record["snapshot_name"]).startswith(wire.CHECKPOINT)
        )

    def create_checkpoint(self, name: str, label: str, expires_at: datetime | None, deadline: Deadline) -> None:
        """Take a checkpoint of the disk, and keep what is recorded of it."""
        if expires_at is not None:
            # nobody would remove it
            check_option(self.features, "expires")
        entry = self._there(name)

        def carry_out(state: State) -> State:
            self._check_owned(name, entry, state)
            try:
                self._snapshots.create(self._dataset(entry), wire.CHECKPOINT + label, deadline)
            except Conflict as exc:
                raise Conflict(f"the label {label} is taken", 409) from exc
            return replace(state, disks={**_kept(state, {label}), **_disk(label, state.keys)})

        self._states.change(name, carry_out, deadline)

    def delete_checkpoint(self, name: str, label: str, deadline: Deadline) -> None:
        """Delete a checkpoint; one that a clone needs is refused, with the clone's name."""
        dataset = self._dataset(self._there(name))
        found = self._snapshots.get(dataset, wire.CHECKPOINT + label)
        if found is None:
            raise NotFound(f"{name} has no checkpoint {label}", 404)
        self._check_unneeded(name, [found])
        self._snapshots.delete(dataset, wire.CHECKPOINT + label, deadline)
        self._states.change(name, lambda state: replace(state, disks=_kept(state, {label})), deadline)

    def is_whole(self, instance: Instance, label: str) -> bool:
        """Say whether the checkpoint is there: ZFS makes it as a whole or not at all."""
        entry = self._there(instance.name)
        return self._snapshots.get(self._dataset(entry), wire.CHECKPOINT + label) is not None

    def restore_checkpoint(self, instance: Instance, label: str, deadline: Deadline) -> None:
        """Put the disk back; what is kept of the sandbox stays, but for what is recorded of the disk."""
        name = instance.name
        entry = self._there(name)
        self._rpc.check_permitted([self._snapshots.method("rollback")], Deadline(READ_SECONDS))
        if _runs(entry):
            raise OperationFailed(f"{name} is {str(entry['status']).lower()}: only a stopped one is restored")
        if self._snapshots.get(self._dataset(entry), wire.CHECKPOINT + label) is None:
            raise NotFound(f"{name} has no checkpoint {label}", 404)

        def begin(state: State) -> State:
            self._check_owned(name, entry, state)
            # until the disk is back nobody is told that it was more than what it may be
            keys = {key: value for key, value in state.keys.items() if not key.startswith(PROVISION_PREFIX)}
            return replace(state, restoring=label, keys=keys)

        self._states.change(name, begin, deadline)
        self._finish_restore(name, deadline)

    def lost_by_restore(self, instance: Instance, label: str) -> tuple[str, ...]:
        """Return the labels that ZFS cannot keep; ConfigError for snapshots that are in the way and not ours to remove.

        AuthenticationFailed says that the user of the key may not restore, before anything is stopped or removed for it.
        """
        self._rpc.check_permitted([self._snapshots.method("rollback")], Deadline(READ_SECONDS))
        newer = self._newer(self._there(instance.name), wire.CHECKPOINT + label)
        foreign = [text for record in newer if not (text := str(record["snapshot_name"])).startswith(_OURS)]
        if foreign:
            raise ConfigError(
                f"{instance.name} cannot go back to {label}: there are newer snapshots that are not ours, "
                f"{', '.join(foreign)}; remove them on the server"
            )
        self._check_unneeded(instance.name, newer)
        labels = [str(record["snapshot_name"]) for record in newer]
        return tuple(text.removeprefix(wire.CHECKPOINT) for text in labels if text.startswith(wire.CHECKPOINT))

    # -- inside

    def execute(self, name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        """Run a command and wait for its end."""
        way = self._way(name)
        return self._guests.execute(way, request, self._account(name, way, request.user), deadline)

    def console(self, name: str, command: Sequence[str]) -> Console:
        """Return what a person types to run a command on a terminal in the sandbox."""
        way = self._seen.get(name)
        if way is None:
            # of one that is not running, or that nothing lets us into, nobody knows the address
            return Console(f"echo {shlex.quote(f'{name} has no address, or no key of ours')}")
        return Console(ssh.console(way, tuple(command)))

    def account(self, name: str, user: str) -> accounts.Account:
        """Return an account of the guest; ConfigError when there is none of that name."""
        if user in ("root", "0"):
            return accounts.ROOT
        return self._account(name, self._way(name), user)

    def has_file(self, name: str, path: str) -> bool:
        """Say whether there is anything at the path in the sandbox."""
        return self._guests.has_file(self._way(name, files=True), path)

    def read_file(self, name: str, path: str, target: BinaryIO) -> FileInfo:
        """Copy a file out of the sandbox."""
        return self._guests.read_file(self._way(name, files=True), path, target)

    def write_file(
        self, name: str, path: str, source: BinaryIO, mode: int | None = None, uid: int = 0, gid: int = 0
    ) -> None:
        """Copy an open binary file into the sandbox."""
        self._guests.write_file(self._way(name, files=True), path, source, mode, uid, gid)

    def delete_file(self, name: str, path: str) -> None:
        """Delete a file in the sandbox."""
        self._guests.delete_file(self._way(name, files=True), path)

    def close(self) -> None:
        """Close what is open."""
        self._rpc.close()

    # -- private: reading

    def _virt(self) -> Record:
        """Return the settings of the server's virtualisation; ConfigError while it is not there for use."""
        if self._config is None:
            config = dict(self._rpc.call("virt.global.config", [], Deadline(READ_SECONDS)))
            if config.get("state") != _READY:
                raise ConfigError(
                    f"{self._server}: its instances are {config.get('state')}: choose a pool for them and wait until they are {_READY}"
                )
            self._config = config
        return self._config

    @property
    def _server(self) -> str:
        return self._rpc.transport.endpoint.url

    def _query(self, condition: list[str]) -> list[Record]:
        """Return entries of containers with the record of Incus in them.

        The server answers as if there were none while its virtualisation is not ready: that is no proof of absence.
        """
        self._virt()
        filters = [condition, ["type", "=", "CONTAINER"]]
        found = self._rpc.call("virt.instance.query", [filters, {"extra": {"raw": True}}], Deadline(READ_SECONDS))
        if not found:
            self._config = None
            self._virt()
        return [dict(entry) for entry in found]

    def _entry(self, name: str) -> Record | None:
        found = self._query(["id", "=", names.server_name(name)])
        return found[0] if found else None

    def _there(self, name: str) -> Record:
        entry = self._entry(name)
        if entry is None:
            raise NotFound(f"{name} is not there", 404)
        return entry

    def _instance(self, entry: Record, state: State | None) -> Instance:
        found = wire.instance_from_wire(entry, state, self._key_file)
        self._seen[found.name] = found.ssh
        return found

    @staticmethod
    def _check_owned(name: str, entry: Record, state: State | None) -> None:
        """Raise NotFound unless the state is that of this very instance."""
        if not wire.is_ours(entry, state):
            raise NotFound(f"the instance {names.server_name(name)} was not made by this collection", 404)

    @staticmethod
    def _dataset(entry: Record) -> str:
        return f"{entry['storage_pool']}/.ix-virt/containers/{entry['name']}"

    def _records(self, entry: Record) -> list[Record]:
        return self._snapshots.records(self._dataset(entry))

    def _newer(self, entry: Record, snapshot: str) -> list[Record]:
        records = self._records(entry)
        known = [str(record["snapshot_name"]) for record in records]
        return records[known.index(snapshot) + 1 :] if snapshot in known else []

    def _check_unneeded(self, name: str, records: Sequence[Record]) -> None:
        """Raise ConfigError where clones need the disk of a snapshot."""
        for record in records:
            clones = [names.bare(dataset.rpartition("/")[2]) for dataset in wire.clones_of(record)]
            if clones:
                label = str(record["snapshot_name"]).removeprefix(wire.CHECKPOINT)
                raise ConfigError(
                    f"{label} of {name} has clones that share its disk, and goes only after them: {', '.join(clones)}"
                )

    # -- private: what cannot be

    def _check_network(self, network: str | None) -> None:
        if network is None:
            return
        there = sorted(self._rpc.call("virt.device.nic_choices", ["BRIDGED"], Deadline(READ_SECONDS)))
        if network not in there:
            raise ConfigError(f"network: there is no network {network}; there are: {', '.join(there) or 'none'}")

    def _check_pool(self, pool: str | None) -> str:
        config = self._virt()
        there = [str(name) for name in config.get("storage_pools") or [config["pool"]]]
        if pool is not None and pool not in there:
            raise ConfigError(f"pool: there is no pool {pool}; there are: {', '.join(there)}")
        return pool or str(config["pool"])

    # -- private: creating

    def _create(self, spec: InstanceSpec, origin: ImageSource, deadline: Deadline) -> None:
        pool = self._check_pool(spec.pool)
        authorized = bootstrap.public_key(self._key_file) if self._key_file else ""
        self._permit("virt.instance.start", "virt.instance.stop", *([bootstrap.NEEDS] if authorized else []))
        state = State(keys=spec.keys, mark=secrets.token_hex(16), image=origin.name)
        with self._making(spec, state, deadline) as claimed:
            body = wire.create_to_wire(spec, origin.name, spec.limits, pool, state.mark)
            try:
                self._make(spec.name, body, state, deadline)
            except OperationFailed as exc:
                raise self._or_unknown_image(origin, exc) from exc
            host_key = ""
            if authorized:
                # the disk has a path on the server only while it is in use; nobody but the image's own init runs meanwhile
                self.set_power(spec.name, "start", deadline)
                host_key = bootstrap.let_in(self._rpc, self._there(spec.name), authorized, deadline)
                self.set_power(spec.name, "stop", deadline, force=True)
            self._finish(spec, claimed, replace(claimed, host_key=host_key), deadline)

    def _clone(self, spec: InstanceSpec, origin: CloneSource, deadline: Deadline) -> None:
        """Make a shell, and give it a clone of the source's disk in place of its own.

        The shell is made by this very call and holds nothing, so nothing of any worth is ever destroyed; all else is looked at before it.
        """
        entry = self._entry(origin.instance)
        source = self._states.get(origin.instance)
        if entry is None or source is None or not wire.is_ours(entry, source):
            raise ConfigError(f"clone_from: there is no sandbox {origin.instance}")
        self.check_origin(origin)
        pool = self._check_pool(spec.pool)
        if spec.pool is None:
            pool = str(entry["storage_pool"])
        if pool != entry["storage_pool"]:
            raise ConfigError(f"pool: {origin.instance} is in {entry['storage_pool']}, and so are its clones")
        if not self._key_file or not source.host_key:
            raise ConfigError(
                f"clone_from: a clone of {origin.instance} gets an identity of its own over SSH, which needs truenas_ssh_key here and when the "
                "source was made"
            )
        self._permit("virt.instance.start", "virt.instance.stop", self._snapshots.method("clone"), bootstrap.NEEDS)
        label, dataset = origin.label, self._dataset(entry)
        snapshot = wire.CHECKPOINT + label if label else wire.CLONE + spec.name
        present = Limits(_first(spec.limits.cpu, _cpu(entry)), _first(spec.limits.memory, entry.get("memory")))
        of_disk = source.disks.get(label, {}) if label else source.keys
        kept = {key: value for key, value in of_disk.items() if key.startswith(PROVISION_PREFIX)}
        state = State(
            keys={**kept, **spec.keys},
            mark=secrets.token_hex(16),
            image=source.image,
            host_key=source.host_key,
            depends_on=f"{origin.instance}:{label}" if label else origin.instance,
            snapshot="" if label else f"{dataset}@{snapshot}",
        )
        with self._making(spec, state, deadline) as claimed:
            # by its fingerprint the server finds the image among those that it has fetched, however old it is
            image = self._instance(entry, source).image_fingerprint or source.image
            body = wire.create_to_wire(spec, image, present, pool, state.mark)
            made = self._make(spec.name, body, state, deadline)
            if not label:
                self._snapshots.create(dataset, snapshot, deadline)
            self._rpc.call("zfs.dataset.delete", [self._dataset(made), {"recursive": True}], deadline)
            self._snapshots.clone(dataset, snapshot, self._dataset(made), deadline)
            host_key = self._give_identity(spec.name, deadline)
            self._finish(spec, claimed, replace(claimed, host_key=host_key), deadline)

    @contextlib.contextmanager
    def _making(self, spec: InstanceSpec, state: State, deadline: Deadline) -> Any:
        """Claim the name, and clear away what a failure left behind that the name was claimed for."""
        name = spec.name
        if self._entry(name) is not None:
            raise Conflict(f"the name {name} is taken", 409)
        try:
            self._states.claim(name, state, deadline)
        except Conflict as exc:
            raise Conflict(f"the name {name} is taken", 409) from exc
        try:
            yield state
        except DeadlineExceeded as exc:
            left = (
                f"what there is of {names.server_name(name)} is marked as unfinished, and the next run makes it again"
            )
            raise DeadlineExceeded(f"{exc}; {left}") from exc
        except PixelsError as exc:
            try:
                self._discard(name)
            except PixelsError as left:
                raise OperationFailed(
                    f"{exc}; what there is of {names.server_name(name)} could not be removed ({left}): it is marked as unfinished, "
                    "and the next run makes it again"
                ) from exc
            raise

    def _make(self, name: str, body: Record, state: State, deadline: Deadline) -> Record:
        """Create an instance and return its entry; Conflict where somebody else has made one of this name meanwhile."""
        try:
            self._rpc.job("virt.instance.create", [body], deadline)
        except OutcomeUnknown:
            # what became of it is seen by looking
            while self.is_busy(name):
                deadline.pause(_POLL_SECONDS, f"create {name}")
            if self._entry(name) is None:
                raise
        except ApiError as exc:
            there = self._entry(name)
            if there is not None and not wire.is_ours(there, state):
                raise Conflict(f"the name {name} is taken", 409) from exc
            raise
        return self._there(name)

    def _or_unknown_image(self, origin: ImageSource, exc: OperationFailed) -> PixelsError:
        """Return what a failed creation means: an image that the server does not list may be one that there is not."""
        there = [alias for image in self.list_images() for alias in image.aliases]
        if origin.name in there or "image" not in str(exc).lower():
            return exc
        return ConfigError(
            f"image: the server found no {origin.name} ({exc}); among those it has are: {', '.join(there)}"
        )

    def _give_identity(self, name: str, deadline: Deadline) -> str:
        """Boot a clone, which shows the host key of its source until it has one of its own, and stop it again."""
        self.set_power(name, "start", deadline)
        while (way := self._instance(self._there(name), self._states.get(name)).ssh) is None:
            deadline.pause(_POLL_SECONDS, f"{name} has no address")
        host_key = identity.give_identity(ssh.GuestFiles(self._guests, way), names.server_name(name))
        self.set_power(name, "stop", deadline, force=True)
        if not host_key:
            raise OperationFailed(f"{name} has no SSH host key of the kind ed25519: its source lost it")
        return host_key

    def _finish(self, spec: InstanceSpec, before: State, after: State, deadline: Deadline) -> None:
        """Leave what was wanted, and take the mark of being unfinished away."""
        if spec.autostart:
            self._rpc.job("virt.instance.update", [names.server_name(spec.name), {"autostart": True}], deadline)
        keys = {key: value for key, value in after.keys.items() if key != KEY_UNFINISHED}
        self._states.put(spec.name, before, replace(after, keys=keys), deadline)

    def _discard(self, name: str) -> None:
        """Remove what a failed creation left, and nothing that others have made."""
        deadline = Deadline(_DISCARD_SECONDS)
        state = self._states.get(name)
        entry = self._entry(name)
        if entry is not None and wire.is_ours(entry, state):
            if _runs(entry):
                self.set_power(name, "stop", deadline, force=True)
            self._delete(name, deadline)
        if state is not None:
            self._drop_own_snapshot(name, state, deadline)
        self._states.drop(name, deadline)

    def _permit(self, *methods: str) -> None:
        """Raise AuthenticationFailed, before anything is made, for all that the user of the key may not do of what is ahead."""
        always = ("virt.instance.create", "virt.instance.update", "virt.instance.delete")
        datasets = ("pool.dataset.create", "pool.dataset.update", "pool.dataset.delete")
        snapshots = [self._snapshots.method(verb) for verb in ("create", "delete")]
        self._rpc.check_permitted([*always, *datasets, *snapshots, *methods], Deadline(READ_SECONDS))

    # -- private: changing

    def _set_network(self, name: str, network: str, deadline: Deadline) -> None:
        server_name = names.server_name(name)
        devices = self._rpc.call("virt.instance.device_list", [server_name], deadline)
        own = any(device.get("name") == wire.NIC and not device.get("readonly") for device in devices)
        verb = "device_update" if own else "device_add"
        self._rpc.call(f"virt.instance.{verb}", [server_name, wire.nic_to_wire(network)], deadline)

    def _delete(self, name: str, deadline: Deadline) -> None:
        """Delete an instance; the server is busy with its disk for a moment now and then."""
        for turn in range(_BUSY_TRIES):
            try:
                self._rpc.job("virt.instance.delete", [names.server_name(name)], deadline)
                return
            except NotFound:
                return
            except OutcomeUnknown:
                if self._entry(name) is None:
                    return
            except ApiError as exc:
                if self._entry(name) is None:
                    return
                if turn == _BUSY_TRIES - 1 or "busy" not in str(exc).lower():
                    raise
            deadline.pause(_BUSY_SECONDS, f"delete {name}")

    def _drop_snapshots(self, dataset: str, deadline: Deadline) -> None:
        """Delete our snapshots of a disk that is to go; those with clones stay, and the server keeps the disk for them."""
        for record in reversed(self._snapshots.records(dataset)):
            if str(record["snapshot_name"]).startswith(_OURS) and not wire.clones_of(record):
                with contextlib.suppress(NotFound):
                    self._snapshots.delete(dataset, str(record["snapshot_name"]), deadline)

    def _drop_own_snapshot(self, name: str, state: State, deadline: Deadline) -> None:
        """Delete the snapshot of the source that was made for this clone; where the source is gone, so is the snapshot's name."""
        dataset, _at, snapshot = state.snapshot.partition("@")
        if snapshot == wire.CLONE + name:
            with contextlib.suppress(ApiError):
                self._snapshots.delete(dataset, snapshot, deadline)

    def _finish_restore(self, name: str, deadline: Deadline) -> None:
        """Turn the disk back if there is a restore that has not ended, and record what is known of the disk that it has then."""
        state = self._states.get(name)
        if state is None or not state.restoring:
            return
        label = state.restoring
        entry = self._there(name)
        dataset = self._dataset(entry)
        for record in reversed(self._newer(entry, wire.CHECKPOINT + label)):
            # left by a clone that is gone: nothing needs it
            if str(record["snapshot_name"]).startswith(wire.CLONE) and not wire.clones_of(record):
                self._snapshots.delete(dataset, str(record["snapshot_name"]), deadline)
        self._snapshots.rollback(dataset, wire.CHECKPOINT + label, deadline)

        def end(now: State) -> State:
            return replace(now, restoring="", keys={**now.keys, **now.disks.get(label, {})})

        self._states.change(name, end, deadline)

    # -- private: inside

    def _way(self, name: str, files: bool = False) -> Ssh:
        """Return how a sandbox is reached, for its files or a command; what says why it is not reached says how to mend it."""
        found = self.get_instance(name)
        if found is None or found.pool is None:
            raise NotFound(f"{name} is not there", 404)
        if found.status != RUNNING:
            text = f"{name} is {found.status}: TrueNAS lets nobody into a sandbox that does not run"
            raise Unsupported(text) if files else OperationFailed(text)
        if found.ssh is None:
            if not self._key_file:
                raise ConfigError(f"{name} is reached over SSH: truenas_ssh_key is not given")
            if not found.addresses:
                raise OperationFailed(f"{name} has no address yet")
            raise ConfigError(f"{name} was made without truenas_ssh_key: nothing lets us in")
        return found.ssh

    def _account(self, name: str, way: Ssh, user: str) -> accounts.Account:
        if user in ("root", "0"):
            return accounts.ROOT
        passwd = io.BytesIO()
        self._guests.read_file(way, accounts.PASSWD, passwd)
        account = accounts.find_account(passwd.getvalue().decode("utf-8", "replace"), user)
        if account is None:
            raise ConfigError(f"user {user!r} does not exist in {name}")
        return account


_OURS = (wire.CHECKPOINT, wire.CLONE)


def _disk(label: str, keys: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what is recorded of a disk, for its checkpoint."""
    found = {key: value for key, value in keys.items() if key.startswith(PROVISION_PREFIX)}
    return {label: found} if found else {}


def _kept(state: State, without: set[str]) -> dict[str, Mapping[str, str]]:
    return {label: keys for label, keys in state.disks.items() if label not in without}


def _runs(entry: Record) -> bool:
    """Say whether anything of an instance may run; one without its dataset is in error, and does not."""
    return str(entry["status"]) not in ("STOPPED", "ERROR")


def _whole(deadline: Deadline) -> int:
    return max(1, int(deadline.left()))


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _cpu(entry: Record) -> int | None:
    text = str(entry.get("cpu") or "")
    return int(text) if text.isdigit() else None
