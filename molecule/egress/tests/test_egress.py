# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What confined sandboxes reach, as seen from inside of them."""

from __future__ import annotations

import time

import pytest
from testinfra.host import Host

FETCH = "python3 -c \"import urllib.request as u; print(u.urlopen('http://{host}/GPL-3', timeout=5).read()[:60])\""


def test_what_the_policy_names_is_reached(host: Host) -> None:
    # a restarted guest may still be booting
    end = time.monotonic() + 30
    while (said := host.run(FETCH.format(host="web.example.test"))).rc and time.monotonic() < end:
        time.sleep(0.5)
    assert "GENERAL PUBLIC LICENSE" in said.stdout, said.stderr


def test_its_address_is_not(host: Host) -> None:
    found = host.run("grep -o '=[0-9.]*' /etc/pixels-egress.txt").stdout.strip().removeprefix("=")
    assert found
    assert host.run(FETCH.format(host=found)).rc != 0


def test_what_the_policy_does_not_name_has_no_address(host: Host) -> None:
    assert host.run("getent hosts other.example.test").rc == 2
    assert host.run("getent hosts git.example.test").rc == 0


def test_each_hangs_on_a_wire_of_its_own_and_is_told_its_policy(host: Host) -> None:
    links = host.run("ls /sys/class/net").stdout.split()
    assert sorted(links) == ["eth0", "lo"]
    said = host.file("/etc/pixels-egress.txt").content_string
    assert "egress allowlist" in said
    assert "git.example.test:22" in said


@pytest.mark.parametrize("sibling", ["mol-shut", "mol-clone", "mol-twin"])
def test_they_do_not_reach_each_other(host: Host, sibling: str) -> None:
    there = host.get_host(f"incus://{sibling}")
    there.run("systemctl -q is-active listen || systemd-run --unit=listen python3 -m http.server 8022")
    knock = f"exec 3<> /dev/tcp/{there.check_output('hostname -I').split()[0]}/8022"
    # somebody is there to be reached
    assert there.run("timeout 20 bash -c %s", f"until ({knock}) 2> /dev/null; do sleep 0.2; done").rc == 0
    if sibling != host.backend.host:
        assert host.run("timeout 3 bash -c %s", knock).rc != 0
