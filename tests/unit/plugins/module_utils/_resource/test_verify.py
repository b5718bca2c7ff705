# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The battery: what counts as held, and what proves nothing."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, OperationFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    Checkpoint,
    ExecRequest,
    ExecResult,
    Instance,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import verify as verify_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.attacks import ROLES, Targets
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.verify import (
    Battery,
    Report,
    cut,
    in_force,
    verify,
)

NAMES = {role: f"v-{role}" for role in ROLES}
TARGETS = Targets(
    "good.example.test",
    "198.51.100.10",
    "198.51.100.66",
    "evil.test",
    slow="/slow",
    resolvers=("198.51.100.53",),
    private=("10.255.255.1",),
    private_names=("private.example.test",),
    metadata=("169.254.169.254",),
    hosts=("10.1.2.1",),
)
CONFINED = ("v-inside", "v-sibling")


class Server:
    """Sandboxes whose probes end as told; under the policy nothing but what is allowed gets through."""

    def __init__(self, leaks: tuple[str, ...] = (), dead: bool = False, deaf: tuple[str, ...] = ()) -> None:
        self.leaks, self.dead, self.deaf = leaks, dead, deaf
        self.done: list[str] = []
        self.labels: list[str] = []
        self.boots = itertools.count()
        #: When something came last by a connection, and how much of a flood was answered and how much not.
        self.live = {"v-inside": "9 10 40", "v-sibling": "9 10 60"}
        self.flood = "512 900"

    def get_instance(self, name: str) -> Instance | None:
        if name == "gateway":
            return Instance(name, "px-gateway", "running", "gateway", addresses=("10.9.9.2",))
        if name not in NAMES.values():
            return None
        keys = {"kind": "sandbox", KEY_EGRESS: policy("none").text}
        lost = self.dead and name == "v-inside"
        addresses = () if lost else (f"100.64.{self._number(name)}.2",)
        return Instance(name, f"px-{name}", "running", "sandbox", keys=keys, addresses=addresses, wire="none")

    def _number(self, name: str) -> int:
        return list(NAMES.values()).index(name)

    def gateway_state(self) -> None:
        return None

    def wire_address(self, _wire: str) -> str:
        return "02:00:00:00:00:99"

    def list_checkpoints(self, _name: str) -> tuple[Checkpoint, ...]:
        return tuple(map(Checkpoint, self.labels))

    def create_checkpoint(self, _name: str, label: str, _expires: None, _deadline: Deadline) -> None:
        self.labels.append(label)

    def is_whole(self, _instance: Instance, _label: str) -> bool:
        return True

    def lost_by_restore(self, _instance: Instance, _label: str) -> tuple[str, ...]:
        return ()

    def execute(self, name: str, request: ExecRequest, _deadline: Deadline) -> ExecResult:
        if request.argv[0] == "/bin/sh":
            return ExecResult(0, b"running")
        if request.argv[0] == "sh":
            return ExecResult(0, self._script(name, request.argv[2]).encode())
        outcomes = {}
        for probe in json.loads(request.stdin):
            if probe["kind"] == "hear":
                outcomes.update({key: self._outcome(name, {"id": key, "kind": "frame"}) for key in probe["tokens"]})
            else:
                outcomes[probe["id"]] = self._outcome(name, probe)
        return ExecResult(0, json.dumps({"outcomes": outcomes}).encode())

    def _script(self, name: str, script: str) -> str:
        if "ip -4 route" in script:
            number = self._number(name)
            lost = self.dead and name == "v-inside"
            return f"02:00:00:00:00:0{number}\n" + ("" if lost else f"default via 100.64.{number}.1 dev eth0")
        if "date" in script:
            return "50"
        return str(next(self.boots)) if "/proc/1/stat" in script else ""

    def _outcome(self, name: str, probe: dict[str, Any]) -> dict[str, str]:
        key, why = probe["id"], "00:11:22:33:44:55"
        allowed = key in (*self.leaks, "shout", "router", "alive") or self._own(name, probe)
        through = allowed if name in CONFINED else key not in self.deaf
        if probe["kind"] == "flood":
            time.sleep(0.3)
            through, why = True, self.flood
        if key.startswith("live"):
            through, why = True, self.live[name]
        if self.dead and name == "v-inside":
            through = False
        return {"outcome": "reached" if through else "refused", "why": why}

    def _own(self, name: str, probe: dict[str, Any]) -> bool:
        """Say whether a probe asks a sandbox's own leg for what the policy allows."""
        asks = probe.get("host") or probe.get("name")
        at_home = probe.get("address") == f"100.64.{self._number(name)}.1" and not probe.get("source")
        plain = probe["kind"] in ("http", "tls", "dns") and "record" not in probe and not probe.get("request")
        return at_home and ((plain and asks == TARGETS.allowed) or probe.get("ports") == [80])

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **_options: self.done.append(
            f"{name} {args[0] if isinstance(args[0], str) else args[0].name}"
        )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=10)
    monkeypatch.setattr(verify_module, "_BOOT_SECONDS", 1.0)
    monkeypatch.setattr(
        verify_module, "time", SimpleNamespace(sleep=lambda _seconds: None, monotonic=lambda: next(clock))
    )


def run(server: Server) -> Report:
    return Battery(cast(Backend, server), NAMES, TARGETS, "program", ("root", "pixel")).run()


def outcomes(server: Server) -> dict[str, str]:
    return {f"{entry['name']} {entry['user']}": str(entry["outcome"]) for entry in run(server).attacks}


def test_what_does_not_get_through_has_held_when_its_control_did() -> None:
    server = Server()
    found = outcomes(server)
    assert set(found.values()) == {"held"}
    assert found["ICMP from a raw socket pixel"] == "held"
    for when in (
        "from a clone",
        "after the firewall was flushed",
        "under another MAC",
        "after a restart",
        "after a reboot from inside",
        "after a restore",
        "after a restore of a checkpoint from when nothing was held",
    ):
        assert found[f"a forged Host {when} root"] == "held"
    assert found["a rogue DHCP server, by a frame root"] == "held"
    assert found["a colluding sibling, by IP on nested NICs with NICs switched to bridge root"] == "held"
    assert found["a live connection by HTTP after a deny root"] == "held"
    assert found["a sibling that floods its leg with look-ups root"] == "held"
    assert found["what is in force in sibling is what is wanted, after the attacks root"] == "held"
    assert server.done.count("restore_checkpoint v-inside") == 2


def test_what_gets_through_has_leaked() -> None:
    found = outcomes(Server(leaks=("icmp", "forged-host", "frame-vlan", "second-address", "uplink-dns")))
    leaked = {name for name, outcome in found.items() if outcome == "leaked"}
    assert leaked >= {
        "ICMP from a raw socket root",
        "a forged Host pixel",
        "a forged Host after a restart root",
        "a VLAN, by a frame root",
        "a VLAN, by a frame from nested bridges root",
        "a second address on the leg root",
        "the gateway on its uplink, by DNS root",
    }


def test_without_a_control_nothing_is_proved() -> None:
    found = outcomes(Server(deaf=("icmp", "forged-sni", "frame-vlan")))
    unproved = {name for name, outcome in found.items() if outcome == "inconclusive"}
    assert unproved >= {"ICMP from a raw socket root", "a forged server name pixel", "a VLAN, by a frame root"}
    assert "an address, by HTTP root" not in unproved


def test_a_sandbox_without_any_network_proves_nothing() -> None:
    report = run(Server(dead=True))
    assert report.count("leaked") == 0
    assert {entry["name"] for entry in report.attacks if entry["outcome"] == "held"} <= {
        "what is in force in sibling is what is wanted, before the attacks",
        "what is in force in sibling is what is wanted, after the attacks",
        *(entry["name"] for entry in report.attacks if str(entry["name"]).endswith("from a clone")),
    }
    assert report.count("inconclusive") > 100


@pytest.mark.parametrize(
    ("found", "control", "outcome"),
    [
        ("9 10 40", "9 10 60", "held"),
        ("9 10 51", "9 10 60", "leaked"),
        # nothing came at all, or the one that nobody cut ended too
        ("0 0 0", "9 10 60", "inconclusive"),
        ("9 10 40", "9 10 50", "inconclusive"),
    ],
)
def test_a_live_connection_has_to_end_while_another_goes_on(found: str, control: str, outcome: str) -> None:
    told = cut({"outcome": "reached", "why": found}, {"outcome": "reached", "why": control}, 50.0)
    assert told[0] == outcome
    assert cut({"outcome": "error", "why": "x"}, {"outcome": "reached", "why": control}, 50.0)[0] == "inconclusive"


def test_a_flood_counts_when_it_is_more_than_its_leg_takes() -> None:
    server = Server()
    server.flood = "900 0"
    title = "a sibling that floods its leg with connections root"
    assert outcomes(server)[title] == "inconclusive"

    class Slow(Server):
        """A server where a flood is felt on other legs."""

        flooding = False

        def _outcome(self, name: str, probe: dict[str, Any]) -> dict[str, str]:
            if probe["kind"] == "flood":
                self.flooding = True
                found = super()._outcome(name, probe)
                self.flooding = False
                return found
            if self.flooding and name == "v-inside":
                return {"outcome": "refused", "why": "it takes too long"}
            return super()._outcome(name, probe)

    assert outcomes(Slow())[title] == "leaked"


def test_what_somebody_changed_is_a_leak() -> None:
    server = Server()
    box = server.get_instance("v-inside")
    assert box
    assert in_force(cast(Backend, server), box) == ("held", "nothing differs")
    assert in_force(cast(Backend, server), replace(box, ways_out=("the device eth7 is a nic",))) == (
        "leaked",
        "the device eth7 is a nic",
    )
    torn = replace(box, keys={**box.keys, KEY_EGRESS: "torn"})
    assert in_force(cast(Backend, server), torn)[0] == "inconclusive"
    free = replace(box, keys={"kind": "sandbox"}, wire=None)
    assert in_force(cast(Backend, server), free) == ("leaked", "its egress is unrestricted")


def test_a_probe_that_breaks_proves_nothing_and_neither_does_a_change_that_fails() -> None:
    class Broken(Server):
        """A server whose probes break where they are about ICMP, and that cannot restore."""

        def _outcome(self, name: str, probe: dict[str, Any]) -> dict[str, str]:
            found = super()._outcome(name, probe)
            return {"outcome": "error", "why": "bug\x1b[0m"} if probe["id"] == "icmp" else found

        def restore_checkpoint(self, *_what: object) -> None:
            raise OperationFailed("the pool is full")

    report = run(Broken())
    by_name = {(entry["name"], entry["user"]): entry for entry in report.attacks}
    assert by_name["ICMP from a raw socket", "root"]["outcome"] == "inconclusive"
    assert by_name["ICMP from a raw socket", "root"]["why"] == "bug?[0m"
    assert by_name["all of it after a restore", "root"]["outcome"] == "inconclusive"
    assert "the pool is full" in str(by_name["all of it after a restore", "root"]["why"])


def test_what_is_wrong_with_the_sandboxes_is_told() -> None:
    params = {
        **NAMES,
        "program": "p",
        "users": ["root"],
        "targets": {**TARGETS.__dict__, "hosts": None, "resolvers": ["198.51.100.53"]},
    }
    told = verify(cast(Backend, Server()), params)
    assert told["leaked"] == 0
    assert "the server by its addresses: there is no target hosts" in cast(list[str], told["not_tried"])
    with pytest.raises(ConfigError, match="there is no sandbox"):
        verify(cast(Backend, Server()), {**params, "other": "gone"})
    server = Server()
    server.execute = lambda *_arguments: ExecResult(1, b"", b"no python3")  # type: ignore[method-assign]
    with pytest.raises((OperationFailed, ConfigError)):
        verify(cast(Backend, server), params)
