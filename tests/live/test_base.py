# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bases on the real server while things go wrong: who clones never notices."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live, module_process
from support.live import needs_incus

pytestmark = needs_incus
SECONDS = 60


class Site:
    """A project with a base."""

    def __init__(self, project: str, folder: Path) -> None:
        self.project = project
        self.backend = live.backend(project)
        self.script = folder / "build.sh"

    def options(self, script: str, **more: Any) -> dict[str, Any]:
        """Return the options of a base that is filled by a script."""
        self.script.write_text(script)
        return {
            "name": "livebase",
            "image": f"local:{live.IMAGE}",
            "script": str(self.script),
            "incus_project": self.project,
            **more,
        }

    def build(self, script: str, **more: Any) -> dict[str, Any]:
        """Build the base and return the result."""
        return module_process.run("pixels_base", **self.options(script, **more))

    def info(self) -> dict[str, Any]:
        """Return what is told of the base."""
        (found,) = module_process.run("pixels_base_info", name=["livebase"], incus_project=self.project)["bases"]
        return dict(found)

    def names(self) -> list[str]:
        """Return the instances of the project that belong to the base."""
        return [one.name for one in self.backend.list_instances(addresses=False) if one.kind in ("base", "build")]


@pytest.fixture(scope="module")
def site(project: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project whose base is built once."""
    there = Site(project, tmp_path_factory.mktemp("base"))
    result = there.build("echo 1 > /made\n", smoke="test -s /made")
    assert result["base"]["status"] == "ready", result
    yield there
    module_process.run("pixels_base", name="livebase", state="absent", force=True, incus_project=project)


@contextlib.contextmanager
def cloning(backend: IncusBackend) -> Iterator[list[str]]:
    """Clone and remove sandboxes all the time; yields what failed."""
    failed: list[str] = []
    done = threading.Event()
    count = 0

    def clone() -> None:
        nonlocal count
        while not done.is_set():
            failed.extend(
                str(failure)
                for state in ("present", "absent")
                for failure in live.ensure(backend, "loop", clone_from="base:livebase", state=state).values()
            )
            count += 1

    thread = threading.Thread(target=clone)
    thread.start()
    try:
        yield failed
    finally:
        done.set()
        thread.join()
    assert count > 0


def test_clones_work_while_builds_fail_die_and_are_published(site: Site) -> None:
    first = site.info()["published"]
    with cloning(site.backend) as failed:
        result = site.build("echo so far\nfalse\n")
        assert "the script ended with 1" in result["msg"]
        assert result["log"].endswith("so far\n")
        assert site.info()["published"] == first
        killed = module_process.ModuleProcess("pixels_base", **site.options("echo 2 > /made\nsleep 600\n", lease="6s"))
        await_file(site.backend, "build-livebase", "/made")
        killed.kill()
        assert site.info()["status"] == "building"
        result = site.build("echo 3 > /made\n", lease="6s")
        assert not result.get("failed"), result
    assert failed == []
    seen = site.info()
    assert (seen["status"], seen["previous"]) == ("ready", [first])
    assert sorted(site.names()) == sorted(["base-livebase", first, seen["published"]])


def await_file(backend: IncusBackend, name: str, path: str) -> None:
    """Wait until a guest has a file with something in it that was not there in its parent."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = backend.get_instance(name)
        if found and found.status == "running" and backend.has_file(name, path):
            return
        time.sleep(0.2)
    raise AssertionError(f"{name} has no {path}")


def test_two_controllers_build_a_base_once(site: Site) -> None:
    options = site.options("echo 4 > /made\necho built here\nsleep 1\n")
    runs = [module_process.ModuleProcess("pixels_base", **options) for _turn in range(2)]
    results = [run.result() for run in runs]
    assert [result.get("msg") for result in results] == [None, None], results
    assert sorted(result["base"]["log"] for result in results) == ["", "built here\n"]
    assert len({result["base"]["published"] for result in results}) == 1


def test_a_change_by_hand_is_published_and_marked(site: Site) -> None:
    opened = module_process.run("pixels_base", name="livebase", state="open", mutate=True, incus_project=site.project)[
        "base"
    ]
    assert site.backend.has_file("build-livebase", "/made")
    subprocess.run(
        ["incus", "exec", "--project", site.project, "px-build-livebase", "--", "touch", "/by-hand"], check=True
    )
    published = module_process.run(
        "pixels_base", name="livebase", state="published", holder=opened["holder"], incus_project=site.project
    )["base"]
    assert published["reasons"] == ["mutated"]
    live.make(site.backend, "byhand", clone_from="base:livebase", state="present")
    assert site.backend.has_file("byhand", "/by-hand")


def test_a_build_that_is_started_by_hand_is_told(site: Site) -> None:
    assert site.build("echo 5 > /made\n")["base"]["reasons"] == []
    published = site.info()["published"]
    site.backend.set_power(published, "start", Deadline(SECONDS))
    site.backend.set_power(published, "stop", Deadline(SECONDS), force=True)
    assert site.info()["reasons"] == ["mutated"]


def test_nothing_of_the_making_is_left_in_a_base(site: Site) -> None:
    site.build("touch /var/tmp/left /root/.bash_history; echo 6 > /made\n")
    published = site.info()["published"]
    for path in ("/var/tmp/left", "/root/.bash_history", "/root/.pixels-build", "/var/lib/systemd/random-seed"):
        assert not site.backend.has_file(published, path), path
    live.make(site.backend, "clean", clone_from="base:livebase", wait_for="ready")
    found = site.backend.get_instance("clean")
    assert found is not None
    assert found.keys["base"] == "livebase"
