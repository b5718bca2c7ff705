# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role incus_host on a machine that had a bad day."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import live

pytestmark = live.needs_incus


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_dead(path: Path) -> bool:
    """Tell whether a file system was mounted here whose process is gone."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


@pytest.fixture
def lxcfs(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Run an lxcfs of the test's own, not the one that the sandboxes of this machine see."""
    there = tmp_path / "lxcfs"
    there.mkdir()
    with subprocess.Popen(["lxcfs", "-f", "-p", tmp_path / "lxcfs.pid", there], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until((there / "proc" / "meminfo").exists)
            yield there, process
        finally:
            process.kill()
            process.wait()
            subprocess.run(["umount", "--lazy", there], stderr=subprocess.DEVNULL, check=False)


def clear_leftovers(there: Path, *options: str) -> str:
    """Run the tasks of the role that clear leftovers, and return the counts of the play."""
    playbook = there.parent / "play.yml"
    playbook.write_text(
        "- hosts: localhost\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - ansible.builtin.include_role:\n"
        "        name: pixels.sandbox.incus_host\n"
        "        tasks_from: leftovers\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", playbook, "-e", f"__incus_host_lxcfs={there}", *options],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_NOCOLOR": "true"},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rpartition("localhost")[2]


def test_the_mount_of_a_killed_lxcfs_is_cleared_once(lxcfs: tuple[Path, subprocess.Popen[bytes]]) -> None:
    there, process = lxcfs
    process.kill()
    wait_until(lambda: is_dead(there))

    clear_leftovers(there, "--check")
    assert is_dead(there)
    assert "changed=1" in clear_leftovers(there)
    assert list(there.iterdir()) == []
    assert "changed=0" in clear_leftovers(there)


def test_a_living_lxcfs_keeps_its_mount(lxcfs: tuple[Path, subprocess.Popen[bytes]]) -> None:
    there, _process = lxcfs
    assert "changed=0" in clear_leftovers(there)
    assert (there / "proc" / "meminfo").exists()
