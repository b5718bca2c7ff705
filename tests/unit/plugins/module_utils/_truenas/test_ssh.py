# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and files over SSH: words that stay apart, in front of a real shell; what fails on the way is told from what fails there."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.accounts import ROOT
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConnectionFailed,
    NotFound,
    OutcomeUnknown,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, ExecResult, Ssh
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas import ssh
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.ssh import Guests
from support.truenas.fake_guests import fake_ssh

WAY = Ssh("192.0.2.7", "px-one", "ssh-ed25519 AAAAkey", "/keys/id")
ODD = ("two words", "a'b\"c $HOME `id` ;id", "", "-n", "*", "line\nline\n", "\\0101 \\", "ünï", "#x", "\tend")


@pytest.fixture(autouse=True)
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh that hands what it is told to the shell of this machine, as a server of SSH does."""
    folder = fake_ssh(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def run(*argv: str, seconds: float = 20, **more: object) -> ExecResult:
    """Run a command."""
    return Guests().execute(WAY, ExecRequest(argv, cwd="/", **more), ROOT, Deadline(seconds))  # type: ignore[arg-type]


def test_words_arrive_as_they_were_given() -> None:
    result = run("/bin/sh", "-c", 'for word; do printf "%s\\0" "$word"; done', "sh", *ODD)
    assert result.stdout.decode().split("\0")[:-1] == list(ODD)


def test_a_command_gets_folder_variables_and_input() -> None:
    result = run("/bin/sh", "-c", 'pwd; echo "$WORD"; cat; echo e >&2; exit 3', env={"WORD": "a 'b'"}, stdin=b"in\0put")
    assert (result.rc, result.stdout, result.stderr) == (3, b"/\na 'b'\nin\0put", b"e\n")


def test_nothing_of_a_command_is_among_the_words_of_ssh() -> None:
    assert ssh.command(WAY, ssh.WRAPPER) == ssh.command(WAY, ssh.WRAPPER)
    words = " ".join(ssh.command(WAY, ssh.WRAPPER))
    for setting in ("StrictHostKeyChecking=yes", "HostKeyAlias=px-one", "BatchMode=yes", "IdentitiesOnly=yes"):
        assert setting in words
    assert "KnownHostsCommand=/bin/echo px-one ssh-ed25519 AAAAkey" in words
    assert "-F /dev/null" in words


def test_a_command_that_ends_as_ssh_does_when_it_fails_is_still_a_command() -> None:
    assert run("/bin/sh", "-c", "exit 255").rc == 255


def test_a_connection_that_is_lost_is_no_end_of_a_command(shell: Path) -> None:
    lost = "echo pixels-begun; echo out; echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255\n"
    (shell / "ssh").write_text(f"#!/bin/sh\n{lost}")
    with pytest.raises(OutcomeUnknown, match="px-one ended before the command did"):
        run("true")


def test_what_does_not_let_us_in_is_no_result(shell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "KEY_SECONDS", 0.0)
    (shell / "ssh").write_text("#!/bin/sh\necho 'Host key verification failed.' >&2; exit 255\n")
    with pytest.raises(ConnectionFailed, match="Host key verification failed"):
        run("true")


@pytest.mark.parametrize("words", ["connect: Connection refused", "Host key verification failed.", "Permission denied"])
def test_a_guest_that_still_boots_is_asked_again(
    shell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(ssh, "_POLL_SECONDS", 0.01)
    mark = tmp_path / "tried"
    old = (shell / "ssh").read_text().removeprefix("#!/bin/sh\n")
    refuse = f"[ -e {mark} ] || {{ : > {mark}; echo '{words}' >&2; exit 255; }}\n"
    (shell / "ssh").write_text(f"#!/bin/sh\n{refuse}{old}")
    assert run("echo", "in").stdout == b"in\n"


def test_a_command_that_takes_too_long_is_killed() -> None:
    result = run("/bin/sh", "-c", "echo begun; sleep 60", seconds=1)
    assert (result.timed_out, result.stdout) == (True, b"begun\n")


def test_a_gate_holds_input_back_until_it_is_asked_for() -> None:
    def gate(text: bytes) -> bytes | None:
        return b"word\n" if b"Password" in text else None

    result = run("/bin/sh", "-c", 'echo Password; read -r word; echo "got $word"', gate=gate)
    assert result.stdout == b"Password\ngot word\n"


def test_output_is_capped() -> None:
    result = run("/bin/sh", "-c", "echo 123456789", output_limit=4)
    assert (result.stdout, result.stdout_truncated) == (b"1234", True)


def test_files_go_and_come_by_names_that_a_shell_would_read_otherwise(tmp_path: Path) -> None:
    guests, path = Guests(), str(tmp_path / "a;id $(id) 'x'\n-rf")
    content = bytes(range(256)) * 300
    guests.write_file(WAY, path, io.BytesIO(content), 0o640, os.getuid(), os.getgid())
    target = io.BytesIO()
    info = guests.read_file(WAY, path, target)
    assert (target.getvalue(), info.type, info.mode, info.uid) == (content, "file", 0o640, os.getuid())
    guests.write_file(WAY, path, io.BytesIO(b"new"), None, os.getuid(), os.getgid())
    assert Path(path).read_bytes() == b"new"
    assert Path(path).stat().st_mode & 0o777 == 0o640
    assert guests.has_file(WAY, path)
    guests.delete_file(WAY, path)
    assert not guests.has_file(WAY, path)
    assert [found.name for found in tmp_path.iterdir()] == ["bin"]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    guests = Guests()
    with pytest.raises(NotFound):
        guests.read_file(WAY, str(tmp_path / "no"), io.BytesIO())
    with pytest.raises(NotFound):
        guests.write_file(WAY, str(tmp_path / "no/no"), io.BytesIO(), None, 0, 0)
