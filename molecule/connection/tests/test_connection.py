# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tasks left in the sandbox, seen through the connection plugin that carried them."""

from __future__ import annotations

import pytest
from testinfra.host import Host


@pytest.mark.parametrize("way", ["piped", "copied"])
def test_files_arrive_whole_under_odd_names(host: Host, way: str) -> None:
    odd = host.file(f"/srv/{way} ünï'ço\"dé $ `x`")
    assert odd.mode == 0o640
    content = f"ünïçödé and \x01\n{way}\n".encode()
    # Ansible's shell module, through which testinfra reads, leaves the last newline out
    assert (odd.size, odd.content) == (len(content), content.rstrip())


@pytest.mark.parametrize("way", ["piped", "copied"])
def test_another_user_owns_what_it_wrote(host: Host, way: str) -> None:
    mine = host.file(f"/home/agent-{way}/mine")
    assert (mine.user, mine.mode, mine.content) == (f"agent-{way}", 0o600, b"mine")


def test_a_large_file_arrives_whole(host: Host) -> None:
    assert host.file("/srv/large").size == 24 * 1024 * 1024


def test_no_temporary_files_are_left(host: Host) -> None:
    assert host.run("ls -A /root/.ansible/tmp /home/agent-copied/.ansible/tmp").stdout.count("ansible-tmp") <= 1


def test_exit_codes_and_streams_are_told_apart(host: Host) -> None:
    ended = host.run("echo out; echo err >&2; exit 7")
    assert (ended.rc, ended.stdout, ended.stderr) == (7, "out", "err")
