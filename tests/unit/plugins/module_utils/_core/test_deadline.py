# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time that runs out."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import DeadlineExceeded


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
