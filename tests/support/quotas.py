# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quotas of the btrfs pool: the first size of a disk turns them on for good, and they make all that follows slow."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

POOL = "/var/lib/incus/storage-pools/pixels"


def _btrfs(*arguments: str) -> bool:
    try:
        return subprocess.run(["btrfs", *arguments, POOL], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Turn quotas off again at the end where they were off at the begin."""
    on = _btrfs("qgroup", "show")
    yield
    if not on and _btrfs("qgroup", "show"):
        _btrfs("quota", "disable")
