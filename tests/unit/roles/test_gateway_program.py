# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What px-gateway leaves behind when something cannot be had, and what it reads; its services are not there."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy

FILES = Path(__file__).parents[3] / "roles/gateway/files"
SETTINGS: dict[str, Any] = {
    "uplink": "eth0",
    "uplink_network": "10.9.0.0/24",
    "legs_range": "100.64.0.0/14",
    "bound_source": "10.9.0.250",
    "resolver": "10.9.0.1",
    "archives": [],
    "limits": {"connections": 512, "opened": 200, "queries": 200},
}


PLACES = (("100.64.1.1", 53), ("100.64.1.1", 67), ("100.64.2.1", 53), ("100.64.1.9", 5353))
#: As the kernel writes them, in the order of bytes that the machine has.
UDP_PLACES = [f"{struct.unpack('=I', bytes(map(int, host.split('.'))))[0]:08X}:{port:04X}" for host, port in PLACES]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with its files in a folder of the test."""
    monkeypatch.syspath_prepend(str(FILES))
    spec = importlib.util.spec_from_file_location("px_gateway", FILES / "gateway.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("LEGS", "STATE", "RUN"):
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setattr(module, "LOG", tmp_path / "refused.log")
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.2)
    monkeypatch.setattr(module, "settings", lambda: SETTINGS)
    return module


def leg(number: int, *allow: str) -> dict[str, Any]:
    """Return a leg as the collection sends one."""
    rules = policy("allowlist", allow=allow or ["a.example.test"]).rules().record
    return {"subnet": f"100.64.{number}.0/24", "rules": json.loads(json.dumps(rules))}


class Services:
    """The services of a gateway, which follow what is stored unless a leg is bad for them."""

    def __init__(self, program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program = program
        self.stored: dict[str, str] = {}
        self.in_force: dict[str, str] = {}
        self.bad = ""
        self.late = 0
        self.sick: set[str] = set()
        for name in ("store", "switch", "status"):
            monkeypatch.setattr(program, name, getattr(self, name))
        monkeypatch.setattr(program, "validate", lambda files: None)
        monkeypatch.setattr(program, "collect", lambda: None)

    def store(self, files: Mapping[str, str], before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
        self.stored = dict(files)
        self.program.LEGS.mkdir(exist_ok=True)
        for name in set(before) - set(after):
            (self.program.LEGS / f"{name}.json").unlink()
        for name, made in after.items():
            (self.program.LEGS / f"{name}.json").write_text(json.dumps(made))
        return set()

    def switch(self, _changed: set[str], _before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        if self.bad and self.bad in after and self.bad not in self.sick:
            raise self.program.Failed("nginx: no")
        self.in_force = dict(self.stored)

    def status(self, names: Sequence[str]) -> dict[str, Any]:
        self.late -= 1
        wrong = {name: ["its DNS does not run"] if name in self.sick or self.late > 0 else [] for name in names}
        return {"problems": [], "legs": {name: {"problems": wrong[name]} for name in names}}


@pytest.mark.parametrize("how", ["a service refuses it", "it does not come to be"])
def test_a_leg_that_cannot_be_brought_is_rolled_back_and_the_others_are_as_they_were(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    services = Services(program, monkeypatch)
    program.apply({"set": {"pxe-0001": leg(1), "pxe-0002": leg(2)}})
    good, legs = dict(services.in_force), program.stored_legs()
    services.bad = "pxe-0003"
    services.sick = set() if how == "a service refuses it" else {"pxe-0003"}
    with pytest.raises(program.Failed, match=r"nginx: no|pxe-0003: its DNS does not run"):
        program.apply({"set": {"pxe-0003": leg(3), "pxe-0001": leg(1, "b.example.test")}, "remove": ["pxe-0002"]})
    assert services.in_force == services.stored == good
    assert program.stored_legs() == legs
    services.bad, services.sick = "", set()
    program.apply({"set": {"pxe-0003": leg(3)}})
    assert set(program.stored_legs()) == {"pxe-0001", "pxe-0002", "pxe-0003"}


def test_what_takes_a_moment_is_waited_for(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services(program, monkeypatch)
    services.late = 2
    assert program.apply({"set": {"pxe-0001": leg(1)}})["legs"]["pxe-0001"]["problems"] == []


def test_a_dns_that_was_started_and_does_not_listen_is_told(program: ModuleType, tmp_path: Path) -> None:
    rows = [f"   0: {place} 00000000:0000 07 00000000:00000000 00:00000000 00000000 0" for place in UDP_PLACES]
    (tmp_path / "udp").write_text("  sl  local_address rem_address   st\n" + "\n".join(rows) + "\n")
    program.UDP = tmp_path / "udp"
    assert program.listeners(53) == {"100.64.1.1", "100.64.2.1"}
    made = program.render.with_slots(leg(1, "a.example.test:22"), None)
    addresses = {"pxe-0001": {"100.64.1.1", "100.64.1.3"}}

    def problems(since: float | None, *answering: str) -> list[str]:
        return list(program.leg_status("pxe-0001", made, {}, addresses, since, set(answering))["problems"])

    assert problems(None) == ["its DNS does not run"]
    for answering in ((), ("100.64.1.3",), ("100.64.2.1",)):
        assert problems(1.0, *answering) == ["its DNS does not answer"]


def test_a_file_that_is_no_leg_does_not_take_the_others_with_it(program: ModuleType) -> None:
    program.LEGS.mkdir()
    (program.LEGS / "pxe-0001.json").write_text(json.dumps({**leg(1), "slots": {}}))
    (program.LEGS / "pxe-0002.json").write_text("")
    (program.LEGS / "pxe-0003.json").write_text('{"subnet": "100.64.3.0/24"}')
    (program.LEGS / "pxe-0004.json").write_text(json.dumps({**leg(4), "subnet": "0.0.0.0/0"}))
    assert set(program.stored_legs()) == {"pxe-0001"}


def test_the_log_is_read_to_its_end_line_by_line(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "succeeds", lambda *command: False)
    line = json.dumps({"t": 1.5, "leg": "100.64.1.1", "port": 443, "how": "tls", "name": "a.test"})
    program.LOG.write_text(f"{line}\nbroken\n" + f"{line}\n" * 40000)
    found = list(program.logged({"100.64.1.1": "pxe-0001"}))
    assert len(found) == 40001
    assert found[0] == {"leg": "pxe-0001", "how": "tls", "target": "a.test", "last": 1, "count": 1, "port": 443}
    assert not program.LOG.with_suffix(".old").exists()


def test_what_is_kept_of_refusals_is_bounded(program: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    entries = [program.entry_of("pxe-0001", "dns", f"{number}." + "x" * 9000, number) for number in range(3000)]
    program.keep(path, entries)
    program.keep(path, entries[:10])
    kept = json.loads(path.read_text())
    assert len(kept) == program.MOST_REFUSALS
    assert path.stat().st_size < 2 * 256 * program.MOST_REFUSALS + 200 * program.MOST_REFUSALS


def test_nginx_that_is_just_starting_is_told_again(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, False, True]
    told: list[tuple[str, ...]] = []

    def succeeds(*command: str) -> bool:
        told.append(command)
        return answers.pop(0)

    monkeypatch.setattr(program, "succeeds", succeeds)
    program.reload_nginx()
    assert told == [("nginx", "-q", "-s", "reload")] * 3
    monkeypatch.setattr(program, "READY_SECONDS", 0.1)
    monkeypatch.setattr(program, "succeeds", lambda *_command: False)
    with pytest.raises(program.Failed, match="cannot be told"):
        program.reload_nginx()
