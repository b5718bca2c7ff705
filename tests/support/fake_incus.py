# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Incus in memory behind the transport: strict, stateful, and answering as Incus 6.0.4 was seen to.

What it does not know — a path, a key of a body, a configuration key — is not guessed: it fails the test. It is
trusted because the contract tests pass against it and against a real server alike.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import IO, Any, BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConnectionFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import Endpoint
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import Response, Transport
from support.fake_guest import FakeCommand, FakeDisk, FakeFile, FakeSocket, image_disk

NEVER = "0001-01-01T00:00:00Z"
FINGERPRINT = hashlib.sha256(b"image").hexdigest()
RUNNING = {"status": "Running", "status_code": 103}
SUCCESS = {"status": "Success", "status_code": 200}
POWER = {"Running": 103, "Stopped": 102, "Frozen": 110}
CONFIG_KEYS = re.compile(
    r"user\..+|image\..+|volatile\..+|boot\.autostart|snapshots\.expiry|limits\.(cpu|memory|processes)|raw\.(lxc|idmap|apparmor|seccomp)"
    r"|security\.(guestapi|privileged|nesting|idmap\.isolated|syscalls\.(deny|deny_default))"
)
CONTAINER_KEYS = re.compile(
    r"limits\.processes|raw\.(lxc|idmap|seccomp)|security\.(privileged|nesting|idmap\..+|syscalls\..+)"
)
DEVICE_KEYS = {
    "disk": {"type", "path", "pool", "size", "source", "readonly", "shift"},
    "nic": {
        "type",
        "name",
        "network",
        "nictype",
        "mode",
        "parent",
        "hwaddr",
        "ipv4.address",
        "ipv6.address",
        "host_name",
    },
    "proxy": {"type", "bind", "listen", "connect"},
    "none": {"type"},
}
BODIES: Mapping[str, set[str]] = {
    "instance": {"name", "type", "source", "architecture", "config", "devices", "profiles", "description"},
    "migration": {"migration", "live", "instance_only"},
    "update": {
        "architecture",
        "config",
        "devices",
        "ephemeral",
        "profiles",
        "stateful",
        "description",
        "restore",
    },
    "rename": {"name"},
    "state": {"action", "timeout", "force", "stateful"},
    "snapshot": {"name", "stateful", "expires_at"},
    "profile": {"name", "description", "config", "devices"},
    "exec": {"command", "environment", "wait-for-websocket", "interactive", "user", "group"},
}
SOURCES = {
    "image": {"type", "alias", "fingerprint", "mode", "server", "protocol"},
    "copy": {"type", "source", "instance_only", "refresh"},
    "migration": {"type", "mode", "operation", "certificate", "secrets", "instance_only"},
    "none": {"type"},
}

Record = dict[str, Any]


class Unexpected(AssertionError):
    """A request that the fake does not know: a mistake, or something new to teach it."""


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class FakeSnapshot:
    """A snapshot; one that is hollow has a record and no volume, as a killed server leaves it."""

    record: Record
    disk: FakeDisk
    hollow: bool = False


@dataclass
class FakeInstance:
    """An instance: what the API shows of it, its disk, and its snapshots by label."""

    record: Record
    disk: FakeDisk
    snapshots: dict[str, FakeSnapshot] = field(default_factory=dict)
    address: str = ""

    @property
    def status(self) -> str:
        """The power state in the words of the API."""
        return str(self.record["status"])

    @status.setter
    def status(self, status: str) -> None:
        self.record.update(status=status, status_code=POWER[status])


@dataclass
class FakeOperation:
    """An operation; pending is how many more waits end before it does."""

    record: Record
    project: str
    pending: int = 0
    command: FakeCommand | None = None


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    method: str
    path: str
    params: Mapping[str, str]
    body: Any = None


@dataclass(frozen=True)
class Asked:
    """A request on its way through the routes."""

    method: str
    project: str
    params: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]
    into: BinaryIO | None


class FakeIncus:
    """The server; C(transport) gives a connection to one of its projects."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.instances: dict[tuple[str, str], FakeInstance] = {}
        self.operations: dict[str, FakeOperation] = {}
        self.profiles: dict[tuple[str, str], Record] = {}
        self.images: list[Record] = []
        self.pools: dict[str, Record] = {}
        self.networks: dict[str, Record] = {}
        self.projects: list[str] = []
        #: Called with the seconds of a wait that ends before its operation: a test moves its clock.
        self.waited: Callable[[int], None] = lambda seconds: None
        #: Waits of the next operations that end before the operation does.
        self.stall: list[int] = []
        #: Called before each request: a test changes something meanwhile, or raises.
        self.before: Callable[[Seen], None] = lambda seen: None
        self.ignores_shutdown = False
        self.virtual_machines = False
        #: Where other servers reach this one, what it shows them there, and the servers that it reaches itself.
        self.host = ""
        self.certificate = f"certificate {uuid.uuid4()}"
        self.peers: list[FakeIncus] = []
        self.offers: dict[str, tuple[Record, FakeSnapshot]] = {}
        self._failures: list[tuple[str, str, int]] = []
        self._crashes: list[str] = []
        self._lock = threading.RLock()
        self._moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
        self._count = 0
        self.add_project("default")
        self.add_pool("pixels")
        self.add_network("pixels0")
        self.add_image("debian/13")

    # -- what a test sets up

    def transport(self, project: str = "") -> FakeTransport:
        """Return a transport to a project."""
        return FakeTransport(self, project)

    def listen(self, host: str, *peers: FakeIncus) -> None:
        """Let other servers reach this one, and this one the peers."""
        self.host = host
        self.peers = list(peers)

    def add_project(self, name: str) -> None:
        """Make a project with an empty default profile."""
        self.projects.append(name)
        self.profiles[name, "default"] = {"name": "default", "description": "", "config": {}, "devices": {}}

    def add_pool(self, name: str, driver: str = "btrfs") -> None:
        """Make a pool."""
        self.pools[name] = {"name": name, "driver": driver, "config": {}, "status": "Created"}

    def add_network(self, name: str, *, managed: bool = True) -> None:
        """Make a network."""
        self.networks[name] = {"name": name, "type": "bridge", "managed": managed, "config": {}}

    def add_image(self, alias: str, fingerprint: str = FINGERPRINT) -> None:
        """Put an image into the store."""
        self.images.append(
            {
                "fingerprint": fingerprint,
                "aliases": [{"name": alias, "description": ""}],
                "type": "container",
                "properties": {"description": f"Image {alias}", "os": "Debian"},
            }
        )

    def fail(self, description: str, message: str = "Failed at it", code: int = 400) -> None:
        """Let the next operation of this description (as V(Creating instance)) fail; nothing of it stays."""
        self._failures.append((description, message, code))

    def crash(self, description: str) -> None:
        """Let the server die after the next operation of this description has made its record, and no more."""
        self._crashes.append(description)

    def sent(self, method: str) -> list[str]:
        """Return the paths of the requests of a method, in order."""
        return [seen.path for seen in self.requests if seen.method == method]

    def written(self) -> list[str]:
        """Return the requests that change something, as method and path."""
        return [f"{seen.method} {seen.path}" for seen in self.requests if seen.method != "GET"]

    def instance(self, name: str, project: str = "default") -> FakeInstance:
        """Return an instance by its name on the server."""
        return self.instances[project, name]

    # -- the way of a request

    def answer(
        self,
        method: str,
        target: str,
        body: Any,
        headers: Mapping[str, str],
        into: BinaryIO | None,
    ) -> Response:
        """Answer a request."""
        parts = urlsplit(target)
        params = dict(parse_qsl(parts.query))
        path = unquote(parts.path)
        seen = Seen(method, path, params, body)
        self.before(seen)
        with self._lock:
            self.requests.append(seen)
            project = params.pop("project", "default")
            asked = Asked(method, project, params, body, {name.lower(): value for name, value in headers.items()}, into)
            try:
                # as Incus does: a list of instances of a project that is not there is just empty
                if project not in self.projects and not path.endswith("/instances"):
                    raise Refused(404, "Project not found")
                for pattern, route in _ROUTES:
                    if found := pattern.fullmatch(path):
                        return route(self, asked, *found.groups())
            except Refused as exc:
                return _error(exc.code, str(exc))
        raise Unexpected(f"{method} {target}")

    # -- the server

    def _server(self, asked: Asked) -> Response:
        _only(asked, "GET")
        driver = "lxc | qemu" if self.virtual_machines else "lxc"
        environment = {"server_version": "6.0.4", "driver": driver, "server_clustered": False, "storage": "btrfs"}
        environment["certificate"] = self.certificate
        return _sync({"auth": "trusted", "api_extensions": [], "environment": environment})

    def _resources(self, asked: Asked) -> Response:
        _only(asked, "GET")
        return _sync({"cpu": {"total": 2}})

    def _project(self, asked: Asked, name: str) -> Response:
        _only(asked, "GET")
        if name not in self.projects:
            raise Refused(404, "Project not found")
        return _sync({"name": name})

    def _pools(self, asked: Asked, name: str | None) -> Response:
        return self._collection(asked, self.pools, name, "Storage pool not found")

    def _networks(self, asked: Asked, name: str | None) -> Response:
        return self._collection(asked, self.networks, name, "Network not found")

    def _network_state(self, asked: Asked, name: str) -> Response:
        _only(asked, "GET")
        if name not in self.networks:
            raise Refused(404, "Network not found")
        return _sync({"hwaddr": "10:66:6a:ff:00:01", "state": "up"})

    @staticmethod
    def _collection(asked: Asked, records: Mapping[str, Record], name: str | None, missing: str) -> Response:
        _only(asked, "GET")
        if name is None:
            assert asked.params.get("recursion") == "1"
            return _sync(list(records.values()))
        if name not in records:
            raise Refused(404, missing)
        return _sync(records[name])

    def _images(self, asked: Asked) -> Response:
        _only(asked, "GET")
        assert asked.params.get("recursion") == "1"
        return _sync(self.images)

    def _volume(self, asked: Asked, pool: str, name: str, label: str) -> Response:
        _only(asked, "GET")
        found = self.instances.get((asked.project, name))
        snapshot = found.snapshots.get(label) if found else None
        if pool not in self.pools:
            raise Refused(404, "Storage pool not found")
        if snapshot is None or snapshot.hollow:
            raise Refused(404, "Storage pool volume not found")
        return _sync({"name": label, "content_type": "filesystem"})

    # -- profiles

    def _profiles(self, asked: Asked) -> Response:
        _only(asked, "GET", "POST")
        if asked.method == "GET":
            assert asked.params.get("recursion") == "1"
            return _sync([record for (project, _key), record in self.profiles.items() if project == asked.project])
        body = _body(asked, "profile")
        key = (asked.project, str(body["name"]))
        if key in self.profiles:
            raise Refused(500, f'Error inserting "{key[1]}" into database: The profile already exists')
        self.profiles[key] = {"description": "", "config": {}, "devices": {}, **body}
        return _sync(None, status=201)

    def _profile(self, asked: Asked, name: str) -> Response:
        _only(asked, "GET", "DELETE")
        record = self.profiles.get((asked.project, name))
        if record is None:
            raise Refused(404, "Profile not found")
        if asked.method == "GET":
            return _sync(record, etag=_etag(record))
        if any(name in instance.record["profiles"] for instance in self._of(asked.project)):
            raise Refused(400, "Profile is currently in use")
        del self.profiles[asked.project, name]
        return _sync({})

    # -- instances

    def _of(self, project: str) -> list[FakeInstance]:
        return [instance for (owner, _key), instance in self.instances.items() if owner == project]

    def _get(self, project: str, name: str) -> FakeInstance:
        try:
            return self.instances[project, name]
        except KeyError:
            message = f'Failed to fetch instance "{name}" in project "{project}": Instance not found'
            raise Refused(404, message) from None

    def _instances(self, asked: Asked) -> Response:
        _only(asked, "GET", "POST")
        if asked.method == "GET":
            recursion = asked.params["recursion"]
            assert recursion in ("1", "2")
            return _sync([self._shown(instance, state=recursion == "2") for instance in self._of(asked.project)])
        return self._create(asked)

    def _instance(self, asked: Asked, name: str) -> Response:
        _only(asked, "GET", "PUT", "POST", "DELETE")
        instance = self._get(asked.project, name)
        if asked.method == "POST" and "migration" in asked.body:
            return self._offer(asked, instance)
        if asked.method == "POST":
            return self._rename(asked, instance)
        if asked.method == "GET":
            shown = self._shown(instance, state=asked.params.get("recursion") == "1")
            return _sync(shown, etag=_etag(instance.record))
        if asked.method == "DELETE":
            if instance.status != "Stopped":
                raise Refused(400, "Instance is running")
            return self._run(asked, "Deleting instance", name, lambda: self._delete(asked.project, name))
        body = _body(asked, "update")
        wanted = asked.headers.get("if-match", "").strip('"')
        if wanted and wanted != _etag(instance.record):
            raise Refused(412, f"ETag doesn't match: {_etag(instance.record)} vs {wanted}")
        if "restore" in body:
            if set(body) != {"restore"}:
                raise Unexpected(f"restore and more in one body: {body}")
            return self._run(asked, "Restoring snapshot", name, lambda: self._restore(name, instance, body["restore"]))
        missing = BODIES["update"] - {"restore"} - set(body)
        if missing:
            raise Unexpected(f"a PUT replaces all: {missing} would be lost")
        return self._run(asked, "Updating instance", name, lambda: self._update(instance, body))

    def _rename(self, asked: Asked, instance: FakeInstance) -> Response:
        old, new = str(instance.record["name"]), str(_body(asked, "rename")["name"])
        if (asked.project, new) in self.instances:
            raise Refused(400, f'Name "{new}" already in use')
        if instance.status != "Stopped":
            raise Refused(400, "Renaming of running instance not allowed")

        def rename() -> None:
            del self.instances[asked.project, old]
            instance.record["name"] = new
            self.instances[asked.project, new] = instance

        return self._run(asked, "Renaming instance", old, rename)

    def _delete(self, project: str, name: str) -> None:
        del self.instances[project, name]

    def _shown(self, instance: FakeInstance, *, state: bool) -> Record:
        record = copy.deepcopy(instance.record)
        expanded_config: dict[str, str] = {}
        expanded_devices: dict[str, Record] = {}
        for profile in record["profiles"]:
            expanded_config.update(self.profiles[record["project"], profile]["config"])
            expanded_devices.update(copy.deepcopy(self.profiles[record["project"], profile]["devices"]))
        record["expanded_config"] = {**expanded_config, **record["config"]}
        record["expanded_devices"] = {**expanded_devices, **copy.deepcopy(record["devices"])}
        if state:
            record["state"] = {"status": record["status"], "network": _network(instance)}
            record["snapshots"] = None
        return record

    def _create(self, asked: Asked) -> Response:
        body = _body(asked, "instance")
        name = str(body["name"])
        source = body["source"]
        unknown = set(source) - SOURCES[source["type"]]
        if unknown:
            raise Unexpected(f"unknown in a source: {unknown}")
        for profile in body.get("profiles") or ["default"]:
            if (asked.project, profile) not in self.profiles:
                raise Refused(500, f'Requested profile "{profile}" doesn\'t exist')
        origin = None
        if source["type"] == "copy":
            origin = self._origin(asked.project, source)
        elif source["type"] == "migration":
            origin = self._fetched(body)
        if source.get("refresh"):
            return self._refresh(asked, name, origin)
        return self._run(asked, "Creating instance", name, lambda: self._make(asked.project, body, origin))

    def _refresh(self, asked: Asked, name: str, origin: FakeSnapshot | None) -> Response:
        """Replace a disk; all else of the instance stays as it is."""
        assert origin is not None
        instance = self._get(asked.project, name)
        if instance.status != "Stopped":
            raise Refused(400, "Cannot refresh a running instance")
        disk = origin.disk.copy()
        return self._run(asked, "Creating instance", name, lambda: setattr(instance, "disk", disk))

    def _origin(self, project: str, source: Record) -> FakeSnapshot:
        """Return what is copied: a snapshot, or an instance as it is now."""
        name, _slash, label = str(source["source"]).partition("/")
        instance = self._get(project, name)
        if not label:
            return FakeSnapshot(instance.record, instance.disk)
        if label not in instance.snapshots:
            message = f'Failed to fetch snapshot "{label}" of instance "{name}": Instance_snapshot not found'
            raise Refused(404, message)
        return instance.snapshots[label]

    def _offer(self, asked: Asked, instance: FakeInstance) -> Response:
        """Begin to give an instance to another server, once, to who has the secrets."""
        assert _body(asked, "migration") == {"migration": True, "live": False, "instance_only": True}
        if instance.status != "Stopped":
            raise Refused(400, "Instance is running")
        operation = self._operation(asked, "Migrating instance", instance.record["name"])
        operation.record["metadata"] = {name: uuid.uuid4().hex for name in ("control", "fs")}
        self.offers[operation.record["id"]] = (
            operation.record["metadata"],
            FakeSnapshot(instance.record, instance.disk.copy()),
        )
        return _async(operation.record)

    def _fetched(self, body: Record) -> FakeSnapshot:
        """Return what a server that this one reaches gives; of its record nothing comes along."""
        source = body["source"]
        if not body.get("architecture"):
            raise Refused(400, "Architecture isn't supported: ")
        assert source["mode"] == "pull"
        assert source["instance_only"]
        found = re.fullmatch(r"https://([^:/]+):8443/1\.0/operations/([^/]+)", source["operation"])
        peer = next((peer for peer in self.peers if found and peer.host == found[1]), None)
        if found is None or peer is None:
            raise Refused(400, f"Failed to connect to {source['operation']}: no route to host")
        if source["certificate"] != peer.certificate:
            raise Refused(400, "x509: certificate signed by unknown authority")
        secrets, given = peer.offers.pop(found[2], ({}, None))
        if given is None or secrets != source["secrets"]:
            raise Refused(403, "Forbidden")
        peer.operations[found[2]].record.update(SUCCESS)
        return FakeSnapshot({"config": {}, "devices": {}}, given.disk)

    def _make(self, project: str, body: Record, origin: FakeSnapshot | None) -> None:
        name = str(body["name"])
        if (project, name) in self.instances:
            raise Refused(400, "Failed creating instance record: UNIQUE constraint failed: instances.name")
        if origin:
            # what the request does not name comes along, but for what belongs to one instance alone
            kept = {
                key: value
                for key, value in origin.record["config"].items()
                if not key.startswith("volatile.") or key == "volatile.base_image"
            }
            config = {**kept, **(body.get("config") or {})}
            devices = {**copy.deepcopy(origin.record["devices"]), **(body.get("devices") or {})}
            disk = origin.disk.copy()
        elif body["source"]["type"] == "none":
            config, devices, disk = dict(body["config"]), body["devices"], FakeDisk()
        else:
            image = self._image(body["source"])
            config = {"image.description": image["properties"]["description"], **(body.get("config") or {})}
            config["volatile.base_image"] = image["fingerprint"]
            devices = body.get("devices") or {}
            disk = image_disk()
        record = {
            "name": name,
            "project": project,
            "architecture": "x86_64",
            "config": config,
            "devices": devices,
            # an empty list is none at all
            "profiles": ["default"] if body.get("profiles") is None else body["profiles"],
            "type": body.get("type", "container"),
            "ephemeral": False,
            "stateful": False,
            "description": body.get("description", ""),
            "created_at": self._now(),
            "last_used_at": "1970-01-01T00:00:00Z",
            "location": "none",
        }
        config["volatile.uuid"] = str(uuid.uuid4())
        instance = FakeInstance(copy.deepcopy(record), disk)
        instance.status = "Stopped"
        self._check(instance.record)
        self._wire(instance)
        self.instances[project, name] = instance

    def _image(self, source: Record) -> Record:
        if source.get("server"):
            raise Refused(400, f"Failed getting image info: Get {source['server']}: no such host")
        for image in self.images:
            names = [alias["name"] for alias in image["aliases"]]
            wanted = source.get("fingerprint")
            if source.get("alias") in names or (wanted and image["fingerprint"].startswith(wanted)):
                return image
        raise Refused(400, "Image not provided for instance creation")

    def _check(self, record: Record) -> None:
        """Refuse what Incus refuses, and fail the test for what the fake does not know."""
        for key, value in record["config"].items():
            if not CONFIG_KEYS.fullmatch(key):
                raise Unexpected(f"configuration key {key}")
            assert isinstance(value, str), f"{key}: the API takes text alone, not {value!r}"
            if record["type"] == "virtual-machine" and CONTAINER_KEYS.fullmatch(key):
                raise Refused(400, f"Invalid config: Unknown configuration key: {key}")
        if not re.fullmatch(r"\d*", record["config"].get("limits.cpu", "")):
            raise Refused(400, "Invalid config: Invalid CPU limit syntax")
        shown = self._shown(FakeInstance(record, FakeDisk()), state=False)
        for name, device in shown["expanded_devices"].items():
            unknown = set(device) - DEVICE_KEYS[device["type"]]
            if unknown:
                raise Unexpected(f"device {name}: {unknown}")
            if device["type"] == "nic" and "network" in device and device["network"] not in self.networks:
                raise Refused(400, f'Invalid devices: Device "{name}": Network not found')
        roots = [d for d in shown["expanded_devices"].values() if d["type"] == "disk" and d.get("path") == "/"]
        if len(roots) != 1:
            raise Refused(400, "Failed initializing instance: Failed getting root disk: No root device could be found")
        if roots[0].get("pool") not in self.pools:
            raise Refused(400, "Failed initializing instance: Storage pool not found")

    def _wire(self, instance: FakeInstance) -> None:
        """Give each NIC a MAC of its own, as the server does."""
        for name, device in self._shown(instance, state=False)["expanded_devices"].items():
            key = f"volatile.{name}.hwaddr"
            if device["type"] == "nic" and key not in instance.record["config"]:
                instance.record["config"][key] = ":".join(re.findall("..", f"10666a{uuid.uuid4().hex[:6]}"))

    def _update(self, instance: FakeInstance, body: Record) -> None:
        changed = {**instance.record, **copy.deepcopy(body)}
        for profile in changed["profiles"]:
            if (changed["project"], profile) not in self.profiles:
                raise Refused(400, f'Failed to load profile "{profile}"')
        self._check(changed)
        for name, device in instance.record["devices"].items():
            # whatever the request says of it, a NIC that gets another type gets another MAC
            if name in changed["devices"] and _nic_type(device) != _nic_type(changed["devices"][name]):
                changed["config"].pop(f"volatile.{name}.hwaddr", None)
        instance.record.update(changed)
        self._wire(instance)

    def _restore(self, name: str, instance: FakeInstance, label: str) -> None:
        if instance.status != "Stopped":
            raise Unexpected("a running sandbox is restarted by a restore: it has to be stopped before")
        snapshot = instance.snapshots.get(label)
        if snapshot is None or snapshot.hollow:
            raise Refused(400, f"Snapshot {name}/{label} does not exist")
        for field_ in ("config", "devices", "profiles", "description"):
            instance.record[field_] = copy.deepcopy(snapshot.record[field_])
        instance.disk = snapshot.disk.copy()

    # -- power

    def _state(self, asked: Asked, name: str) -> Response:
        _only(asked, "PUT")
        instance = self._get(asked.project, name)
        body = _body(asked, "state")
        words = {
            "start": "Starting",
            "stop": "Stopping",
            "restart": "Restarting",
            "freeze": "Freezing",
            "unfreeze": "Unfreezing",
        }
        if body["action"] not in words:
            raise Refused(400, f"Unknown action: '{body['action']}'")
        return self._run(asked, f"{words[body['action']]} instance", name, lambda: self._power(instance, body))

    def _power(self, instance: FakeInstance, body: Record) -> None:
        action, status = body["action"], instance.status
        if action == "start" and status != "Stopped":
            raise Refused(400, "The instance is already running")
        if action in ("stop", "restart") and status == "Stopped":
            raise Refused(400, "The instance is already stopped")
        if action == "freeze" and status != "Running":
            raise Refused(
                400, "The instance isn't running" if status == "Stopped" else "The container is already frozen"
            )
        if action == "unfreeze" and status != "Frozen":
            raise Refused(400, "The container is already running")
        if action in ("stop", "restart") and self.ignores_shutdown and not body["force"]:
            self.waited(int(body["timeout"]))
            raise Refused(400, 'Failed shutting down instance, status is "Running": context deadline exceeded')
        instance.status = {"stop": "Stopped", "freeze": "Frozen"}.get(action, "Running")
        instance.address = "" if action == "stop" else instance.address
        if action in ("start", "restart"):
            self._count += 1
            instance.address = f"10.0.0.{self._count}"
            instance.record["last_used_at"] = self._now()
            instance.record["config"]["volatile.last_state.power"] = "RUNNING"
            machine_id = instance.disk.files.get("/etc/machine-id")
            if machine_id and not machine_id.content:
                instance.disk.files["/etc/machine-id"] = FakeFile(f"{uuid.uuid4().hex}\n".encode(), mode=0o444)

    # -- snapshots

    def _snapshots(self, asked: Asked, name: str) -> Response:
        _only(asked, "GET", "POST")
        instance = self._get(asked.project, name)
        if asked.method == "GET":
            assert asked.params.get("recursion") == "1"
            return _sync([snapshot.record for snapshot in instance.snapshots.values()])
        body = _body(asked, "snapshot")
        return self._run(asked, "Snapshotting instance", name, lambda: self._take(instance, body))

    def _take(self, instance: FakeInstance, body: Record) -> None:
        label = str(body["name"])
        if label in instance.snapshots:
            raise Refused(400, f'Failed creating instance snapshot record "{label}": UNIQUE constraint failed')
        record = copy.deepcopy(instance.record)
        record.update(
            name=label,
            created_at=self._now(),
            expires_at=body.get("expires_at") or self._expiry(instance),
            size=16384,
        )
        instance.snapshots[label] = FakeSnapshot(record, instance.disk.copy())

    def _expiry(self, instance: FakeInstance) -> str:
        """Return when a snapshot goes that was given no time of its own."""
        days = self._shown(instance, state=False)["expanded_config"].get("snapshots.expiry")
        return (
            (self._moment + timedelta(days=int(days.removesuffix("d")))).strftime("%Y-%m-%dT%H:%M:%SZ")
            if days
            else NEVER
        )

    def _snapshot(self, asked: Asked, name: str, label: str) -> Response:
        _only(asked, "GET", "DELETE")
        instance = self._get(asked.project, name)
        if label not in instance.snapshots:
            message = f'Failed to fetch snapshot "{label}" of instance "{name}": Instance_snapshot not found'
            raise Refused(404, message)
        if asked.method == "GET":
            return _sync(instance.snapshots[label].record, etag=_etag(instance.snapshots[label].record))
        return self._run(asked, "Deleting snapshot", name, lambda: instance.snapshots.pop(label))

    # -- files

    def _files(self, asked: Asked, name: str) -> Response:
        _only(asked, "GET", "HEAD", "POST", "DELETE")
        disk = self._get(asked.project, name).disk
        path = asked.params["path"]
        if asked.method == "POST":
            return self._write(asked, disk, path)
        found = disk.files.get(path)
        if found is None:
            raise Refused(404, "Not Found")
        if asked.method == "DELETE":
            del disk.files[path]
            return _sync({})
        headers = {
            "x-incus-type": found.type,
            "x-incus-mode": f"{found.mode:04o}",
            "x-incus-uid": str(found.uid),
            "x-incus-gid": str(found.gid),
        }
        if found.type == "directory":
            answer = _sync(disk.names(path))
            if asked.into is not None:
                asked.into.write(answer.content)
            keeps = asked.into is None and asked.method != "HEAD"
            return Response(200, {**answer.headers, **headers}, answer.content if keeps else b"")
        if asked.into is not None and asked.method == "GET":
            asked.into.write(found.content)
            return Response(200, headers)
        return Response(200, headers, b"" if asked.method == "HEAD" else found.content)

    @staticmethod
    def _write(asked: Asked, disk: FakeDisk, path: str) -> Response:
        headers = asked.headers
        assert headers["x-incus-type"] == "file"
        assert headers["x-incus-write"] == "overwrite"
        content = asked.body if isinstance(asked.body, bytes) else asked.body.read()
        mode = headers.get("x-incus-mode")
        new = FakeFile(
            content,
            mode=int(mode, 8) if mode else 0o644,
            uid=int(headers["x-incus-uid"]),
            gid=int(headers["x-incus-gid"]),
        )
        if not disk.write(path, new, keep_mode=mode is None):
            raise Refused(404, "Not Found")
        return _sync({})

    # -- commands

    def _exec(self, asked: Asked, name: str) -> Response:
        _only(asked, "POST")
        instance = self._get(asked.project, name)
        body = _body(asked, "exec")
        if instance.status != "Running":
            raise Refused(400, f"Instance is {'frozen' if instance.status == 'Frozen' else 'not running'}")
        assert body["wait-for-websocket"], "only commands behind websockets are hidden from others"
        operation = self._operation(asked, "Executing command", name)
        operation.command = FakeCommand(list(body["command"]))
        fds = {fd: f"{fd}-{uuid.uuid4().hex}" for fd in ("0", "1", "2", "control")}
        operation.record["metadata"] = {"fds": fds, "command": body["command"], "environment": body["environment"]}
        return _async(operation.record)

    def connect(self, path: str, params: Mapping[str, str]) -> FakeSocket:
        """Connect a websocket of an operation."""
        found = re.fullmatch(r"/1\.0/operations/([^/]+)/websocket", path)
        operation = self.operations.get(found[1]) if found else None
        if operation is None or operation.command is None:
            raise Unexpected(f"websocket {path}")
        for name, secret in operation.record["metadata"]["fds"].items():
            if secret == params["secret"]:
                return operation.command.connect(name)
        raise ConnectionFailed("the fake refused a websocket")

    # -- operations

    def _operation(self, asked: Asked, description: str, name: str) -> FakeOperation:
        record = {
            "id": str(uuid.uuid4()),
            "class": "task",
            "description": description,
            **RUNNING,
            "resources": {"instances": [f"/1.0/instances/{name}?project={asked.project}"]},
            "metadata": None,
            "err": "",
        }
        operation = self.operations[record["id"]] = FakeOperation(record, asked.project)
        return operation

    def _run(self, asked: Asked, description: str, name: str, work: Callable[[], object]) -> Response:
        """Do the work of an operation, and answer as if it had just begun."""
        operation = self._operation(asked, description, name)
        begun = dict(operation.record)
        operation.pending = self.stall.pop(0) if self.stall else 0
        try:
            self._fail_if_told(description)
            work()
        except Refused as exc:
            operation.record.update(status="Failure", status_code=exc.code, err=str(exc))
        else:
            operation.record.update(SUCCESS)
        if description in self._crashes:
            self._crashes.remove(description)
            if description == "Snapshotting instance":
                self._get(asked.project, name).snapshots[asked.body["name"]].hollow = True
            raise ConnectionFailed("the fake has died")
        return _async(begun)

    def _fail_if_told(self, description: str) -> None:
        for failure in self._failures:
            if failure[0] == description:
                self._failures.remove(failure)
                raise Refused(failure[2], failure[1])

    def _operations(self, asked: Asked) -> Response:
        _only(asked, "GET")
        assert asked.params.get("recursion") == "1"
        groups: dict[str, list[Record]] = {}
        for operation in self.operations.values():
            shown = _progress(operation)
            if operation.project == asked.project:
                groups.setdefault(shown["status"].lower(), []).append(shown)
        return _sync(groups)

    def _one_operation(self, asked: Asked, name: str, wait: str | None) -> Response:
        _only(asked, "GET", "DELETE")
        operation = self.operations.get(name)
        if operation is None:
            raise Refused(404, "Operation not found")
        if asked.method == "DELETE":
            raise Refused(400, "This operation can't be cancelled")
        if wait is None:
            return _sync(_progress(operation))
        seconds = int(asked.params["timeout"])
        assert 0 < seconds < 60, "a wait has to end before the socket's own timeout"
        self._advance(operation, seconds)
        shown = _progress(operation)
        if shown["status_code"] == 103:
            return _error(500, "context deadline exceeded", status=200)
        if shown["status_code"] >= 400:
            return _error(500, shown["err"], status=200)
        return _sync(shown)

    def _advance(self, operation: FakeOperation, seconds: int) -> None:
        if operation.pending:
            self.waited(seconds)
            operation.pending -= 1
        elif operation.command and operation.record["status_code"] == 103:
            self._lock.release()
            try:
                rc = operation.command.wait(seconds)
            finally:
                self._lock.acquire()
            if rc is not None:
                operation.record.update(SUCCESS, metadata={"return": rc, "output": {}})

    def _now(self) -> str:
        """Return a time that is later than all before."""
        self._moment += timedelta(seconds=1)
        return self._moment.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


class FakeTransport(Transport):
    """A connection to the fake, in the place of one to a server."""

    def __init__(self, server: FakeIncus, project: str = "") -> None:
        place = {"host": server.host} if server.host else {"socket": "/fake"}
        super().__init__(Endpoint(project=project, **place))
        self.server = server

    def _send(
        self,
        method: str,
        target: str,
        data: bytes | IO[bytes] | None,
        headers: dict[str, str],
        timeout: float,
        into: BinaryIO | None,
    ) -> Response:
        body: Any = data
        if headers.get("Content-Type") == "application/json" and isinstance(data, bytes):
            body = json.loads(data)
        return self.server.answer(method, target, body, headers, into)

    def websocket(self, path: str, params: Mapping[str, str], timeout: float = 10.0) -> Any:
        """Return a websocket of a command."""
        return self.server.connect(path, params)


def _progress(operation: FakeOperation) -> Record:
    return {**operation.record, **RUNNING, "err": ""} if operation.pending else dict(operation.record)


def _network(instance: FakeInstance) -> Record | None:
    if instance.status == "Stopped":
        return None
    return {
        "lo": {"addresses": [{"family": "inet", "address": "127.0.0.1", "netmask": "8", "scope": "local"}]},
        "eth0": {
            "addresses": [
                {"family": "inet6", "address": "fe80::1", "netmask": "64", "scope": "link"},
                {"family": "inet", "address": instance.address, "netmask": "24", "scope": "global"},
            ]
        },
    }


def _only(asked: Asked, *methods: str) -> None:
    if asked.method not in methods:
        raise Unexpected(f"{asked.method} where only {methods} is known")


def _body(asked: Asked, kind: str) -> Record:
    unknown = set(asked.body) - BODIES[kind]
    if unknown:
        raise Unexpected(f"unknown in the body of {kind}: {unknown}")
    return dict(asked.body)


def _etag(record: Record) -> str:
    parts = [record.get(name) for name in ("architecture", "config", "devices", "ephemeral", "profiles", "description")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _response(status: int, body: Record, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, {"content-type": "application/json", **(headers or {})}, json.dumps(body).encode())


def _sync(metadata: Any, status: int = 200, etag: str = "") -> Response:
    body = {"type": "sync", **SUCCESS, "operation": "", "error_code": 0, "error": "", "metadata": metadata}
    return _response(status, body, {"etag": f'"{etag}"'} if etag else None)


def _async(record: Record) -> Response:
    body = {
        "type": "async",
        "status": "Operation created",
        "status_code": 100,
        "operation": f"/1.0/operations/{record['id']}",
        "error_code": 0,
        "error": "",
        "metadata": record,
    }
    return _response(202, body)


def _error(code: int, message: str, status: int = 0) -> Response:
    body = {"type": "error", "status": "", "status_code": 0, "error_code": code, "error": message, "metadata": None}
    return _response(status or code, body)


_NAME = r"/([^/]+)"
_ROUTES: tuple[tuple[re.Pattern[str], Callable[..., Response]], ...] = tuple(
    (re.compile(pattern), route)
    for pattern, route in (
        (r"/1\.0", FakeIncus._server),
        (r"/1\.0/resources", FakeIncus._resources),
        (rf"/1\.0/projects{_NAME}", FakeIncus._project),
        (rf"/1\.0/storage-pools(?:{_NAME})?", FakeIncus._pools),
        (rf"/1\.0/storage-pools{_NAME}/volumes/container{_NAME}/snapshots{_NAME}", FakeIncus._volume),
        (rf"/1\.0/networks(?:{_NAME})?", FakeIncus._networks),
        (rf"/1\.0/networks{_NAME}/state", FakeIncus._network_state),
        (r"/1\.0/images", FakeIncus._images),
        (r"/1\.0/profiles", FakeIncus._profiles),
        (rf"/1\.0/profiles{_NAME}", FakeIncus._profile),
        (r"/1\.0/instances", FakeIncus._instances),
        (rf"/1\.0/instances{_NAME}", FakeIncus._instance),
        (rf"/1\.0/instances{_NAME}/state", FakeIncus._state),
        (rf"/1\.0/instances{_NAME}/snapshots", FakeIncus._snapshots),
        (rf"/1\.0/instances{_NAME}/snapshots{_NAME}", FakeIncus._snapshot),
        (rf"/1\.0/instances{_NAME}/files", FakeIncus._files),
        (rf"/1\.0/instances{_NAME}/exec", FakeIncus._exec),
        (r"/1\.0/operations", FakeIncus._operations),
        (rf"/1\.0/operations{_NAME}(/wait)?", FakeIncus._one_operation),
    )
)


def _nic_type(device: Record) -> str:
    return str(device.get("nictype") or ("bridged" if device["type"] == "nic" else ""))
