# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The battery that runs the attacks on the egress of throw-away sandboxes, and judges them.

C(inside) and C(sibling) are under the policy that is tried, C(control) and C(other) under none, and C(wide) under one of the same gateway
that lets through what is attacked. What counts as held is said in attacks.py; a sandbox without any network proves nothing.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import GATEWAY_NAME, ExecRequest, Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import apply
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import attacks, guest, power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.attacks import (
    COLLUDING,
    CONTROL,
    INSIDE,
    OTHER,
    PEERS,
    ROLES,
    SIBLING,
    Attack,
    Probe,
    Targets,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import (
    DesiredCheckpoint,
    plan_checkpoint,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import (
    Enforcer,
    egress_record,
    policy_of,
    policy_or_none,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import refuse_foreign

Outcome = Mapping[str, str]

HELD, LEAKED, INCONCLUSIVE = "held", "leaked", "inconclusive"
_PROBE_SECONDS = 120.0
_BOOT_SECONDS = 60.0
_ALIVE_SECONDS = 40.0
_LIVE_SECONDS = 12
_FLOOD_SECONDS = 12
#: A checkpoint under the policy, and one from when there was none.
_CONFINED, _FREE = "verify-confined", "verify-free"


@dataclass(frozen=True)
class Spot:
    """Where a sandbox stands: addresses and MACs of its own, of its router, and the MAC of the server on its link; empty is none."""

    server_name: str
    address: str = ""
    mac: str = ""
    router: str = ""
    router_mac: str = ""
    server_mac: str = ""


@dataclass
class Report:
    """What came of it."""

    attacks: list[dict[str, object]] = field(default_factory=list)
    not_tried: list[str] = field(default_factory=list)

    def add(self, attack: str, title: str, user: str, outcome: str, why: str, control: str) -> None:
        """Record one attack; what a target has said is hostile text."""
        told = {"id": attack, "name": title, "user": user, "outcome": outcome, "why": why, "control": control}
        self.attacks.append({key: _printable(text) for key, text in told.items()})

    def count(self, outcome: str) -> int:
        """Return how many ended so."""
        return sum(attack["outcome"] == outcome for attack in self.attacks)

    @property
    def record(self) -> dict[str, object]:
        """The report as results show it."""
        counts = {word: self.count(word) for word in (HELD, LEAKED, INCONCLUSIVE)}
        return {"attacks": len(self.attacks), **counts, "not_tried": self.not_tried, "report": self.attacks}


class Battery:
    """The attacks on the sandboxes of one server."""

    def __init__(
        self, backend: Backend, names: Mapping[str, str], targets: Targets, program: str, users: Sequence[str]
    ) -> None:
        self.backend = backend
        self.names = names
        self.targets = targets
        self.program = program
        self.users = users
        self.report = Report(not_tried=attacks.not_tried(targets))
        self.spots: dict[str, Spot] = {}
        #: Tokens in frames are of this run: the link of the controls may be shared.
        self._mark = secrets.token_hex(4)

    def run(self) -> Report:
        """Run all of it, one stage after the other; each leaves the sandboxes as it found them."""
        self._look(*ROLES)
        gateway = self.backend.get_instance(GATEWAY_NAME)
        uplink = gateway.addresses[0] if gateway and gateway.addresses else None
        control = self.spots[CONTROL]
        table = attacks.catalogue(self.targets, control.server_name, control.router, uplink)
        core = [attack for attack in table if attack.again]
        self._in_force("before the attacks")
        for user in self.users:
            self._have_user(user)
            self._stage(table, user)
        self._stage(core, "root", "from a clone", SIBLING)
        self._hear(attacks.frames(), "", self._alive(INSIDE))
        self._second_addresses()
        self._collude()
        for title, change in (
            ("after the firewall was flushed", self._flush),
            ("under another MAC", self._change_mac),
            ("after a restart", self._restart),
            ("after a reboot from inside", self._reboot),
            ("after a restore", self._restore_confined),
            ("after a restore of a checkpoint from when nothing was held", self._restore_free),
        ):
            self._after(core, title, change)
        self._attempt("live", "live connections after a deny", self._live_connections)
        for port, what in ((443, "connections"), (53, "look-ups")):
            title = f"a sibling that floods its leg with {what}"
            self._attempt(f"flood-{port}", title, partial(self._flood, port, title))
        self._in_force("after the attacks")
        return self.report

    # -- stages

    def _in_force(self, when: str) -> None:
        """Compare what is wanted with what the server and the gateway have."""
        for role in (INSIDE, SIBLING):
            outcome, why = in_force(self.backend, self._sandbox(role))
            if outcome == HELD and not self._alive(role):
                outcome, why = INCONCLUSIVE, "the sandbox does not reach what it may"
            title = f"what is in force in {role} is what is wanted, {when}"
            self.report.add(f"in-force-{role}", title, "root", outcome, why, "it was asked for")

    def _stage(self, table: Sequence[Attack], user: str, when: str = "", attacker: str = INSIDE) -> None:
        """Try attacks side by side: by the attacker, and by their controls."""
        alive = self._alive(attacker)
        runs = [(attacker, user, [(attack.id, attack.probe) for attack in table])]
        for who in sorted({attack.by for attack in table}):
            of_it = [(attack.id, {**attack.probe, **attack.control}) for attack in table if attack.by == who]
            runs.append((who, "root", of_it))
        with ThreadPoolExecutor(len(runs)) as pool:
            found, *told = pool.map(lambda run: self._probe(*run), runs)
        controls = {key: outcome for outcomes in told for key, outcome in outcomes.items()}
        alive = alive and self._alive(attacker)
        for attack in table:
            self._judge(attack, user, when, found[attack.id], controls[attack.id], alive)

    def _hear(self, table: Sequence[Attack], when: str, alive: bool) -> None:
        """Send frames, and have root in the sandbox beside listen for them; the controls do the same."""
        runs: list[tuple[str, str, list[tuple[str, Probe]]]] = []
        for role in (INSIDE, CONTROL):
            tokens = {attack.id: f"{self._mark}-{role}-{attack.id}." for attack in table}
            words = self._words(role)
            sent = [attacks.filled({**attack.probe, "token": tokens[attack.id]}, words) for attack in table]
            shout = {"kind": "shout", "frames": [frame for frame in sent if frame]}
            # whoever listens shows by its router's answer that it hears anything at all
            hear = {"kind": "hear", "tokens": tokens, "address": "<leg>", "source": "<address>"}
            runs += [(PEERS[role], "root", [("hear", hear)]), (role, "root", [("shout", shout)])]
        with ThreadPoolExecutor(len(runs)) as pool:
            found, sent_inside, controls, _sent = pool.map(lambda run: self._probe(*run), runs)
        for attack in table:
            outcome, control = (told.get(attack.id) or told["hear"] for told in (found, controls))
            # what the guest's own kernel does not send is refused; where the program itself failed nothing was tried
            if outcome["outcome"] == "refused" and sent_inside["shout"]["outcome"] == "error":
                outcome = sent_inside["shout"]
            self._judge(attack, "root", when, outcome, control, alive)

    def _judge(self, attack: Attack, user: str, when: str, found: Outcome, control: Outcome, alive: bool) -> None:
        title = f"{attack.title} {when}".strip()
        if found["outcome"] == "reached":
            outcome, why = LEAKED, found["why"]
        elif found["outcome"] != "refused":
            outcome, why = INCONCLUSIVE, found["why"]
        elif control["outcome"] != "reached":
            outcome, why = INCONCLUSIVE, "the control did not get through either"
        elif not alive:
            outcome, why = INCONCLUSIVE, "the sandbox does not reach what it may"
        else:
            outcome, why = HELD, found["why"]
        self.report.add(attack.id, title, user, outcome, why, f"{control['outcome']}: {control['why']}")

    def _after(self, table: Sequence[Attack], when: str, change: Callable[[], None]) -> None:
        """Change the sandbox, and try attacks again."""

        def again() -> None:
            change()
            self._until_alive(INSIDE)
            self._look(INSIDE)
            self._stage(table, "root", when)

        self._attempt("changed", f"all of it {when}", again)

    def _attempt(self, attack: str, title: str, work: Callable[[], None]) -> None:
        """Do a part of the battery; where it cannot be done, that proves nothing."""
        try:
            work()
        except PixelsError as exc:
            self.report.add(attack, title, "root", INCONCLUSIVE, str(exc), "it was not come to")

    # -- changes of the sandbox

    def _flush(self) -> None:
        self._root(INSIDE, "nft flush ruleset; iptables -F; ip route flush cache; true")

    def _change_mac(self) -> None:
        # the lease belongs to the MAC of before: an attacker keeps address and resolver by hand
        spot = self.spots[INSIDE]
        self._root(
            INSIDE,
            f"echo nameserver {spot.router} > /run/resolver; mount --bind /run/resolver /etc/resolv.conf; "
            "systemctl stop systemd-networkd.socket systemd-networkd; ip link set eth0 address 02:00:5e:00:53:07; "
            f"ip addr replace {spot.address}/24 dev eth0; ip route replace default via {spot.router}; ip neigh flush dev eth0; true",
        )

    def _restart(self) -> None:
        power.stop(self.backend, self.names[INSIDE], Deadline(_BOOT_SECONDS), force=True)
        power.start(self.backend, self.names[INSIDE], Deadline(_BOOT_SECONDS))
        self._await(INSIDE)

    def _reboot(self) -> None:
        boot = "cut -d ' ' -f 22 /proc/1/stat"
        before = self._root(INSIDE, boot)
        with contextlib.suppress(PixelsError):
            self._root(INSIDE, "systemctl reboot")
        deadline = Deadline(_BOOT_SECONDS)
        while True:
            deadline.pause(0.3, f"{self.names[INSIDE]} does not reboot")
            try:
                if self._root(INSIDE, boot) not in (before, ""):
                    break
            except PixelsError:
                # it is down
                continue
        self._await(INSIDE)

    def _restore_confined(self) -> None:
        self._checkpoint(_CONFINED, "present")
        self._checkpoint(_CONFINED, "restored")
        self._await(INSIDE)

    def _restore_free(self) -> None:
        """Take the policy away, keep that, and come back to it when the policy is there again."""
        name, enforcer = self.names[INSIDE], Enforcer(self.backend)
        wanted = policy_of(self._sandbox(INSIDE))
        try:
            enforcer.enforce(name, Policy(), Deadline(_BOOT_SECONDS))
            self._checkpoint(_FREE, "present")
        finally:
            enforcer.enforce(name, wanted, Deadline(_BOOT_SECONDS))
        self._checkpoint(_FREE, "restored")
        self._await(INSIDE)

    def _checkpoint(self, label: str, state: str) -> None:
        """Do what pixels_checkpoint does."""
        desired = DesiredCheckpoint(self.names[INSIDE], label, state, None, None, None, None, False, True, 120.0)
        for failure in apply(plan_checkpoint(self.backend, desired)).values():
            raise failure

    def _second_addresses(self) -> None:
        spots = self.spots
        own = [self._words(INSIDE)["second"] + "/24", spots[SIBLING].address + "/32"]
        self._root(INSIDE, "; ".join(f"ip addr add {address} dev eth0" for address in own) + "; true")
        self._stage(attacks.second_addresses(self.targets), "root")
        self._root(INSIDE, "; ".join(f"ip addr del {address} dev eth0" for address in own) + "; true")

    def _collude(self) -> None:
        """Let two guests, both root, switch the mode of their NICs, and give themselves addresses, nested NICs and a nested bridge."""
        six = COLLUDING["six"]
        give = "".join(
            f"ip addr add {COLLUDING[interface]}.@/24 dev {interface}; ip link set {interface} up; "
            for interface in ("eth0", "n8")
        )
        mode = "ip link set eth0 type macvlan mode {} 2>/dev/null; "
        stages: tuple[tuple[str, str, str, list[Attack]], ...] = (
            (
                "with NICs switched to bridge",
                mode.format("bridge")
                + f"ip link add link eth0 name n8 type macvlan mode bridge; {give}ip -6 addr add {six}:@/64 dev eth0 nodad; ",
                "",
                [*attacks.frames(), *attacks.colluding()],
            ),
            ("from nested NICs", "", "ip link del n8; ip addr del 10.99.0.@/24 dev eth0; ", attacks.frames("n8")),
            ("with NICs switched to vepa", mode.format("vepa"), "", attacks.frames()),
            ("with NICs switched to passthru", mode.format("passthru"), "", attacks.frames()),
            (
                "from nested bridges",
                mode.format("bridge")
                + "ip link add b9 type bridge; ip link set b9 up; ip link set eth0 promisc on; ip link set eth0 master b9; ",
                "ip link set eth0 nomaster; ip link set eth0 promisc off; ip link del b9; " + mode.format("private"),
                attacks.frames("b9"),
            ),
        )
        for title, before, after, table in stages:
            self._attempt("collude", f"all of it {title}", partial(self._collude_by, title, before, after, table))

    def _collude_by(self, title: str, before: str, after: str, table: Sequence[Attack]) -> None:
        roles = (INSIDE, SIBLING, CONTROL, OTHER)

        def everywhere(script: str) -> None:
            with ThreadPoolExecutor(len(roles)) as pool:
                numbered = ((role, script.replace("@", str(number % 2 + 1))) for number, role in enumerate(roles))
                list(pool.map(lambda run: self._root(run[0], f"{run[1]}true"), numbered))

        # whoever takes its NIC apart reaches nothing by it
        alive = self._alive(INSIDE)
        everywhere(before)
        self._hear([attack for attack in table if "kind" not in attack.probe], title, alive)
        spoken = [attack for attack in table if "kind" in attack.probe]
        if spoken:
            self._stage(spoken, "root", title)
        everywhere(after)

    # -- what takes its time

    def _live_connections(self) -> None:
        """Deny a name while connections to it are busy; those of the sibling, which nobody denies it, go on."""
        enforcer, t = Enforcer(self.backend), self.targets
        name, wanted = self.names[INSIDE], policy_of(self._sandbox(INSIDE))
        probe = {"kind": "live", "address": t.allowed, "name": t.allowed, "seconds": _LIVE_SECONDS}
        probes = [("live-tls", {**probe, "port": 443})]
        if t.slow:
            probes.append(("live-http", {**probe, "port": 80, "path": t.slow}))
        with ThreadPoolExecutor(2) as pool:
            runs = {role: pool.submit(self._probe, role, "root", probes) for role in (INSIDE, SIBLING)}
            time.sleep(3)
            try:
                enforcer.enforce(name, replace(wanted, deny=(*wanted.deny, t.allowed)), Deadline(_BOOT_SECONDS))
                # the clock of the guests is the server's: what counts is what came after the policy was in force
                end = float(self._root(INSIDE, "date +%s.%N"))
                told = {role: run.result() for role, run in runs.items()}
            finally:
                enforcer.enforce(name, wanted, Deadline(_BOOT_SECONDS))
        for key, _probe in probes:
            title = f"a live connection by {key.partition('-')[2].upper()} after a deny"
            outcome, why, control = cut(told[INSIDE][key], told[SIBLING][key], end)
            self.report.add(key, title, "root", outcome, why, control)
        self._until_alive(INSIDE)

    def _flood(self, port: int, title: str) -> None:
        """Let the sibling flood its leg, more than that one takes, and see whether the other leg works as before."""
        t = self.targets
        address = self._words(SIBLING)["leg"] if port == 53 else t.allowed
        flood = {"kind": "flood", "address": address, "port": port, "name": t.allowed, "seconds": _FLOOD_SECONDS}
        before = self._alive(INSIDE) and self._alive(SIBLING)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._probe, SIBLING, "root", [("flood", flood)])
            time.sleep(3)
            during = [self._alive(INSIDE) for _turn in range(3)]
            enough = before and not running.done()
            said = running.result()["flood"]
        outcome, why, control = flooded(said, during, enough)
        self.report.add(f"flood-{port}", title, "root", outcome, why, control)
        self._until_alive(SIBLING)
        self._until_alive(INSIDE)

    # -- sandboxes

    def _sandbox(self, role: str) -> Instance:
        found = self.backend.get_instance(self.names[role])
        if found is None:
            raise ConfigError(f"there is no sandbox {self.names[role]}")
        refuse_foreign(found)
        return found

    def _have_user(self, user: str) -> None:
        """Make the user that attacks; they are throw-away sandboxes."""
        if user != "root":
            self._root(INSIDE, f"id {user} >/dev/null 2>&1 || useradd --create-home {user}")

    def _look(self, *roles: str) -> None:
        """See where sandboxes stand."""
        with ThreadPoolExecutor(len(roles)) as pool:
            self.spots.update(zip(roles, pool.map(self._spot, roles), strict=True))

    def _spot(self, role: str) -> Spot:
        found = self._sandbox(role)
        words = self._root(role, "cat /sys/class/net/eth0/address; ip -4 route show default").split()
        router = words[words.index("via") + 1] if "via" in words else ""
        address = found.addresses[0] if found.addresses else ""
        spot = Spot(found.server_name, address, words[0] if words else "", router)
        if not address or not router:
            return spot
        told = self._run(role, "root", {"router": {"kind": "arp", "address": router, "source": address}})["router"]
        mac = told["why"] if told["outcome"] == "reached" else ""
        # whoever is confined has a leg for a router, and the server is somebody else on its link
        server_mac = self.backend.wire_address(found.wire) if found.wire else mac
        return replace(spot, router_mac=mac, server_mac=server_mac or "")

    def _words(self, role: str) -> dict[str, str]:
        """Return what words of probes stand for in a sandbox."""
        own, peer = self.spots[role], self.spots[PEERS[role]]
        return {
            "me": role,
            "address": own.address,
            "mac": own.mac,
            "leg": own.router,
            "leg_mac": own.router_mac,
            "server_mac": own.server_mac,
            "second": f"{own.router.rpartition('.')[0]}.251" if own.router else "",
            "peer": peer.address,
            "peer_mac": peer.mac,
            "peer_leg": peer.router,
            "wide_leg": self.spots[attacks.WIDE].router,
        }

    def _alive(self, role: str) -> bool:
        """Say whether a sandbox reaches what its policy names."""
        return self._probe(role, "root", [("alive", attacks.alive(self.targets))])["alive"]["outcome"] == "reached"

    def _until_alive(self, role: str) -> None:
        end = time.monotonic() + _ALIVE_SECONDS
        while not self._alive(role) and time.monotonic() < end:
            time.sleep(0.3)

    def _await(self, role: str) -> None:
        """Wait until a sandbox that was started has the address that it is given."""
        name = self.names[role]
        power.await_address(lambda: self.backend.get_instance(name), name, Deadline(_BOOT_SECONDS))
        power.await_ready(self.backend, name, Deadline(_BOOT_SECONDS))

    def _probe(self, role: str, user: str, probes: Iterable[tuple[str, Probe]]) -> dict[str, Outcome]:
        """Run probes in a sandbox, and return their outcomes by id; what it has no words for is an error."""
        words = self._words(role)
        ready = {key: attacks.filled(probe, words) for key, probe in probes}
        lost = {"outcome": "error", "why": "the sandbox has no address, or whoever is attacked has none"}
        told = self._run(role, user, {key: probe for key, probe in ready.items() if probe is not None})
        return {key: told.get(key, lost) for key in {**ready, **told}}

    def _run(self, role: str, user: str, probes: Mapping[str, Probe]) -> dict[str, Outcome]:
        sent = [{**probe, "id": key, "me": role} for key, probe in probes.items()]
        request = ExecRequest(("python3", "-c", self.program), user=user, cwd="/", stdin=json.dumps(sent).encode())
        result = self.backend.execute(self.names[role], request, Deadline(_PROBE_SECONDS))
        try:
            return dict(json.loads(result.stdout)["outcomes"])
        except (ValueError, KeyError) as exc:
            said = result.stderr.decode("utf-8", "replace")[-500:]
            raise OperationFailed(f"the probes in {self.names[role]} ended with {result.rc}: {said}") from exc

    def _root(self, role: str, script: str) -> str:
        result = self.backend.execute(self.names[role], ExecRequest(("sh", "-c", script), cwd="/"), Deadline(60))
        return result.stdout.decode("utf-8", "replace")


def in_force(backend: Backend, found: Instance) -> tuple[str, str]:
    """Return how it is with a sandbox whose configuration, or whose gateway, somebody may have changed; and in which words."""
    said = guest.state(backend, found) if policy_or_none(found).in_guest else None
    record = egress_record(found, backend.gateway_state(), said)
    outcome = {"yes": HELD, "no": LEAKED}.get(str(record["in_force"]), INCONCLUSIVE)
    if outcome == HELD and not policy_of(found).confined:
        return LEAKED, "its egress is unrestricted"
    return outcome, "; ".join(map(str, cast(list[str], record["drift"]))) or "nothing differs"


def cut(found: Outcome, control: Outcome, end: float) -> tuple[str, str, str]:
    """Return how it is with a connection that was to end by C(end) while the control's went on: outcome, why, and what became of the control."""
    told = f"{control['outcome']}: bytes, first and last: {control['why']}"
    why = f"bytes, first and last: {found['why']}; in force at {end:.3f}"
    if found["outcome"] != "reached" or control["outcome"] != "reached":
        return INCONCLUSIVE, why, told
    (count, first, last), (_count, _first, went_on) = (map(float, one["why"].split()) for one in (found, control))
    if last > end:
        return LEAKED, why, told
    if not count or first > end or went_on < end + 1:
        return INCONCLUSIVE, why, told
    return HELD, why, told


def flooded(said: Outcome, during: Sequence[bool], enough: bool) -> tuple[str, str, str]:
    """Return how it is with a leg while another one is flooded: outcome, why, and what became of the flood itself.

    A flood is one when more of it is refused than answered. enough says that all worked before, and that it went on to the end.
    """
    why = f"it reached what it may {during.count(True)} times of {len(during)} meanwhile"
    told = f"{said['outcome']}: answered to the flood, and not: {said['why']}"
    if said["outcome"] != "reached" or not enough:
        return INCONCLUSIVE, why, told
    if not all(during):
        return LEAKED, why, told
    answered, refused = map(int, said["why"].split())
    return HELD if refused > answered else INCONCLUSIVE, why, told


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def verify(backend: Backend, params: Mapping[str, Any]) -> dict[str, object]:
    """Run the battery as the options of a module say, and return its report."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in params["targets"].items()
        if value is not None
    }
    names = {role: params[role] for role in ROLES}
    return Battery(backend, names, Targets(**given), params["program"], params["users"]).run().record
