# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sandboxes of the story are like, seen from inside them and by the server."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.tests.support.by_incus import asked
from testinfra.host import Host


@pytest.fixture(scope="module")
def on_server() -> dict[str, dict]:
    """What the server itself says, by the names of instances."""
    return {instance["name"]: instance for instance in asked("/1.0/instances")}


def test_the_server_has_what_the_story_left_and_nothing_else(on_server: dict[str, dict]) -> None:
    assert {name: instance["status"] for name, instance in on_server.items()} == {
        "px-mol-one": "Running",
        "px-mol-two": "Frozen",
        "px-mol-three": "Running",
    }


def test_a_sandbox_has_its_own_name_and_its_limits_in_force(host: Host) -> None:
    memory_kib = {"mol-one": 512 * 1024, "mol-three": 768 * 1024}
    name = host.backend.host
    seen = host.check_output("hostname; nproc; awk '/^MemTotal/ {print $2}' /proc/meminfo; systemctl is-system-running")
    assert seen.split() == [f"px-{name}", "1", str(memory_kib[name]), "running"]


def test_a_clone_is_another_machine_than_its_source(host: Host, on_server: dict[str, dict]) -> None:
    identity = host.check_output("cat /etc/machine-id /sys/class/net/eth0/address").split()
    sibling = {"mol-one": "mol-three", "mol-three": "mol-one"}[host.backend.host]
    assert len(identity[0]) == 32
    assert identity[1] != on_server[f"px-{sibling}"]["config"]["volatile.eth0.hwaddr"]
    assert identity[0] != host.get_host(f"incus://{sibling}").check_output("cat /etc/machine-id")


def test_the_guest_cannot_see_the_api_of_the_server(host: Host) -> None:
    assert not host.file("/dev/incus").exists
