# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task of pixels_exec runs, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.accounts import ROOT, Account
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, Foreign, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, ExecResult, Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import apply
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.command import command_from, plan_command

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("argv", "cmd", "user", "chdir", "env", "env_forward", "stdin", "creates", "removes")),
    "login": False,
    "name": "box",
    "timeout": 30,
    "max_output": 100,
}


class Guest:
    """A sandbox that has these users and files, and notes what it is told to run."""

    def __init__(self, users: tuple[str, ...] = (), files: tuple[str, ...] = (), **fields: Any) -> None:
        self.users = users
        self.files = files
        self.instance: Instance | None = Instance("box", "px-box", "running", "sandbox")
        if fields:
            self.instance = replace(self.instance, **fields)
        self.result = ExecResult(0, b"out\n", b"err\n")
        self.requests: list[ExecRequest] = []

    def get_instance(self, name: str) -> Instance | None:
        """Return the sandbox."""
        return self.instance

    def account(self, name: str, user: str) -> Account:
        """Return an account, or refuse as the backend does."""
        if user == "root":
            return ROOT
        if user not in self.users:
            raise ConfigError(f"user {user!r} does not exist in {name}")
        return Account(user, 1000, 1000, f"/home/{user}", "/bin/sh")

    def has_file(self, name: str, path: str) -> bool:
        """Say whether it has the file."""
        return path in self.files

    def execute(self, name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        """Note the request."""
        assert deadline.seconds == 30
        self.requests.append(request)
        return self.result


def run(guest: Guest, **options: Any) -> tuple[dict[str, Any], dict[str, PixelsError]]:
    """Run a command; return what is seen of it, and what failed."""
    moments = iter(NOW + timedelta(seconds=number) for number in range(9))
    work = plan_command(cast(Backend, guest), command_from({**DEFAULTS, **options}), lambda: next(moments))
    failed = apply(work)
    seen = dict(work.observe().get("box", work.plans[0].seen))
    return seen, failed


def test_what_was_asked_for_is_run_and_shown() -> None:
    guest = Guest()
    seen, failed = run(guest, argv=["ls", "-l"], env={"A": 1}, stdin="x", chdir="/srv")
    assert not failed
    assert guest.requests == [
        ExecRequest(("ls", "-l"), user="root", cwd="/srv", env={"A": "1"}, stdin=b"x", output_limit=100)
    ]
    assert seen == {
        "user": "root",
        "rc": 0,
        "stdout": "out",
        "stderr": "err",
        "stdout_truncated": False,
        "stderr_truncated": False,
        "timed_out": False,
        "start": "2026-01-02T03:04:05.000+00:00",
        "end": "2026-01-02T03:04:06.000+00:00",
        "delta": 1.0,
    }


@pytest.mark.parametrize(
    ("users", "wanted", "expected"),
    [((), None, "root"), (("pixel",), None, "pixel"), (("pixel",), "root", "root"), (("ada",), "ada", "ada")],
)
def test_the_user_is_pixel_where_there_is_one(users: tuple[str, ...], wanted: str | None, expected: str) -> None:
    guest = Guest(users)
    run(guest, cmd="true", user=wanted)
    assert guest.requests[0].user == expected
    assert guest.requests[0].argv == ("/bin/sh", "-c", "true")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (ExecResult(3, b"half"), "it ended with 3"),
        (ExecResult(-1, b"half", timed_out=True), "it was killed after 30 s"),
    ],
)
def test_a_command_that_does_not_end_well_fails_with_what_it_printed(result: ExecResult, message: str) -> None:
    guest = Guest()
    guest.result = result
    _seen, failed = run(guest, cmd="x")
    assert message in str(failed["box"])
    shown = failed["box"].result()
    assert (shown["rc"], shown["stdout"], shown["timed_out"]) == (result.rc, "half", result.timed_out)


@pytest.mark.parametrize(
    ("files", "options", "runs"),
    [
        (("/a",), {"creates": "/a"}, False),
        ((), {"creates": "/a"}, True),
        (("/a",), {"removes": "/a"}, True),
        ((), {"removes": "/a"}, False),
    ],
)
def test_creates_and_removes_say_whether_it_is_run(files: tuple[str, ...], options: dict[str, Any], runs: bool) -> None:
    guest = Guest(files=files)
    seen, _failed = run(guest, cmd="x", **options)
    assert bool(guest.requests) is runs
    if not runs:
        assert seen["stdout"].startswith("skipped, since /a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"argv": []}, "argv is empty"),
        ({"cmd": "x", "chdir": "srv"}, "chdir 'srv' is not an absolute path"),
        ({"cmd": "x", "creates": "a"}, "creates 'a' is not an absolute path"),
        ({"cmd": "x", "env": {"A B": "1"}}, "'A B' is not the name"),
        ({"cmd": "x", "timeout": 0}, "timeout 0"),
        ({"cmd": "x", "max_output": -1}, "max_output -1"),
        ({"cmd": "x", "name": "base-x"}, "is reserved"),
        ({"cmd": "x", "user": "nobody"}, "user 'nobody' does not exist"),
    ],
)
def test_what_is_illegal_is_named_and_nothing_is_run(options: dict[str, Any], message: str) -> None:
    guest = Guest()
    with pytest.raises(ConfigError) as caught:
        run(guest, **options)
    assert message in str(caught.value)
    assert guest.requests == []


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"status": "stopped"}, ConfigError, "box is stopped"),
        ({"kind": None}, Foreign, "is left alone"),
        ({"kind": "gateway"}, Foreign, "is a gateway"),
    ],
)
def test_only_sandboxes_that_run_are_entered(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    guest = Guest(**fields)
    with pytest.raises(error, match=message):
        run(guest, cmd="x")
    assert guest.requests == []


def test_a_sandbox_that_is_not_there_is_an_error() -> None:
    guest = Guest()
    guest.instance = None
    with pytest.raises(ConfigError, match="there is no sandbox box"):
        run(guest, cmd="x")


def test_a_login_is_a_shell_that_becomes_the_command() -> None:
    guest = Guest()
    run(guest, argv=["ls", "-l", "$HOME"], login=True)
    assert guest.requests[0].argv == ("/bin/sh", "-lc", 'exec "$@"', "sh", "ls", "-l", "$HOME")


def test_variables_of_the_controller_are_forwarded_where_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PX_TEST_SET", "it's $5\n")
    monkeypatch.setenv("PX_TEST_BOTH", "of the controller")
    monkeypatch.delenv("PX_TEST_UNSET", raising=False)
    guest = Guest()
    run(
        guest,
        cmd="x",
        env_forward=["PX_TEST_SET", "PX_TEST_UNSET", "PX_TEST_BOTH"],
        env={"PX_TEST_BOTH": "of the task"},
    )
    assert guest.requests[0].env == {"PX_TEST_SET": "it's $5\n", "PX_TEST_BOTH": "of the task"}


def test_a_forwarded_name_that_is_none_is_an_error() -> None:
    with pytest.raises(ConfigError, match="env_forward: 'A B' is not the name"):
        run(Guest(), cmd="x", env_forward=["A B"])
