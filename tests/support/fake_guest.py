# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inside of a sandbox on the fake server: its files in memory, its commands in the shell of this machine."""

from __future__ import annotations

import posixpath
import socket
import subprocess
from dataclasses import dataclass, field, replace

import websocket

PASSWD = b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"


@dataclass(frozen=True)
class FakeFile:
    """A file, folder or link."""

    content: bytes = b""
    type: str = "file"
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


FOLDER = FakeFile(type="directory", mode=0o755)


@dataclass
class FakeDisk:
    """The files of an instance, by path."""

    files: dict[str, FakeFile] = field(default_factory=dict)

    def copy(self) -> FakeDisk:
        """Return a disk of its own with the same files, as a copy-on-write clone."""
        return FakeDisk(dict(self.files))

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        stem = folder.rstrip("/") + "/"
        return sorted(path.removeprefix(stem) for path in self.files if posixpath.dirname(path) == folder != path)

    def write(self, path: str, new: FakeFile, *, keep_mode: bool) -> bool:
        """Write a file; say whether its folder was there."""
        if self.files.get(posixpath.dirname(path), FakeFile()).type != "directory":
            return False
        old = self.files.get(path)
        self.files[path] = replace(new, mode=old.mode) if old and keep_mode else new
        return True


def image_disk() -> FakeDisk:
    """Return what an image has on its disk."""
    folders = ("/", "/etc", "/etc/ssh", "/root", "/tmp", "/var")
    return FakeDisk(
        {
            **dict.fromkeys(folders, FOLDER),
            "/etc/passwd": FakeFile(PASSWD),
            "/etc/machine-id": FakeFile(b"0123456789abcdef0123456789abcdef\n", mode=0o444),
            "/etc/hostname": FakeFile(b"image\n"),
            "/etc/ssh/ssh_host_ed25519_key": FakeFile(b"the key of the image\n", mode=0o600),
            "/etc/ssh/ssh_host_ed25519_key.pub": FakeFile(b"the public key of the image\n"),
            "/etc/ssh/ssh_host_dsa_key": FakeFile(b"a key of long ago\n", mode=0o600),
        }
    )


class FakeSocket:
    """One websocket of a command, as far as websocket-client's is used."""

    def __init__(self, end: socket.socket) -> None:
        self.sock = end

    def settimeout(self, seconds: float | None) -> None:
        """Set how long a receive may take."""
        self.sock.settimeout(seconds)

    def recv_data(self) -> tuple[int, bytes]:
        """Return the next frame; the server ends a stream with an empty text message."""
        data = self.sock.recv(65536)
        return (websocket.ABNF.OPCODE_BINARY, data) if data else (websocket.ABNF.OPCODE_TEXT, b"")

    def send_binary(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def send(self, text: str) -> None:
        """Send the one text message that there is: the end of standard input."""
        assert not text, "only an empty text message has a meaning"
        self.sock.shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        """Close the connection."""
        self.sock.close()


class FakeCommand:
    """A command of an exec request: a process of this machine behind websockets."""

    def __init__(self, argv: list[str]) -> None:
        # it would be this machine that is cleaned
        assert "/etc/machine-id" not in " ".join(argv), "a build is no command for the fake guest"
        self.argv = argv
        self.process: subprocess.Popen[bytes] | None = None
        self._ours: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket] = {}
        for name in ("0", "1", "2", "control"):
            self._ours[name], self._theirs[name] = socket.socketpair()

    def connect(self, name: str) -> FakeSocket:
        """Hand out one websocket; the command starts when all that it needs are connected."""
        stream = FakeSocket(self._ours.pop(name))
        if not self._ours:
            self.process = subprocess.Popen(
                self.argv,
                stdin=self._theirs["0"],
                stdout=self._theirs["1"],
                stderr=self._theirs["2"],
                env={"PATH": "/usr/bin:/bin"},
                cwd="/",
                start_new_session=True,
            )
            for end in self._theirs.values():
                end.close()
        return stream

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, None while it runs."""
        assert self.process is not None, "the server waits for all websockets before it runs a command"
        try:
            rc = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        # as Incus does: 128 and the number of the signal
        return rc if rc >= 0 else 128 - rc
