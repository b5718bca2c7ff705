# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sandboxes of the story hold, seen from inside them and by the server."""

from __future__ import annotations

from ansible_collections.pixels.sandbox.tests.support.by_incus import asked
from testinfra.host import Host


def test_a_disk_holds_what_its_checkpoint_held(host: Host) -> None:
    # "mol-work" went back to the first checkpoint, and was written to before each later step
    held = {"mol-work": "before remove", "mol-copy": "before keep"}
    assert host.check_output("cat /srv/state") == held[host.backend.host]


def test_limits_and_labels_outlive_the_way_back(host: Host) -> None:
    instances = {instance["name"]: instance["config"] for instance in asked("/1.0/instances")}
    assert instances["px-mol-work"]["user.pixels.label.when"] == "after"
    assert "user.pixels.label.when" not in instances["px-mol-copy"]
    # a clone takes the limits that its source has now, not those of the checkpoint
    assert host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo") == str(640 * 1024)


def test_a_clone_is_another_machine(host: Host) -> None:
    assert host.check_output("hostname") == f"px-{host.backend.host}"
    sibling = {"mol-work": "mol-copy", "mol-copy": "mol-work"}[host.backend.host]
    other = host.get_host(f"incus://{sibling}").check_output("cat /etc/machine-id")
    assert host.check_output("cat /etc/machine-id") != other


def test_the_server_has_the_checkpoints_that_the_story_left() -> None:
    labels = {snapshot["name"]: snapshot["expires_at"] for snapshot in asked("/1.0/instances/px-mol-work/snapshots")}
    assert list(labels) == ["nightly-2"]
    assert labels["nightly-2"] > "2026"
