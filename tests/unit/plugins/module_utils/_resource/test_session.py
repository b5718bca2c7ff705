# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions as planned over a guest that answers as px-session and px-step do, or as it likes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    DeadlineExceeded,
    Foreign,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    Console,
    ExecRequest,
    ExecResult,
    Instance,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import apply
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.session import (
    desired_session,
    plan_session,
    read_sessions,
)

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("argv", "chdir", "env", "env_forward", "user")),
    "name": "box",
    "session": "console",
    "state": "present",
    "timeout": 30,
}
CONSOLE = {
    "name": "console",
    "state": "running",
    "exit_code": None,
    "attached": False,
    "created_at": "2026-01-02T03:04:05Z",
}


class Guest:
    """A sandbox with sessions; it notes what it is told."""

    def __init__(self, *sessions: dict[str, Any], **fields: Any) -> None:
        self.sessions = {session["name"]: session for session in sessions}
        self.instance: Instance | None = replace(Instance("box", "px-box", "running", "sandbox"), **fields)
        self.requests: list[ExecRequest] = []
        self.answer: ExecResult | None = None
        self.has_programs = True

    def get_instance(self, name: str) -> Instance | None:
        """Return the sandbox."""
        return self.instance

    def console(self, name: str, command: Sequence[str]) -> Console:
        """Say how it is entered."""
        return Console(f"enter {name} {' '.join(command)}")

    def has_file(self, name: str, path: str) -> bool:
        """Say whether the role session was there."""
        return self.has_programs

    def execute(self, name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        """Do what px-session does."""
        self.requests.append(request)
        if self.answer:
            return self.answer
        program, verb, *rest = request.argv
        if program.endswith("px-step"):
            step = {
                "name": "tools",
                "state": "failed",
                "result": "exit-code",
                "exit_code": 3,
                "log": "no\n" * int(rest[0]),
            }
            return ExecResult(0, json.dumps([step]).encode())
        if verb == "start":
            self.sessions[rest[rest.index("--") - 1]] = {**CONSOLE, "name": rest[rest.index("--") - 1]}
        elif verb == "stop":
            del self.sessions[rest[0]]
        return ExecResult(0, json.dumps(list(self.sessions.values())).encode())

    def told(self, verb: str) -> list[ExecRequest]:
        """Return the requests with a verb."""
        return [request for request in self.requests if request.argv[1] == verb]


def run(guest: Guest, **options: Any) -> tuple[bool, dict[str, Any], dict[str, PixelsError]]:
    """Do a task; return whether it changed something, what is seen, and what failed."""
    work = plan_session(cast(Backend, guest), desired_session({**DEFAULTS, **options}))
    failed = apply(work)
    return work.plans[0].changed, dict(work.observe()["box"]), failed


def test_a_session_is_started_with_what_only_it_shall_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PX_TEST_KEY", "hunter2")
    guest = Guest()
    options = {
        "session": "agent",
        "argv": ["claude", "-p", "x"],
        "chdir": "/srv",
        "env": {"A": 1},
        "env_forward": ["PX_TEST_KEY"],
    }
    changed, seen, failed = run(guest, **options)
    assert (changed, failed) == (True, {})
    (start,) = guest.told("start")
    assert start.argv == ("/usr/local/bin/px-session", "start", "--chdir", "/srv", "agent", "--", "claude", "-p", "x")
    assert (start.user, start.env) == ("pixel", {"A": "1", "PX_TEST_KEY": "hunter2"})
    assert seen["session"] == {**CONSOLE, "name": "agent"}
    assert seen["console"] == "enter box /usr/local/bin/px-session attach agent"
    assert "hunter2" not in repr(desired_session({**DEFAULTS, **options}))


@pytest.mark.parametrize(
    ("there", "state", "verb"),
    [
        ([], "present", "start"),
        ([CONSOLE], "present", None),
        ([{**CONSOLE, "state": "exited", "exit_code": 1}], "present", "start"),
        ([], "absent", None),
        ([CONSOLE], "absent", "stop"),
    ],
)
def test_every_state_is_reached_from_every_other(there: list[dict[str, Any]], state: str, verb: str | None) -> None:
    guest = Guest(*there)
    changed, seen, _failed = run(guest, state=state)
    assert [request.argv[1] for request in guest.requests if request.argv[1] != "list"] == ([verb] if verb else [])
    assert changed is (verb is not None)
    assert seen["session"]["state"] == ("running" if state == "present" else "absent")
    assert run(guest, state=state)[0] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"session": "a b"}, "session 'a b' is not legal"),
        ({"session": "-x"}, "not legal"),
        ({"session": "a:b"}, "not legal"),
        ({"argv": []}, "argv is empty"),
        ({"chdir": "srv"}, "not an absolute path"),
        ({"timeout": 0}, "timeout 0"),
        ({"state": "absent", "argv": ["x"]}, "argv is for state present"),
        ({"env": {"A B": "x"}}, "'A B' is not the name"),
    ],
)
def test_bad_input_asks_nobody(options: dict[str, Any], message: str) -> None:
    guest = Guest()
    with pytest.raises(ConfigError, match=message):
        run(guest, **options)
    assert guest.requests == []


def test_only_sandboxes_that_run_and_have_the_programs_are_asked() -> None:
    with pytest.raises(ConfigError, match="box is stopped"):
        run(Guest(status="stopped"))
    with pytest.raises(Foreign):
        run(Guest(kind=None))
    guest = Guest()
    guest.instance = None
    with pytest.raises(ConfigError, match="there is no sandbox box"):
        run(guest)
    guest = Guest()
    guest.has_programs = False
    with pytest.raises(ConfigError, match="the role session brings it"):
        run(guest)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (ExecResult(3, b"", b"no server\n"), OperationFailed, "ended with 3: no server"),
        (ExecResult(-1, timed_out=True), DeadlineExceeded, "does not end"),
        (ExecResult(0, b"{}"), OperationFailed, "does not answer as it should"),
        (ExecResult(0, b"[1]"), OperationFailed, "does not answer as it should"),
        (ExecResult(0, b"\xff"), OperationFailed, "does not answer as it should"),
        (ExecResult(0, b"[" * 100000), OperationFailed, "does not answer as it should"),
    ],
)
def test_a_guest_that_answers_nonsense_is_an_error(answer: ExecResult, error: type[PixelsError], message: str) -> None:
    guest = Guest()
    guest.answer = answer
    with pytest.raises(error, match=message):
        run(guest)


def test_fields_of_other_types_do_not_come_through() -> None:
    odd = {"name": 7, "state": "splendid", "exit_code": "x", "attached": "no", "created_at": ["x"], "more": {}}
    guest = Guest()
    guest.answer = ExecResult(0, json.dumps([odd]).encode())
    seen = read_sessions(cast(Backend, guest), "box", None, 3)
    expected = {"name": "7", "state": "unknown", "exit_code": None, "attached": True, "created_at": "['x']"}
    assert seen["sessions"] == [expected]


def test_sessions_and_steps_are_listed() -> None:
    guest = Guest(CONSOLE)
    seen = read_sessions(cast(Backend, guest), "px-box", None, 2)
    assert seen["sessions"] == [CONSOLE]
    assert seen["steps"] == [
        {
            "name": "tools",
            "state": "failed",
            "result": "exit-code",
            "exit_code": 3,
            "began_at": None,
            "ended_at": None,
            "log": "no\nno\n",
        }
    ]
    assert [request.user for request in guest.requests] == ["root", "pixel"]
    with pytest.raises(ConfigError, match="log_lines -1"):
        read_sessions(cast(Backend, guest), "box", None, -1)
