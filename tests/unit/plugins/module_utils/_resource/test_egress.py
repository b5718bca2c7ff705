# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies that are wanted, what is done to bring them into force, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    Conflict,
    Foreign,
    NotFound,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    Features,
    GatewayState,
    Instance,
    InstanceChange,
    Leg,
    Refusal,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Policy, Rules, policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import (
    Wish,
    drift,
    list_egress,
    notice,
    plan_egress,
    wish_from,
)

OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("mode", "allow", "allow_add", "allow_remove", "deny", "presets", "enforcement", "private")),
    "timeout": 5,
    "max_parallel": 2,
}
LIST = policy("allowlist", allow=["a.example.test"])


class Server:
    """A server with a gateway that enforces what it is given, as long as it is not told to fail."""

    features = Features()

    def __init__(self, *instances: Instance, gateway: bool = True) -> None:
        self.there = {instance.name: instance for instance in instances}
        self.legs: dict[str, str] = {}
        self.done: list[str] = []
        self.gateway = GatewayState(True) if gateway else None
        self.fail: PixelsError | None = None
        self.conflicts = 0
        self.escapes: tuple[str, ...] = ()
        self.files: dict[str, str] = {}
        self.forbidden = ""

    def check_egress_permitted(self, building: bool = False) -> None:
        assert not building
        if self.forbidden:
            raise ConfigError(self.forbidden)

    def get_instances(self, names: Sequence[str], addresses: bool = True) -> dict[str, Instance]:
        return {name: self.there[name] for name in names if name in self.there}

    def list_instances(self, addresses: bool = True) -> tuple[Instance, ...]:
        return tuple(self.there.values())

    def get_instance(self, name: str) -> Instance | None:
        return self.there.get(name)

    def gateway_state(self) -> GatewayState | None:
        if self.gateway is None:
            return None
        return replace(self.gateway, legs={wire: Leg(digest, "x") for wire, digest in self.legs.items()})

    def make_wire(self, name: str, _deadline: Deadline) -> str:
        self.done.append(f"wire {name}")
        return f"pxe-{name}"

    def drop_wire(self, name: str, wire: str, _deadline: Deadline) -> None:
        self.legs.pop(wire, None)
        self.done.append(f"drop {wire}")

    def connect_wire(self, wire: str, rules: Rules, _deadline: Deadline) -> None:
        if self.fail:
            raise self.fail
        self.legs[wire] = rules.digest
        self.done.append(f"connect {wire}")

    def update_instance(self, instance: Instance, change: InstanceChange, _deadline: Deadline) -> None:
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("stale", 412)
        keys = {key: value for key, value in {**instance.keys, **change.keys}.items() if value is not None}
        wire = instance.wire if change.wire is None else change.wire or None
        self.there[instance.name] = replace(instance, keys=keys, wire=wire, ways_out=self.escapes)
        self.done.append(f"update {instance.name}")

    def set_power(self, name: str, action: str, _deadline: Deadline, force: bool = False) -> None:
        self.there[name] = replace(self.there[name], status="stopped")
        self.done.append(f"{action} {name}")

    def write_file(self, name: str, path: str, source: BinaryIO, mode: int | None = None) -> None:
        self.files[path] = source.read().decode()

    def has_file(self, name: str, path: str) -> bool:
        return path in self.files

    def delete_file(self, name: str, path: str) -> None:
        self.files.pop(path, None)

    def refusals(self, wires: Sequence[str]) -> Mapping[str, tuple[Refusal, ...]]:
        hostile = Refusal("tls", "a\x1b[31m.test", 1, 0, 443)
        return {
            wire: (Refusal("dns", "B.example.test", 2, 0), hostile, Refusal("packet", "192.0.2.1", 1, 0, 22, "tcp"))
            for wire in wires
        }


def box(name: str = "box", wanted: Policy | None = None, wire: str | None = None, kind: str = "sandbox") -> Instance:
    keys = {"kind": kind, **({KEY_EGRESS: wanted.text} if wanted else {})}
    return Instance(name, f"px-{name}", "running", kind, keys=keys, wire=wire)


def planned(server: Server, **options: Any) -> Plan:
    work = plan_egress(cast(Backend, server), {**OPTIONS, "name": ["box"], **options})
    return work.plans[0]


def carried_out(server: Server, **options: Any) -> dict[str, PixelsError]:
    return apply(plan_egress(cast(Backend, server), {**OPTIONS, "name": ["box"], **options}))


def test_the_lists_are_those_that_are_there_and_what_is_wanted_of_them() -> None:
    there = policy("agent", allow=["a.example.test"], deny=["b.example.test"])
    assert Wish().policy(there) == there
    added = Wish(allow_add=("C.example.test",), allow_remove=("a.example.test", "never.example.test")).policy(there)
    assert (added.mode, added.allow, added.deny) == ("agent", ("c.example.test",), ("b.example.test",))
    listed = Wish("allowlist").policy(there)
    assert (listed.presets, listed.allow) == ((), ("a.example.test",))
    assert Wish("none").policy(there) == policy("none")
    assert Wish("unrestricted").policy(there) == Policy()
    assert Wish("agent", presets=("git",)).policy(Policy()).presets == ("git",)
    assert Wish(deny=()).policy(there).deny == ()


def test_a_mode_is_never_changed_by_a_list() -> None:
    with pytest.raises(ConfigError, match="its mode is unrestricted"):
        Wish(allow_add=("a.example.test",)).policy(Policy())
    for words in ({"allow": [], "allow_add": ["a.example.test"]}, {"allow": [], "allow_remove": ["a.example.test"]}):
        with pytest.raises(ConfigError, match="contradicts"):
            wish_from({**OPTIONS, **words})


def test_a_policy_is_brought_into_force_in_the_order_that_leaves_no_gap() -> None:
    server = Server(box())
    assert not carried_out(server, mode="allowlist", allow=["a.example.test"])
    assert server.done == ["wire box", "connect pxe-box", "update box"]
    assert "a.example.test" in server.files["/etc/pixels-egress.txt"]
    assert not planned(server).changed
    assert planned(server, deny=["c.example.test"]).changed
    server.legs["pxe-box"] = "other"
    assert "other rules" in planned(server).actions[0]
    server.done.clear()
    assert not carried_out(server, mode="none")
    assert server.done == ["update box", "drop pxe-box"]
    assert not carried_out(server, mode="unrestricted")
    assert server.files == {}
    assert server.there["box"].wire is None
    assert not planned(server, mode="unrestricted").changed


def test_a_policy_that_is_not_in_force_stops_the_sandbox() -> None:
    server = Server(box())
    server.fail = OperationFailed("no")
    assert "no" in str(carried_out(server, mode="allowlist", allow=["a.example.test"])["box"])
    assert server.there["box"].status == "stopped"
    server = Server(box())
    server.escapes = ("the proxy out leads",)
    assert "is not confined" in str(carried_out(server, mode="none")["box"])
    assert server.done[-1] == "stop box"


def test_a_conflict_is_tried_again_and_its_wire_dropped() -> None:
    server = Server(box())
    server.conflicts = 1
    assert not carried_out(server, mode="allowlist", allow=["a.example.test"])
    assert "drop pxe-box" in server.done
    server = Server(box())
    server.conflicts = 9
    assert "keeps being changed" in str(carried_out(server, mode="none")["box"])


def test_what_cannot_be_is_refused_before_anything_is_done() -> None:
    for server, options, error, words in (
        (Server(box(), gateway=False), {"mode": "agent"}, ConfigError, "there is no gateway"),
        (Server(box()), {"mode": "agent", "enforcement": "guest"}, ConfigError, r"the role pixels\.sandbox\.nftables"),
        (Server(), {"mode": "none"}, NotFound, "is not there"),
        (Server(box(kind="base")), {"mode": "none"}, Foreign, "left alone"),
    ):
        with pytest.raises(error, match=words):
            planned(server, **options)
        assert server.done == []
    sick = Server(box())
    sick.gateway = GatewayState(False, ("the gateway is stopped",))
    with pytest.raises(ConfigError, match=r"stopped: run the role pixels\.sandbox\.gateway"):
        planned(sick, mode="agent")
    fenced = Server(box())
    fenced.forbidden = "not allowed"
    with pytest.raises(ConfigError, match="not allowed"):
        planned(fenced, mode="agent")
    # what needs no gateway does not ask for one
    assert planned(fenced, mode="none").changed
    assert planned(Server(box(), gateway=False), mode="none").changed


def test_drift_is_told_in_words() -> None:
    there = box(wanted=LIST, wire="pxe-box")
    good = GatewayState(True, (), {"pxe-box": Leg(LIST.rules().digest, "x")})
    assert drift(there, LIST, good) == []
    assert drift(there, LIST, GatewayState(True)) == ["the gateway has no leg on pxe-box"]
    assert drift(there, Policy(), None) == ["it hangs on the wire pxe-box"]
    assert drift(replace(there, wire=None), LIST, good) == ["it hangs on no wire"]
    assert drift(replace(there, wire=None), policy("none"), None) == ["it has a network"]
    sick = GatewayState(True, ("rules",), {"pxe-box": Leg("other", "x", ("dns",))})
    assert drift(there, LIST, sick) == ["rules", "dns", "the gateway enforces other rules than these"]


def test_info_says_yes_no_and_unknown() -> None:
    server = Server(box(wanted=LIST, wire="pxe-box"), box("free"), box("odd"), box("base-x", kind="base"))
    server.there["odd"] = replace(server.there["odd"], keys={"kind": "sandbox", KEY_EGRESS: "{"})
    server.legs["pxe-box"] = LIST.rules().digest
    told = {record["name"]: record for record in list_egress(cast(Backend, server), None, True)}
    assert set(told) == {"box", "free", "odd"}
    assert (told["box"]["in_force"], told["box"]["verified"], told["free"]["in_force"]) == ("yes", True, "yes")
    assert told["odd"]["in_force"] == "unknown"
    names = [(entry["name"], entry["suspicious"], entry["target"]) for entry in cast(Any, told["box"]["denied"])]
    assert names == [
        ("b.example.test", False, "B.example.test"),
        (None, True, "'a\\x1b[31m.test'"),
        (None, False, "192.0.2.1"),
    ]
    server.gateway = GatewayState(False, ("the gateway is stopped",))
    (record,) = list_egress(cast(Backend, server), ["box"], True)
    assert (record["in_force"], record["verified"], record["denied"]) == ("unknown", False, [])
    server.gateway = None
    (record,) = list_egress(cast(Backend, server), ["box", "gone"], False)
    assert record["in_force"] == "no"


def test_the_notice_names_what_the_policy_names() -> None:
    said = notice(policy("agent", allow=["a.example.test"], deny=["b.example.test"]))
    assert "presets: agent" in said
    assert "allow: a.example.test" in said
    assert "deny: b.example.test" in said
