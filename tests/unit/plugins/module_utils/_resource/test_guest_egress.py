# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies that sandboxes enforce themselves: in which order they are told, what is read back, and what is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    ConnectionFailed,
    OperationFailed,
    OutcomeUnknown,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    ExecRequest,
    ExecResult,
    Features,
    GatewayState,
    Instance,
    InstanceChange,
    Leg,
    Refusal,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Policy, Rules, policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import egress, guest

OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("mode", "allow", "allow_add", "allow_remove", "deny", "presets", "enforcement", "private")),
    "timeout": 5,
    "max_parallel": 2,
}
LIST = policy("allowlist", allow=["a.example.test"], enforcement="guest")
WANTED: dict[str, Any] = {"mode": "allowlist", "allow": ["a.example.test"], "enforcement": "guest"}


class Server:
    """A server with one sandbox, whose program does as it is told unless answers say otherwise."""

    features = Features()

    def __init__(self, status: str = "running", wanted: Policy | None = None, wire: str | None = None) -> None:
        keys = {"kind": "sandbox", **({KEY_EGRESS: wanted.text} if wanted else {})}
        self.box = Instance("box", "px-box", status, "sandbox", keys=keys, wire=wire)
        self.files: dict[str, bytes] = {guest.PROGRAM: b""}
        self.loaded: bytes | None = None
        self.answers: dict[str, bytes] = {}
        self.fails: dict[str, PixelsError | int] = {}
        self.legs: dict[str, str] = {}
        self.done: list[str] = []
        if wanted:
            self.loaded = self.files[guest.POLICY_FILE] = json.dumps(guest.document(wanted)).encode()

    def get_instances(self, names: Sequence[str], addresses: bool = True) -> dict[str, Instance]:
        return {"box": self.box}

    def get_instance(self, name: str) -> Instance:
        return self.box

    def has_file(self, name: str, path: str) -> bool:
        return path in self.files

    def write_file(self, name: str, path: str, source: BinaryIO, mode: int | None = None) -> None:
        self.files[path] = source.read()
        if path == guest.POLICY_FILE:
            self.done.append("write")

    def delete_file(self, name: str, path: str) -> None:
        if self.files.pop(path, None) and path == guest.POLICY_FILE:
            self.done.append("delete")

    def execute(self, name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        assert self.box.status == "running"
        verb = request.argv[1]
        failure = self.fails.get(verb)
        if isinstance(failure, PixelsError):
            raise failure
        if failure or guest.PROGRAM not in self.files:
            return ExecResult(failure or 127, stderr=b"no\x1b[31m")
        if verb == "apply":
            self.loaded = self.files[guest.POLICY_FILE] = request.stdin
        elif verb == "clear":
            self.loaded = self.files.pop(guest.POLICY_FILE, None) and None
        if verb != "status":
            self.done.append(verb)
        return ExecResult(0, self.answers.get(verb, self._status()))

    def _status(self) -> bytes:
        told = self.files.get(guest.POLICY_FILE)
        marks = [None if text is None else hashlib.sha256(canonical(text)).hexdigest() for text in (told, self.loaded)]
        return json.dumps({"policy": marks[0], "loaded": marks[1], "problems": [], "unresolved": []}).encode()

    def check_egress_permitted(self, building: bool = False) -> None:
        assert not building

    def gateway_state(self) -> GatewayState:
        return GatewayState(
            True, (), {wire: Leg(digest, "x", wire.removeprefix("pxe-")) for wire, digest in self.legs.items()}
        )

    def make_wire(self, name: str, deadline: Deadline, now: str | None = None) -> str:
        return "pxe-box"

    def drop_wire(self, name: str, wire: str, deadline: Deadline) -> None:
        self.done.append(f"drop {wire}")

    def connect_wire(self, wire: str, rules: Rules, deadline: Deadline) -> None:
        self.legs[wire] = rules.digest
        self.done.append(f"connect {wire}")

    def update_instance(self, instance: Instance, change: InstanceChange, deadline: Deadline) -> None:
        keys = {key: value for key, value in {**instance.keys, **change.keys}.items() if value is not None}
        wire = instance.wire if change.wire is None else change.wire or None
        self.box = replace(instance, keys=keys, wire=wire)
        self.done.append("update")

    def set_power(self, name: str, action: str, deadline: Deadline, force: bool = False) -> None:
        self.box = replace(self.box, status="stopped")
        self.done.append(action)

    def refusals(self, wires: Sequence[str]) -> Mapping[str, tuple[Refusal, ...]]:
        return {}


def canonical(text: bytes) -> bytes:
    """Return a policy as the program takes fingerprints of it."""
    return json.dumps(json.loads(text), sort_keys=True).encode()


def planned(server: Server, **options: Any) -> Plan:
    (plan,) = egress.plan_egress(cast(Backend, server), {**OPTIONS, "name": ["box"], **options}).plans
    return plan


def carried_out(server: Server, **options: Any) -> str:
    """Do what the options say, and return what failed."""
    failed = apply(egress.plan_egress(cast(Backend, server), {**OPTIONS, "name": ["box"], **options}))
    return str(failed.get("box", ""))


def told(server: Server, denied: bool = False) -> dict[str, Any]:
    """Return what info says."""
    (record,) = egress.list_egress(cast(Backend, server), ["box"], denied)
    return record


def test_a_running_sandbox_is_told_before_its_record_and_read_back() -> None:
    server = Server()
    assert not carried_out(server, **WANTED)
    assert server.done == ["apply", "update"]
    assert egress.policy_of(server.box) == LIST
    assert "Its own firewall" in server.files[egress.NOTICE].decode()
    assert (told(server)["in_force"], told(server)["verified"]) == ("yes", True)
    assert not planned(server, **WANTED).changed


@pytest.mark.parametrize("loads", [True, False])
def test_rules_that_end_the_connection_they_came_over_are_read_back_on_another_one(
    monkeypatch: pytest.MonkeyPatch, loads: bool
) -> None:
    server = Server()
    real = server.execute

    def execute(name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        if request.argv[1] != "apply":
            return real(name, request, deadline)
        if loads:
            real(name, request, deadline)
        raise OutcomeUnknown("the connection ended")

    monkeypatch.setattr(server, "execute", execute)
    monkeypatch.setattr(egress, "_BOOT_SECONDS", 0.0)
    failed = carried_out(server, **WANTED)
    assert bool(failed) is not loads
    assert server.box.status == ("running" if loads else "stopped")


def test_a_stopped_one_has_it_on_its_disk_and_nobody_knows_whether_it_holds() -> None:
    server = Server("stopped")
    assert not carried_out(server, **WANTED)
    assert server.done == ["write", "update"]
    record = told(server, denied=True)
    assert (record["in_force"], record["verified"], record["denied"]) == ("unknown", False, [])
    assert record["drift"] == ["it is stopped, and only when it runs can it be asked what it enforces"]
    assert not carried_out(server, mode="unrestricted")
    assert guest.POLICY_FILE not in server.files


def test_its_own_rules_come_before_it_leaves_its_wire_and_go_after_it_has_one() -> None:
    server = Server(wanted=policy("allowlist", allow=["a.example.test"]), wire="pxe-box")
    server.files.pop(guest.POLICY_FILE)
    assert not carried_out(server, enforcement="guest")
    assert server.done == ["apply", "update", "drop pxe-box"]
    assert server.box.wire is None
    server.done.clear()
    assert not carried_out(server, enforcement="both")
    assert server.done == ["apply", "connect pxe-box", "update"]
    assert json.loads(server.files[guest.POLICY_FILE])["behind_gateway"] is True
    assert "enforced outside of it" in server.files[egress.NOTICE].decode()
    server.done.clear()
    assert not carried_out(server, enforcement="gateway")
    assert server.done[-1] == "clear"
    assert told(server)["verified"]


def test_where_there_is_no_program_nothing_is_done_and_the_role_is_named() -> None:
    server = Server()
    del server.files[guest.PROGRAM]
    with pytest.raises(ConfigError, match=r"the role pixels\.sandbox\.nftables"):
        planned(server, **WANTED)
    assert server.done == []


@pytest.mark.parametrize(
    ("verb", "failure", "words"),
    [
        ("apply", 1, r"px-egress apply in box ended with 1: no\?\[31m"),
        ("apply", ConnectionFailed("gone"), "gone"),
        ("status", 1, "cannot be asked"),
    ],
)
def test_what_fails_leaves_the_sandbox_stopped(
    monkeypatch: pytest.MonkeyPatch, verb: str, failure: Any, words: str
) -> None:
    monkeypatch.setattr(egress, "_BOOT_SECONDS", 0.05)
    server = Server()
    server.fails[verb] = failure
    with pytest.raises(AssertionError, match=words):
        assert not carried_out(server, **WANTED)
    assert server.box.status == "stopped"


def test_a_boot_that_has_not_ended_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    answers = iter([b'{"policy": null, "loaded": null, "problems": ["no rules are loaded"], "unresolved": []}'])
    real = server.execute

    def execute(name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        result = real(name, request, deadline)
        first = next(answers, None) if request.argv[1] == "status" else None
        return result if first is None else ExecResult(0, first)

    plan = egress.plan_egress(cast(Backend, server), {**OPTIONS, "name": ["box"], **WANTED})
    monkeypatch.setattr(server, "execute", execute)
    assert not apply(plan)
    assert next(answers, None) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"problems": ["the loaded rules\x1b were changed"]}, "the loaded rules? were changed"),
        ({"policy": "other"}, "keeps another policy"),
        ({"policy": None, "loaded": None}, "keeps another policy"),
        ({"loaded": None}, "other rules are loaded"),
        ({"loaded": "other"}, "other rules are loaded"),
        (None, "cannot be read"),
        ({"problems": 1}, "cannot be read"),
    ],
)
def test_drift_is_told_and_put_right(answer: Any, words: str) -> None:
    server = Server(wanted=LIST)
    good = {"policy": guest.fingerprint(LIST), "loaded": guest.fingerprint(LIST), "problems": [], "unresolved": []}
    server.answers["status"] = json.dumps(answer and {**good, **answer}).encode()
    record = told(server)
    assert (record["in_force"], record["verified"]) == ("no", False)
    assert words in record["drift"][0]
    assert planned(server).changed


def test_one_that_cannot_be_asked_is_unknown_and_one_without_a_program_is_not() -> None:
    server = Server(wanted=LIST)
    server.fails["status"] = OperationFailed("it hangs")
    assert (told(server)["in_force"], told(server)["verified"]) == ("unknown", False)
    server.fails.clear()
    del server.files[guest.PROGRAM]
    assert told(server)["in_force"] == "no"
    assert guest.NO_PROGRAM in told(server)["drift"][0]
    assert told(server, denied=True)["denied"] == []


def test_what_it_refused_is_marked_as_its_own_word_and_checked() -> None:
    server = Server(wanted=LIST)
    entry = {"target": "192.0.2.1", "port": 443, "protocol": "tcp", "count": 2, "last": 0}
    server.answers["refused"] = json.dumps([entry, {**entry, "port": None, "protocol": "evil\n"}]).encode()
    first, second = told(server, denied=True)["denied"]
    assert (first["how"], first["name"], first["target"], first["port"]) == ("guest", None, "192.0.2.1", 443)
    assert (second["port"], second["protocol"]) == (None, None)
    for spoil in ({"target": "a.test"}, {"port": 70000}, {"count": -1}, {"last": 1 << 40}, {"count": "x"}):
        server.answers["refused"] = json.dumps([{**entry, **spoil}]).encode()
        assert told(server, denied=True)["denied"] == []
    server.answers["refused"] = b"{"
    assert told(server, denied=True)["denied"] == []


def test_names_without_an_address_are_told_if_they_are_names() -> None:
    server = Server(wanted=LIST)
    good = {"policy": guest.fingerprint(LIST), "loaded": guest.fingerprint(LIST), "problems": []}
    server.answers["status"] = json.dumps({**good, "unresolved": ["a.example.test", "no name"]}).encode()
    assert told(server)["unresolved"] == ["a.example.test"]
    assert told(server)["verified"]
