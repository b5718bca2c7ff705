# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What px-egress keeps, looks up, loads and tells, with an nft that is none."""

from __future__ import annotations

import importlib
import ipaddress
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import guest

FILES = Path(__file__).parents[3] / "roles/nftables/files"
#: What is answered to a question that comes for the so manieth time, by name and kind.
Say = Callable[[int, str, int], list[str] | None]


class Kernel:
    """An nft that keeps the last text it was given."""

    def __init__(self, program: ModuleType) -> None:
        self.program = program
        self.loaded: str | None = None
        self.counted: list[dict[str, Any]] = []
        self.refuses = ""

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Do what nft would do."""
        if "--file" in command:
            assert stdin is not None
            if self.refuses and self.refuses in stdin:
                raise self.program.Failed("nft: no")
            if "--check" not in command:
                self.loaded = stdin if "comment" in stdin else None
            return ""
        if self.loaded is None:
            raise self.program.Failed("nft: no such table")
        if "--json" in command:
            elements = self.counted if command[-1] == "refused4" else []
            return json.dumps({"nftables": [{"metainfo": {}}, {"set": {"elem": elements}}]})
        if "flush" in command:
            self.counted = [] if command[-1] == "refused4" else self.counted
            return ""
        digest = re.search('comment "([0-9a-f]+)"', self.loaded)
        assert digest
        return f'table inet px_egress {{\n\tcomment "{digest[1]}"\n\tset refused4 {{\n\t\t{self.counted}\n\t}}\n\t# {self.loaded}'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The program, with its files in a folder of the test."""
    monkeypatch.syspath_prepend(str(FILES))
    module = importlib.import_module("egress")
    for name in ("SETTINGS", "POLICY", "STATE", "RUN", "HOSTS"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    monkeypatch.setattr(module, "RESOLV", (tmp_path / "resolv.conf", tmp_path / "upstream"))
    monkeypatch.setattr(module, "enabled", lambda unit: True)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "upstream").write_text("# of systemd\nnameserver 10.0.0.53\nnameserver bad\n")
    yield module
    for name in ("egress", "rules"):
        sys.modules.pop(name)


@pytest.fixture
def kernel(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    there = Kernel(program)
    monkeypatch.setattr(program, "run", there.run)
    return there


def resolver(program: ModuleType, monkeypatch: pytest.MonkeyPatch, answers: dict[str, set[str] | None]) -> None:
    """Answer for names, in both families; None is nobody who answers."""

    def ask(name: str, kind: int, servers: list[str], end: float) -> set[str] | None:
        found = answers[name]
        return None if found is None else {address for address in found if program.kind_of(address) == kind}

    monkeypatch.setattr(program, "ask", ask)


LIST = policy("allowlist", allow=["a.example", "b.example"], enforcement="guest")


def test_a_policy_is_checked_kept_loaded_and_read_back(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver(program, monkeypatch, {"a.example": {"198.51.100.1"}, "b.example": {"10.0.0.1"}})
    told = program.apply(guest.document(LIST))
    assert told == {
        "version": 1,
        "policy": guest.fingerprint(LIST),
        "loaded": guest.fingerprint(LIST),
        "unresolved": ["b.example"],
        "problems": [],
    }
    assert "198.51.100.1 . 443" in str(kernel.loaded)
    assert "elements = { 10.0.0.53 }" in str(kernel.loaded)
    assert "198.51.100.1 a.example\n" in program.HOSTS.read_text()
    program.clear()
    assert program.HOSTS.read_text() == "127.0.0.1 localhost\n"
    assert kernel.loaded is None
    assert program.status() == {"version": 1, "policy": None, "loaded": None, "unresolved": [], "problems": []}


def test_what_the_kernel_refuses_changes_nothing(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver(program, monkeypatch, {"a.example": None, "b.example": None})
    program.apply(guest.document(LIST))
    other = policy("none", enforcement="guest")
    kernel.refuses = guest.fingerprint(other)
    with pytest.raises(program.Failed):
        program.apply(guest.document(other))
    assert program.status()["policy"] == program.status()["loaded"] == guest.fingerprint(LIST)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rules": {}, "behind_gateway": false}'])
def test_what_is_no_policy_is_refused_in_words(program: ModuleType, text: str) -> None:
    with pytest.raises(program.Failed, match="the policy cannot be read"):
        program.parsed(text)


def test_what_is_not_as_it_was_loaded_is_told(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver(program, monkeypatch, {"a.example": set(), "b.example": set()})
    program.apply(guest.document(LIST))
    good = kernel.loaded
    # what traffic adds is no change
    kernel.counted = [{"elem": {}}]
    assert program.status()["problems"] == []
    kernel.loaded = f"{good} accept"
    assert program.status()["problems"] == ["the loaded rules were changed"]
    kernel.loaded = None
    assert program.status()["problems"] == ["no rules are loaded"]
    monkeypatch.setattr(program, "enabled", lambda unit: "timer" not in unit)
    kernel.loaded = good
    assert program.status()["problems"] == ["px-egress-refresh.timer is not enabled"]
    program.POLICY.unlink()
    assert program.status()["problems"] == ["rules are loaded, and there is no policy"]
    program.POLICY.write_text("{")
    assert "the policy cannot be read" in program.status()["problems"][0]
    with pytest.raises(program.Failed):
        program.boot()


@pytest.mark.parametrize("torn", ["", "{", "null", "\0\0"])
def test_what_was_remembered_and_cannot_be_read_is_looked_up_anew(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    resolver(program, monkeypatch, {"a.example": {"198.51.100.1"}, "b.example": None})
    program.STATE.mkdir()
    for name in ("addresses.json", "refused.json"):
        (program.STATE / name).write_text(torn)
    assert program.apply(guest.document(LIST))["problems"] == []
    assert "198.51.100.1 . 443" in str(kernel.loaded)
    program.boot()
    program.collect()


def test_a_start_loads_what_was_kept_without_asking_anybody(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.boot()
    assert kernel.loaded is None
    resolver(program, monkeypatch, {"a.example": {"198.51.100.1"}, "b.example": None})
    program.apply(guest.document(LIST))
    kernel.loaded = None
    resolver(program, monkeypatch, {})
    program.boot()
    assert "198.51.100.1 . 443" in str(kernel.loaded)


def test_an_address_stays_for_a_while_and_one_that_nobody_answers_for_stays(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = guest.document(LIST)
    now = 1_000_000.0
    monkeypatch.setattr(program.time, "time", lambda: now)
    before = {"a.example": {"198.51.100.1": now - 10, "198.51.100.2": now - 7200}, "b.example": {"198.51.100.3": 0.0}}
    before["gone.example"] = {"198.51.100.4": now}
    resolver(program, monkeypatch, {"a.example": {"198.51.100.9"}, "b.example": None})
    after, answered = program.look_up(told, before)
    assert answered
    assert after == {
        "a.example": {"198.51.100.1": now - 10, "198.51.100.9": now},
        "b.example": {"198.51.100.3": 0.0},
    }
    resolver(program, monkeypatch, {"a.example": None, "b.example": None})
    assert program.look_up(told, after) == (after, False)


def test_resolvers_that_came_meanwhile_are_asked_too(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(name: str, kind: int, servers: list[str], end: float) -> set[str] | None:
        asked.extend(servers)
        program.RESOLV[0].write_text("nameserver 10.0.0.54\n")
        return {"198.51.100.1"} if servers == ["10.0.0.54"] else None

    monkeypatch.setattr(program, "ask", ask)
    assert program.refresh(guest.document(policy("allowlist", allow=["a.example"], enforcement="guest")))
    assert asked == ["10.0.0.53", "10.0.0.53", "10.0.0.54", "10.0.0.54"]
    assert "elements = { 10.0.0.54 }" in str(kernel.loaded)


def test_resolvers_are_those_of_the_settings_or_of_the_machine(program: ModuleType) -> None:
    told = guest.document(LIST)
    assert program.resolvers(told) == ["10.0.0.53"]
    program.SETTINGS.write_text('{"resolvers": ["192.0.2.53"], "inbound": []}')
    assert program.resolvers(told) == ["192.0.2.53"]
    assert program.resolvers({**told, "behind_gateway": True}) == ["10.0.0.53"]
    for path in program.RESOLV:
        path.unlink()
    assert program.resolvers({**told, "behind_gateway": True}) == []


def answer(question: bytes, records: list[tuple[int, bytes]], flags: int = 0x8180) -> bytes:
    """Return an answer of a resolver."""
    body = b"".join(b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 60, len(data)) + data for kind, data in records)
    return question[:2] + struct.pack("!5H", flags, 1, len(records), 0, 0) + question[12:] + body


def test_answers_are_read_and_others_are_not(program: ModuleType) -> None:
    question = program.query("a.example", 1)
    alias = (5, b"\x01b\xc0\x0c")
    good = answer(question, [alias, (1, bytes([198, 51, 100, 1])), (28, bytes(16))])
    assert program.read_answer(question, good, 1) == (False, {"198.51.100.1"})
    assert program.read_answer(question, answer(question, [], 0x8183), 1) == (False, set())
    assert program.read_answer(question, answer(question, [], 0x8380), 1) == (True, set())
    for bad in (
        answer(question, [], 0x8182),
        answer(question, [], 0x0100),
        answer(program.query("b.example", 1), []),
        b"x" + good[1:],
        b"",
    ):
        with pytest.raises((ValueError, struct.error)):
            program.read_answer(question, bad, 1)


def test_the_next_resolver_and_tcp_are_tried(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def exchanged(server: str, question: bytes, stream: bool) -> bytes:
        asked.append((server, stream))
        if server == "dead":
            raise TimeoutError
        return answer(question, [(1, bytes([198, 51, 100, 1]))] if stream else [], 0x8180 if stream else 0x8380)

    monkeypatch.setattr(program, "exchanged", exchanged)
    assert program.ask("a.example", 1, ["dead", "good"], 1e12) == {"198.51.100.1"}
    assert asked == [("dead", False), ("good", False), ("good", True)]
    assert program.ask("a.example", 1, ["dead"], 1e12) is None
    assert program.ask("a.example", 1, ["good"], 0) is None
    assert program.ask("a.example", 1, [], 1e12) is None


class Resolver:
    """A resolver on loopback that answers each question as told, and says nothing where it is told nothing."""

    def __init__(self, program: ModuleType, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
        self.asked: list[tuple[str, int]] = []
        self._say = say
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        monkeypatch.setattr(program, "DNS_PORT", self._socket.getsockname()[1])
        monkeypatch.setattr(program, "ANSWER_SECONDS", 0.3)
        program.SETTINGS.write_text('{"resolvers": ["127.0.0.1"], "inbound": []}')
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Resolver:
        self._thread.start()
        return self

    def __exit__(self, *_what: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, peer = self._socket.recvfrom(512)
            if not question:
                return
            name = question[13 : question.index(b"\0", 12)].decode().replace("\x07", ".")
            kind = struct.unpack("!H", question[-4:-2])[0]
            self.asked.append((name, kind))
            addresses = self._say(self.asked.count((name, kind)), name, kind)
            if addresses is not None:
                packed = [(kind, ipaddress.ip_address(address).packed) for address in addresses]
                self._socket.sendto(answer(question, packed), peer)


def test_an_answer_that_is_lost_is_asked_for_again_while_others_come(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(time: int, name: str, kind: int) -> list[str] | None:
        # the link comes up: the first answers of IPv4 are lost, those of IPv6 say that there is no address
        if kind == 28:
            return []
        return ["198.51.100.1"] if time > (1 if name == "a.example" else 2) else None

    with Resolver(program, monkeypatch, say) as resolver:
        after, heard = program.look_up(guest.document(LIST), {})
    assert heard
    assert {name: set(found) for name, found in after.items()} == {
        "a.example": {"198.51.100.1"},
        "b.example": {"198.51.100.1"},
    }
    # nothing that was answered is asked twice
    assert resolver.asked.count(("a.example", 28)) == 1


def test_each_family_keeps_what_it_had_when_nobody_answers_for_it(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"a.example": {"198.51.100.7": 0.0, "2001:db8::7": 0.0}}
    with Resolver(program, monkeypatch, lambda _time, _name, kind: ["2001:db8::1"] if kind == 28 else None) as resolver:
        after, heard = program.look_up(guest.document(LIST), before)
    assert heard
    assert {name: set(found) for name, found in after.items()} == {
        "a.example": {"198.51.100.7", "2001:db8::1"},
        "b.example": {"2001:db8::1"},
    }
    # a round in which nobody answers is the last one
    assert resolver.asked.count(("a.example", 1)) == 2
    with Resolver(program, monkeypatch, lambda *_question: None) as resolver:
        assert program.look_up(guest.document(LIST), before) == ({**before, "b.example": {}}, False)
    assert resolver.asked.count(("a.example", 1)) == 1


def test_a_look_up_that_failed_is_tried_again_soon() -> None:
    units = FILES.parent / "templates"
    assert "\nRestart=on-failure\nRestartSec=2\n" in (units / "px-egress-refresh.service.j2").read_text()
    assert "\nOnActiveSec=2\n" in (units / "px-egress-refresh.timer.j2").read_text()


def element(target: str, port: int, count: int) -> dict[str, Any]:
    """Return an element of a set of what was refused."""
    return {
        "elem": {"val": {"concat": [target, "tcp", port]}, "expires": 3500, "counter": {"packets": count, "bytes": 1}}
    }


def test_what_was_refused_is_added_up_and_bounded(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "time", SimpleNamespace(time=lambda: 1000.0))
    kernel.loaded = 'comment "ab"'
    for _turn in range(2):
        kernel.counted = [element("192.0.2.1", 443, 2)]
        program.collect()
    (entry,) = json.loads((program.STATE / "refused.json").read_text())
    assert entry == {"target": "192.0.2.1", "port": 443, "protocol": "tcp", "count": 4, "last": 900}
    kernel.counted = [element(f"10.0.{number // 250}.{number % 250}", 0, 1) for number in range(600)]
    program.collect()
    assert len(json.loads((program.STATE / "refused.json").read_text())) == program.MOST_REFUSALS
