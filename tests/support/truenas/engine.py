# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs the instances of the simulated TrueNAS: an engine in memory, for quick tests."""

from __future__ import annotations

import copy
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


class EngineError(Exception):
    """What Incus says when it fails; the middleware hands its text on without a number."""


@dataclass(frozen=True)
class File:
    """A file, a directory or a symbolic link of a root file system; content of a link is where it points to."""

    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    kind: str = "FILE"


class Engine(ABC):
    """Disks with names, which run as containers. Errors are EngineError only."""

    @abstractmethod
    def images(self) -> tuple[str, ...]:
        """Return the aliases of images."""

    @abstractmethod
    def create(self, name: str, image: str) -> None:
        """Make a stopped container."""

    @abstractmethod
    def configure(self, name: str, settings: Mapping[str, Any]) -> None:
        """Give a container its settings: cpu, memory, environment, devices, mac."""

    @abstractmethod
    def start(self, name: str) -> None:
        """Start; a running one is an error."""

    @abstractmethod
    def stop(self, name: str, timeout: int, force: bool) -> None:
        """Stop; a stopped one is an error, and so is one that does not stop in time."""

    @abstractmethod
    def status(self, name: str) -> str:
        """Return the status in capitals."""

    @abstractmethod
    def addresses(self, name: str) -> list[dict[str, Any]]:
        """Return the global addresses as the API has them."""

    @abstractmethod
    def raw(self, name: str) -> dict[str, Any]:
        """Return the object of Incus."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a stopped container with its snapshots."""

    @abstractmethod
    def snapshot(self, name: str, label: str) -> None:
        """Keep the present disk under a label."""

    @abstractmethod
    def drop_snapshot(self, name: str, label: str) -> None:
        """Forget a label."""

    @abstractmethod
    def rollback(self, name: str, label: str) -> None:
        """Put the disk of a label back."""

    @abstractmethod
    def copy(self, name: str, label: str, new: str) -> None:
        """Make another stopped disk from a label; nothing in it is changed."""

    @abstractmethod
    def rename(self, name: str, new: str) -> None:
        """Rename a stopped container with its snapshots."""

    @abstractmethod
    def look(self, name: str, path: str) -> File | None:
        """Return what is at a path of the root file system, a link itself and not what it points to."""

    @abstractmethod
    def write(self, name: str, path: str, file: File) -> None:
        """Put a file or a directory at a path whose parents are directories; an owner of -1 is root."""

    @abstractmethod
    def names(self, name: str, path: str) -> list[str]:
        """Return what is in a directory."""

    @abstractmethod
    def close(self) -> None:
        """Remove all that was made."""


def now() -> str:
    """Return the time as Incus writes it."""
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


@dataclass
class _Disk:
    files: dict[str, File]
    settings: dict[str, Any] = field(default_factory=dict)
    running: bool = False
    snapshots: dict[str, dict[str, File]] = field(default_factory=dict)
    address: str = ""
    created_at: str = field(default_factory=now)
    used_at: str = "1970-01-01T00:00:00Z"


PASSWD = b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
#: What the image has, as far as tests ask.
ROOT = {
    "/": File(kind="DIRECTORY", mode=0o755),
    "/etc": File(kind="DIRECTORY", mode=0o755),
    "/etc/hostname": File(b"image\n"),
    "/etc/passwd": File(PASSWD),
    "/etc/machine-id": File(b"", 0o444),
    "/etc/ssh": File(kind="DIRECTORY", mode=0o755),
    "/root": File(kind="DIRECTORY", mode=0o700),
    "/home": File(kind="DIRECTORY", mode=0o755),
}


class MemoryEngine(Engine):
    """Containers that are records: they start at once, have an address, and run nothing."""

    def __init__(self, images: tuple[str, ...] = ("debian/13", "ubuntu/24.04", "pixels/debian/13")) -> None:
        self._images = images
        self._disks: dict[str, _Disk] = {}
        self._numbers = itertools.count(10)
        self._lock = threading.RLock()
        #: Names of containers that do not stop unless they are forced to.
        self.stubborn: set[str] = set()
        #: Names of containers that do not start.
        self.broken: set[str] = set()

    def _disk(self, name: str) -> _Disk:
        try:
            return self._disks[name]
        except KeyError:
            raise EngineError("Instance not found") from None

    def images(self) -> tuple[str, ...]:
        return self._images

    def create(self, name: str, image: str) -> None:
        if image not in self._images:
            raise EngineError("Failed getting remote image info: The requested image couldn't be found")
        with self._lock:
            if name in self._disks:
                raise EngineError(f'Instance "{name}" already exists')
            files = {**ROOT, "/etc/hostname": File(f"{name}\n".encode())}
            self._disks[name] = _Disk(files, address=f"10.66.0.{next(self._numbers)}")

    def configure(self, name: str, settings: Mapping[str, Any]) -> None:
        self._disk(name).settings = copy.deepcopy(dict(settings))

    def start(self, name: str) -> None:
        disk = self._disk(name)
        if disk.running:
            raise EngineError("The instance is already running")
        if name in self.broken:
            raise EngineError(f"Failed to run: forkstart {name}: exit status 1")
        disk.running = True
        disk.used_at = now()
        for made in ("ed25519", "rsa"):
            path = f"/etc/ssh/ssh_host_{made}_key.pub"
            disk.files.setdefault(path, File(f"ssh-{made} KEY-OF-{name} root@{name}\n".encode()))
        if not disk.files["/etc/machine-id"].content.strip():
            disk.files["/etc/machine-id"] = File(f"{next(self._numbers):032x}\n".encode(), 0o444)

    def stop(self, name: str, timeout: int, force: bool) -> None:
        disk = self._disk(name)
        if not disk.running:
            raise EngineError("The instance is already stopped")
        if name in self.stubborn and not force:
            raise EngineError('Failed shutting down instance, status is "Running": context deadline exceeded')
        disk.running = False

    def status(self, name: str) -> str:
        return "RUNNING" if self._disk(name).running else "STOPPED"

    def addresses(self, name: str) -> list[dict[str, Any]]:
        disk = self._disk(name)
        network = self._network(disk) or {}
        return [
            {"type": "INET", "address": found["address"], "netmask": int(found["netmask"])}
            for interface in network.values()
            for found in interface["addresses"]
        ]

    def raw(self, name: str) -> dict[str, Any]:
        disk = self._disk(name)
        nics = {
            device["name"]: {"type": "nic", "name": device["name"], "nictype": "bridged", "parent": device["parent"]}
            for device in disk.settings.get("devices", ())
            if device["dev_type"] == "NIC"
        }
        return {
            "name": name,
            "status": "Running" if disk.running else "Stopped",
            "created_at": disk.created_at,
            "last_used_at": disk.used_at,
            "config": {"volatile.last_state.idmap": "[]"},
            "devices": nics,
            "expanded_devices": {
                "root": {"type": "disk", "path": "/", "pool": "tank"},
                "eth0": {"type": "nic", "name": "eth0", "network": "incusbr0"},
                **nics,
            },
            "state": {"network": self._network(disk)},
        }

    def _network(self, disk: _Disk) -> dict[str, Any] | None:
        if not disk.running:
            return None
        own = {"family": "inet", "address": disk.address, "netmask": "24", "scope": "global"}
        # as if there were a Docker in the guest
        bridge = {"family": "inet", "address": "172.17.0.1", "netmask": "16", "scope": "global"}
        return {"eth0": {"addresses": [own]}, "docker0": {"addresses": [bridge]}}

    def delete(self, name: str) -> None:
        if self._disk(name).running:
            raise EngineError("The instance is currently running")
        del self._disks[name]

    def snapshot(self, name: str, label: str) -> None:
        disk = self._disk(name)
        disk.snapshots[label] = dict(disk.files)

    def drop_snapshot(self, name: str, label: str) -> None:
        del self._disk(name).snapshots[label]

    def rollback(self, name: str, label: str) -> None:
        disk = self._disk(name)
        disk.files = dict(disk.snapshots[label])

    def copy(self, name: str, label: str, new: str) -> None:
        with self._lock:
            self._disks[new] = _Disk(dict(self._disk(name).snapshots[label]), address=f"10.66.0.{next(self._numbers)}")

    def rename(self, name: str, new: str) -> None:
        with self._lock:
            if new in self._disks:
                raise EngineError(f'Instance "{new}" already exists')
            self._disks[new] = self._disks.pop(name)

    def look(self, name: str, path: str) -> File | None:
        return self._disk(name).files.get(path)

    def write(self, name: str, path: str, file: File) -> None:
        self._disk(name).files[path] = file

    def names(self, name: str, path: str) -> list[str]:
        stem = path.rstrip("/") + "/"
        files = self._disk(name).files
        return sorted(
            found[len(stem) :]
            for found in files
            if found.startswith(stem) and "/" not in found[len(stem) :] and found != stem
        )

    def close(self) -> None:
        self._disks.clear()
