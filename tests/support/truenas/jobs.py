# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of the simulated middleware: one after the other where they share a lock, told as events, gone after a restart."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.truenas.state import Invalid, Refused

KEPT = 1000


@dataclass
class Job:
    """One job; pipe is what it hands out over HTTP."""

    number: int
    method: str
    arguments: list[Any]
    owner: str
    state: str = "WAITING"
    result: Any = None
    error: str | None = None
    exc_info: dict[str, Any] | None = None
    log: str = ""
    started: float | None = None
    finished: float | None = None
    pipe: bytes | None = None
    #: What is shown of the arguments where that is not what was given, as for secrets.
    shown: list[Any] | None = None
    done: threading.Event = field(default_factory=threading.Event)
    #: Set when the client has been told the number.
    answered: threading.Event = field(default_factory=threading.Event)

    def record(self) -> dict[str, Any]:
        """Return the job as core.get_jobs has it."""
        return {
            "id": self.number,
            "method": self.method,
            "arguments": self.arguments if self.shown is None else self.shown,
            "transient": False,
            "description": None,
            "abortable": False,
            "logs_path": None,
            "logs_excerpt": self.log or None,
            "progress": {"percent": 100 if self.state == "SUCCESS" else 0, "description": "", "extra": None},
            "result": self.result,
            "error": self.error,
            "exception": traceback_text(self.error),
            "exc_info": self.exc_info,
            "state": self.state,
            "time_started": dated(self.started),
            "time_finished": dated(self.finished),
            "credentials": {"type": "API_KEY", "data": {"username": self.owner}},
        }


def dated(seconds: float | None) -> dict[str, int] | None:
    """Return a time in the notation of the middleware."""
    return None if seconds is None else {"$date": int(seconds * 1000)}


def traceback_text(error: str | None) -> str | None:
    """Return something like a trace, which no client should show."""
    return f"Traceback (most recent call last):\n  middlewared trace\n{error}" if error else None


class Jobs:
    """The jobs since the last restart."""

    def __init__(self, told: Callable[[str, Job], None]) -> None:
        self._told = told
        #: What is shown of the arguments of jobs from now on; None is all.
        self.shown: list[Any] | None = None
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Forget all jobs, and number from one again, as a restart does."""
        with self._lock:
            self._numbers = itertools.count(1)
            self._jobs: dict[int, Job] = {}
            self._tails: dict[str, Job] = {}

    def all(self) -> list[Job]:
        """Return the jobs that are remembered."""
        with self._lock:
            return list(self._jobs.values())

    def get(self, number: int) -> Job | None:
        """Return a job by its number."""
        return self._jobs.get(number)

    def start(self, method: str, arguments: list[Any], owner: str, lock: str | None, work: Callable[[Job], Any]) -> Job:
        """Start a job behind all others with the same lock."""
        with self._lock:
            job = Job(next(self._numbers), method, arguments, owner, shown=self.shown)
            self._jobs[job.number] = job
            if len(self._jobs) > KEPT:
                del self._jobs[next(iter(self._jobs))]
            before = self._tails.get(lock) if lock else None
            if lock:
                self._tails[lock] = job
        self._told("added", job)
        threading.Thread(target=self._run, args=(job, before, work), name=f"job-{job.number}", daemon=True).start()
        return job

    def _run(self, job: Job, before: Job | None, work: Callable[[Job], Any]) -> None:
        if before:
            before.done.wait()
        job.state, job.started = "RUNNING", time.time()
        self._told("changed", job)
        try:
            job.result = work(job)
            job.state = "SUCCESS"
        except Invalid as exc:
            job.state, job.error = "FAILED", str(exc)
            job.exc_info = {"repr": repr(exc), "type": "VALIDATION", "errno": None, "extra": exc.details}
        except Refused as exc:
            job.state, job.error = "FAILED", f"[{_errname(exc.number)}] {exc}"
            job.exc_info = {"repr": repr(exc), "type": "CallError", "errno": exc.number, "extra": None}
        except Exception as exc:  # noqa: BLE001  # the middleware keeps every failure in the record
            traceback.print_exc()
            job.state, job.error = "FAILED", str(exc)
            job.exc_info = {"repr": repr(exc), "type": type(exc).__name__, "errno": None, "extra": None}
        job.finished = time.time()
        job.done.set()
        # the real one often tells of an end twice
        self._told("changed", job)
        self._told("changed", job)


def _errname(number: int) -> str:
    import errno

    return errno.errorcode.get(number, f"E{number}")
