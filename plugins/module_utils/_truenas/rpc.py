# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Calls and jobs of a TrueNAS: one login for many threads, and nothing done twice."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    ConnectionFailed,
    DeadlineExceeded,
    OutcomeUnknown,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import Endpoint, endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.failure import (
    NOT_LOGGED_IN,
    TOO_MANY_CALLS,
    errno_of,
    failure,
    job_failure,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.session import JOBS, Lost, Pace, Session
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import CONNECT_SECONDS, Transport

#: A method whose name ends so changes nothing and may be asked again.
READS = frozenset(
    [
        "bridge_choices",
        "config",
        "device_list",
        "download",
        "get_instance",
        "get_jobs",
        "get_methods",
        "get_network",
        "image_choices",
        "listdir",
        "nic_choices",
        "ping",
        "pool_choices",
        "query",
        "stat",
        "version",
        "version_short",
    ]
)
#: How long a read may take. It may be the first thing that is asked, and logins be refused for a minute before it.
READ_SECONDS = 150.0
ENDED = ("SUCCESS", "FAILED", "ABORTED")
SUPPORTED = ((25, 4), (25, 10))
REFUSALS = {
    "AUTH_ERR": "refuses the API key",
    "EXPIRED": "says that the API key has expired or was revoked",
    "OTP_REQUIRED": "asks for a second factor, which an API key cannot give",
    "REDIRECT": "is the standby of a pair: name the active one",
    "DENIED": "does not let this user in",
}
#: What a user needs for methods that begin so.
ROLES = (
    ("virt.instance.device_delete", "VIRT_INSTANCE_DELETE"),
    ("virt.instance.", "VIRT_INSTANCE_WRITE"),
    ("virt.global.", "VIRT_GLOBAL_READ"),
    ("pool.snapshot.delete", "SNAPSHOT_DELETE"),
    ("pool.snapshot.", "SNAPSHOT_WRITE"),
    ("pool.dataset.delete", "DATASET_DELETE"),
    ("pool.dataset.", "DATASET_WRITE"),
    ("", "FULL_ADMIN"),
)


@dataclass
class _Job:
    """A job that we started over a session; seen is the first that the server told of it."""

    number: int
    method: str
    params: list[Any]
    session: Session
    seen: Mapping[str, Any] | None = None

    def knows(self, record: Mapping[str, Any], session: Session) -> bool:
        """Say whether a record of this number, got over a session, is of this job, and remember it.

        Numbers begin anew when the middleware restarts, which ends every session: over the one that started the job it can be
        no other. Later it must be what was told before, or at least what was asked for.
        """
        if record.get("method", self.method) != self.method:
            return False
        if session is not self.session:
            before = self.seen or {"arguments": self.params}
            started = before.get("time_started")
            if record.get("arguments") != before["arguments"] or started not in (None, record.get("time_started")):
                return False
        if "arguments" in record and not (self.seen or {}).get("time_started"):
            self.seen = dict(record)
        return True


class Rpc:
    """A TrueNAS that is logged in to when it is first used; safe for many threads, and anew after a fork.

    What every method raises: Unsupported for a TrueNAS that is neither 25.04 nor 25.10 (it names the version),
    AuthenticationFailed for a key that is refused or may not do it, ConnectionFailed, DeadlineExceeded, and
    MissingDependency. No message has the API key or a trace of the server.
    """

    def __init__(
        self,
        transport: Transport,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.transport = transport
        self._pace = pace or Pace()
        self._clock = clock
        self._sleep = sleep
        self._version = ""
        self._methods: dict[str, frozenset[str]] = {}
        self._logins: deque[float] = deque(maxlen=self._pace.logins)
        self._session: Session | None = None
        self._process = 0
        self._begin()

    @property
    def endpoint(self) -> Endpoint:
        """The server and who asks."""
        return self.transport.endpoint

    def version(self, deadline: Deadline) -> tuple[int, int]:
        """Return the release, (25, 4) or (25, 10)."""
        return _release(self.version_text(deadline)) or SUPPORTED[0]

    def version_text(self, deadline: Deadline) -> str:
        """Return the version in the server's own words, such as 25.10.1."""
        self._connected(deadline)
        return self._version

    def call(self, method: str, params: Sequence[Any], deadline: Deadline) -> Any:
        """Call a method that is no job and return its result.

        A read (by the last word of its name: query, config, get_instance ...) is repeated when the connection breaks; any
        other call is not: OutcomeUnknown says that it may have been done. Raises NotFound, Conflict (exists, busy),
        Unsupported (no such method), ConfigError (the request is too large; nothing was sent), OperationFailed (the
        method failed) or ApiError (refused as invalid), with the server's errno as code.
        """
        return self._exchange(method, params, deadline)[0]

    def job(self, method: str, params: Sequence[Any], deadline: Deadline) -> Any:
        """Start a job, wait for its end and return its result.

        The wait survives a broken connection; the job is never started twice. Raises what call() does, ApiError when the
        job refuses its arguments, OperationFailed when it failed or was aborted, DeadlineExceeded when it still runs,
        and OutcomeUnknown when nobody knows what became of it (its state must be read again).
        """
        number, session = self._exchange(method, params, deadline, watch=True)
        if not isinstance(number, int) or isinstance(number, bool):
            raise OutcomeUnknown(f"{method}: the server names no job")
        return self._wait(_Job(number, method, json.loads(json.dumps(list(params))), session), deadline)

    def check_permitted(self, methods: Iterable[str], deadline: Deadline) -> None:
        """Raise AuthenticationFailed, which names all that is missing, where the user of the key may not call these.

        Private methods are not in the server's list: ask for filesystem.put in their place, which needs the same full
        administrator. The list is read once for each service.
        """
        missing = []
        for method in methods:
            service = method.rpartition(".")[0]
            if service not in self._methods:
                self._methods[service] = frozenset(self.call("core.get_methods", [service, "WS"], deadline))
            if method not in self._methods[service]:
                missing.append(method)
        if missing:
            roles = sorted({next(role for prefix, role in ROLES if method.startswith(prefix)) for method in missing})
            raise AuthenticationFailed(
                f"the user {self.endpoint.username} of {self.endpoint.url} may not call {', '.join(sorted(missing))}: "
                f"it needs {' and '.join(roles)}"
            )

    def download(self, path: str, most: int, deadline: Deadline) -> bytes:
        """Return a file of the NAS by its absolute path (filesystem.get); NotFound, or ConnectionFailed over C(most) bytes."""
        (number, target), session = self._exchange(
            "core.download", ["filesystem.get", [path], "file"], deadline, watch=True
        )
        job = _Job(number, "filesystem.get", [path], session)
        try:
            content = self.transport.download(target, most, deadline.left())
        except ConnectionFailed:
            # the job knows better why
            self._wait(job, deadline)
            raise
        self._wait(job, deadline)
        return content

    def close(self) -> None:
        """Close the connection, if this process has one."""
        if self._process == os.getpid() and self._session:
            self._session.close()
            self._session = None

    # -- one exchange

    def _exchange(
        self, method: str, params: Sequence[Any], deadline: Deadline, watch: bool = False
    ) -> tuple[Any, Session]:
        """Return the result of a request and the session that it came by; watch has that one tell of jobs."""
        turn = relogins = 0
        while True:
            deadline.check(method)
            session = self._connected(deadline)
            if not self._calls.acquire(timeout=deadline.left()):
                deadline.check(f"{method}: waiting for other calls")
                continue
            calls, changes = self._calls, False
            try:
                if watch:
                    session.watch(deadline)
                changes = method.rpartition(".")[2] not in READS
                reply = session.ask(method, params, deadline)
            except Lost as lost:
                # what was not sent, and what only reads, is asked again
                if lost.sent and changes:
                    raise OutcomeUnknown(
                        f"{method}: the connection ended before the answer, so it may have been done or not: "
                        f"{self.endpoint.masked(str(lost))}"
                    ) from lost
                if turn >= 2:
                    raise ConnectionFailed(f"{method}: {self.endpoint.masked(str(lost))}") from lost
                turn += 1
                continue
            finally:
                calls.release()
            error = reply.get("error")
            if error is None:
                return reply.get("result"), session
            # neither of these two began
            if error.get("code") == TOO_MANY_CALLS:
                self._pause(turn, deadline, f"{method}: the server has too many calls")
                turn += 1
                continue
            if errno_of(error) == NOT_LOGGED_IN and relogins == 0:
                relogins += 1
                session.close()
                continue
            raise failure(method, error, self.endpoint)

    def _pause(self, turn: int, deadline: Deadline, what: str) -> None:
        """Sleep, longer at each turn, and not in step with others."""
        pace = self._pace
        seconds = min(pace.last_pause, pace.first_pause * 2**turn) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret
        deadline.check(what)
        self._sleep(deadline.slice(seconds))
        deadline.check(what)

    # -- jobs

    def _wait(self, job: _Job, deadline: Deadline) -> Any:
        """Return the result of a job by what the server tells of it, and by asking after a reconnect."""
        session = job.session
        while True:
            record = self._told(job, session, deadline)
            if record is None:
                deadline.check(f"{job.method}: job {job.number}, which goes on")
                try:
                    session = self._connected(deadline)
                    session.watch(deadline)
                    record = self._looked_up(job, deadline)
                except Lost:
                    continue
                except ConnectionFailed as exc:
                    raise OutcomeUnknown(f"{job.method}: what became of job {job.number} is not known: {exc}") from exc
            if record.get("state") in ENDED:
                with session.news:
                    session.jobs.pop(job.number, None)
                if record["state"] == "SUCCESS":
                    return record.get("result")
                raise job_failure(job.method, record, self.endpoint)

    def _told(self, job: _Job, session: Session, deadline: Deadline) -> dict[str, Any] | None:
        """Return the end of a job if it is told before it is time to ask; None at once when the connection is lost."""
        until = self._clock() + deadline.slice(self._pace.look)
        with session.news:
            while True:
                record = session.jobs.get(job.number)
                if record is not None and job.knows(record, session) and record.get("state") in ENDED:
                    return record
                left = until - self._clock()
                if session.why or left <= 0:
                    return None
                session.news.wait(left)

    def _looked_up(self, job: _Job, deadline: Deadline) -> dict[str, Any]:
        rows, session = self._exchange(JOBS, [[["id", "=", job.number]]], deadline)
        if not rows or not job.knows(rows[0], session):
            raise OutcomeUnknown(
                f"{job.method}: {self.endpoint.url} no longer knows its job {job.number}, as after a restart: "
                "it may have been done or not"
            )
        record: dict[str, Any] = rows[0]
        return record

    # -- one login

    def _begin(self) -> None:
        """Start without a connection: that of another process, and its locks, are not ours."""
        self._lock = threading.Lock()
        self._calls = threading.BoundedSemaphore(self._pace.calls)
        self._session = None
        self._process = os.getpid()

    def _connected(self, deadline: Deadline) -> Session:
        if self._process != os.getpid():
            self._begin()
        session = self._session
        if session is not None and not session.why:
            return session
        if not self._lock.acquire(timeout=deadline.left()):
            raise DeadlineExceeded(f"{self.endpoint.url}: not logged in after {deadline.seconds:g} s")
        try:
            if self._session is None or self._session.why:
                self._session = self._persistent(deadline)
            return self._session
        finally:
            self._lock.release()

    def _persistent(self, deadline: Deadline) -> Session:
        """Return a session; a server that has answered before is given the time of a restart."""
        patience = self._clock() + (self._pace.reconnect if self._version else 0)
        for turn in itertools.count():
            try:
                return self._logged_in(deadline)
            except AuthenticationFailed:
                raise
            except ConnectionFailed:
                if self._clock() >= patience:
                    raise
            self._pause(turn, deadline, f"{self.endpoint.url} does not come back")
        raise ConnectionFailed(self.endpoint.url)

    def _logged_in(self, deadline: Deadline) -> Session:
        for turn in itertools.count():
            self._take_turn(deadline)
            deadline.check(f"{self.endpoint.url}: not logged in")
            session = Session(self.transport.connect(deadline.slice(CONNECT_SECONDS)), self._pace, self._clock)
            try:
                if self._accepted(session, deadline):
                    self._check_version(session, deadline)
                    return session
            except Lost as lost:
                session.close()
                raise ConnectionFailed(f"{self.endpoint.url}: no login: {self.endpoint.masked(str(lost))}") from lost
            except PixelsError:
                session.close()
                raise
            session.close()
            self._pause(turn, deadline, f"{self.endpoint.url} refuses logins for now, since there were too many")
        raise ConnectionFailed(self.endpoint.url)

    def _take_turn(self, deadline: Deadline) -> None:
        """Wait until another login is none too many for a minute."""
        if len(self._logins) == self._pace.logins:
            wait = self._logins[0] + self._pace.minute - self._clock()
            if wait > 0:
                self._sleep(deadline.slice(wait))
        self._logins.append(self._clock())

    def _accepted(self, session: Session, deadline: Deadline) -> bool:
        """Log in; False when the server wants that to be tried later."""
        endpoint = self.endpoint
        reply = session.ask(
            "auth.login_ex",
            [
                {
                    "mechanism": "API_KEY_PLAIN",
                    "username": endpoint.username,
                    "api_key": endpoint.api_key,
                    "login_options": {"user_info": False},
                }
            ],
            deadline,
        )
        error = reply.get("error")
        if error is not None:
            refused = failure("auth.login_ex", error, endpoint)
            if isinstance(refused, ApiError) and (refused.code == 16 or error.get("code") == TOO_MANY_CALLS):
                return False
            raise AuthenticationFailed(f"{endpoint.url}: no login as {endpoint.username}: {refused}")
        kind = (reply.get("result") or {}).get("response_type")
        if kind != "SUCCESS":
            words = REFUSALS.get(str(kind), f"answers the login with {kind}")
            raise AuthenticationFailed(f"{endpoint.url} {words} (user {endpoint.username})")
        return True

    def _check_version(self, session: Session, deadline: Deadline) -> None:
        reply = session.ask("system.version_short", [], deadline)
        if "error" in reply:
            raise failure("system.version_short", reply["error"], self.endpoint)
        text = str(reply.get("result"))
        if _release(text) not in SUPPORTED:
            raise Unsupported(
                f"{self.endpoint.url} is version {text}, whose API has no containers of Incus: "
                "TrueNAS 25.04 and 25.10 are supported"
            )
        self._version = text


def rpc_from(options: Mapping[str, object]) -> Rpc:
    """Return the client that the options truenas_* name (endpoint_from); nothing is sent yet."""
    return Rpc(Transport(endpoint_from(options)))


def _release(text: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version, such as 25.10-RC.1; None for a development one."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
