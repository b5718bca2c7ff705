# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The gateway of an Incus project: wires, their legs, and the program in the gateway that makes legs work.

A wire is a managed bridge without any address. Its name is its number, and its number is its subnet in the range of the
gateway: who makes the bridge has the subnet, since of two creations of one name one is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    ConfigError,
    Conflict,
    Foreign,
    NotFound,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    GATEWAY,
    GATEWAY_NAME,
    KEY_KIND,
    LABEL_PREFIX,
    NO_GATEWAY,
    RUNNING,
    ExecRequest,
    ExecResult,
    GatewaySite,
    GatewaySpec,
    GatewayState,
    Leg,
    Refusal,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Rules
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import confinement, hardening, shape, wire
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client

NETWORKS = "/1.0/networks"
#: What the role gateway puts into the gateway.
PROGRAM = "/usr/local/sbin/px-gateway"
VERSION = 2
#: Keys of the gateway's instance, and of a wire's network.
KEY_RANGE = wire.KEYS + "gateway.range"
_LABELS = wire.KEYS + LABEL_PREFIX
_SANDBOX, _PROJECT, _SUBNET, _MADE = (wire.KEYS + key for key in ("sandbox", "project", "subnet", "made"))
#: What a restricted project has to allow, for its sandboxes and for the gateway itself.
_PERMISSIONS = {"restricted.devices.nic": "allow"}
_PERMISSIONS_TO_BUILD = {"restricted.containers.lowlevel": "allow"}
#: How long a wire that nothing hangs on is left to the run that may be making its sandbox.
_ORPHAN = timedelta(minutes=15)
_TRIES = 10
#: Where subnets of legs are taken from unless told otherwise: no machine of the internet is there.
_CARRIER = ipaddress.IPv4Network("100.64.0.0/10")
#: The address on the uplink's /24 that is not given to anybody else.
_BOUND = 250

#: What a wire is made with, and so all that it may have beside keys of users.
_BARE = {"ipv4.address": "none", "ipv6.address": "none"}
#: Keys of an instance that change nothing of what it may do.
_PLAIN = ("user.", "volatile.", "image.", "limits.", "boot.", "snapshots.")

Record = dict[str, Any]
Execute = Callable[[str, ExecRequest, Deadline], ExecResult]


class Gateway:
    """The gateway of one project, for many threads."""

    def __init__(self, client: Client, project: str, execute: Execute) -> None:
        self._client = client
        self._project = project
        self._execute = execute
        self._batch = _Batch(self._commit)
        self._allocation = threading.Lock()
        self._deletion = threading.Lock()
        self._taken: set[str] = set()

    # -- what is in force

    def record(self) -> Record | None:
        """Return the gateway's instance, None where there is none of ours."""
        found = self._client.find(f"/1.0/instances/{names.server_name(GATEWAY_NAME)}")
        if found is None or found[0]["config"].get(wire.KEYS + KEY_KIND) != GATEWAY:
            return None
        return dict(found[0])

    def state(self) -> GatewayState | None:
        """Return what the gateway says that it enforces."""
        record = self.record()
        if record is None:
            return None
        if record["status"].lower() != RUNNING:
            return GatewayState(False, (f"the gateway is {record['status'].lower()}",))
        with ThreadPoolExecutor(1) as pool:
            # the server takes its time over its networks, and the gateway over its answer
            listed = pool.submit(self._networks)
            try:
                told = self._ask("status", Deadline(30))
                networks = {network["name"]: network for network in listed.result()}
            except PixelsError as exc:
                return GatewayState(False, (f"the gateway does not say what it enforces: {exc}",))
        legs = {}
        for name, entry in told["legs"].items():
            problems = list(entry["problems"])
            device = record["expanded_devices"].get(name, {})
            if device != _leg_device(name):
                problems.append("its device is not the one that was made")
            network = networks.get(name, {})
            hanging = ""
            if self._is_wire(network):
                hanging = names.bare(network["config"].get(_SANDBOX, ""))
                problems += self._added(network)
                if network["config"].get(_SUBNET) != entry["subnet"]:
                    problems.append(f"its subnet {entry['subnet']} is not that of its wire")
            legs[name] = Leg(entry["digest"], entry["address"], hanging, tuple(problems))
        return GatewayState(True, (*told["problems"], *self._surplus(record)), legs)

    def _surplus(self, record: Record) -> list[str]:
        """Return in words what the gateway's instance has that it was not made with, or lacks."""
        devices: Mapping[str, Record] = record["expanded_devices"]
        own = {wire.NIC: self._uplink_device}
        found = []
        for name, device in sorted(devices.items()):
            is_leg = confinement.WIRE.fullmatch(name) and device == _leg_device(name)
            if not (is_leg or wire.is_root(device) or device == own.get(name) or device.get("type") == "none"):
                found.append(f"the gateway has the device {name}, which it was not made with")
        if devices.get(wire.NIC) != self._uplink_device:
            found.append(f"the gateway does not hang on {self._uplink} by its {wire.NIC}")
        table, config = hardening.LEVELS["strict"], record["expanded_config"]
        found += [
            f"the gateway has the key {key}, which it was not made with"
            for key, value in sorted(config.items())
            if key not in table and not key.startswith(_PLAIN) and value not in ("", "false")
        ]
        found += [f"the gateway's key {key} was changed" for key in sorted(table) if config.get(key) != table[key]]
        return found

    def _added(self, network: Record) -> list[str]:
        """Return in words what was added to a wire since it was made."""
        name, config = network["name"], network["config"]
        kept = {key: value for key, value in config.items() if not key.startswith(("user.", "volatile."))}
        found = [
            f"the wire {name} has the key {key}, which it was not made with"
            for key in sorted(_BARE.keys() | kept.keys())
            if kept.get(key) != _BARE.get(key)
        ]
        others = sorted(self._users(network) - {config.get(_SANDBOX)})
        return [*found, *(f"{other} hangs on the wire {name} too" for other in others)]

    def _users(self, network: Record) -> set[str]:
        """Return what hangs on a network beside the gateway: instances of the project by their names, all else by its path."""
        found = set()
        for path in network.get("used_by") or ():
            place, _mark, query = path.partition("?")
            project = dict(part.partition("=")[::2] for part in query.split("&")).get("project", "default")
            _root, _version, kind, name = (place.split("/", 3) + [""] * 4)[:4]
            found.add(name if (kind, unquote(project)) == ("instances", self._project) else path)
        return found - {names.server_name(GATEWAY_NAME)}

    def refusals(self, wires: Sequence[str]) -> dict[str, tuple[Refusal, ...]]:
        """Return what was refused on each wire."""
        told = self._ask(
            "refused", Deadline(60), arguments=[name for name in wires if confinement.WIRE.fullmatch(name)]
        )
        return {
            name: tuple(
                Refusal(
                    str(entry["how"]),
                    str(entry["target"]),
                    int(entry["count"]),
                    int(entry["last"]),
                    entry.get("port"),
                    entry.get("protocol"),
                )
                for entry in entries
            )
            for name, entries in told.items()
        }

    # -- what it takes

    def check_permitted(self, building: bool) -> None:
        """Raise ConfigError with everything that the project, or the certificate of this client, does not allow."""
        found = self._client.find(f"/1.0/projects/{self._project}")
        config = found[0]["config"] if found else {}
        missing = []
        if self._project != "default" and config.get("features.networks") == "true":
            missing.append("features.networks=false: networks of a project's own cannot be bridges")
        if config.get("restricted") == "true":
            wanted = {**_PERMISSIONS, **(_PERMISSIONS_TO_BUILD if building else {})}
            missing += [f"{key}={value}" for key, value in wanted.items() if config.get(key) != value]
            if config.get("restricted.networks.access"):
                missing.append("no restricted.networks.access: each sandbox has a network of its own")
        try:
            self._client.get("/1.0/projects/default")
        except AuthenticationFailed:
            missing.append("a certificate that has the project default too: bridges belong to it")
        if missing:
            raise ConfigError(f"egress: what the project {self._project} does not allow yet: {'; '.join(missing)}")

    # -- the gateway itself

    @property
    def _uplink(self) -> str:
        """The gateway's own way out, a network for each project: names of networks are the whole server's."""
        return "pxu-" + hashlib.sha256(self._project.encode()).hexdigest()[:8]

    @property
    def _uplink_device(self) -> dict[str, str]:
        return {"type": "nic", "network": self._uplink, "name": wire.NIC}

    def site(self) -> GatewaySite | None:
        """Return the gateway's place on the server."""
        record = self.record()
        found = self._client.find(f"{NETWORKS}/{self._uplink}")
        if record is None or found is None or KEY_RANGE not in record["config"]:
            return None
        router = ipaddress.IPv4Interface(found[0]["config"]["ipv4.address"])
        hanging = (network["config"].get(_SANDBOX, "") for network in self._networks() if self._is_wire(network))
        return GatewaySite(
            status=record["status"].lower(),
            legs_range=record["config"][KEY_RANGE],
            uplink=self._uplink,
            uplink_network=str(router.network),
            resolver=str(router.ip),
            bound_source=str(router.network.network_address + _BOUND),
            labels={
                key.removeprefix(_LABELS): value
                for key, value in sorted(record["config"].items())
                if key.startswith(_LABELS)
            },
            sandboxes=tuple(sorted(names.bare(name) for name in hanging)),
        )

    def make(self, spec: GatewaySpec, source: Record, deadline: Deadline) -> None:
        """Make the uplink and the instance as far as they are not there."""
        there = self.record()
        if there is None and self._client.find(f"/1.0/instances/{names.server_name(GATEWAY_NAME)}"):
            raise Foreign(
                f"the instance {names.server_name(GATEWAY_NAME)} is not a gateway of this collection; it is left alone"
            )
        self._make_uplink()
        if there is not None:
            return
        config = {
            **hardening.LEVELS["strict"],
            **wire.limits_to_wire(spec.limits),
            "boot.autostart": "true",
            "boot.autostart.priority": "100",
            wire.KEYS + KEY_KIND: GATEWAY,
            KEY_RANGE: self._range(spec.legs_range),
            **{_LABELS + key: value for key, value in spec.labels.items()},
        }
        devices = {
            wire.ROOT: {"type": "disk", "path": "/", "pool": shape.pool_for(self._client, spec.pool)},
            wire.NIC: self._uplink_device,
        }
        body = {
            "name": names.server_name(GATEWAY_NAME),
            "type": "container",
            "description": "Gateway of confined sandboxes",
            "source": source,
            "config": config,
            "devices": devices,
            "profiles": [],
        }
        self._client.run("POST", "/1.0/instances", body, deadline, "create the gateway")

    def delete(self, deadline: Deadline) -> None:
        """Delete the stopped gateway and its uplink."""
        wires = [network["name"] for network in self._networks() if self._is_wire(network)]
        if wires:
            raise ConfigError(
                f"the gateway has wires of sandboxes: {', '.join(sorted(wires))}; remove the sandboxes first"
            )
        if self.record() is not None:
            path = f"/1.0/instances/{names.server_name(GATEWAY_NAME)}"
            self._client.run("DELETE", path, None, deadline, "delete the gateway")
        found = self._client.find(f"{NETWORKS}/{self._uplink}")
        if found and self._is_uplink(found[0]):
            self._delete_network(self._uplink)

    def _make_uplink(self) -> None:
        path = f"{NETWORKS}/{self._uplink}"
        found = self._client.find(path)
        if found is None:
            router = self._free_router()
            first = ipaddress.IPv4Interface(router).ip
            config = {
                "ipv4.address": router,
                "ipv4.dhcp.ranges": f"{first + 1}-{first + _BOUND - 2}",
                "ipv4.nat": "true",
                "ipv6.address": "none",
                wire.KEYS + KEY_KIND: "uplink",
                _PROJECT: self._project,
            }
            body = {"name": self._uplink, "type": "bridge", "description": "Uplink of the gateway", "config": config}
            self._create_network(body)
            found = self._client.find(path)
        if found is None or not self._is_uplink(found[0]):
            raise Foreign(
                f"the network {self._uplink} is not the uplink of a gateway of this collection; it is left alone"
            )

    def _free_router(self) -> str:
        """Return address and length of a /24 that no network of the server is in."""
        # what the server would choose by itself depends on pings, and it finds nothing on some
        taken = self._taken_networks()
        for number in range(4096):
            digest = hashlib.sha256(f"{self._project} {number}".encode()).digest()
            network = ipaddress.IPv4Network((bytes((10, digest[0], digest[1], 0)), 24))
            if not any(network.overlaps(other) for other in taken):
                return f"{network.network_address + 1}/24"
        raise ConfigError("the server has no room for another network in 10.0.0.0/8")

    def _is_uplink(self, network: Record) -> bool:
        config = network["config"]
        return (config.get(wire.KEYS + KEY_KIND), config.get(_PROJECT)) == ("uplink", self._project)

    def _is_wire(self, network: Record) -> bool:
        config = network.get("config") or {}
        return (config.get(wire.KEYS + KEY_KIND), config.get(_PROJECT)) == ("wire", self._project)

    def _networks(self) -> list[Record]:
        return list(self._client.get(NETWORKS, recursion="1"))

    def _range(self, asked: str | None) -> str:
        """Return the range of the legs: as asked, else the first that no network of the server is in."""
        taken = self._taken_networks()
        for candidate in [ipaddress.IPv4Network(asked)] if asked else _CARRIER.subnets(new_prefix=14):
            there = [str(network) for network in taken if network.overlaps(candidate)]
            if not there:
                return str(candidate)
        raise ConfigError(
            f"legs_range: {asked or _CARRIER} overlaps with networks of the server: {', '.join(there)}; give another one"
        )

    def _taken_networks(self) -> list[ipaddress.IPv4Network]:
        found = []
        for network in self._networks():
            if self._is_wire(network):
                continue
            config = network.get("config") or {}
            texts = [config.get("ipv4.address", ""), *config.get("ipv4.routes", "").split(",")]
            if not network.get("managed"):
                state = self._client.find(f"{NETWORKS}/{network['name']}/state")
                addresses = (state[0].get("addresses") or ()) if state else ()
                texts += [f"{entry['address']}/{entry['netmask']}" for entry in addresses if entry["family"] == "inet"]
            found += [ipaddress.IPv4Interface(text.strip()).network for text in texts if "/" in text]
        return found

    # -- wires

    def make_wire(self, name: str, deadline: Deadline, now: str | None = None) -> str:
        """Return a wire of the sandbox: the one that it has, if that is as it was made, else the lowest that is free."""
        if now and (found := self._client.find(f"{NETWORKS}/{now}")) and self._is_clean(found[0], name):
            return now
        record = self.record()
        if record is None:
            raise ConfigError(f"egress: {NO_GATEWAY}")
        subnets = ipaddress.IPv4Network(record["config"][KEY_RANGE])
        for _turn in range(_TRIES):
            with self._allocation:
                networks = self._networks()
                for network in networks:
                    # one that a change behind our back has parted from its sandbox, or a killed run has left
                    if self._is_clean(network, name) and self._renewed(network):
                        return str(network["name"])
                chosen, subnet = self._free(subnets, networks)
                self._taken.add(chosen)
            deadline.check(f"make a wire for {name}")
            config = {
                **_BARE,
                wire.KEYS + KEY_KIND: "wire",
                _SANDBOX: names.server_name(name),
                _PROJECT: self._project,
                _SUBNET: subnet,
                _MADE: wire.time_to_wire(datetime.now(timezone.utc)),
            }
            body = {
                "name": chosen,
                "type": "bridge",
                "description": f"Wire of {names.server_name(name)}",
                "config": config,
            }
            if self._create_network(body):
                return chosen
        raise Conflict(
            f"every wire that was free for {name} was taken by somebody else meanwhile", 409, "POST", NETWORKS
        )

    def _renewed(self, network: Record) -> bool:
        """Say whether a wire is still there; one that nothing hangs on is as new again, so that nobody clears it away meanwhile."""
        if self._users(network):
            return True
        body = {"config": {_MADE: wire.time_to_wire(datetime.now(timezone.utc))}}
        try:
            self._client.request("PATCH", f"{NETWORKS}/{network['name']}", json=body)
        except NotFound:
            return False
        return True

    def _create_network(self, body: Record) -> bool:
        """Create a network; False where another controller was faster."""

        def create() -> bool:
            try:
                self._client.request("POST", NETWORKS, json=body)
            except ApiError:
                # the API has no number of its own for a name that is taken
                if self._client.find(f"{NETWORKS}/{body['name']}") is None:
                    raise
                return False
            return True

        return _insisting(create)

    def drop_wire(self, name: str, wire_name: str, deadline: Deadline) -> None:
        """Remove a wire of the sandbox, and its leg first; one that is another's is left alone."""
        found = self._client.find(f"{NETWORKS}/{wire_name}")
        users = self._users(found[0]) if found else set()
        # of two runs that make one sandbox, the faster one has it
        if names.server_name(name) in users or (found and not self._is_wire_of(found[0], names.server_name(name))):
            return
        if self.record() is not None:
            self._batch.submit(wire_name, None, deadline)
        # what somebody else has hung on it stays there, and without a leg reaches nothing
        if found is None or users:
            return
        try:
            self._delete_network(wire_name)
        except ApiError:
            # a run that makes the sandbox again has found it, and brings its leg back
            found = self._client.find(f"{NETWORKS}/{wire_name}")
            if found and names.server_name(name) not in self._users(found[0]):
                raise

    def _delete_network(self, name: str) -> None:
        """Delete a network, one after the other, as each takes interfaces away; one that is gone is success."""

        def delete() -> bool:
            try:
                self._client.request("DELETE", f"{NETWORKS}/{name}")
            except NotFound:
                return False
            return True

        with self._deletion:
            _insisting(delete)

    def connect(self, wire_name: str, rules: Rules, deadline: Deadline) -> None:
        """Have the gateway enforce rules on a wire."""
        found = self._client.find(f"{NETWORKS}/{wire_name}")
        if found is None:
            raise ConfigError(f"egress: the wire {wire_name} is not there")
        leg = {"subnet": found[0]["config"][_SUBNET], "rules": rules.record}
        self._batch.submit(wire_name, leg, deadline)

    def _is_clean(self, network: Record, name: str) -> bool:
        return self._is_wire_of(network, names.server_name(name)) and not self._added(network)

    def _is_wire_of(self, network: Record, server_name: str) -> bool:
        return self._is_wire(network) and network["config"].get(_SANDBOX) == server_name

    def _free(self, subnets: ipaddress.IPv4Network, networks: Sequence[Record]) -> tuple[str, str]:
        """Return name and subnet of the lowest wire that is free; those that nobody hangs on any more are cleared away."""
        there = {network["name"] for network in networks}
        foreign = [
            ipaddress.IPv4Interface(network["config"]["ipv4.address"]).network
            for network in networks
            if "/" in (network.get("config") or {}).get("ipv4.address", "")
        ]
        for network in networks:
            if self._is_orphan(network):
                self.drop_wire(network["config"][_SANDBOX], network["name"], Deadline(60))
        for number, subnet in enumerate(subnets.subnets(new_prefix=24)):
            name = f"pxe-{number:04x}"
            if name not in there and name not in self._taken and not any(subnet.overlaps(other) for other in foreign):
                return name, str(subnet)
        raise ConfigError(
            f"egress: the gateway's range {subnets} has no subnet left; there is one for each confined sandbox"
        )

    def _is_orphan(self, network: Record) -> bool:
        config = network.get("config") or {}
        if not self._is_wire_of(network, config.get(_SANDBOX, "")):
            return False
        try:
            made = wire.time_from_wire(config.get(_MADE))
        except ValueError:
            return False
        if made is None or datetime.now(timezone.utc) - made < _ORPHAN:
            return False
        return not self._users(network)

    # -- legs

    def _commit(self, changes: Mapping[str, Record | None], deadline: Deadline) -> None:
        """Bring legs of many wires at once: their devices, then what runs on them; away in the opposite order.

        Legs that are new and cannot be brought are taken away again, and those that there were stay as they were.
        """
        wanted = {name: leg for name, leg in changes.items() if leg is not None}
        gone = [name for name in changes if name not in wanted]
        added = self._devices(wanted, (), deadline) if wanted else []
        try:
            told = self._ask("apply", deadline, json.dumps({"set": wanted, "remove": gone}).encode())
            problems = list(told["problems"])
            for name in wanted:
                problems += [f"{name}: {text}" for text in told["legs"][name]["problems"]]
            if wanted and problems:
                raise OperationFailed(f"the gateway does not enforce what it was given: {'; '.join(problems)}")
        except PixelsError:
            if added:
                patience = Deadline(60)
                with contextlib.suppress(PixelsError):
                    self._ask("apply", patience, json.dumps({"set": {}, "remove": added}).encode())
                with contextlib.suppress(PixelsError):
                    self._devices((), added, patience)
            raise
        if gone:
            self._devices((), gone, deadline)

    def _devices(
        self, added: Sequence[str] | Mapping[str, object], gone: Sequence[str], deadline: Deadline
    ) -> list[str]:
        """Change the devices of legs; return the names of those that were not there."""
        path = f"/1.0/instances/{names.server_name(GATEWAY_NAME)}"
        for turn in range(_TRIES):
            found = self._client.find(path)
            if found is None:
                raise ConfigError(f"egress: {NO_GATEWAY}")
            record, etag = found
            devices = {name: device for name, device in record["devices"].items() if name not in gone}
            new = [name for name in added if name not in devices]
            devices.update({name: _leg_device(name) for name in added})
            if devices == record["devices"]:
                return []
            fields = ("architecture", "config", "ephemeral", "profiles", "stateful", "description")
            body = {**{field: record[field] for field in fields if field in record}, "devices": devices}
            try:
                self._client.run("PUT", path, body, deadline, "change the legs of the gateway", etag)
            except Conflict:
                # two controllers that try again in one rhythm would meet again
                deadline.pause(secrets.randbelow(100) * (turn + 1) / 1000, "change the legs of the gateway")
                continue
            return new
        raise Conflict("the gateway keeps being changed by somebody else", 412, "PUT", path)

    def _ask(self, verb: str, deadline: Deadline, stdin: bytes = b"", arguments: Sequence[str] = ()) -> Record:
        """Return what the program in the gateway answers."""
        record = self.record()
        if record is None:
            raise ConfigError(f"egress: {NO_GATEWAY}")
        if record["status"].lower() != RUNNING:
            raise OperationFailed(
                f"the gateway is {record['status'].lower()}: start it, or run the role pixels.sandbox.gateway"
            )
        request = ExecRequest((PROGRAM, verb, *arguments), cwd="/", stdin=stdin)
        result = self._execute(GATEWAY_NAME, request, deadline)
        if result.rc == 127:
            raise OperationFailed("the gateway is not finished: run the role pixels.sandbox.gateway")
        if result.rc or result.timed_out:
            said = result.stderr.decode("utf-8", "replace").strip()[-1000:] or f"it ended with {result.rc}"
            raise OperationFailed(f"the gateway could not {verb}: {said}")
        try:
            told = json.loads(result.stdout)
        except ValueError as exc:
            raise OperationFailed(f"the gateway did not answer in JSON to {verb}") from exc
        if told.get("version", VERSION) != VERSION:
            raise OperationFailed("the gateway is of another version: run the role pixels.sandbox.gateway")
        return dict(told)


class _Batch:
    """Changes of many threads, carried out together: the first one does what all have asked for until then."""

    def __init__(self, commit: Callable[[Mapping[str, Record | None], Deadline], None]) -> None:
        self._commit = commit
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: dict[str, Record | None] = {}
        self._failed: dict[str, PixelsError] = {}

    def submit(self, name: str, leg: Record | None, deadline: Deadline) -> None:
        """Have one change done; its failure is raised, and no other's."""
        with self._guard:
            self._waiting[name] = leg
        with self._turn:
            with self._guard:
                mine, self._waiting = self._waiting, {}
            try:
                self._failed.update(self._carry_out(mine, deadline))
            except Exception as exc:
                # a mistake of ours: who waits for this must not take it for done
                failure = OperationFailed(f"the legs of the gateway may not be changed: {exc!r}")
                self._failed.update(dict.fromkeys(set(mine) - {name}, failure))
                raise
            failed = self._failed.pop(name, None)
        if failed:
            raise failed

    def _carry_out(self, changes: Mapping[str, Record | None], deadline: Deadline) -> dict[str, PixelsError]:
        """Return the failures by name."""
        if not changes:
            return {}
        try:
            self._commit(changes, deadline)
        except PixelsError as exc:
            if len(changes) == 1:
                return dict.fromkeys(changes, exc)
            # one of them may spoil it for the others
            alone = [self._carry_out({name: leg}, deadline) for name, leg in changes.items()]
            return {name: failure for failed in alone for name, failure in failed.items()}
        return {}


def _insisting(work: Callable[[], bool]) -> bool:
    """Create or delete a network: the server looks at all interfaces, and fails when one of anybody goes meanwhile."""
    tries = _TRIES
    while True:
        try:
            return work()
        except ApiError:
            tries -= 1
            if not tries:
                raise
            Deadline(1).pause(0.1, "try again")


def _leg_device(name: str) -> dict[str, str]:
    return {"type": "nic", "nictype": "bridged", "parent": name, "name": name}
