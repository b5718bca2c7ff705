# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real cluster of two members: where sandboxes and clones of bases are placed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import live, module_process
from support.fleet import Fleet, remove_left
from support.live import needs_incus

pytestmark = needs_incus


@pytest.fixture(scope="module")
def cluster() -> Iterator[Fleet]:
    """Two servers that are one cluster; it is reached by way of its first member."""
    remove_left()
    made = Fleet(Path(tempfile.gettempdir(), f"pxt-fleet-{os.getpid()}"), ("east", "west"))
    try:
        made.up_as_cluster()
        yield made
    finally:
        made.down()


def test_a_sandbox_is_made_and_cloned_where_it_was_asked_for(cluster: Fleet, tmp_path: Path) -> None:
    options = cluster.options("east")
    made = module_process.run(
        "pixels_instance", name="one", image=f"local:{live.IMAGE}", target="east", state="started", **options
    )
    assert made["instance"]["location"] == "east", made
    for name, target in (("near", "east"), ("far", "west")):
        clone = module_process.run("pixels_instance", name=name, clone_from="one", target=target, **options)
        assert not clone.get("failed"), clone["msg"]
        assert (clone["instance"]["location"], clone["instance"]["status"]) == (target, "running")
    again = module_process.run("pixels_instance", name="far", target="west", **options)
    assert again["changed"] is False
    moved = module_process.run("pixels_instance", name="far", target="east", **options)
    assert "cannot be changed to east in place" in moved["msg"]


def test_a_base_is_cloned_to_another_member(cluster: Fleet, tmp_path: Path) -> None:
    options = cluster.options("east")
    script = tmp_path / "build.sh"
    script.write_text("echo one > /made\n")
    base = module_process.run("pixels_base", name="live", image=f"local:{live.IMAGE}", script=str(script), **options)
    assert base["base"]["status"] == "ready", base
    clone = module_process.run("pixels_instance", name="based", clone_from="base:live", target="west", **options)
    assert not clone.get("failed"), clone["msg"]
    assert clone["instance"]["location"] == "west"
    seen = module_process.run("pixels_exec", name="based", argv=["cat", "/made"], **options)
    assert seen["stdout"].strip() == "one", seen
