# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""One connection to a TrueNAS that many threads use: who asked gets the answer, and a ping goes out in time."""

from __future__ import annotations

import itertools
import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Link

JOBS = "core.get_jobs"
#: What a TrueNAS takes in one message, in characters.
MOST_CHARACTERS = 65536
MOST_CHARACTERS_OF_FILES = 2097152
#: How many records of jobs are kept for those that have not asked for them yet; the server keeps as many.
KEPT_JOBS = 1000


@dataclass(frozen=True)
class Pace:
    """How often and how long, in seconds; calls and logins are numbers."""

    #: The server cuts a connection on which it has sent nothing for 60 s.
    ping: float = 25.0
    pong: float = 10.0
    #: How many calls are under way at once; the server runs ten and lets ten wait.
    calls: int = 10
    #: How many logins a minute; the server refuses the 21st.
    logins: int = 18
    minute: float = 60.0
    #: The first pause before something is tried again; it doubles up to the last.
    first_pause: float = 0.5
    last_pause: float = 30.0
    #: How long a server that has answered before is tried again.
    reconnect: float = 120.0
    #: How often a job is asked for beside the events that tell of it.
    look: float = 30.0


class Lost(Exception):
    """The connection ended before an answer came; sent says whether the server may know the request."""

    def __init__(self, why: str, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Session:
    """One connection of one process: a thread reads what comes and hands it to those that wait."""

    def __init__(self, link: Link, pace: Pace, clock: Callable[[], float]) -> None:
        self._link = link
        self._pace = pace
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._watching = threading.Lock()
        self._watched = False
        #: The last that was told of each job.
        self.jobs: dict[int, dict[str, Any]] = {}
        self.news = threading.Condition()
        self.why = ""
        self._reader = threading.Thread(target=self._read, name="truenas", daemon=True)
        self._reader.start()

    def ask(self, method: str, params: Sequence[Any], deadline: Deadline) -> dict[str, Any]:
        """Send a request and return its answer; Lost when there will be none."""
        number = next(self._numbers)
        text = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)})
        most = MOST_CHARACTERS_OF_FILES if method == "filesystem.file_receive" else MOST_CHARACTERS
        if len(text) > most:
            raise ConfigError(
                f"{method}: a request of {len(text)} characters is more than the {most} that TrueNAS takes"
            )
        answer: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        with self._lock:
            if self.why:
                raise Lost(self.why, sent=False)
            self._waiting[number] = answer
        try:
            self._link.send(text)
            reply = answer.get(timeout=deadline.left())
        except ConnectionFailed as exc:
            self._end(str(exc))
            raise Lost(self.why, sent=True) from exc
        except queue.Empty:
            raise DeadlineExceeded(
                f"{method}: no answer after {deadline.seconds:g} s; it may still be worked at"
            ) from None
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if reply is None:
            raise Lost(self.why, sent=True)
        return reply

    def watch(self, deadline: Deadline) -> None:
        """Have the server tell of jobs, from now on."""
        with self._watching:
            if not self._watched:
                reply = self.ask("core.subscribe", [JOBS], deadline)
                if "error" in reply:
                    raise ConnectionFailed(f"the server does not tell of jobs: {reply['error'].get('message')}")
                self._watched = True

    def close(self) -> None:
        """End the connection; who still waits for an answer is told that there will be none."""
        self._end("it was closed")
        if threading.current_thread() is not self._reader:
            self._reader.join(1)

    def _end(self, why: str) -> None:
        with self._lock:
            self.why = self.why or why
            waiting = list(self._waiting.values())
        for answer in waiting:
            answer.put(None)
        with self.news:
            self.news.notify_all()
        self._link.break_off()

    def _read(self) -> None:
        """Hand out what comes until the connection ends; pings go by the clock, however much comes meanwhile."""
        pace, clock = self._pace, self._clock
        due, asked, heard = clock() + pace.ping, None, 0
        try:
            while not self.why:
                now = clock()
                if asked is not None and self._link.heard > heard:
                    asked = None
                if asked is not None and now >= asked + pace.pong:
                    raise ConnectionFailed(f"no sign of life for {pace.pong:g} s after a ping")
                if asked is None and now >= due:
                    heard, asked, due = self._link.heard, now, now + pace.ping
                    self._link.ping()
                until = due if asked is None else asked + pace.pong
                message = self._link.receive(until - now)
                if message is not None:
                    self._take(message)
        except ConnectionFailed as exc:
            self._end(str(exc))
        finally:
            # nobody waits for a thread that is gone, whatever ended it
            self._end("nothing is read any more")
            self._link.close()

    def _take(self, message: bytes) -> None:
        try:
            value = json.loads(message, object_hook=_plain if b'"$' in message else None)
        except ValueError as exc:
            raise ConnectionFailed("the server sends what is no JSON") from exc
        if not isinstance(value, dict):
            raise ConnectionFailed("the server sends what is no JSON-RPC")
        if "method" in value:
            self._take_event(value)
            return
        with self._lock:
            answer = self._waiting.get(value.get("id") or 0)
        if answer:
            answer.put(value)

    def _take_event(self, value: Mapping[str, Any]) -> None:
        params = value.get("params")
        if (
            not isinstance(params, dict)
            or params.get("collection") != JOBS
            or not isinstance(params.get("fields"), dict)
        ):
            return
        with self.news:
            number = int(params["id"])
            # moved to the end, so that the oldest is the first to go
            known = self.jobs.pop(number, {})
            self.jobs[number] = {**known, **params["fields"]}
            if len(self.jobs) > KEPT_JOBS:
                del self.jobs[next(iter(self.jobs))]
            self.news.notify_all()


def _plain(value: dict[str, Any]) -> Any:
    """Return what the server's own notation stands for: times are aware, sets are lists."""
    if len(value) == 1:
        if "$date" in value:
            return datetime.fromtimestamp(value["$date"] / 1000, timezone.utc)
        for word in ("$set", "$time"):
            if word in value:
                return value[word]
    return value
