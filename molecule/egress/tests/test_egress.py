# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What confined sandboxes reach, as seen from inside of them."""

from __future__ import annotations

import time

import pytest
from testinfra.host import Host

CONFINED = ("mol-agent", "mol-clone", "mol-copy")
FETCH = "python3 -c \"import urllib.request as u; print(u.urlopen('http://{host}/GPL-3', timeout=5).read()[:60])\""


@pytest.fixture
def confined(host: Host) -> Host:
    if host.backend.host not in CONFINED:
        pytest.skip("it is not confined")
    return host


def test_what_the_policy_names_is_reached(confined: Host) -> None:
    # a restarted guest may still be booting
    end = time.monotonic() + 30
    while (said := confined.run(FETCH.format(host="web.example.test"))).rc and time.monotonic() < end:
        time.sleep(0.5)
    assert "GENERAL PUBLIC LICENSE" in said.stdout, said.stderr


def test_its_address_is_not(confined: Host) -> None:
    found = confined.run("grep -o '=[0-9.]*' /etc/pixels-egress.txt").stdout.strip().removeprefix("=")
    assert found
    assert confined.run(FETCH.format(host=found)).rc != 0


def test_what_the_policy_does_not_name_has_no_address(confined: Host) -> None:
    assert confined.run("getent hosts other.example.test").rc == 2
    assert confined.run("getent hosts git.example.test").rc == 0


def test_each_hangs_on_a_wire_of_its_own_and_is_told_its_policy(confined: Host) -> None:
    links = confined.run("ls /sys/class/net").stdout.split()
    assert sorted(links) == ["eth0", "lo"]
    said = confined.file("/etc/pixels-egress.txt").content_string
    assert "egress allowlist" in said
    assert "git.example.test:22" in said


def test_they_do_not_reach_each_other(confined: Host) -> None:
    others = [f"100.64.{number}.2" for number in range(4)]
    own = confined.run("hostname -I").stdout.split()[0]
    for address in others:
        if address != own:
            script = f"import socket; socket.create_connection(('{address}', 22), 1)"
            assert confined.run(f'python3 -c "{script}"').rc != 0
