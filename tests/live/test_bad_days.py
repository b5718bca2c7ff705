# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs at once, runs that are killed, limits that are hit, hands that meddle: whole modules on the real Incus."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live
from support.module_process import ModuleProcess

pytestmark = live.needs_incus
IMAGE = f"local:{live.IMAGE}"
EIGHT = [f"task{number}" for number in range(1, 9)]


@pytest.fixture(scope="module")
def project() -> Iterator[str]:
    """Return a project of this file's own, which a test may give a quota."""
    with live.throw_away_project() as name:
        yield name


@pytest.fixture
def backend(project: str) -> Iterator[IncusBackend]:
    """Return the backend, and remove all sandboxes afterwards."""
    there = live.backend(project)
    yield there
    live.ensure(there, [found.name for found in there.list_instances()], state="absent")
    there.close()


Begin = Callable[..., ModuleProcess]


@pytest.fixture
def begin(project: str) -> Begin:
    """Return a function that begins a run of pixels_instance in the project."""

    def begin_run(name: str | list[str], **options: Any) -> ModuleProcess:
        return ModuleProcess("pixels_instance", name=name, incus_project=project, **options)

    return begin_run


def begun(backend: IncusBackend, name: str) -> None:
    """Wait until the server has something of this name."""
    deadline = time.monotonic() + 60
    while backend.get_instance(name) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def quota(project: str, containers: str) -> None:
    """Limit how many containers the project may have; empty for no limit."""
    subprocess.run(["incus", "project", "set", project, f"limits.containers={containers}"], check=True)


def test_two_runs_at_once_on_one_name_make_one_sandbox(backend: IncusBackend, begin: Begin) -> None:
    runs = [begin("race", image=IMAGE) for _turn in range(2)]
    first, second = (run.result() for run in runs)
    assert not first.get("failed"), first
    assert not second.get("failed"), second
    assert first["instance"]["created_at"] == second["instance"]["created_at"]
    assert first["instance"]["addresses"] == second["instance"]["addresses"] != []
    assert [found.name for found in backend.list_instances()] == ["race"]
    again = begin("race", image=IMAGE).result()
    assert again["changed"] is False
    assert again["instance"]["unfinished"] is False


def test_two_removals_at_once_are_both_a_success(backend: IncusBackend, begin: Begin) -> None:
    live.make(backend, ["one", "two"])
    runs = [begin(["one", "two"], state="absent") for _turn in range(2)]
    for run in runs:
        result = run.result()
        assert not result.get("failed"), result
        assert [record["status"] for record in result["instances"]] == ["absent", "absent"]
    assert backend.list_instances() == ()


def test_one_of_eight_fails_and_seven_are_finished(project: str, backend: IncusBackend, begin: Begin) -> None:
    live.make(backend, "origin", state="stopped")
    quota(project, "8")
    try:
        # one at a time: the server counts before it creates, and lets creations at once pass together
        result = begin(EIGHT, clone_from="origin", max_parallel=1).result()
    finally:
        quota(project, "")
    assert result["failed"] is True
    assert result["changed"] is True
    assert [record["name"] for record in result["instances"]] == EIGHT
    (failed,) = result["failed_names"]
    for record in result["instances"]:
        if record["name"] == failed:
            assert record["status"] == "absent"
            assert record["failed_step"] == f"create {failed} from origin"
            assert "maximum" in record["msg"].lower()
        else:
            assert record["status"] == "running"
            assert record["addresses"]
    assert failed in result["msg"]
    assert backend.get_instance(failed) is None

    again = begin(EIGHT, clone_from="origin").result()
    assert again["actions"] == [f"create {failed} from origin", f"start {failed}"]
    assert not again.get("failed"), again
    assert all(record["addresses"] for record in again["instances"])


def test_runs_that_were_killed_are_finished_by_the_next(backend: IncusBackend, begin: Begin) -> None:
    live.make(backend, "origin", state="stopped")
    # the next run leaves what is unfinished to the one that may be making it for a while: all are finished by one
    for number, seconds in enumerate([0.0, 0.3, 1.0]):
        pair = EIGHT[2 * number : 2 * number + 2]
        killed = begin(pair, clone_from="origin", ttl="1h")
        begun(backend, pair[0])
        time.sleep(seconds)
        killed.kill()
    result = begin(EIGHT[:6], clone_from="origin", ttl="1h").result()
    assert not result.get("failed"), result
    for record in result["instances"]:
        assert (record["status"], record["unfinished"], record["ttl"]) == ("running", False, 3600)
    addresses = {address for record in result["instances"] for address in record["addresses"]}
    assert len(addresses) == 6
    again = begin(EIGHT[:6], clone_from="origin", ttl="1h").result()
    assert again["changed"] is False


def test_what_hands_have_done_is_put_right(project: str, backend: IncusBackend, begin: Begin) -> None:
    live.make(backend, ["kept", "gone"])
    there = ["incus", "--project", project]
    subprocess.run([*there, "delete", "--force", "px-gone"], check=True)
    subprocess.run([*there, "stop", "--force", "px-kept"], check=True)
    subprocess.run([*there, "config", "set", "px-kept", "security.nesting=true", "limits.memory=1GiB"], check=True)
    options = {"image": IMAGE, "hardening": "standard", "nesting": False, "memory": "2GiB"}
    foretold = ModuleProcess(
        "pixels_instance", check_mode=True, name=["kept", "gone"], incus_project=project, **options
    ).result()
    result = begin(["kept", "gone"], **options).result()
    assert not result.get("failed"), result
    assert result["actions"] == foretold["actions"]
    kept, gone = result["instances"]
    assert kept["actions"][-1] == "start kept"
    assert (kept["nesting"], kept["memory"], kept["hardening"]) == (False, 2**31, "standard")
    assert gone["actions"] == [f"create gone from {IMAGE}", "start gone"]
    assert begin(["kept", "gone"], **options).result()["changed"] is False


@pytest.mark.parametrize("state", ["started", "stopped", "frozen", "restarted", "present", "absent"])
def test_an_instance_of_somebody_else_stays_as_it_is(
    project: str, backend: IncusBackend, begin: Begin, state: str
) -> None:
    there = ["incus", "--project", project]
    subprocess.run(
        [*there, "init", live.IMAGE, "px-theirs", "-s", "pixels", "-n", "pixels0", "-q"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    show = [*there, "config", "show", "px-theirs"]
    try:
        before = subprocess.run(show, check=True, capture_output=True).stdout
        result = begin("theirs", state=state, force=True, cpu=1, labels={"a": "b"}).result()
        assert result["failed"] is True
        assert "px-theirs was not made by this collection; it is left alone" in result["msg"]
        assert subprocess.run(show, check=True, capture_output=True).stdout == before
    finally:
        subprocess.run([*there, "delete", "--force", "px-theirs"], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "local:no/such"}, "image: the server has no image no/such; its aliases are: "),
        ({"clone_from": "nobody"}, "clone_from: there is no sandbox nobody"),
        ({"image": IMAGE, "pool": "nopool"}, "pool"),
        ({"image": IMAGE, "network": "nonet"}, "network"),
        ({"image": IMAGE, "profiles": ["noprofile"]}, "profiles"),
        ({"image": IMAGE, "incus_project": "pxt-nowhere"}, "pxt-nowhere"),
        ({"image": IMAGE, "incus_socket": "/run/nowhere.socket"}, "/run/nowhere.socket"),
    ],
)
def test_what_is_not_there_is_named_and_nothing_is_left(
    backend: IncusBackend, project: str, options: dict[str, Any], message: str
) -> None:
    result = ModuleProcess("pixels_instance", **{"name": "box", "incus_project": project, **options}).result()
    assert result["failed"] is True
    assert message in result["msg"]
    assert backend.list_instances() == ()
