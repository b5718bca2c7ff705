# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Which folders of a server are its system's own: in them are sockets, devices and settings, and who has one can ask it for anything."""

from __future__ import annotations

import posixpath

#: Folders of the server that no sandbox may see, nor anything below most of them.
_TREES = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/opt/incus",
)
_FOLDERS = ("/", "/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var")


def normal(path: str) -> str:
    """Return an absolute path without what says nothing in it."""
    return "/" + posixpath.normpath(path).strip("/")


def is_within(path: str, trees: tuple[str, ...]) -> bool:
    """Say whether a normal path is one of the trees or lies in one."""
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)


def of_system(path: str) -> bool:
    """Say whether a path of the server belongs to its system; what is a socket by its name, or no path at all, does too."""
    if not path.startswith("/") or path.endswith((".sock", ".socket")):
        return True
    return normal(path) in _FOLDERS or is_within(normal(path), _TREES)
