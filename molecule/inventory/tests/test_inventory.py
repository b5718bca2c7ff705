# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says, and that it is enough to enter the sandboxes that run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from testinfra.host import Host

SCENARIO = Path(__file__).parent.parent


def listed(name: str) -> dict[str, dict]:
    """Return what ansible-inventory lists from a file of the scenario."""
    command = ["ansible-inventory", "--inventory", str(SCENARIO / name), "--list"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def test_groups_tell_status_labels_and_image() -> None:
    groups = listed("../shared/inventory/sandboxes.pixels.yml")
    members = {name: sorted(group["hosts"]) for name, group in groups.items() if "hosts" in group}
    image = next(name for name in members if name.startswith("pixels_image_"))
    assert members == {
        "pixels": ["mol-spare", "mol-web", "mol-worker"],
        "pixels_running": ["mol-web", "mol-worker"],
        "pixels_stopped": ["mol-spare"],
        "pixels_label_team_search": ["mol-web", "mol-worker"],
        "pixels_label_team_ads": ["mol-spare"],
        "pixels_label_tier_front_end": ["mol-web"],
        image: ["mol-spare", "mol-web", "mol-worker"],
    }


def test_a_file_chooses_names_groups_and_hosts() -> None:
    groups = listed("chosen.pixels.yml")
    assert sorted(groups["team_search"]["hosts"]) == ["sandbox-mol-web", "sandbox-mol-worker"]
    assert sorted(groups["_meta"]["hostvars"]) == ["sandbox-mol-web", "sandbox-mol-worker"]


def test_each_host_leads_into_its_own_sandbox(host: Host) -> None:
    assert host.check_output("hostname") == f"px-{host.backend.host}"


def test_a_play_over_chosen_names_reaches_them() -> None:
    command = ["ansible", "team_search", "--inventory", str(SCENARIO / "chosen.pixels.yml"), "--one-line"]
    command += ["--module-name", "ansible.builtin.command", "--args", "hostname"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    said = {line.split()[0]: line.split()[-1] for line in answer.splitlines()}
    assert said == {"sandbox-mol-web": "px-mol-web", "sandbox-mol-worker": "px-mol-worker"}
