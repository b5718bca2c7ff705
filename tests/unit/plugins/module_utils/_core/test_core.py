# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deadlines, sizes, accounts, and how plans are carried out."""

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names, units
from ansible_collections.pixels.sandbox.plugins.module_utils._core.accounts import find_account
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    DeadlineExceeded,
    OperationFailed,
    StepFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Plan, Step, Work, apply

PASSWD = """root:x:0:0:root:/root:/bin/bash
broken line
number:x:1000:not-a-number::/home/number:/bin/sh
minus:x:4294967295:0::/:/bin/sh
pixel:x:1000:1001:,,,:/home/pixel:/bin/bash
bare:x:1002:1002:::
"""


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.now += seconds


def test_a_deadline_runs_out() -> None:
    clock = Clock()
    deadline = Deadline(10, clock, clock.sleep)
    assert (deadline.left(), deadline.slice(3), deadline.slice(30)) == (10, 3, 10)
    deadline.pause(9.5, "work")
    assert deadline.left() == 0.5
    with pytest.raises(DeadlineExceeded, match="work: not done after 10 s"):
        deadline.pause(9, "work")
    assert clock.now == 110
    assert deadline.restarted().left() == 10


@pytest.mark.parametrize(
    ("amount", "text"), [(1, "1B"), (1024, "1KiB"), (1536, "1536B"), (2**31, "2GiB"), (3 * 2**20, "3MiB"), (0, "0B")]
)
def test_sizes_are_shown_in_the_largest_unit_that_divides_them(amount: int, text: str) -> None:
    assert units.size_text(amount) == text
    if amount:
        assert units.size("x", text) == amount


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("2m", 120), ("1w2d", 777600), (" 5s ", 5)])
def test_durations(text: str, seconds: int) -> None:
    assert units.duration("x", text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1y", "1.5h", "-5", "\uff15", "h", "1h 2m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x '.*' is not a duration"):
        units.duration("x", text)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("pixel", ("pixel", 1000, 1001, "/home/pixel", "/bin/bash")),
        ("1000", ("pixel", 1000, 1001, "/home/pixel", "/bin/bash")),
        ("bare", ("bare", 1002, 1002, "/", "/bin/sh")),
    ],
)
def test_accounts_are_found_by_name_and_number(user: str, expected: tuple[object, ...]) -> None:
    account = find_account(PASSWD, user)
    assert account
    assert (account.name, account.uid, account.gid, account.home, account.shell) == expected


@pytest.mark.parametrize("user", ["nobody", "", "number", "minus", "4294967295", "x"])
def test_lines_that_are_no_accounts_are_passed_over(user: str) -> None:
    assert find_account(PASSWD, user) is None


@pytest.mark.parametrize("name", ["a", "a-b", "0", "a" * 60, "px-a"])
def test_legal_names(name: str) -> None:
    assert names.server_name(names.sandbox_name(name)) == f"px-{name.removeprefix('px-')}"


@pytest.mark.parametrize("label", ["a", "1.2_3-4", "px-20260102-030405", "A" * 62])
def test_legal_labels(label: str) -> None:
    assert names.checkpoint_label(label) == label


@pytest.mark.parametrize("label", ["", "-a", "a/b", "a b", "A" * 63, "a\n", "ä"])
def test_illegal_labels(label: str) -> None:
    with pytest.raises(ConfigError):
        names.checkpoint_label(label)


@pytest.mark.parametrize("name", ["A B", "1A", "A=B", "", "A\n"])
def test_illegal_variables(name: str) -> None:
    with pytest.raises(ConfigError):
        names.env_name(name)


def work(*plans: Plan, parallel: int = 8, boots: int = 8) -> Work:
    """Return the work of these plans."""
    return Work(plans, dict, parallel, lambda: boots)


def test_all_plans_end_a_phase_before_any_begins_the_next() -> None:
    done: list[str] = []
    lock = threading.Lock()

    def note(text: str) -> None:
        with lock:
            done.append(text)

    def plan(name: str) -> Plan:
        steps = (
            Step("boot", lambda: note("boot"), Phase.BOOT),
            Step("clone", lambda: note("clone"), Phase.CLONE),
            Step("configure", lambda: note("configure")),
        )
        return Plan(name, {}, {}, steps)

    assert apply(work(*(plan(str(number)) for number in range(5)))) == {}
    assert done == ["clone"] * 5 + ["configure"] * 5 + ["boot"] * 5


def test_a_plan_that_fails_stops_and_the_others_go_on() -> None:
    done: list[str] = []

    def fail() -> None:
        raise OperationFailed("no room", 400)

    plans = [
        Plan(
            name,
            {},
            {},
            (Step(f"make {name}", make, Phase.CLONE), Step(f"boot {name}", lambda n=name: done.append(n), Phase.BOOT)),
        )  # type: ignore[misc]
        for name, make in (("a", lambda: None), ("b", fail), ("c", lambda: None))
    ]
    failed = apply(work(*plans))
    assert sorted(done) == ["a", "c"]
    assert list(failed) == ["b"]
    assert isinstance(failed["b"], StepFailed)
    assert str(failed["b"]) == "b: could not make b: no room"
    assert failed["b"].result() == {
        "error_code": 400,
        "request": "",
        "failed_step": "make b",
        "completed_steps": [],
    }


@pytest.mark.parametrize(
    ("phase", "parallel", "boots", "most"), [(Phase.BOOT, 8, 2, 2), (Phase.CLONE, 3, 2, 3), (Phase.BOOT, 2, 9, 2)]
)
def test_no_more_run_side_by_side_than_is_allowed(phase: Phase, parallel: int, boots: int, most: int) -> None:
    running = highest = 0
    lock = threading.Lock()

    def step() -> None:
        nonlocal running, highest
        with lock:
            running += 1
            highest = max(highest, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    apply(
        work(
            *(Plan(str(number), {}, {}, (Step("x", step, phase),)) for number in range(9)),
            parallel=parallel,
            boots=boots,
        )
    )
    assert highest == most


def test_an_unexpected_error_is_not_hidden() -> None:
    def bug() -> None:
        raise KeyError("bug")

    plans = [Plan(name, {}, {}, (Step("x", bug),)) for name in "ab"]
    with pytest.raises(KeyError):
        apply(work(*plans))


def test_a_wait_is_no_change() -> None:
    plan = Plan("a", {}, {}, (Step("wait", lambda: None, Phase.WAIT, changes=False),))
    assert (plan.changed, plan.actions) == (False, [])
