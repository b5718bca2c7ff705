# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bases on three real servers: copied from one to the others, with one of them dead, and a pool that is full."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend, incus_backend
from support import live, module_process
from support.fleet import Fleet, remove_left
from support.live import needs_incus

pytestmark = needs_incus
#: Room for the image and one more of its kind.
SMALL = "1100MiB"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Three servers for all tests of this file; the image is on the first alone."""
    remove_left()
    made = Fleet(Path(tempfile.gettempdir(), f"pxt-fleet-{os.getpid()}"))
    try:
        made.up(images=("east",))
        made.daemons["east"].incus("storage", "create", "small", "btrfs", f"size={SMALL}")
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of the base."""
    path = tmp_path_factory.mktemp("fleet") / "build.sh"
    path.write_text("echo one > /made\n")
    return path


def definition(script: Path, **more: Any) -> dict[str, Any]:
    """Return a base that a script fills."""
    return {"name": "live", "image": f"local:{live.IMAGE}", "script": str(script), **more}


def backend(fleet: Fleet, name: str) -> IncusBackend:
    """Return a backend on a server."""
    return incus_backend(fleet.options(name))


def copying(fleet: Fleet, host: str, **more: Any) -> module_process.ModuleProcess:
    """Begin to copy the base of the first server to another one."""
    return module_process.ModuleProcess(
        "pixels_base", state="copied", from_server=fleet.options("east"), **fleet.options(host), **more
    )


def info(fleet: Fleet, name: str) -> dict[str, Any]:
    """Return what a server tells of the base."""
    (found,) = module_process.run("pixels_base_info", name=["live"], **fleet.options(name))["bases"]
    return dict(found)


def test_a_base_is_copied_to_two_servers_at_once_and_cloned_there(fleet: Fleet, script: Path) -> None:
    wanted = definition(script)
    built = module_process.run("pixels_base", **wanted, **fleet.options("east"))
    assert not built.get("failed"), built
    runs = [copying(fleet, name, **wanted) for name in ("north", "west")]
    for result in [run.result() for run in runs]:
        assert not result.get("failed"), result
        assert result["actions"] == ["copy live"]
        for field in ("fingerprint", "seal", "built_at", "definition"):
            assert result["base"][field] == built["base"][field]
    assert copying(fleet, "north", **wanted).result()["changed"] is False
    there = backend(fleet, "north")
    live.make(there, "box", clone_from="base:live", wait_for="ready")
    seen = there.execute("box", ExecRequest(("cat", "/made", "/etc/machine-id", "/etc/hostname")), Deadline(30))
    made, machine_id, hostname = seen.stdout.decode().split()
    assert (made, len(machine_id), hostname) == ("one", 32, "px-box")
    live.make(there, "box", state="absent", clone_from=None)


def test_a_server_that_died_in_the_middle_is_healed_by_the_next_run(fleet: Fleet, script: Path) -> None:
    first = info(fleet, "north")["published"]
    module_process.run("pixels_base", **definition(script), force=True, **fleet.options("east"))
    wanted = definition(script)
    going = copying(fleet, "north", **wanted, lease="5s")
    there = backend(fleet, "north")
    deadline = Deadline(60)
    while not there.get_instance("build-live"):
        deadline.pause(0.02, "begin the copy")
    there.close()
    fleet.daemons["north"].kill()
    result = going.result()
    assert result["failed"]
    assert "203.0.113" in result["msg"]
    down = copying(fleet, "north", **wanted).result()
    assert "is Incus running?" in down["msg"]
    assert copying(fleet, "west", **wanted).result()["changed"]
    fleet.daemons["north"].start()
    assert info(fleet, "north")["published"] == first
    healed = copying(fleet, "north", **wanted, timeout=120).result()
    assert not healed.get("failed"), healed["msg"]
    assert healed["base"]["seal"] == info(fleet, "east")["seal"]
    names = sorted(found.name for found in backend(fleet, "north").list_instances(addresses=False))
    assert names == sorted(["base-live", first, healed["base"]["published"]])


def test_a_controller_that_died_in_the_middle_is_waited_for_and_cleaned_up_after(fleet: Fleet, script: Path) -> None:
    wanted = definition(script)
    module_process.run("pixels_base", **wanted, force=True, **fleet.options("east"))
    going = copying(fleet, "west", **wanted, lease="3s")
    there = backend(fleet, "west")
    deadline = Deadline(60)
    while not there.is_busy("build-live"):
        deadline.pause(0.02, "begin the copy")
    going.kill()
    result = copying(fleet, "west", **wanted, timeout=120).result()
    assert not result.get("failed"), result
    assert result["base"]["seal"] == info(fleet, "east")["seal"]
    assert there.get_instance("build-live") is None


def test_a_source_that_is_down_is_told_and_changes_nothing(fleet: Fleet, script: Path) -> None:
    before = info(fleet, "north")
    fleet.daemons["east"].kill()
    try:
        result = copying(fleet, "north", **definition(script)).result()
    finally:
        fleet.daemons["east"].start()
    assert fleet.daemons["east"].url in result["msg"]
    assert info(fleet, "north") == before


def test_a_full_pool_leaves_what_is_published(fleet: Fleet, script: Path) -> None:
    there = backend(fleet, "east")
    options = {**definition(script), "name": "tight", "pool": "small", **fleet.options("east")}
    first = module_process.run("pixels_base", **options)
    assert first["base"]["status"] == "ready", first
    filling = script.with_name("fill.sh")
    filling.write_text("dd if=/dev/urandom of=/big bs=1M\n")
    full = module_process.run("pixels_base", **{**options, "script": str(filling)})
    assert "No space left on device" in full["log"], full["msg"]
    (seen,) = module_process.run("pixels_base_info", name=["tight"], **fleet.options("east"))["bases"]
    assert (seen["published"], seen["status"]) == (first["base"]["published"], "failed")
    assert "No space left" in seen["failure"]["log"]
    # the pool gives back in the background what the builder had
    deadline = Deadline(60)
    while live.ensure(there, "tightbox", clone_from="base:tight", state="present"):
        deadline.pause(1, "clone from a pool that was full")
    assert there.has_file("tightbox", "/made")
