# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The insides of containers in memory, as if they were reached over SSH.

A container does at its start what the file of the bootstrap says, shows the host key that it has then, and lets in who knows that key.
Its files are in memory; its commands run in the shell of this machine, by the code that runs them over SSH, behind a program C(ssh) of the tests.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import IO, BinaryIO

from ansible_collections.pixels.sandbox.plugins.module_utils._core.accounts import Account
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConnectionFailed, NotFound
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, ExecResult, FileInfo, Ssh
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.ssh import Guests
from support.truenas.engine import File, MemoryEngine

KEY = "/etc/ssh/ssh_host_ed25519_key"
_SSH = """#!/bin/sh
for last; do :; done
exec /bin/sh -c "$last"
"""


class BootingEngine(MemoryEngine):
    """Containers that do what the bootstrap wants of them when they start."""

    def __init__(self) -> None:
        super().__init__()
        #: The host key that each shows since its start.
        self.shown: dict[str, str] = {}

    def start(self, name: str) -> None:
        super().start(name)
        files = self._disk(name).files
        program = files.pop("/etc/rc.local", None)
        if program:
            assert program.mode == 0o700
            text = program.content.decode()
            public = re.search(r"echo '(ssh-ed25519 [^']+)' > /etc/ssh/ssh_host_ed25519_key\.pub", text)
            private = re.search(r"<<'END'\n(.*?)\nEND\n", text, re.DOTALL)
            assert public
            assert private
            files[KEY] = File(base64.b64decode(private[1]), 0o600)
            files[f"{KEY}.pub"] = File(f"{public[1]}\n".encode())
        self.shown[name] = " ".join(files[f"{KEY}.pub"].content.decode().split()[:2])

    def remove(self, name: str, path: str) -> None:
        """Remove a file."""
        self._disk(name).files.pop(path, None)


class FakeGuests(Guests):
    """The containers of an engine in memory."""

    def __init__(self, engine: BootingEngine) -> None:
        self._engine = engine

    def execute(self, ssh: Ssh, request: ExecRequest, account: Account, deadline: Deadline) -> ExecResult:
        self._enter(ssh)
        return super().execute(ssh, request, account, deadline)

    def _enter(self, ssh: Ssh) -> str:
        """Let in who comes to the address, with the key, of a container that runs."""
        name = ssh.alias
        if self._engine.status(name) != "RUNNING":
            raise ConnectionFailed(f"{name}: connection refused")
        assert next(found["address"] for found in self._engine.addresses(name)) == ssh.address
        if self._engine.shown[name] != ssh.host_key:
            raise ConnectionFailed(f"{name}: host key verification failed")
        return name

    def has_file(self, ssh: Ssh, path: str) -> bool:
        return self._engine.look(self._enter(ssh), path) is not None

    def read_file(self, ssh: Ssh, path: str, target: BinaryIO) -> FileInfo:
        name = self._enter(ssh)
        file = self._engine.look(name, path)
        if file is None:
            raise NotFound(f"there is no {path}", 404)
        content = file.content
        if file.kind == "DIRECTORY":
            content = "".join(f"{found}\n" for found in self._engine.names(name, path)).encode()
        target.write(content)
        return FileInfo({"DIRECTORY": "directory"}.get(file.kind, "file"), file.mode, file.uid, file.gid)

    def write_file(self, ssh: Ssh, path: str, source: IO[bytes], mode: int | None, uid: int, gid: int) -> None:
        name = self._enter(ssh)
        folder = self._engine.look(name, path.rpartition("/")[0] or "/")
        if folder is None or folder.kind != "DIRECTORY":
            raise NotFound(f"there is no folder for {path}", 404)
        old = self._engine.look(name, path)
        kept = old.mode if old else 0o644
        self._engine.write(name, path, File(source.read(), kept if mode is None else mode, uid, gid))

    def delete_file(self, ssh: Ssh, path: str) -> None:
        self._engine.remove(self._enter(ssh), path)


def fake_ssh(folder: Path) -> Path:
    """Put a program C(ssh) into a folder that runs what it is told to on this machine; return the folder."""
    folder.mkdir(exist_ok=True)
    program = folder / "ssh"
    program.write_text(_SSH)
    program.chmod(0o755)
    return folder


def key_pair(folder: Path) -> str:
    """Write a pair of keys for SSH and return the path of the private one."""
    from ansible_collections.pixels.sandbox.plugins.module_utils._core.identity import host_key

    private, public = host_key("ed25519", "controller")
    path = folder / "id_ed25519"
    path.touch(0o600)
    path.write_bytes(private)
    path.with_suffix(".pub").write_bytes(public)
    return str(path)
