# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Plans: what would change, as data, and how many of them are carried out side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import PixelsError, StepFailed


class Phase(IntEnum):
    """When a step runs: all plans finish a phase before any begins the next."""

    STOP = 0
    CLONE = 1
    CONFIGURE = 2
    BOOT = 3
    WAIT = 4


@dataclass(frozen=True)
class Step:
    """One change of the server, bound to its arguments; summary says it in the imperative."""

    summary: str
    run: Callable[[], object]
    phase: Phase = Phase.CONFIGURE
    #: False for a wait: it is done, and is no change.
    changes: bool = True


@dataclass(frozen=True)
class Plan:
    """What one object is, what it would be, and the steps between.

    before and after hold managed fields only and are {} for an absent object; seen is
    the object in full as it was read, for the result of a task that does nothing.
    """

    name: str
    before: Mapping[str, object]
    after: Mapping[str, object]
    steps: tuple[Step, ...] = ()
    seen: Mapping[str, object] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether any step changes the server."""
        return any(step.changes for step in self.steps)

    @property
    def actions(self) -> list[str]:
        """The steps in words."""
        return [step.summary for step in self.steps if step.changes]


@dataclass(frozen=True)
class Work:
    """The plans of one task.

    parallel is how many steps run side by side; boots tells how many sandboxes may boot at once, since booting is
    bound by the server's processors and cloning by its disk. observe reads, in one call, what is there
    afterwards, by name. many says that the user gave a list.
    """

    plans: tuple[Plan, ...]
    observe: Callable[[], Mapping[str, Mapping[str, object]]]
    parallel: int = 1
    boots: Callable[[], int] | None = None
    many: bool = False


def apply(work: Work) -> dict[str, PixelsError]:
    """Carry out the plans phase by phase and return the failures by name.

    A plan that fails is left where it is; the others go on.
    """
    plans = work.plans
    failed: dict[str, PixelsError] = {}
    done: dict[str, list[str]] = {plan.name: [] for plan in plans}

    def carry_out(plan: Plan, phase: Phase) -> None:
        for step in plan.steps:
            if step.phase is phase:
                try:
                    step.run()
                except PixelsError as exc:
                    failed[plan.name] = StepFailed(plan.name, step.summary, tuple(done[plan.name]), exc)
                    return
                done[plan.name].append(step.summary)

    for phase in Phase:
        due = [plan for plan in plans if plan.name not in failed and any(step.phase is phase for step in plan.steps)]
        width = work.parallel
        if phase is Phase.BOOT and work.boots and len(due) > 1:
            width = min(width, work.boots())
        if len(due) == 1:
            carry_out(due[0], phase)
        elif due:
            with ThreadPoolExecutor(max_workers=max(1, min(width, len(due)))) as pool:
                # list() so that an unexpected error, a bug, surfaces as its traceback
                list(pool.map(carry_out, due, [phase] * len(due)))
    return failed
