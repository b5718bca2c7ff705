# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pixels_exec, whole, over a server in memory; the command itself is a process of this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.pixels.sandbox.plugins.modules import pixels_exec, pixels_instance
from support.fake_incus import FakeIncus

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def box(run: Run) -> str:
    """A running sandbox."""
    result = run(pixels_instance, name="box", image="debian/13")
    assert not result.get("failed"), result
    return "box"


def test_a_result_has_what_the_documentation_names(run: Run, box: str) -> None:
    result = run(pixels_exec, name=box, cmd="echo out; echo err >&2")
    assert (result["changed"], result["rc"], result["stdout"], result["stderr"]) == (True, 0, "out", "err")
    documented = set(yaml.safe_load(pixels_exec.RETURN))
    assert set(result) - {"invocation", "changed", "diff"} <= documented


def test_a_command_that_fails_fails_the_task_with_what_it_printed(run: Run, box: str) -> None:
    result = run(pixels_exec, name=box, argv=["sh", "-c", "echo half; exit 7"])
    assert (result["failed"], result["rc"], result["stdout"]) == (True, 7, "half")
    assert "it ended with 7" in result["msg"]


def test_a_command_that_takes_too_long_is_told_from_one_that_fails(run: Run, box: str) -> None:
    result = run(pixels_exec, name=box, cmd="echo half; sleep 60", timeout=1)
    assert (result["failed"], result["timed_out"], result["stdout"]) == (True, True, "half")
    assert result["delta"] < 30


def test_no_secret_is_in_a_request_or_a_result(server: FakeIncus, run: Run, box: str) -> None:
    options = {"cmd": 'test "$TOKEN" = "$(cat)"', "env": {"TOKEN": "hunter2 42"}, "stdin": "hunter2 42"}
    result = run(pixels_exec, name=box, **options)
    assert result["rc"] == 0
    assert "hunter2" not in str(result)
    assert "hunter2" not in str(server.requests)
    assert "hunter2" not in str([operation.record for operation in server.operations.values()])


@pytest.mark.parametrize("user", [None, "nobody"])
def test_the_accounts_of_a_guest_are_read_when_it_is_planned_and_when_it_is_run(
    server: FakeIncus, run: Run, box: str, user: str | None
) -> None:
    files = server.instance("px-box").disk.files
    passwd = files["/etc/passwd"]
    files["/etc/passwd"] = replace(passwd, content=passwd.content + b"pixel:x:1000:1000::/:/bin/sh\n")
    result = run(pixels_exec, name=box, cmd="true", **({"user": user} if user else {}))
    assert result["user"] == (user or "pixel"), result
    assert len([seen for seen in server.requests if seen.path.endswith("/files")]) == 2


def test_nothing_is_run_in_check_mode(server: FakeIncus, run: Run, box: str) -> None:
    result = run(pixels_exec, check_mode=True, name=box, cmd="false")
    assert result["changed"] is True
    assert server.written() == []


@pytest.mark.parametrize(
    ("option", "path", "runs"), [("creates", "/etc/hostname", False), ("creates", "/etc/none", True)]
)
def test_what_is_there_already_is_not_made_again(run: Run, box: str, option: str, path: str, runs: bool) -> None:
    for check_mode in (True, False):
        assert run(pixels_exec, check_mode=check_mode, name=box, cmd="true", **{option: path})["changed"] is runs


def test_long_output_is_cut_and_says_so(run: Run, box: str) -> None:
    result = run(pixels_exec, name=box, cmd="printf 0123456789; printf abc >&2", max_output=4)
    assert (result["stdout"], result["stdout_truncated"]) == ("0123", True)
    assert (result["stderr"], result["stderr_truncated"]) == ("abc", False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of the following is required: argv, cmd"),
        ({"argv": ["true"], "cmd": "true"}, "mutually exclusive: argv|cmd"),
        ({"argv": []}, "argv is empty"),
        ({"cmd": " "}, "cmd is empty"),
        ({"cmd": "true", "name": "No"}, "name 'No' is not legal"),
        ({"cmd": "true", "timeout": -1}, "timeout -1"),
    ],
)
def test_bad_input_reaches_no_server(server: FakeIncus, run: Run, options: dict[str, Any], message: str) -> None:
    result = run(pixels_exec, **{"name": "box", **options})
    assert result["failed"] is True
    assert message in result["msg"]
    assert server.requests == []


def test_only_sandboxes_that_run_are_entered(server: FakeIncus, run: Run, box: str) -> None:
    run(pixels_instance, name=box, state="stopped")
    assert "box is stopped" in run(pixels_exec, name=box, cmd="true")["msg"]
    assert "there is no sandbox never" in run(pixels_exec, name="never", cmd="true")["msg"]
    server.instance("px-box").record["config"]["user.pixels.kind"] = "gateway"
    assert run(pixels_exec, name=box, cmd="true")["failed"] is True
    assert server.written() == []
