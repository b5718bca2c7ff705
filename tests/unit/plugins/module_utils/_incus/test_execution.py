# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wrapper and the killer as they run, in the shell of this machine; only the server is not there."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.shell import KILLER, MARK, WRAPPER, header

AWKWARD = (
    "plain",
    "",
    " leading and trailing ",
    "new\nline\n",
    "\n",
    "back\\slash \\n \\0101 \\c",
    "$(touch /nope) `id` $HOME ${x} $((1))",
    "'single' \"double\"",
    "*?[a]",
    "tab\tbell\a",
    "ünïcödé ☃",
    "-n",
    "E1=2",
    "%s%d",
)


def run(request: ExecRequest) -> subprocess.CompletedProcess[bytes]:
    """Run a request as the server would run it in a guest."""
    return subprocess.run(
        ["/bin/sh", "-c", WRAPPER, "pixels"],
        input=header(request, {}) + request.stdin,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
        timeout=20,
    )


@pytest.mark.parametrize("text", AWKWARD)
def test_arguments_arrive_as_they_are(text: str) -> None:
    result = run(ExecRequest(("printf", "%s|", text, "end")))
    assert result.stdout.decode() == f"{text}|end|"


@pytest.mark.parametrize("text", AWKWARD)
def test_environment_arrives_as_it_is(text: str) -> None:
    result = run(ExecRequest(("/bin/sh", "-c", 'printf %s. "$VALUE"'), env={"VALUE": text}))
    assert result.stdout.decode() == f"{text}."


@pytest.mark.parametrize("text", [text for text in AWKWARD if text and "\0" not in text])
def test_the_folder_is_taken_as_it_is(text: str, tmp_path: Path) -> None:
    folder = tmp_path / text
    folder.mkdir(parents=True)
    result = run(ExecRequest(("/bin/sh", "-c", "pwd -P; printf ."), cwd=str(folder)))
    assert result.stdout.decode() == f"{os.path.realpath(folder)}\n."


def test_standard_input_follows_byte_by_byte() -> None:
    data = bytes(range(256)) * 300
    result = run(ExecRequest(("cat",), stdin=data))
    assert result.stdout == data


def test_the_exit_code_is_that_of_the_command() -> None:
    assert run(ExecRequest(("/bin/sh", "-c", "exit 7"))).returncode == 7


def test_a_command_that_is_not_there_ends_with_127() -> None:
    assert run(ExecRequest(("/no/such/command",))).returncode == 127


def test_a_folder_that_is_not_there_keeps_the_command_from_running() -> None:
    result = run(ExecRequest(("echo", "ran"), cwd="/no/such/folder"))
    assert (result.returncode, result.stdout) == (126, b"")


def test_half_a_header_runs_nothing() -> None:
    whole = header(ExecRequest(("touch", "/tmp/never")), {})
    for length in range(len(whole) - 1):
        result = subprocess.run(
            ["/bin/sh", "-c", WRAPPER, "pixels"], input=whole[:length], capture_output=True, check=False, timeout=20
        )
        assert result.returncode == 126


def test_helpers_of_the_wrapper_do_not_reach_the_command() -> None:
    environment = run(ExecRequest(("env",), cwd="/")).stdout.decode()
    assert {line.partition("=")[0] for line in environment.splitlines()} <= {"PATH", "PWD"}


@pytest.mark.parametrize(
    "request_", [ExecRequest(("a\0b",)), ExecRequest(("a",), env={"X": "\0"}), ExecRequest(("a",), cwd="/\0")]
)
def test_what_no_process_can_be_given_is_refused(request_: ExecRequest) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        header(request_, {})


def test_nothing_of_a_request_is_in_the_text_that_the_server_lists() -> None:
    head = header(ExecRequest(("secret-argument",), env={"X": "secret-value"}, cwd="/secret"), {})
    assert b"secret-argument" in head
    assert "secret" not in WRAPPER


@contextlib.contextmanager
def marked(script: str) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """Start a command with a mark, and yield it with the mark and a word that all of its processes carry."""
    mark, word = secrets.token_hex(16), f"86{secrets.randbelow(10**6):06d}"
    request = ExecRequest(("/bin/sh", "-c", script.replace("WORD", word)))
    process = subprocess.Popen(
        ["/bin/sh", "-c", WRAPPER, "pixels"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(header(request, {MARK: mark}))
    process.stdin.close()
    try:
        yield process, mark, word
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pid in running(word):
            os.kill(pid, signal.SIGKILL)


def running(word: str) -> list[int]:
    """Return the processes that sleep for this odd number of seconds."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == f"sleep\0{word}\0".encode():
                found.append(int(path.parent.name))
    return found


def wait_for(word: str, count: int) -> None:
    """Wait until so many processes run."""
    end = time.monotonic() + 10
    while len(running(word)) != count:
        assert time.monotonic() < end, running(word)
        time.sleep(0.02)


def kill(mark: str) -> int:
    """Run the killer and return its exit code."""
    return subprocess.run(
        ["/bin/sh", "-c", KILLER, "pixels"], input=f"{mark}\n".encode(), check=False, timeout=30
    ).returncode


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("exec sleep WORD", 1),
        ("sleep WORD & sleep WORD & wait", 2),
        ("env -i sleep WORD & wait", 1),
        ("setsid sleep WORD & sleep WORD & wait", 2),
        ("(setsid sleep WORD &) ; sleep WORD", 2),
        ("trap '' TERM INT HUP; sleep WORD & wait", 1),
        ("for i in 1 2 3 4 5 6 7 8 9 10; do env -i /bin/sh -c 'sleep WORD & wait' & done; wait", 10),
    ],
    ids=["itself", "children", "cleared environment", "new session", "orphan", "ignores signals", "grandchildren"],
)
def test_the_killer_ends_a_command_with_all_that_it_started(script: str, count: int) -> None:
    with marked(script) as (_process, mark, word):
        wait_for(word, count)
        assert kill(mark) == 0
        wait_for(word, 0)


def test_the_killer_leaves_others_alone() -> None:
    with marked("exec sleep WORD") as (process, _mark, word):
        wait_for(word, 1)
        assert kill(secrets.token_hex(16)) == 0
        assert process.poll() is None


@pytest.mark.parametrize("mark", ["", "*", "; true", "ABCDEF"])
def test_the_killer_refuses_what_is_no_mark(mark: str) -> None:
    assert kill(mark) == 1
