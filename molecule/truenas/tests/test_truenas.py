# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sandbox of the story is like, seen from inside it, over SSH; and what the simulated server was asked."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from testinfra.host import Host


def test_words_came_in_as_they_were_given(host: Host) -> None:
    assert host.file("/root/words").content_string == "two words|a'b\"c $HOME ;id||"


def test_what_the_bootstrap_wrote_has_removed_itself(host: Host) -> None:
    assert not host.file("/etc/rc.local").exists
    assert host.file("/etc/ssh/ssh_host_ed25519_key").mode == 0o600
    assert host.file("/root/.ssh/authorized_keys").mode == 0o600


def test_the_user_is_there_without_rights_and_ssh_takes_keys_only(host: Host) -> None:
    assert host.user("pixel").uid == 1000
    assert host.run("su pixel -c 'sudo -n true'").rc != 0
    assert "passwordauthentication no" in host.check_output("sshd -T")


def test_it_confines_itself_and_lets_ssh_in(host: Host) -> None:
    rules = host.check_output("nft list table inet px_egress")
    assert "22" in rules
    # the bridge's own address, where a port is open for as long as this asks
    bridge = host.check_output("ip -4 route show default").split()[2]
    with socket.create_server((bridge, 0)) as listener:
        port = listener.getsockname()[1]
        socket.create_connection((bridge, port), timeout=5).close()
        assert host.run("timeout 5 bash -c '</dev/tcp/%s/%s'", bridge, str(port)).rc != 0


def test_the_server_saw_no_cron_job_and_one_file() -> None:
    transcript = Path(os.environ["PIXELS_CACHE"]) / "truenas/transcript.jsonl"
    asked = [json.loads(line) for line in transcript.read_text().splitlines()]
    methods = [entry["method"] for entry in asked]
    assert not [method for method in methods if method.startswith("cronjob.")]
    files = [entry["params"][0] for entry in asked if entry["method"] == "filesystem.file_receive"]
    assert len(files) == 1
    assert files[0].endswith("/containers/px-mol-nas/rootfs/etc/rc.local")
    assert os.environ["PIXELS_TRUENAS_API_KEY"] not in transcript.read_text()
