# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A battery of attacks on the egress of a sandbox, each with a control that shows that it could have got through.

Four throw-away sandboxes take part: C(inside) and C(sibling) under the policy that is tried, C(control) and C(other)
without one. An attack has held only if the control got through by the same probe, and C(inside) still reaches what its policy names:
a sandbox without any network proves nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import GATEWAY_NAME, ExecRequest, Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import Enforcer, egress_record, policy_of
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import refuse_foreign

Probe = dict[str, Any]

INSIDE, SIBLING, CONTROL, OTHER = "inside", "sibling", "control", "other"
_PROBE_SECONDS = 120.0
#: Addresses that two guests give themselves to talk beside what their server knows: none of them leaves the wire.
_COLLUDING = {"plain": "10.99.0", "vlan": "10.99.7", "nested": "10.99.8"}
_FLOOD = 1500


@dataclass(frozen=True)
class Targets:
    """What is attacked: all of it belongs to who runs the battery.

    allowed is a name that the policy lets through, at allowed_address. foreign is an address with HTTP, TLS, SSH, DNS and UDP echo that it does
    not, and foreign_name a name there; mark is what its pages have and no other. private_names are names of the policy that lead to
    private addresses; private, metadata and resolvers are addresses; dns_name is a name that the resolvers know.
    """

    allowed: str
    allowed_address: str
    foreign: str
    foreign_name: str
    mark: str = ""
    dns_name: str = ""
    resolvers: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    private_names: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attack:
    """One attempt from inside, and the same one by who may."""

    name: str
    probe: Probe
    control: Probe | None = None
    by: str = CONTROL


@dataclass(frozen=True)
class Spot:
    """Where a sandbox stands: its address, its router's, and the MAC that the router has (or why it has none)."""

    server_name: str
    address: str
    router: str
    mac: str


@dataclass
class Report:
    """What came of it."""

    attacks: list[dict[str, object]] = field(default_factory=list)
    not_tried: list[str] = field(default_factory=list)

    def add(self, name: str, user: str, outcome: str, why: str, control: str) -> None:
        """Record one attack."""
        self.attacks.append({"name": name, "user": user, "outcome": outcome, "why": why, "control": control})

    def count(self, outcome: str) -> int:
        """Return how many ended so."""
        return sum(attack["outcome"] == outcome for attack in self.attacks)

    @property
    def record(self) -> dict[str, object]:
        """The report as results show it."""
        counts = {
            "attacks": len(self.attacks),
            **{word: self.count(word) for word in ("held", "leaked", "inconclusive")},
        }
        return {**counts, "not_tried": self.not_tried, "report": self.attacks}


class Battery:
    """The attacks on four sandboxes of one server."""

    def __init__(
        self, backend: Backend, names: Mapping[str, str], targets: Targets, program: str, users: Sequence[str]
    ) -> None:
        self.backend = backend
        self.names = names
        self.targets = targets
        self.program = program
        self.users = users
        self.report = Report()

    def run(self) -> Report:
        """Run all of it, one stage after the other; each leaves the sandboxes as it found them."""
        spots = {role: self._spot(role) for role in (INSIDE, SIBLING, CONTROL, OTHER)}
        gateway = self.backend.get_instance(GATEWAY_NAME)
        attacks = catalogue(self.targets, spots, gateway.addresses[0] if gateway and gateway.addresses else None)
        self._in_force("before the attacks")
        for user in self.users:
            self._stage(attacks, user, "")
        core = [attack for attack in attacks if attack.name in _CORE]
        self._stage(core, "root", "in a clone", SIBLING)
        self._after(core, "after the firewall was flushed", self._flush)
        self._collusion()
        self._after(core, "under another MAC", lambda: self._change_mac(spots[INSIDE]))
        self._restart(INSIDE)
        self._until_alive()
        self._strange_addresses(spots[INSIDE])
        self._after(core, "after a reboot", lambda: self._restart(INSIDE))
        self._after(core, "after a restore", self._restore)
        self._live_connection()
        self._flood()
        self._in_force("after the attacks")
        self.report.not_tried += [
            "what a name that is allowed does with what it is sent",
            "another Host inside of TLS than its server name",
            "the kernel of the server",
        ]
        return self.report

    # -- stages

    def _in_force(self, when: str) -> None:
        """Compare what is wanted with what the server and the gateway have."""
        outcome, why = in_force(self.backend, self._sandbox(INSIDE))
        self.report.add(f"what is in force is what is wanted, {when}", "root", outcome, why, "it was asked for")

    def _stage(self, attacks: Sequence[Attack], user: str, when: str, attacker: str = INSIDE) -> None:
        """Try attacks side by side: inside, and by their controls."""
        alive = self._alive(attacker)
        probes = {attack.name: {**attack.probe, "id": attack.name} for attack in attacks}
        found = self._probe(attacker, list(probes.values()), user)
        controls: dict[str, dict[str, str]] = {}
        for who in {attack.by for attack in attacks}:
            of_it = [{**(attack.control or attack.probe), "id": attack.name} for attack in attacks if attack.by == who]
            controls.update(self._probe(who, of_it, "root"))
        alive = alive and self._alive(attacker)
        for attack in attacks:
            name = f"{attack.name} {when}".strip()
            self._judge(name, user, found[attack.name], controls[attack.name], alive)

    def _judge(self, name: str, user: str, found: Mapping[str, str], control: Mapping[str, str], alive: bool) -> None:
        told = f"{control['outcome']}: {control['why']}"
        if found["outcome"] == "reached":
            self.report.add(name, user, "leaked", found["why"], told)
        elif found["outcome"] != "refused":
            self.report.add(name, user, "inconclusive", found["why"], told)
        elif control["outcome"] != "reached":
            self.report.add(name, user, "inconclusive", "the control did not get through either", told)
        elif not alive:
            self.report.add(name, user, "inconclusive", "the sandbox does not reach what it may", told)
        else:
            self.report.add(name, user, "held", found["why"], told)

    def _after(self, attacks: Sequence[Attack], when: str, work: Callable[[], None]) -> None:
        work()
        self._until_alive()
        self._stage(attacks, "root", when)

    def _flush(self) -> None:
        script = "nft flush ruleset; iptables -F; ip route flush cache; true"
        self._root(INSIDE, ("sh", "-c", script))

    def _change_mac(self, spot: Spot) -> None:
        # the lease belongs to the MAC of before: an attacker keeps address and resolver by hand
        script = (
            f"rm -f /etc/resolv.conf; echo nameserver {spot.router} > /etc/resolv.conf; "
            "systemctl stop systemd-networkd.socket systemd-networkd; ip link set eth0 address 02:00:5e:00:53:07; "
            f"ip addr replace {spot.address}/24 dev eth0; ip route replace default via {spot.router}; ip neigh flush dev eth0; true"
        )
        self._root(INSIDE, ("sh", "-c", script))

    def _restart(self, role: str) -> None:
        power.stop(self.backend, self.names[role], Deadline(60), force=True)
        power.start(self.backend, self.names[role], Deadline(60))

    def _restore(self) -> None:
        name, label = self.names[INSIDE], "verify"
        deadline = Deadline(120)
        self.backend.create_checkpoint(name, label, None, deadline)
        power.stop(self.backend, name, deadline, force=True)
        self.backend.restore_checkpoint(self._sandbox(INSIDE), label, deadline)
        power.start(self.backend, name, deadline)

    def _collusion(self) -> None:
        """Let two guests, both root, switch their NICs' mode and give themselves addresses, VLANs and nested NICs."""
        script = (
            "ip link set eth0 type macvlan mode bridge 2>/dev/null; "
            "ip addr add {plain}.{number}/24 dev eth0; "
            "ip link add link eth0 name v7 type vlan id 7 && ip addr add {vlan}.{number}/24 dev v7 && ip link set v7 up; "
            "ip link add link eth0 name n8 type macvlan mode bridge && ip addr add {nested}.{number}/24 dev n8 && ip link set n8 up; "
            "true"
        )
        for number, role in enumerate((INSIDE, SIBLING, CONTROL, OTHER)):
            self._root(role, ("sh", "-c", script.format(number=number % 2 + 1, **_COLLUDING)))
        interfaces = {"plain": "eth0", "vlan": "v7", "nested": "n8"}
        attacks = [
            Attack(
                f"colluding sibling, {kind} NIC",
                {"kind": "arp", "interface": interfaces[kind], "address": f"{net}.2", "source": f"{net}.1"},
            )
            for kind, net in _COLLUDING.items()
        ]
        self._stage(attacks, "root", "")
        for role in (INSIDE, SIBLING, CONTROL, OTHER):
            self._restart(role)
        self._until_alive()

    def _strange_addresses(self, spot: Spot) -> None:
        """Try with an address that is not the sandbox's own."""
        leg = spot.router
        net = leg.rpartition(".")[0]
        probe = {"kind": "http", "address": leg, "port": 80, "host": self.targets.allowed}
        script = f"ip addr add {net}.77/24 dev eth0; ip route replace {leg} dev eth0 src {net}.77; true"
        before = self._probe(INSIDE, [{**probe, "id": "own address"}], "root")["own address"]
        self._root(INSIDE, ("sh", "-c", script))
        found = self._probe(INSIDE, [{**probe, "id": "second"}], "root")["second"]
        self._judge("a second address", "root", found, before, True)
        self._restart(INSIDE)
        self._until_alive()

    def _live_connection(self) -> None:
        """Take a name away while something is read from it."""
        enforcer = Enforcer(self.backend)
        name = self.names[INSIDE]
        wanted = policy_of(self._sandbox(INSIDE))
        if wanted.mode != "allowlist":
            self.report.not_tried.append("a live connection after a deny: the policy is not an allowlist")
            return
        said: list[tuple[int, float]] = []
        script = _READER % {"host": self.targets.allowed}

        def read() -> None:
            result = self.backend.execute(name, ExecRequest(("python3", "-c", script)), Deadline(60))
            count, last = (result.stdout.decode() or "0 0").split()
            said.append((int(count), float(last)))

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(2)
        tighter = replace(
            wanted, allow=tuple(entry for entry in wanted.allow if not entry.startswith(self.targets.allowed))
        )
        enforcer.enforce(name, tighter, Deadline(60))
        # the clock of the guest is the server's: what counts is what was read after the policy was in force
        end = self._root(INSIDE, ("date", "+%s.%N")).strip()
        thread.join(60)
        enforcer.enforce(name, wanted, Deadline(60))
        count, last = said[0] if said else (0, 0.0)
        outcome = "inconclusive" if not count else ("leaked" if last > float(end) else "held")
        self.report.add(
            "a live connection after a deny", "root", outcome, f"{count} bytes were read before", "it was read from"
        )
        self._until_alive()

    def _flood(self) -> None:
        """Let the sibling open as many connections as it can, and see whether the other one still works."""
        before = self._alive()
        script = _FLOODER % {"count": _FLOOD, "host": self.targets.allowed}
        said: list[str] = []
        thread = threading.Thread(target=lambda: said.append(self._root(SIBLING, ("python3", "-c", script))))
        thread.start()
        time.sleep(4)
        during = [self._alive() for _turn in range(5)]
        thread.join(60)
        outcome = "inconclusive" if not before or not said else ("held" if all(during) else "leaked")
        self.report.add("a sibling that floods its leg", "root", outcome, f"it opened {said}", f"before: {before}")

    # -- sandboxes

    def _sandbox(self, role: str) -> Instance:
        found = self.backend.get_instance(self.names[role])
        if found is None:
            raise ConfigError(f"there is no sandbox {self.names[role]}")
        refuse_foreign(found)
        return found

    def _spot(self, role: str) -> Spot:
        found = self._sandbox(role)
        if not found.addresses:
            raise OperationFailed(f"{found.name} has no address")
        words = self._root(role, ("ip", "-4", "route", "show", "default")).split()
        router = words[words.index("via") + 1] if "via" in words else ""
        probe = {"id": "router", "kind": "arp", "address": router, "source": found.addresses[0]}
        mac = self._probe(role, [probe], "root")["router"]["why"] if router else "there is no router"
        return Spot(found.server_name, found.addresses[0], router, mac)

    def _alive(self, role: str = INSIDE) -> bool:
        """Say whether a sandbox reaches what its policy names."""
        probe = {
            "id": "allowed",
            "kind": "tls",
            "address": self.targets.allowed,
            "port": 443,
            "name": self.targets.allowed,
        }
        return self._probe(role, [probe], "root")["allowed"]["outcome"] == "reached"

    def _until_alive(self) -> None:
        end = time.monotonic() + 40
        while time.monotonic() < end:
            try:
                if self._alive():
                    return
            except PixelsError:
                # it is still booting
                pass
            time.sleep(0.3)

    def _probe(self, role: str, probes: Sequence[Probe], user: str) -> dict[str, dict[str, str]]:
        request = ExecRequest(
            ("python3", "-c", self.program), user=user, cwd="/", stdin=json.dumps(list(probes)).encode()
        )
        result = self.backend.execute(self.names[role], request, Deadline(_PROBE_SECONDS))
        try:
            return dict(json.loads(result.stdout)["outcomes"])
        except (ValueError, KeyError) as exc:
            said = result.stderr.decode("utf-8", "replace")[-500:]
            raise OperationFailed(f"the probes in {self.names[role]} ended with {result.rc}: {said}") from exc

    def _root(self, role: str, argv: tuple[str, ...]) -> str:
        result = self.backend.execute(self.names[role], ExecRequest(argv, cwd="/"), Deadline(60))
        return result.stdout.decode("utf-8", "replace")


#: What is tried again after each change of the sandbox.
_CORE = (
    "an address, by HTTP",
    "an address, by TLS",
    "a foreign resolver over UDP",
    "UDP to port 443, as QUIC",
    "a forged server name",
    "a forged Host",
)

_READER = """
import socket, time
stream = socket.create_connection((%(host)r, 80), 5); stream.settimeout(6)
stream.sendall(b"GET /slow/300 HTTP/1.1\\r\\nHost: " + %(host)r.encode() + b"\\r\\n\\r\\n")
count, last = 0, 0
try:
    while data := stream.recv(4096):
        count, last = count + len(data), time.time()
except OSError:
    pass
print(count, last)
"""

_FLOODER = """
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536)) if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 65536 else None
held = []
for _ in range(%(count)d):
    try:
        stream = socket.create_connection((%(host)r, 443), 1); held.append(stream)
    except OSError:
        pass
    if len(held) >= 900: held.pop(0).close()
time.sleep(5)
print(len(held))
"""


def in_force(backend: Backend, found: Instance) -> tuple[str, str]:
    """Return how it is with a sandbox whose configuration, or whose gateway, somebody may have changed; and in which words."""
    record = egress_record(found, backend.gateway_state())
    outcome = {"yes": "held", "no": "leaked"}.get(str(record["in_force"]), "inconclusive")
    return outcome, "; ".join(map(str, cast(list[str], record["drift"]))) or "nothing differs"


def catalogue(targets: Targets, spots: Mapping[str, Spot], gateway: str | None) -> list[Attack]:
    """Return the attacks that change nothing in the sandbox; gateway is its address on the uplink."""
    t = targets
    inside, sibling, control, other = (spots[role] for role in (INSIDE, SIBLING, CONTROL, OTHER))
    leg = inside.router
    web = {"kind": "http", "address": t.foreign, "port": 80, "host": t.foreign_name, "mark": t.mark}
    secure = {"kind": "tls", "address": t.foreign, "port": 443, "name": t.foreign_name, "mark": t.mark}
    found = [
        Attack("an address, by HTTP", web),
        Attack("an address, by TLS", secure),
        Attack(
            "the address of an allowed name, past the gateway",
            {**secure, "address": t.allowed_address, "name": t.allowed, "mark": ""},
        ),
        Attack("an address, by SSH", {"kind": "tcp", "address": t.foreign, "port": 22}),
        Attack(
            "another port of an allowed name",
            {"kind": "tcp", "address": leg, "port": 8443},
            {"kind": "tcp", "address": t.allowed_address, "port": 8443},
        ),
        Attack(
            "SSH of a name that is allowed for the web",
            {"kind": "tcp", "address": leg, "port": 22},
            {"kind": "tcp", "address": t.allowed_address, "port": 22},
        ),
        Attack("a forged server name", {**secure, "address": leg}, secure),
        Attack("a forged Host", {**web, "address": leg}, web),
        Attack(
            "no server name", {**secure, "address": leg, "name": "", "host": t.foreign_name}, {**secure, "name": ""}
        ),
        Attack("no Host", _raw(leg, "GET / HTTP/1.0\r\n\r\n", ""), _raw(t.foreign, "GET / HTTP/1.0\r\n\r\n", "")),
        *_requests(t, leg),
        Attack("DNS over TLS, by address", {"kind": "tcp", "address": t.foreign, "port": 853}),
        Attack("DNS over HTTPS, by address", {**secure, "path": "/dns-query"}),
        Attack("UDP to port 443, as QUIC", {"kind": "udp", "address": t.foreign, "port": 443}),
        Attack("UDP to another port", {"kind": "udp", "address": t.foreign, "port": 7}),
        Attack("ICMP", {"kind": "icmp", "address": t.foreign}),
        Attack("a frame of a packet socket to a foreign resolver", _frame(t, inside), _frame(t, control)),
        Attack("the guest API", {"kind": "guest_api"}, by=OTHER),
        Attack(
            "another sandbox's leg",
            {**web, "address": sibling.router, "host": t.allowed, "mark": ""},
            {**web, "address": leg, "host": t.allowed, "mark": ""},
            by=INSIDE,
        ),
        Attack(
            "a sibling, by IP", {"kind": "icmp", "address": sibling.address}, {"kind": "icmp", "address": other.address}
        ),
        Attack(
            "a sibling, by broadcast: nobody hears a rogue DHCP server either",
            {"kind": "arp", "address": sibling.address, "source": inside.address},
            {"kind": "arp", "address": other.address, "source": control.address},
        ),
        Attack("IPv6 of whoever is on the link", {"kind": "icmp6"}),
        Attack(
            "a DNS tunnel through the leg's resolver",
            {"kind": "dns", "address": leg, "name": f"data.{t.foreign_name}"},
            {"kind": "dns", "address": t.foreign, "name": f"data.{t.foreign_name}"},
        ),
        Attack(
            "a DNS tunnel below an allowed name",
            {"kind": "dns", "address": leg, "name": f"data.{t.allowed}"},
            {"kind": "dns", "address": t.foreign, "name": f"data.{t.allowed}"},
        ),
        Attack(
            "a DNS tunnel in records of another type",
            {"kind": "dns", "address": leg, "name": t.allowed, "record": 16},
            {"kind": "dns", "address": t.foreign, "name": t.allowed},
        ),
    ]
    for address in t.resolvers:
        query = {"kind": "dns", "address": address, "name": t.dns_name}
        found.append(Attack("a foreign resolver over UDP", query))
        found.append(Attack("a foreign resolver over TCP", {**query, "stream": True}))
    found += [
        Attack(f"the private address {address}", {**web, "address": address, "mark": ""}) for address in t.private
    ]
    found += [
        Attack(f"the metadata address {address}", {**web, "address": address, "mark": ""}) for address in t.metadata
    ]
    for name, address in zip(t.private_names, t.private, strict=False):
        found.append(
            Attack(
                f"the allowed name {name}, which leads to a private address",
                {**web, "address": leg, "host": name, "mark": ""},
                {**web, "address": address, "mark": ""},
            )
        )
    for address in t.hosts:
        found.append(Attack(f"the server at {address}, by ICMP", {"kind": "icmp", "address": address}))
        for stream in (False, True):
            probe = {
                "kind": "dns",
                "address": address,
                "name": f"{control.server_name}.incus",
                "stream": stream,
                "any": True,
            }
            found.append(Attack(f"the server's DNS at {address} over {'TCP' if stream else 'UDP'}", probe))
    host = {
        "kind": "frame_udp",
        "port": 53,
        "address": control.router,
        "name": f"{control.server_name}.incus",
        "mac": control.mac,
    }
    if gateway:
        probes: dict[str, Probe] = {
            "HTTP": {**web, "host": t.allowed, "mark": ""},
            "TLS": {**secure, "name": t.allowed, "mark": ""},
            "DNS": {"kind": "dns", "name": t.allowed},
        }
        for words, probe in probes.items():
            name = f"the gateway on its uplink, by {words}"
            found.append(Attack(name, {**probe, "address": gateway}, {**probe, "address": leg}, by=INSIDE))
    found.append(Attack("the server by MAC", {**host, "source": inside.address}, {**host, "source": control.address}))
    return _unique(found)


def _requests(t: Targets, leg: str) -> list[Attack]:
    """Return requests that mean one thing to a proxy and another to a server."""
    end = "Connection: close\r\n\r\n"
    pairs = {
        "an absolute form with another Host": f"GET http://{t.foreign_name}/ HTTP/1.1\r\nHost: {t.allowed}\r\n{end}",
        "a Host with a port": f"GET / HTTP/1.1\r\nHost: {t.foreign_name}:80\r\n{end}",
        "a Host with a user": f"GET / HTTP/1.1\r\nHost: {t.allowed}@{t.foreign_name}\r\n{end}",
        "a pipelined request with another Host": (
            f"GET / HTTP/1.1\r\nHost: {t.allowed}\r\n\r\nGET / HTTP/1.1\r\nHost: {t.foreign_name}\r\n{end}"
        ),
        "an upgrade to h2c": f"GET / HTTP/1.1\r\nHost: {t.foreign_name}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n{end}",
        "an upgrade to a websocket": f"GET / HTTP/1.1\r\nHost: {t.foreign_name}\r\nUpgrade: websocket\r\n{end}",
    }
    return [Attack(name, _raw(leg, text, t.mark), _raw(t.foreign, text, t.mark)) for name, text in pairs.items()]


def _raw(address: str, request: str, mark: str) -> Probe:
    return {"kind": "http", "address": address, "port": 80, "request": request, "mark": mark}


def _frame(t: Targets, spot: Spot) -> Probe:
    resolver = t.resolvers[0] if t.resolvers else t.foreign
    return {
        "kind": "frame_udp",
        "address": resolver,
        "port": 53,
        "name": t.dns_name,
        "source": spot.address,
        "mac": spot.mac,
    }


def _unique(attacks: Iterable[Attack]) -> list[Attack]:
    """Number attacks of one name."""
    seen: dict[str, int] = {}
    found = []
    for attack in attacks:
        seen[attack.name] = seen.get(attack.name, 0) + 1
        name = attack.name if seen[attack.name] == 1 else f"{attack.name} ({seen[attack.name]})"
        found.append(Attack(name, attack.probe, attack.control, attack.by))
    return found


def verify(backend: Backend, params: Mapping[str, Any]) -> dict[str, object]:
    """Run the battery as the options of a module say, and return its report."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in params["targets"].items()
        if value is not None
    }
    targets = Targets(**given)
    names = {role: params[role] for role in (INSIDE, SIBLING, CONTROL, OTHER)}
    return Battery(backend, names, targets, params["program"], params["users"]).run().record
