# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One time budget that is passed to every call that may block."""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import DeadlineExceeded


class Deadline:
    """A budget of seconds that runs from its making."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + seconds

    def restarted(self) -> Deadline:
        """Return a new budget of the same length that starts now."""
        return Deadline(self.seconds, self._clock, self._sleep)

    def left(self) -> float:
        """Return the seconds that are left, never below zero."""
        return max(0.0, self._end - self._clock())

    def slice(self, most: float) -> float:
        """Return how long one wait may take: at most C(most) seconds and what is left."""
        return min(most, self.left())

    def check(self, what: str) -> None:
        """Raise DeadlineExceeded when nothing is left; what says in words what was waited for."""
        if self.left() <= 0:
            raise DeadlineExceeded(f"{what}: not done after {self.seconds:g} s")

    def pause(self, seconds: float, what: str) -> None:
        """Sleep for the time given or for what is left, then check."""
        self._sleep(self.slice(seconds))
        self.check(what)
