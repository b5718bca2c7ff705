# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system of the simulated NAS, with the root file systems of running containers mounted in it.

Links are followed as the middleware follows them, so a link that a guest planted leads a write out of its container. What leaves
a container never touches the machine that the tests run on: it lands in C(State.nas_files).
"""

from __future__ import annotations

import re
from typing import Any

from support.truenas.engine import EngineError, File
from support.truenas.state import ENOENT, Refused, State

POOLS = "/var/lib/incus/storage-pools"
_ROOTFS = re.compile(POOLS + r"/([^/]+)/containers/([^/]+)/rootfs(/.*)?")
_ELOOP, _ENOTDIR, _EISDIR = 40, 20, 21


class Nas:
    """Paths of the NAS."""

    def __init__(self, state: State) -> None:
        self._state = state

    def resolved(self, path: str, last: bool = True) -> str:
        """Return a path without links; last says whether one at its end is followed."""
        if not path.startswith("/"):
            raise Refused(f"{path}: not an absolute path", 22)
        rest, done, links = path.split("/"), "", 0
        while rest:
            part = rest.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            file = self._look(f"{done}/{part}")
            if file is None or file.kind != "SYMLINK" or (not rest and not last):
                done = f"{done}/{part}"
                continue
            links += 1
            if links > 40:
                raise Refused(f"{path}: too many levels of symbolic links", _ELOOP)
            target = file.content.decode()
            if target.startswith("/"):
                done = ""
            rest = target.split("/") + rest
        return done or "/"

    def place(self, path: str) -> tuple[str, str] | None:
        """Return the disk and the path on it of a path without links; None for the NAS's own files.

        A root file system is mounted while its container runs.
        """
        found = _ROOTFS.fullmatch(path)
        instance = self._state.instances.get(found[2]) if found else None
        if found is None or instance is None or found[1] != instance.pool or self._state.status(instance) != "RUNNING":
            return None
        return self._state.disk_of(instance), found[3] or "/"

    def _look(self, path: str) -> File | None:
        place = self.place(path)
        if place:
            try:
                return self._state.engine.look(*place)
            except EngineError as exc:
                raise Refused(str(exc)) from exc
        if path in self._state.nas_files:
            return File(self._state.nas_files[path])
        return None

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        file = self._look(self.resolved(path))
        if file is None:
            raise Refused(f"{path}: file not found", ENOENT)
        if file.kind != "FILE":
            raise Refused(f"{path}: not a regular file", _EISDIR)
        return file.content

    def write(self, path: str, file: File, append: bool) -> None:
        """Put a file there, with its parents."""
        real = self.resolved(path)
        place = self.place(real)
        if place is None:
            old = self._state.nas_files.get(real, b"") if append else b""
            self._state.nas_files[real] = old + file.content
            return
        disk, inner = place
        engine = self._state.engine
        try:
            parts = inner.split("/")[1:-1]
            for count in range(1, len(parts) + 1):
                parent = "/" + "/".join(parts[:count])
                found = engine.look(disk, parent)
                if found is None:
                    engine.write(disk, parent, File(kind="DIRECTORY", mode=0o755))
                elif found.kind != "DIRECTORY":
                    raise Refused(f"{path}: not a directory", _ENOTDIR)
            old = engine.look(disk, inner)
            if old and old.kind != "FILE":
                raise Refused(f"{path}: is a directory", _EISDIR)
            content = (old.content if old and append else b"") + file.content
            mode = file.mode if file.mode >= 0 else (old.mode if old else 0o644)
            owner = [
                new if new >= 0 else (was if old else 0)
                for new, was in ((file.uid, old.uid if old else 0), (file.gid, old.gid if old else 0))
            ]
            engine.write(disk, inner, File(content, mode, owner[0], owner[1]))
        except EngineError as exc:
            raise Refused(str(exc)) from exc

    def stat(self, path: str) -> dict[str, Any]:
        """Return what filesystem.stat says: of the link itself, beside the path without links."""
        file = self._look(self.resolved(path, last=False))
        if file is None:
            raise Refused(f"Path {path} not found", ENOENT)
        kinds = {"FILE": 0o100000, "DIRECTORY": 0o040000, "SYMLINK": 0o120000}
        return {
            "realpath": self.resolved(path),
            "type": file.kind,
            "size": len(file.content),
            "mode": kinds[file.kind] | file.mode,
            "uid": file.uid,
            "gid": file.gid,
            "acl": False,
            "is_mountpoint": False,
            "is_ctldir": False,
        }

    def listed(self, path: str) -> list[dict[str, Any]]:
        """Return what filesystem.listdir says."""
        place = self.place(self.resolved(path))
        if place is None:
            raise Refused(f"Directory {path} does not exist", ENOENT)
        names = self._state.engine.names(*place)
        found = []
        for name in names:
            entry = self.stat(f"{path.rstrip('/')}/{name}")
            found.append({"name": name, "path": f"{path.rstrip('/')}/{name}", **entry})
        return found
