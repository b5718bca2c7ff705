# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook quickstart as a user runs it: it makes all, changes nothing again, and removes all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import live

pytestmark = live.needs_incus


@pytest.fixture
def project() -> Iterator[str]:
    """Return a project of this file's own: a gateway is made in it."""
    with live.throw_away_project() as name:
        yield name


def quickstart(project: str, *options: str) -> str:
    """Run the playbook and return what it prints."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "pixels.sandbox.quickstart",
            *("-e", f"quickstart_image=local:{live.IMAGE}", "-e", "quickstart_count=2", *options),
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "PIXELS_INCUS_PROJECT": project,
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        },
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def changes(output: str) -> list[int]:
    """Return how much changed on each host of a run."""
    return [int(count) for count in re.findall(r"changed=(\d+)", output)]


def test_quickstart_makes_all_then_changes_nothing_and_leaves_nothing(project: str) -> None:
    made = quickstart(project)
    assert max(changes(made)) > 0
    there = live.backend(project)
    found = {instance.name: instance for instance in there.list_instances()}
    assert {"demo", "demo-1", "demo-2"} <= set(found)
    for name in ("demo-1", "demo-2"):
        clone = found[name]
        assert (clone.status, clone.keys["source"]) == ("running", "demo:ready")
        # the table has a line for it
        assert re.search(rf"{name} +running +{re.escape(clone.addresses[0])}", made), made

    again = quickstart(project)
    assert set(changes(again)) == {0}, again

    quickstart(project, "-e", "quickstart_state=absent")
    assert there.list_instances() == ()
    networks = live.server().get("/1.0/networks", recursion="1")
    assert not [found for found in networks if (found.get("config") or {}).get("user.pixels.project") == project]
    there.close()
    assert set(changes(quickstart(project, "-e", "quickstart_state=absent"))) == {0}
