# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the servers of the fleet have, seen by their own client and not by the product."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

FLEET = "/tmp/pxt-fleet-story"  # noqa: S108  # the story's own, and short enough for a socket
SERVERS = ("east", "north", "west")


def incus(server: str, *argv: str) -> str:
    """Run the Incus client of the machine against a server's socket."""
    environment = {**os.environ, "INCUS_DIR": f"{FLEET}/{server}/incus", "INCUS_CONF": f"{FLEET}/{server}/client"}
    done = subprocess.run(["incus", *argv], env=environment, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def instances(server: str) -> dict[str, Any]:
    """Return the instances of a server."""
    return {one["name"]: one for one in json.loads(incus(server, "query", "/1.0/instances?recursion=2"))}


def published(server: str, base: str) -> str:
    """Return the build that is published of a base."""
    return f"px-{instances(server)[f'px-base-{base}']['config']['user.pixels.base.published']}"


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_but_anchors_builds_and_clones_is_left(server: str) -> None:
    found = instances(server)
    kinds = {name: one["config"]["user.pixels.kind"] for name, one in found.items()}
    assert set(kinds.values()) == ({"base", "build", "sandbox"} if server == "east" else {"base", "build"})
    assert {one["status"] for name, one in found.items() if kinds[name] != "sandbox"} == {"Stopped"}
    assert not [name for name in found if name in ("px-build-tool", "px-build-docs", "px-build-plain", "px-build-lost")]


@pytest.mark.parametrize("server", SERVERS)
def test_what_was_copied_is_what_was_built(server: str) -> None:
    build = published(server, "docs")
    for path in ("/etc/tool.conf", "/etc/tool.read", "/etc/docs"):
        assert incus(server, "file", "pull", f"{build}{path}", "-") == "2 on Debian\n"
    seal = incus(server, "file", "pull", f"{build}/etc/pixels-base", "-")
    assert seal == incus("east", "file", "pull", f"{published('east', 'docs')}/etc/pixels-base", "-")


def test_bases_that_do_not_need_each_other_are_built_at_once() -> None:
    times = []
    for base in ("plain", "other"):
        build = published("east", base)
        times.append([int(incus("east", "file", "pull", f"{build}/etc/{name}", "-")) for name in ("begun", "ended")])
    assert max(begun for begun, _ended in times) <= min(ended for _begun, ended in times)


@pytest.mark.parametrize("name", ["mol-idle", "mol-busy"])
def test_a_sandbox_that_was_recreated_keeps_itself_and_what_it_had(name: str) -> None:
    found = instances("east")[f"px-{name}"]
    assert found["config"]["user.pixels.label.story"] == "fleet"
    assert found["status"] == ("Running" if name == "mol-busy" else "Stopped")
    assert incus("east", "file", "pull", f"px-{name}/etc/docs", "-") == "2 on Debian\n"
    assert len(found["snapshots"]) == 1
    assert incus("east", "file", "pull", f"px-{name}/etc/hostname", "-") == f"px-{name}\n"
    label = found["snapshots"][0]["name"]
    incus("east", "copy", f"px-{name}/{label}", "before")
    assert incus("east", "file", "pull", "before/etc/docs", "-") == "1 on Debian\n"
    incus("east", "delete", "before")
