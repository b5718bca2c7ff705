# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clones of bases are like, seen from inside them and by the server."""

from __future__ import annotations

from ansible_collections.pixels.sandbox.tests.support.by_incus import asked
from testinfra.host import Host

BEFORE, AFTER = ("mol-before", "mol-meanwhile"), ("mol-after", "mol-rust")


def test_a_clone_has_what_was_published_when_it_was_made(host: Host) -> None:
    name = host.backend.host
    assert name in BEFORE + AFTER
    assert host.package("jq").is_installed
    assert host.package("bc").is_installed is (name in AFTER)
    assert host.package("python3-venv").is_installed is (name != "mol-rust")
    assert host.exists("rustc") is (name == "mol-rust")


def test_a_clone_is_a_machine_of_its_own(host: Host) -> None:
    assert len(host.check_output("cat /etc/machine-id")) == 32
    assert host.check_output("hostname") == f"px-{host.backend.host}"
    assert (
        host.check_output("ls /root/.pixels* /root/.ansible /var/lib/apt/lists/*_Packages 2> /dev/null || true") == ""
    )


def test_nothing_but_anchors_builds_and_clones_is_left() -> None:
    found = {one["name"]: one for one in asked("/1.0/instances")}
    kinds = [one["config"]["user.pixels.kind"] for one in found.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"base": 3, "build": 6, "sandbox": 4}
    assert {one["status"] for one in found.values() if one["config"]["user.pixels.kind"] != "sandbox"} == {"Stopped"}
    machine_ids = {one["config"].get("volatile.eth0.hwaddr") for one in found.values() if one["status"] == "Running"}
    assert len(machine_ids) == 4
