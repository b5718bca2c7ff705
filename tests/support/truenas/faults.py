# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be made to go wrong at the simulated TrueNAS, once or a number of times."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

#: What each kind does, at the next request or job of its method.
KINDS = {
    "busy": "a login is refused with EBUSY",
    "bad_gateway": "a connection is refused with HTTP status 502, as while the middleware restarts",
    "drop_request": "the connection breaks before anything is done",
    "drop_answer": "the connection breaks after the work, instead of the answer",
    "drop_job": "all connections break when the job has begun, which goes on",
    "fail": "the call fails with the words and number given",
    "fail_job": "the job fails with the words and number given, and does nothing",
    "fail_late": "the job does its work and fails then",
    "slow_job": "the job waits until it is released, or for so many seconds",
    "vanish": "all connections break when the job has begun, and the middleware has forgotten it: a restart",
    "oversize": "the answer is larger than so many bytes",
    "pieces": "the answer comes in pieces of so many bytes, with pings between them",
    "too_many": "the call is refused, since too many are under way",
    "expire": "the session has expired",
    "mute": "nothing is answered any more on this connection, pings neither",
    "garbage": "the answer is no JSON",
}


@dataclass
class Fault:
    """One thing that goes wrong; an empty method is any."""

    kind: str
    method: str = ""
    times: int = 1
    words: str = "it was made to fail"
    number: int = 14
    seconds: float = 60.0
    size: int = 1 << 20
    #: Set to let a slow job go on.
    release: threading.Event = field(default_factory=threading.Event)
    #: Set when the fault has struck.
    struck: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind!r}: there are {', '.join(KINDS)}")


class Faults:
    """The faults that are still to strike."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, kind: str, method: str = "", **values: Any) -> Fault:
        """Have something go wrong, and return it."""
        fault = Fault(kind, method, **values)
        with self._lock:
            self._pending.append(fault)
        return fault

    def take(self, kind: str, method: str = "") -> Fault | None:
        """Return the fault that strikes here, if there is one."""
        with self._lock:
            for fault in self._pending:
                if fault.kind == kind and fault.method in ("", method):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._pending.remove(fault)
                    fault.struck.set()
                    return fault
        return None

    def clear(self) -> None:
        """Let nothing more go wrong."""
        with self._lock:
            self._pending.clear()
