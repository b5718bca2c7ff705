# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to be root that lie in the file system: audit.py USER. Prints one a line, and ends with 1 where there is one.

Looked for: programs with rights of their own that no package brought, files from which root runs things that the user, or everybody,
can change, and accounts that anybody can enter. What a root of before has hidden in other ways is not found.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

#: Where root finds programs, units, jobs and settings.
TREES = ("/etc", "/usr", "/opt", "/var/spool/cron", "/root", "/boot", "/lib", "/bin", "/sbin")
SKIPPED = ("/proc", "/sys", "/dev", "/run")


def packaged() -> set[str]:
    """Return the files that packages have brought, by the paths where they are now."""
    names = set()
    for path in Path("/var/lib/dpkg/info").glob("*.list"):
        for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            # a system with merged /usr has /bin/su as /usr/bin/su
            folder, name = os.path.split(line)
            names.add(f"{os.path.realpath(folder or '/')}/{name}")
    return names


def privileged(path: str, mode: int) -> bool:
    """Say whether a file gives rights to whoever runs it."""
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return True
    try:
        return bool(os.getxattr(path, "security.capability", follow_symlinks=False))
    except OSError:
        return False


def findings(user: str) -> Iterator[str]:
    """Yield what is found, in words."""
    account = pwd.getpwnam(user)
    groups = os.getgrouplist(user, account.pw_gid)
    known: set[str] | None = None
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if f"/{name}" not in SKIPPED]
        system = folder == "/" or folder.startswith(TREES)
        for name in [*files, *(folders if system else [])]:
            path = f"{folder.rstrip('/')}/{name}"
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and privileged(path, status.st_mode):
                known = packaged() if known is None else known
                if path not in known:
                    yield f"{path} has rights of its own, and no package brought it"
            if system and not stat.S_ISLNK(status.st_mode):
                own = status.st_uid == account.pw_uid
                everybody = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
                group = status.st_mode & stat.S_IWGRP and status.st_gid in groups
                if own or everybody or group:
                    yield f"{path} can be changed by {user}"


def open_accounts() -> Iterator[str]:
    """Yield the accounts that su asks nothing for."""
    for line in Path("/etc/shadow").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        name, password = line.split(":")[:2]
        if not password:
            yield f"{name} has an empty password"


if __name__ == "__main__":
    found = [*open_accounts(), *findings(sys.argv[1])]
    print("\n".join(found[:20]))
    sys.exit(1 if found else 0)
