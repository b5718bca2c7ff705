# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and files in a real guest."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, NotFound, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, ExecResult
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live

pytestmark = live.needs_incus


def run(backend: IncusBackend, name: str, *argv: str, seconds: float = 60, **fields: object) -> ExecResult:
    """Run a command as root unless told otherwise."""
    return backend.execute(name, ExecRequest(argv, **fields), Deadline(seconds))  # type: ignore[arg-type]


@contextlib.contextmanager
def open_files_unchanged() -> Iterator[None]:
    """Fail if sockets or threads are left open."""
    before, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    yield
    end = time.monotonic() + 5
    while len(list(Path("/proc/self/fd").iterdir())) > before or threading.active_count() > threads:
        assert time.monotonic() < end, list(Path("/proc/self/fd").iterdir())
        time.sleep(0.05)


@pytest.fixture(scope="module")
def backend(project: str) -> IncusBackend:
    """Return a backend that keeps one connection; the session of pylxd keeps one for each of its last 25 addresses."""
    return live.incus_backend({"incus_project": project}, direct=True)


def test_a_command_runs_with_user_folder_and_environment(backend: IncusBackend, sandbox: str) -> None:
    result = run(
        backend,
        sandbox,
        "/bin/sh",
        "-c",
        'id -un; id -gn; pwd; echo "$HOME $X"; cat; echo wrong >&2; exit 3',
        user="pixel",
        env={"X": "a 'quoted'\nvalue"},
        stdin=b"typed",
    )
    assert result.rc == 3
    assert result.stdout == b"pixel\npixel\n/home/pixel\n/home/pixel a 'quoted'\nvalue\ntyped"
    assert result.stderr == b"wrong\n"


def test_a_user_that_is_not_there_is_named(backend: IncusBackend, sandbox: str) -> None:
    with pytest.raises(ConfigError, match="user 'nobody-here' does not exist in shared"):
        run(backend, sandbox, "true", user="nobody-here")


def test_large_streams_come_through_whole(backend: IncusBackend, sandbox: str) -> None:
    data = os.urandom(1 << 20) * 24
    with open_files_unchanged():
        result = run(backend, sandbox, "cat", stdin=data)
    assert result.stdout == data


def test_a_command_that_does_not_read_its_input_ends_all_the_same(backend: IncusBackend, sandbox: str) -> None:
    with open_files_unchanged():
        result = run(backend, sandbox, "true", stdin=bytes(8 << 20))
    assert result.rc == 0


def test_output_over_the_limit_is_cut_and_said(backend: IncusBackend, sandbox: str) -> None:
    result = run(backend, sandbox, "/bin/sh", "-c", "yes | head -c 1000000", output_limit=10)
    assert (result.stdout, result.stdout_truncated) == (b"y\n" * 5, True)


@pytest.mark.parametrize(
    "script",
    ["exec sleep 8611", "sleep 8611 & env -i sleep 8611 & setsid sleep 8611 & wait", "trap '' TERM; sleep 8611 & wait"],
)
def test_after_the_deadline_nothing_of_the_command_runs(script: str, backend: IncusBackend, sandbox: str) -> None:
    with open_files_unchanged():
        begin = time.monotonic()
        result = run(backend, sandbox, "/bin/sh", "-c", script, seconds=1)
    assert result.timed_out
    assert time.monotonic() - begin < 15
    left = run(
        backend, sandbox, "/bin/sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done 2>/dev/null"
    )
    assert b"sleep 8611" not in left.stdout


def test_what_was_printed_before_the_deadline_is_kept(backend: IncusBackend, sandbox: str) -> None:
    result = run(backend, sandbox, "/bin/sh", "-c", "echo before; exec sleep 8612", seconds=1)
    assert (result.timed_out, result.stdout) == (True, b"before\n")


def test_other_clients_of_the_server_see_nothing_of_a_command(
    backend: IncusBackend, sandbox: str, project: str
) -> None:
    secret = "s3cr3t-" + os.urandom(8).hex()
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        client = live.server()
        while not done.is_set():
            seen.append(str(client.get("/1.0/operations", recursion="1", project=project)))
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        result = run(
            backend, sandbox, "/bin/sh", "-c", f"sleep 1; : {secret}-argv", env={"X": secret}, stdin=secret.encode()
        )
    finally:
        done.set()
        thread.join()
    assert result.rc == 0
    assert any("Executing command" in text for text in seen), "the operation was never seen"
    assert not any(secret in text for text in seen)


def test_a_guest_that_goes_down_ends_the_command(backend: IncusBackend) -> None:
    live.make(backend, "goes-down")
    timer = threading.Timer(1, lambda: backend.set_power("goes-down", "stop", Deadline(30), force=True))
    timer.start()
    with open_files_unchanged():
        try:
            result = run(backend, "goes-down", "sleep", "8613", seconds=60)
            assert result.rc != 0
        except PixelsError:
            pass
        timer.join()


def test_fifty_commands_at_once(backend: IncusBackend, sandbox: str) -> None:
    results: dict[int, bytes] = {}

    def one(number: int) -> None:
        results[number] = run(backend, sandbox, "/bin/sh", "-c", "cat", stdin=str(number).encode()).stdout

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: str(number).encode() for number in range(50)}


def test_files_go_in_and_come_out_byte_by_byte(backend: IncusBackend, sandbox: str) -> None:
    data = os.urandom(1 << 20) * 32
    backend.write_file(sandbox, "/home/pixel/big file", io.BytesIO(data), 0o640, 1000, 1000)
    target = io.BytesIO()
    info = backend.read_file(sandbox, "/home/pixel/big file", target)
    assert target.getvalue() == data
    assert (info.type, info.mode, info.uid, info.gid) == ("file", 0o640, 1000, 1000)
    assert backend.has_file(sandbox, "/home/pixel/big file")
    backend.delete_file(sandbox, "/home/pixel/big file")
    backend.delete_file(sandbox, "/home/pixel/big file")
    assert not backend.has_file(sandbox, "/home/pixel/big file")


def test_a_file_that_is_not_there_is_not_found(backend: IncusBackend, sandbox: str) -> None:
    with pytest.raises(NotFound):
        backend.read_file(sandbox, "/no/such/file", io.BytesIO())


def test_a_child_of_a_fork_has_connections_of_its_own(backend: IncusBackend, sandbox: str, project: str) -> None:
    for there in (backend, live.backend(project)):
        assert there.get_instance(sandbox)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                answers = {there.get_instance(sandbox).name for _turn in range(20)}  # type: ignore[union-attr]
                os.write(write, b"ok" if answers == {sandbox} else b"mixed")
            finally:
                os._exit(0)
        os.close(write)
        answers = {there.get_instance(sandbox).name for _turn in range(20)}  # type: ignore[union-attr]
        assert answers == {sandbox}
        assert os.read(read, 10) == b"ok"
        os.waitpid(child, 0)
        os.close(read)
