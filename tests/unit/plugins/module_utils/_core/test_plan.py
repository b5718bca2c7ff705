# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How plans are carried out."""

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import OperationFailed, StepFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Plan, Step, Work, apply


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
