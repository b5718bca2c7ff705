# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The inside of a sandbox over SSH: commands that keep their words apart, and files, by its pinned host key alone."""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import IO, BinaryIO

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.streams import Streams
from ansible_collections.pixels.sandbox.plugins.module_utils._core.accounts import ROOT, Account
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConnectionFailed,
    MissingDependency,
    NotFound,
    OperationFailed,
    OutcomeUnknown,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.identity import Files
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, ExecResult, FileInfo, Ssh
from ansible_collections.pixels.sandbox.plugins.module_utils._core.shell import KILLER, MARK, WRAPPER, header

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The first line of the output, in front of that of the command: what ends before it came was no command.
_BEGUN = b"pixels-begun\n"
#: How long a sandbox that runs may take until its SSH server answers; a new one installs it first.
ENTRY_SECONDS = 180.0
#: How long one whose image brought an SSH server may show the key of that, or refuse ours, until the bootstrap has put both right.
KEY_SECONDS = 20.0
_POLL_SECONDS = 0.5
_KILL_SECONDS = 20.0
_DRAIN_SECONDS = 10.0
_CHUNK = 1 << 16
#: What ssh itself ends with when it could not connect, or lost the connection.
_SSH_FAILED = 255
#: What ssh says last when it had a connection and lost it.
_LOST = re.compile(rb"(client_loop: .*|Connection (to|reset|closed) .*|Timeout, server .*|packet_write_wait: .*)\s*\Z")
_FILE_SECONDS = 120.0
_GONE = 66
_STAT = 'stat -c "%F|%a|%u|%g" -- "$1"'
#: Programs of a few lines that get paths as words, never as a part of themselves.
_HAS = 'test -e "$1" || test -L "$1"'
_READ = f'[ -e "$1" ] || exit {_GONE}; {_STAT} && if [ -d "$1" ]; then ls -A -- "$1"; else exec cat -- "$1"; fi'
_DELETE = 'rm -f -- "$1"'
_WRITE = f"""umask 077
case $1 in */*) folder=${{1%/*}}/ ;; *) folder=./ ;; esac
[ -d "$folder" ] || exit {_GONE}
mode=$2
[ -n "$mode" ] || mode=$(stat -c %a -- "$1" 2>/dev/null) || mode=644
new=$(mktemp -- "$folder.pixels.XXXXXXXX") || exit 1
trap 'rm -f -- "$new"' EXIT
cat > "$new" && chown "$3:$4" -- "$new" && chmod "$mode" -- "$new" && mv -fT -- "$new" "$1"
"""


class Guests:
    """Sandboxes as they are reached over SSH, each by its own pinned host key, as root."""

    def execute(self, ssh: Ssh, request: ExecRequest, account: Account, deadline: Deadline) -> ExecResult:
        """Run a command as an account and wait for its end; when the deadline is over it and what it started are killed.

        Raises ConnectionFailed where the sandbox does not let us in, or shows another host key than its own.
        """
        mark = secrets.token_hex(16)
        argv = request.argv
        if account.uid or account.gid:
            argv = ("setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--", *argv)
        env = {"PATH": _PATH, **account.environment, **request.env}
        complete = replace(request, argv=argv, env=env, cwd=request.cwd or account.home)
        head = header(complete, {MARK: mark})
        patience = Deadline(deadline.slice(ENTRY_SECONDS))
        while True:
            with _Session(ssh, WRAPPER) as session:
                streams = session.stream(head, complete)
                rc = session.finished(deadline)
                if rc is None:
                    self._kill(ssh, mark)
                    session.finished(Deadline(_DRAIN_SECONDS))
                streams.drain(_DRAIN_SECONDS)
                if rc == _SSH_FAILED and session.begun and _LOST.search(bytes(streams.err.kept)):
                    raise OutcomeUnknown(
                        f"the connection to {ssh.alias} ended before the command did: it may go on there"
                    )
                if rc is None or session.begun:
                    out, err = streams.out, streams.err
                    code = -1 if rc is None else rc
                    return ExecResult(
                        code, bytes(out.kept), bytes(err.kept), out.truncated, err.truncated, timed_out=rc is None
                    )
                failure = _failure(ssh, bytes(streams.err.kept), rc)
            if patience.seconds - patience.left() >= min(patience.seconds, _may_take(failure)):
                raise failure
            deadline.pause(_POLL_SECONDS, str(failure))

    def _kill(self, ssh: Ssh, mark: str) -> None:
        """End what carries the mark."""
        with contextlib.suppress(ConnectionFailed), _Session(ssh, KILLER) as session:
            session.stream(f"{mark}\n".encode(), ExecRequest((), output_limit=0))
            session.finished(Deadline(_KILL_SECONDS))

    # -- files, whose paths are resolved by the guest and nowhere else

    def has_file(self, ssh: Ssh, path: str) -> bool:
        """Say whether there is anything at the path."""
        return self._run(ssh, _HAS, path).rc == 0

    def read_file(self, ssh: Ssh, path: str, target: BinaryIO) -> FileInfo:
        """Copy a file into an open binary file; for a folder, the names in it."""
        result = self._run(ssh, _READ, path)
        if result.rc == _GONE:
            raise NotFound(f"there is no {path} in {ssh.alias}", 404)
        if result.rc:
            raise OperationFailed(f"read {path} of {ssh.alias}: {_said(result.stderr)}")
        first, _newline, content = result.stdout.partition(b"\n")
        kind, mode, uid, gid = first.decode().split("|")
        target.write(content)
        words = {"directory": "directory", "symbolic link": "symlink"}
        return FileInfo(words.get(kind, "file"), int(mode, 8), int(uid), int(gid))

    def write_file(self, ssh: Ssh, path: str, source: IO[bytes], mode: int | None, uid: int, gid: int) -> None:
        """Replace a file as a whole; mode is kept, or 0644 for a new file, where it is not given."""
        words = (path, "" if mode is None else f"{mode:o}", str(uid), str(gid))
        result = self._run(ssh, _WRITE, *words, stdin=source.read())
        if result.rc == _GONE:
            raise NotFound(f"there is no folder for {path} in {ssh.alias}", 404)
        if result.rc:
            raise OperationFailed(f"write {path} of {ssh.alias}: {_said(result.stderr)}")

    def delete_file(self, ssh: Ssh, path: str) -> None:
        """Delete a file; one that is not there is success."""
        result = self._run(ssh, _DELETE, path)
        if result.rc:
            raise OperationFailed(f"delete {path} of {ssh.alias}: {_said(result.stderr)}")

    def _run(self, ssh: Ssh, script: str, *words: str, stdin: bytes = b"") -> ExecResult:
        request = ExecRequest(("/bin/sh", "-c", script, "pixels", *words), cwd="/", stdin=stdin)
        result = self.execute(ssh, request, ROOT, Deadline(_FILE_SECONDS))
        if result.timed_out:
            raise OperationFailed(f"a file of {ssh.alias} was not moved within {_FILE_SECONDS:g} s")
        return result


class GuestFiles(Files):
    """The files of one sandbox that runs."""

    def __init__(self, guests: Guests, ssh: Ssh) -> None:
        self._guests = guests
        self._ssh = ssh

    def folder(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, none where there is no such folder."""
        target = io.BytesIO()
        try:
            info = self._guests.read_file(self._ssh, path, target)
        except NotFound:
            return ()
        if info.type != "directory":
            return ()
        return tuple(target.getvalue().decode("utf-8", "surrogateescape").split("\n")[:-1])

    def has(self, path: str) -> bool:
        """Say whether there is anything at the path."""
        return self._guests.has_file(self._ssh, path)

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a whole file of root."""
        self._guests.write_file(self._ssh, path, io.BytesIO(content), mode, 0, 0)

    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is success."""
        self._guests.delete_file(self._ssh, path)


def command(ssh: Ssh, script: str) -> list[str]:
    """Return what is run on the controller for a program in the guest.

    Its words are the same for every command: what is to be run, with its variables, comes on standard input.
    """
    remote = f"printf '{_BEGUN.decode().strip()}\\n'; exec env -i PATH={_PATH} /bin/sh -c {shlex.quote(script)} pixels"
    settings = ("BatchMode=yes", "ControlMaster=no", "ControlPath=none", "ConnectTimeout=10", "LogLevel=ERROR")
    options = [word for setting in settings for word in ("-o", setting)]
    place = ["-i", ssh.key_file, "-l", ssh.user, "--", ssh.address]
    return ["ssh", "-F", "/dev/null", "-T", "-a", "-x", *options, *ssh.options, *place, remote]


def console(ssh: Ssh, words: tuple[str, ...]) -> str:
    """Return what a person types to run a command on a terminal in the guest."""
    return shlex.join(["ssh", "-t", *ssh.options, "-i", ssh.key_file, f"{ssh.user}@{ssh.address}", shlex.join(words)])


def _failure(ssh: Ssh, said: bytes, rc: int) -> ConnectionFailed:
    text = _said(said) or f"ssh ended with {rc}"
    return ConnectionFailed(f"{ssh.alias} does not let us in at {ssh.address}: {text}")


def _may_take(failure: ConnectionFailed) -> float:
    """Return for how many seconds a failure may be that of a guest which has not finished its start.

    To ask again is no risk: nothing is ever told to a host with another key.
    """
    text = str(failure)
    if any(word in text for word in ("refused", "timed out", "No route", "closed", "reset", "booting")):
        return ENTRY_SECONDS
    return KEY_SECONDS if any(word in text for word in ("Host key", "host key", "Permission denied")) else 0.0


def _said(text: bytes) -> str:
    shown = text.decode("utf-8", "replace").strip()[-500:]
    return "".join(char if char.isprintable() else " " for char in shown)


class _Session:
    """One run of ssh, ended in every case."""

    def __init__(self, ssh: Ssh, script: str) -> None:
        try:
            # there is no module here to run it: a backend is called from plugins too
            self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                command(ssh, script),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", _PATH)},
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise MissingDependency("ssh (the program of OpenSSH)") from exc
        self.begun = False
        self._streams: Streams | None = None

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_args: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._streams:
            self._streams.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()

    def stream(self, head: bytes, request: ExecRequest) -> Streams:
        """Start to feed the command and to read from it."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise OperationFailed("ssh has no standard streams")
        self._streams = Streams(
            request, self._after_begin(_chunks(stdout)), _chunks(stderr), lambda rest: _feed(stdin, head, rest)
        )
        return self._streams

    def finished(self, deadline: Deadline) -> int | None:
        """Wait for the end and return the exit code, None where it did not come in time."""
        try:
            return self._process.wait(max(0.01, deadline.left()))
        except subprocess.TimeoutExpired:
            return None

    def _after_begin(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what follows the first line of ours; a shell of root may say something before it is asked to."""
        head = b""
        for data in chunks:
            if self.begun:
                yield data
                continue
            head += data
            _before, begin, rest = head.partition(_BEGUN)
            if begin:
                self.begun = True
                yield rest


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what comes in until the end, also that of the process."""
    with contextlib.suppress(OSError, ValueError):
        while data := os.read(stream.fileno(), _CHUNK):
            yield data


def _feed(stream: IO[bytes], head: bytes, rest: Callable[[], bytes]) -> None:
    """Send the header and standard input; a process that ends without reading it is no failure."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(head)
        stream.flush()
        stream.write(rest())
        stream.close()
