# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The battery: what counts as held, and what proves nothing."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, OperationFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    ExecRequest,
    ExecResult,
    Instance,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import verify as verify_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.verify import (
    Attack,
    Battery,
    Spot,
    Targets,
    catalogue,
    in_force,
    verify,
)

NAMES = {role: f"v-{role}" for role in ("inside", "sibling", "control", "other")}
TARGETS = Targets(
    "good.example.test",
    "198.51.100.10",
    "198.51.100.66",
    "evil.test",
    resolvers=("198.51.100.53",),
    private=("10.255.255.1",),
    private_names=("private.example.test",),
    metadata=("169.254.169.254",),
    hosts=("10.1.2.1",),
)


class Server:
    """Sandboxes whose probes end as told; inside, nothing but what is allowed gets through."""

    own = ("another sandbox's leg", *(f"the gateway on its uplink, by {words}" for words in ("HTTP", "TLS", "DNS")))

    def __init__(self, leaks: tuple[str, ...] = (), dead: bool = False, deaf: tuple[str, ...] = ()) -> None:
        self.leaks, self.dead, self.deaf = leaks, dead, deaf
        self.done: list[str] = []

    def get_instance(self, name: str) -> Instance | None:
        if name == "gateway":
            return Instance(name, "px-gateway", "running", "gateway", addresses=("10.9.9.2",))
        keys = {"kind": "sandbox", KEY_EGRESS: policy("none").text}
        number = list(NAMES.values()).index(name) if name in NAMES.values() else 9
        if number == 9:
            return None
        return Instance(
            name, f"px-{name}", "running", "sandbox", keys=keys, addresses=(f"100.64.{number}.2",), wire="none"
        )

    def gateway_state(self) -> None:
        return None

    def execute(self, name: str, request: ExecRequest, _deadline: Deadline) -> ExecResult:
        if request.argv[0] == "ip":
            return ExecResult(0, f"default via 100.64.{list(NAMES.values()).index(name)}.1 dev eth0".encode())
        if request.argv[0] != "python3" or not request.stdin:
            return ExecResult(0, b"5")
        outcomes = {}
        for probe in json.loads(request.stdin):
            confined = name in ("v-inside", "v-sibling")
            through = not confined or probe["id"] in (
                *self.leaks,
                "allowed",
                "router",
                "own address",
                *self.own,
            )
            if confined and probe["id"] in self.own and probe["address"] != "100.64.0.1":
                through = False
            if (probe["id"] == "allowed" and self.dead) or (not confined and probe["id"] in self.deaf):
                through = False
            outcomes[probe["id"]] = {"outcome": "reached" if through else "refused", "why": "00:11:22:33:44:55"}
        return ExecResult(0, json.dumps({"outcomes": outcomes}).encode())

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **_options: self.done.append(
            f"{name} {args[0] if isinstance(args[0], str) else args[0].name}"
        )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=10)
    monkeypatch.setattr(
        verify_module, "time", SimpleNamespace(sleep=lambda _seconds: None, monotonic=lambda: next(clock))
    )


def outcomes(server: Server) -> dict[str, str]:
    report = Battery(cast(Backend, server), NAMES, TARGETS, "program", ("root", "nobody")).run()
    return {f"{entry['name']} {entry['user']}": str(entry["outcome"]) for entry in report.attacks}


def test_what_does_not_get_through_has_held_when_its_control_did() -> None:
    found = outcomes(Server())
    assert found["a forged server name root"] == "held"
    assert found["ICMP nobody"] == "held"
    for when in ("in a clone", "under another MAC", "after a restore"):
        assert found[f"a forged Host {when} root"] == "held"
    assert found["the gateway on its uplink, by DNS root"] == "held"
    assert found["what is in force is what is wanted, after the attacks root"] == "held"
    assert "leaked" not in found.values()


def test_what_gets_through_has_leaked() -> None:
    found = outcomes(Server(leaks=("ICMP", "a forged Host")))
    assert {name for name, outcome in found.items() if outcome == "leaked"} >= {"ICMP root", "a forged Host nobody"}


def test_without_a_control_or_without_any_network_nothing_is_proved() -> None:
    found = outcomes(Server(deaf=("ICMP",)))
    assert found["ICMP root"] == "inconclusive"
    asked = ("a second", "what is in force")
    dead = {name: outcome for name, outcome in outcomes(Server(dead=True)).items() if not name.startswith(asked)}
    assert "held" not in dead.values()


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


def test_a_probe_that_breaks_proves_nothing() -> None:
    battery = Battery(cast(Backend, Server()), NAMES, TARGETS, "program", ("root",))
    battery._judge("x", "root", {"outcome": "error", "why": "bug"}, {"outcome": "reached", "why": ""}, True)
    assert battery.report.record["inconclusive"] == 1


def test_every_attack_has_a_name_of_its_own_and_a_control_that_differs_where_it_must() -> None:
    spots = {role: Spot(f"px-{role}", f"100.64.{n}.2", f"100.64.{n}.1", "m") for n, role in enumerate(NAMES)}
    attacks = catalogue(TARGETS, spots, "10.9.9.2")
    assert len(catalogue(TARGETS, spots, None)) == len(attacks) - 3
    assert len({attack.name for attack in attacks}) == len(attacks)
    forged = next(attack for attack in attacks if attack.name == "a forged server name")
    assert forged.probe["address"] == "100.64.0.1"
    assert forged.control is not None
    assert forged.control["address"] == TARGETS.foreign
    assert all(isinstance(attack, Attack) for attack in attacks)


def test_what_is_wrong_with_the_sandboxes_is_told() -> None:
    params = {
        **NAMES,
        "program": "p",
        "users": ["root"],
        "targets": {**TARGETS.__dict__, "hosts": None, "resolvers": ["198.51.100.53"]},
    }
    assert verify(cast(Backend, Server()), params)["leaked"] == 0
    with pytest.raises(ConfigError, match="there is no sandbox"):
        verify(cast(Backend, Server()), {**params, "other": "gone"})
    server = Server()
    server.execute = lambda *_arguments: ExecResult(1, b"", b"no python3")  # type: ignore[method-assign]
    with pytest.raises((OperationFailed, ConfigError)):
        verify(cast(Backend, server), params)
