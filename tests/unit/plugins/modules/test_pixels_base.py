# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base modules, whole, over a server in memory whose guests say what a test wants."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConnectionFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, ExecResult
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import apply
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Policy
from ansible_collections.pixels.sandbox.plugins.module_utils._glue import run as glue
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import build as build_steps
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.base_plan import desired_base, plan_base
from ansible_collections.pixels.sandbox.plugins.modules import (
    pixels_base,
    pixels_base_info,
    pixels_checkpoint_info,
    pixels_instance,
)
from support.fake_incus import Asked, FakeIncus, Seen

Run = Callable[..., dict[str, Any]]
DEV = {"name": "dev", "image": "debian/13", "packages": ["git"]}
PYTHON = {"name": "python", "from": "dev", "packages": ["python3-venv"]}


class Guest:
    """The inside of all guests: what was run, and how each command ends by a word in it."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []
        self.ends: dict[str, ExecResult] = {}
        self.meanwhile: Callable[[], None] = lambda: None

    def execute(self, name: str, request: ExecRequest, _deadline: Deadline) -> ExecResult:
        """Note a command and end it."""
        text = " ".join(request.argv)
        if "is-system-running" in text:
            return ExecResult(0, b"running\n")
        words = ("/etc/machine-id", "apt-get", ".pixels-build")
        self.ran.append((name, next((word for word in words if word in text), request.argv[-1])))
        self.meanwhile()
        for word, result in self.ends.items():
            if word in text:
                return result
        return ExecResult(0, b"done\n")


@pytest.fixture(autouse=True)
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    """No command of a build reaches the machine of the tests."""
    there = Guest()
    monkeypatch.setattr(IncusBackend, "execute", there.execute)
    return there


def build(run: Run, **options: Any) -> dict[str, Any]:
    """Build a base and return the result."""
    result = run(pixels_base, **options)
    assert not result.get("failed"), result
    return result


def names(server: FakeIncus) -> list[str]:
    """Return the instances on the server."""
    return sorted(name for _project, name in server.instances)


def info(run: Run, *definitions: dict[str, Any], **options: Any) -> dict[str, dict[str, Any]]:
    """Return what is told of each base."""
    result = run(pixels_base_info, **({"definitions": list(definitions)} if definitions else {}), **options)
    assert not result.get("failed"), result
    return {record["name"]: record for record in result["bases"]}


def set_key(server: FakeIncus, name: str, key: str, value: str) -> None:
    """Write a key of ours from outside."""
    server.instance(name).record["config"][f"user.pixels.{key}"] = value


def test_a_base_is_built_cleaned_tested_and_published(server: FakeIncus, run: Run, guest: Guest) -> None:
    result = build(run, **DEV, smoke="git --version", description="tools")
    base = result["base"]
    assert result["changed"]
    assert base["status"] == "ready"
    assert base["published"] == f"build-dev-{base['fingerprint'][:12]}"
    assert names(server) == ["px-base-dev", f"px-{base['published']}"]
    assert [what for _name, what in guest.ran] == ["apt-get", "/etc/machine-id", "git --version", "/etc/machine-id"]
    assert {name for name, _what in guest.ran} == {"build-dev"}
    assert base["log"] == "done\n" * 4
    build_keys = server.instance(f"px-{base['published']}").record["config"]
    assert build_keys["user.pixels.kind"] == "build"
    assert not any(key.endswith(("build.lease", "build.holder", "unfinished")) for key in build_keys)
    assert server.instance("px-base-dev").disk.files == {}
    assert server.instance(f"px-{base['published']}").status == "Stopped"


def test_the_second_run_changes_nothing(server: FakeIncus, run: Run) -> None:
    build(run, **DEV)
    result = build(run, **DEV, description="other words")
    assert result["changed"] is False
    assert server.written() == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({**DEV}, {**DEV, "packages": ["git", "jq"]}),
        ({**DEV}, {**DEV, "state": "open"}),
        ({**DEV}, {"name": "dev", "state": "absent"}),
        ({**DEV, "force": True}, {"name": "dev", "state": "rolled_back"}),
    ],
)
def test_each_change_is_predicted_by_check_mode(
    server: FakeIncus, run: Run, first: dict[str, Any], second: dict[str, Any]
) -> None:
    build(run, **DEV)
    if first.get("force") or second.get("state") != "open":
        build(run, **first)
    else:
        second = {**second, "packages": ["jq"]}
    before = names(server)
    checked = run(pixels_base, check_mode=True, **second)
    assert server.written() == []
    assert names(server) == before
    real = build(run, **second)
    assert checked["changed"] is real["changed"] is True
    assert checked["actions"] == real["actions"]
    assert checked["diff"] == real["diff"]
    for key in real["diff"]["after"]:
        assert checked["base"][key] == real["base"][key]


def test_a_child_is_made_of_what_is_published_of_its_parent(server: FakeIncus, run: Run) -> None:
    dev = build(run, **DEV)["base"]
    backend = IncusBackend(server.transport())
    backend.write_file(dev["published"], "/root/of-dev", io.BytesIO(b"1"))
    python = build(run, **PYTHON)["base"]
    assert python["from"] == "dev"
    assert backend.has_file(python["published"], "/root/of-dev")
    seen = info(run)
    assert seen["dev"]["children"] == ["python"]
    assert seen["python"]["status"] == "ready"


def test_a_child_without_its_parent_is_refused(server: FakeIncus, run: Run) -> None:
    for check_mode in (True, False):
        result = run(pixels_base, check_mode=check_mode, **PYTHON)
        assert result["msg"] == "base python: from: its parent dev is not built yet"
        assert server.written() == []


def test_a_parent_that_is_built_again_makes_its_children_stale(run: Run) -> None:
    build(run, **DEV)
    build(run, **PYTHON)
    first = info(run)["python"]["published"]
    build(run, **DEV, force=True)
    seen = info(run, DEV, PYTHON)
    assert (seen["dev"]["status"], seen["dev"]["published"][-2:]) == ("ready", "-2")
    assert (seen["python"]["status"], seen["python"]["reasons"]) == ("stale", ["parent"])
    again = build(run, **PYTHON)
    assert again["actions"] == ["build python (parent)"]
    assert again["base"]["previous"] == [first]


def test_what_is_stale_is_told_with_its_reason_and_in_order(server: FakeIncus, run: Run) -> None:
    node = {"name": "node", "from": "dev"}
    build(run, **DEV)
    build(run, **PYTHON)
    seen = info(run, node, PYTHON, {**DEV, "packages": []}, max_age="1h")
    assert [(name, record["depth"], record["status"], record["reasons"]) for name, record in seen.items()] == [
        ("dev", 0, "stale", ["definition"]),
        ("node", 1, "missing", []),
        ("python", 1, "stale", ["parent"]),
    ]
    set_key(server, f"px-{seen['dev']['published']}", "build.built", "2020-01-01T00:00:00Z")
    assert info(run, DEV, max_age="1h")["dev"]["reasons"] == ["age"]
    assert info(run, DEV)["dev"]["reasons"] == []
    server.images[0]["fingerprint"] = "f" * 64
    assert info(run, DEV)["dev"]["reasons"] == ["image"]
    server.instance(f"px-{seen['dev']['published']}").record["last_used_at"] = "2026-02-01T00:00:00Z"
    assert info(run, DEV)["dev"]["reasons"] == ["image", "mutated"]


def test_content_of_scripts_and_files_is_in_the_fingerprint(run: Run, tmp_path: Path) -> None:
    script, folder = tmp_path / "build.sh", tmp_path / "role"
    folder.mkdir()
    (folder / "main.yml").write_text("a")
    script.write_text("echo one\n")
    wanted = {**DEV, "script": str(script), "files": [str(folder)]}
    build(run, **wanted)
    assert build(run, **wanted)["changed"] is False
    (folder / "main.yml").write_text("b")
    assert info(run, wanted)["dev"]["reasons"] == ["definition"]
    (folder / "main.yml").write_text("a")
    script.write_text("echo two\n")
    assert info(run, wanted)["dev"]["reasons"] == ["definition"]
    for missing in ({**DEV, "script": "/nothing"}, {**DEV, "files": ["/nothing"]}):
        assert "/nothing" in run(pixels_base, **missing)["msg"]


def test_a_script_gets_its_variables_and_is_removed(server: FakeIncus, run: Run, tmp_path: Path) -> None:
    script = tmp_path / "build.sh"
    script.write_text("#!/bin/bash\n")
    build(run, **DEV, script=str(script), variables={"VERSION": 3})
    written = [seen for seen in server.requests if seen.params.get("path") == "/root/.pixels-build"]
    assert [seen.method for seen in written] == ["POST"]
    kept = str(server.instance("px-base-dev").record) + str([one.record for one in server.instances.values()])
    assert "VERSION" not in kept


@pytest.mark.parametrize("word", ["apt-get", "machine-id", "git --version"])
def test_a_build_that_fails_leaves_what_is_published(server: FakeIncus, run: Run, guest: Guest, word: str) -> None:
    first = build(run, **DEV)["base"]["published"]
    guest.ends[word] = ExecResult(100, b"E: Unable to locate package gti\n")
    wanted = {**DEV, "packages": ["gti"], "smoke": "git --version"}
    result = run(pixels_base, **wanted)
    assert result["failed"]
    assert "ended with 100: " in result["msg"]
    assert "Unable to locate package gti" in result["msg"]
    assert result["log"].endswith("E: Unable to locate package gti\n")
    assert names(server) == ["px-base-dev", f"px-{first}"]
    seen = info(run, wanted)["dev"]
    assert (seen["status"], seen["published"], seen["reasons"]) == ("failed", first, ["definition"])
    assert seen["failure"]["log"].endswith("gti\n")
    assert run(pixels_instance, name="box", clone_from="base:dev", state="present")["changed"]
    guest.ends.clear()
    assert build(run, **wanted)["base"]["status"] == "ready"
    assert info(run)["dev"]["failure"] is None


def test_a_full_pool_leaves_what_is_published(server: FakeIncus, run: Run) -> None:
    first = build(run, **DEV)["base"]["published"]
    for _turn in range(3):
        server.fail("Creating instance", "No space left on device")
    result = run(pixels_base, **DEV, force=True)
    assert "No space left on device" in result["msg"]
    assert names(server) == ["px-base-dev", f"px-{first}"]


def test_the_first_build_that_fails_is_told(run: Run, guest: Guest) -> None:
    guest.ends["apt-get"] = ExecResult(1, b"broken\n")
    assert run(pixels_base, **DEV)["failed"]
    seen = info(run)["dev"]
    assert (seen["status"], seen["published"], seen["failure"]["log"]) == ("failed", None, "broken\n")
    assert "there is no base dev; there are: none" in run(pixels_instance, name="box", clone_from="base:dev")["msg"]


def test_earlier_builds_are_kept_as_many_as_asked(server: FakeIncus, run: Run) -> None:
    made = [build(run, **DEV, force=True, keep=2)["base"]["published"] for _turn in range(4)]
    assert info(run)["dev"]["previous"] == [made[2], made[1]]
    assert names(server) == sorted(["px-base-dev", *(f"px-{name}" for name in made[1:])])
    build(run, **DEV, force=True, keep=0)
    assert len(names(server)) == 2


def test_a_rollback_holds_until_the_definition_changes(run: Run) -> None:
    first = build(run, **DEV)["base"]["published"]
    worse = {**DEV, "packages": ["worse"]}
    second = build(run, **worse)["base"]["published"]
    result = build(run, name="dev", state="rolled_back")
    assert (result["base"]["published"], result["base"]["previous"]) == (first, [second])
    assert build(run, name="dev", state="rolled_back", build=first)["changed"] is False
    assert build(run, **worse)["changed"] is False
    assert info(run, worse)["dev"]["status"] == "ready"
    better = {**DEV, "packages": ["better"]}
    assert info(run, better)["dev"]["reasons"] == ["definition"]
    assert build(run, **better)["base"]["previous"] == [first]


def test_a_rollback_needs_what_to_go_back_to(run: Run) -> None:
    assert "has no published build" in run(pixels_base, name="dev", state="rolled_back")["msg"]
    build(run, **DEV)
    assert "no earlier build is kept" in run(pixels_base, name="dev", state="rolled_back")["msg"]
    assert "build x is not kept" in run(pixels_base, name="dev", state="rolled_back", build="x")["msg"]


def test_a_builder_is_opened_filled_by_others_and_published(server: FakeIncus, run: Run, guest: Guest) -> None:
    opened = build(run, **DEV, state="open")
    holder = opened["base"]["holder"]
    assert (opened["base"]["status"], opened["base"]["builder"]) == ("building", "px-build-dev")
    assert server.instance("px-build-dev").status == "Running"
    assert guest.ran == []
    assert build(run, **DEV, state="open", holder=holder)["changed"] is False
    for other in ({}, {"holder": "me"}):
        result = run(pixels_base, name="dev", state="published", **other)
        assert "opened by another run" in result["msg"]
    published = build(run, name="dev", state="published", holder=holder, smoke="true")
    assert published["base"]["status"] == "ready"
    assert published["base"]["holder"] is None
    assert build(run, name="dev", state="published", holder=holder)["changed"] is False
    assert build(run, **DEV, state="open")["changed"] is False


def test_what_was_opened_can_be_discarded_with_a_reason(server: FakeIncus, run: Run) -> None:
    assert build(run, name="dev", state="discarded")["changed"] is False
    holder = build(run, **DEV, state="open")["base"]["holder"]
    build(run, name="dev", state="discarded", holder=holder, reason="task x failed")
    assert names(server) == ["px-base-dev"]
    assert info(run)["dev"]["failure"]["message"] == "task x failed"
    assert "no builder to publish" in run(pixels_base, name="dev", state="published")["msg"]


def test_a_change_by_hand_is_marked(run: Run) -> None:
    assert "has no published build" in run(pixels_base, name="dev", state="open", mutate=True)["msg"]
    build(run, **DEV)
    holder = build(run, name="dev", state="open", mutate=True)["base"]["holder"]
    base = build(run, name="dev", state="published", holder=holder)["base"]
    assert base["published"].endswith("-2")
    assert (base["status"], base["reasons"]) == ("stale", ["mutated"])
    assert build(run, **DEV)["actions"] == ["build dev (mutated)"]


def test_a_builder_of_a_dead_controller_is_left_alone_until_its_lease_is_over(server: FakeIncus, run: Run) -> None:
    build(run, **DEV, state="open", lease="1h")
    result = run(pixels_base, **DEV, timeout=1)
    assert "dev is being built by another run, which has until 20" in result["msg"]
    assert info(run)["dev"]["status"] == "building"
    set_key(server, "px-build-dev", "build.lease", "2020-01-01T00:00:00Z")
    assert build(run, **DEV)["base"]["status"] == "ready"
    assert "px-build-dev" not in names(server)


def test_a_builder_can_be_taken_by_force(run: Run) -> None:
    first = build(run, **DEV, state="open")["base"]["holder"]
    second = build(run, **DEV, state="open", force=True)["base"]["holder"]
    assert second not in (None, first)
    assert "opened by another run" in run(pixels_base, name="dev", state="published", holder=first)["msg"]


def test_who_waited_looks_again_and_finds_nothing_to_do(server: FakeIncus, run: Run, guest: Guest) -> None:
    holder = build(run, **DEV, state="open")["base"]["holder"]
    looks: list[Seen] = []

    def other_run(seen: Seen) -> None:
        looks.append(seen)
        if len(looks) == 6:
            server.before = lambda _seen: None
            publish(server, holder)

    server.before = other_run
    result = run(pixels_base, **DEV)
    assert not result.get("failed"), result
    assert [what for _name, what in guest.ran] == ["/etc/machine-id"], "it was built once"
    assert result["base"]["status"] == "ready"


def publish(server: FakeIncus, holder: str) -> None:
    """Publish the builder of dev as another controller does."""
    defaults = {name: option.get("default") for name, option in pixels_base.ARGUMENT_SPEC.items()}
    desired = desired_base({**defaults, "name": "dev", "state": "published", "holder": holder})
    assert apply(plan_base(IncusBackend(server.transport()), desired)) == {}


def test_a_build_that_is_about_to_be_published_is_waited_for(server: FakeIncus, run: Run) -> None:
    build(run, **DEV)
    leave(server, run, "build-dev-bbbbbbbbbbbb", later())
    assert info(run)["dev"]["status"] == "building"
    result = run(pixels_base, **{**DEV, "packages": ["jq"]}, timeout=1)
    assert "is being built by another run" in result["msg"]


def test_who_has_the_lease_looks_again(server: FakeIncus, run: Run, guest: Guest) -> None:
    wanted = {**DEV, "packages": ["jq"]}
    build(run, **wanted)
    fresh = info(run)["dev"]["published"]
    old = build(run, **DEV)["base"]["published"]
    guest.ran.clear()

    def other_run_ends(seen: Seen) -> None:
        if seen.method == "POST" and seen.path == "/1.0/instances":
            server.before = lambda _seen: None
            set_key(server, "px-base-dev", "base.published", fresh)
            set_key(server, "px-base-dev", "base.previous", old)

    server.before = other_run_ends
    # the hook sees requests of the module alone
    result = run(pixels_base, **wanted)
    assert not result.get("failed"), result
    assert guest.ran == []
    assert result["base"]["published"] == fresh
    assert "px-build-dev" not in names(server)


@pytest.mark.parametrize("request_number", range(1, 9))
def test_a_controller_that_dies_while_it_publishes_is_cleaned_up_after(
    server: FakeIncus, run: Run, request_number: int
) -> None:
    first = build(run, **DEV)["base"]["published"]
    wanted = {**DEV, "packages": ["jq"]}
    written: list[str] = []

    def dies(seen: Seen) -> None:
        # from the stop of the builder on, what changes the server is counted
        stops = seen.path.endswith("px-build-dev/state") and seen.body["action"] == "stop"
        if seen.method != "GET" and (written or stops):
            written.append(seen.path)
        if len(written) >= request_number:
            raise ConnectionFailed("the controller is dead")

    server.before = dies
    result = run(pixels_base, **wanted)
    server.before = lambda _seen: None
    published = info(run)["dev"]["published"]
    assert f"px-{published}" in names(server)
    assert run(pixels_instance, name="box", clone_from="base:dev", state="present")["changed"]
    if published == first:
        assert result["failed"]
    for name in names(server):
        if name.startswith("px-build-dev") and name != f"px-{published}":
            set_key(server, name, "build.lease", "2020-01-01T00:00:00Z")
    base = build(run, **wanted)["base"]
    assert base["status"] == "ready"
    assert names(server) == sorted(["px-base-dev", "px-box", f"px-{base['published']}", f"px-{first}"])


def test_what_a_dead_controller_left_is_removed_by_the_next_run(server: FakeIncus, run: Run) -> None:
    build(run, **DEV)
    leave(server, run, "build-dev-aaaaaaaaaaaa", "2020-01-01T00:00:00Z")
    leave(server, run, "build-dev-bbbbbbbbbbbb", later())
    result = build(run, **DEV)
    assert result["actions"] == ["remove build-dev-aaaaaaaaaaaa, which was left behind"]
    assert "px-build-dev-aaaaaaaaaaaa" not in names(server)
    assert "px-build-dev-bbbbbbbbbbbb" in names(server), "somebody is about to publish it"


def leave(server: FakeIncus, run: Run, name: str, lease: str) -> None:
    """Leave a build under its last name that is not published."""
    run(pixels_instance, name="left", image="debian/13", state="present")
    IncusBackend(server.transport()).rename_instance("left", name, Deadline(9))
    for key, value in (("kind", "build"), ("base", "dev"), ("build.lease", lease)):
        set_key(server, f"px-{name}", key, value)


def later() -> str:
    """Return a time that has not come."""
    return (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_clone_knows_where_it_comes_from(run: Run) -> None:
    base = build(run, **DEV)["base"]
    box = run(pixels_instance, name="box", clone_from="base:dev", state="present")["instance"]
    assert (box["clone_from"], box["base"], box["base_build"]) == ("base:dev", "dev", base["published"])
    assert box["base_fingerprint"] == base["fingerprint"]
    assert box["image"] == "debian/13"
    copy = run(pixels_instance, name="copy", clone_from="box", state="present")["instance"]
    assert (copy["clone_from"], copy["base"]) == ("box", "dev")
    build(run, **DEV, force=True)
    run(pixels_instance, name="new", clone_from="base:dev", state="present")
    seen = info(run)["dev"]
    assert (seen["clones"], seen["behind"]) == (["box", "copy", "new"], ["box", "copy"])
    assert run(pixels_instance, name="box", clone_from="base:dev", state="present")["changed"] is False
    assert run(pixels_checkpoint_info)["checkpoints"] == []


def test_a_switch_between_the_look_and_the_copy_is_followed(server: FakeIncus, run: Run) -> None:
    first = build(run, **DEV)["base"]["published"]

    def switch(seen: Seen) -> None:
        if seen.method == "POST" and seen.path == "/1.0/instances":
            server.before = lambda _seen: None
            second = server.instances.pop(("default", f"px-{first}"))
            second.record["name"] = f"px-{first}-2"
            second.record["config"]["user.pixels.build"] = f"{first}-2"
            server.instances["default", f"px-{first}-2"] = second
            set_key(server, "px-base-dev", "base.published", f"{first}-2")

    result: dict[str, Any] = {}

    def clone() -> None:
        server.before = switch
        result.update(run(pixels_instance, name="box", clone_from="base:dev", state="present"))

    clone()
    assert not result.get("failed"), result
    assert result["instance"]["base_build"] == f"{first}-2"


def test_a_base_goes_with_its_builds_and_not_with_its_clones(server: FakeIncus, run: Run) -> None:
    assert run(pixels_base, name="dev", state="absent")["changed"] is False
    build(run, **DEV)
    build(run, **PYTHON)
    run(pixels_instance, name="box", clone_from="base:dev", state="present")
    assert "has children: python; force" in run(pixels_base, name="dev", state="absent")["msg"]
    build(run, name="python", state="absent")
    build(run, **DEV, state="open", force=True)
    assert "is being built" in run(pixels_base, name="dev", state="absent")["msg"]
    build(run, name="dev", state="absent", force=True)
    assert names(server) == ["px-box"]


# -- copied from another server

EAST = {"incus_remote": "east"}


@pytest.fixture
def east(server: FakeIncus, run: Run, monkeypatch: pytest.MonkeyPatch) -> FakeIncus:
    """Another server, which the first one reaches; a task acts on it that names it, instead of on the one that C(run) gives."""
    other = FakeIncus()
    other.listen("east.test")
    server.listen("here.test", other)

    def backend_from(options: dict[str, Any]) -> IncusBackend:
        return IncusBackend((other if options.get("incus_remote") == "east" else server).transport())

    monkeypatch.setattr(glue, "backend_from", backend_from)
    return other


def copy(run: Run, wanted: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Copy a base from the other server and return the result."""
    return run(pixels_base, **wanted, state="copied", from_server=EAST, **more)


def test_a_base_is_copied_without_being_built_again(server: FakeIncus, east: FakeIncus, run: Run, guest: Guest) -> None:
    for wanted in (DEV, PYTHON):
        build(run, **wanted, **EAST)
    there = info(run, **EAST)
    guest.ran.clear()
    for wanted in (DEV, PYTHON):
        checked = copy(run, wanted, check_mode=True)
        assert server.written() == []
        done = copy(run, wanted)
        assert not done.get("failed"), done
        assert checked["diff"] == done["diff"]
        assert done["actions"] == [f"copy {wanted['name']}"]
    assert guest.ran == []
    here = info(run, DEV, PYTHON)
    for name in ("dev", "python"):
        assert (here[name]["status"], here[name]["copied"]) == ("ready", True)
        for field in ("published", "fingerprint", "built_at", "seal", "definition", "from"):
            assert here[name][field] == there[name][field]
    assert [offered for offered in east.offers if offered] == []
    for wanted in (DEV, PYTHON):
        assert copy(run, wanted)["changed"] is False
        assert server.written() == []
        assert build(run, **wanted)["changed"] is False
    assert run(pixels_instance, name="box", clone_from="base:python", state="present")["changed"]


def test_what_was_built_again_is_copied_again(server: FakeIncus, east: FakeIncus, run: Run) -> None:
    build(run, **DEV, **EAST)
    first = copy(run, DEV)["base"]["published"]
    build(run, **DEV, **EAST, force=True)
    second = copy(run, DEV)["base"]
    assert (second["published"], second["previous"]) == (f"{first}-2", [first])
    assert second["seal"] == info(run, **EAST)["dev"]["seal"]
    build(run, name="dev", state="rolled_back")
    assert copy(run, DEV)["changed"] is False, "somebody has rolled back from it"


def test_a_child_knows_its_parent_under_the_name_that_it_has_here(server: FakeIncus, east: FakeIncus, run: Run) -> None:
    for _turn in range(2):
        build(run, **DEV, force=True)
    for wanted in (DEV, PYTHON):
        build(run, **wanted, **EAST)
    build(run, **DEV, **EAST, force=True)
    build(run, **PYTHON, **EAST)
    for wanted in (DEV, PYTHON):
        copy(run, wanted)
    here = info(run, DEV, PYTHON)
    assert here["python"]["reasons"] == []
    assert here["dev"]["published"] != info(run, **EAST)["dev"]["published"]


def test_what_is_stale_there_is_not_copied(server: FakeIncus, east: FakeIncus, run: Run) -> None:
    assert "it has no base dev" in copy(run, DEV)["msg"]
    build(run, **DEV, **EAST)
    assert "is stale itself (definition)" in copy(run, {**DEV, "packages": ["jq"]})["msg"]
    published = info(run, **EAST)["dev"]["published"]
    east.instance(f"px-{published}").record["last_used_at"] = "2026-02-01T00:00:00Z"
    for wanted in (DEV, {"name": "dev"}):
        assert "is stale itself (mutated)" in copy(run, wanted)["msg"]
    assert server.written() == []


def test_what_arrives_has_to_be_what_was_offered(server: FakeIncus, east: FakeIncus, run: Run) -> None:
    build(run, **DEV, **EAST)
    first = copy(run, DEV)["base"]["published"]
    published = build(run, **DEV, **EAST, force=True)["base"]["published"]
    IncusBackend(east.transport()).write_file(published, "/etc/pixels-base", io.BytesIO(b"another\n"))
    result = copy(run, DEV)
    assert f"what has arrived is not the build {published}" in result["msg"]
    seen = info(run, DEV)["dev"]
    assert (seen["published"], seen["failure"]["message"]) == (
        first,
        result["msg"].partition("dev: could not copy dev: ")[2],
    )
    assert "px-build-dev" not in names(server)


def test_another_certificate_is_refused_and_nothing_is_left(server: FakeIncus, east: FakeIncus, run: Run) -> None:
    build(run, **DEV, **EAST)
    server.peers[0] = FakeIncus()
    server.peers[0].listen("east.test")
    result = copy(run, DEV)
    assert "certificate signed by unknown authority" in result["msg"]
    assert names(server) == ["px-base-dev"]
    server.peers[0] = east
    assert copy(run, DEV)["base"]["status"] == "ready"


def test_a_server_behind_a_socket_cannot_offer(server: FakeIncus, east: FakeIncus, run: Run) -> None:
    build(run, **DEV, **EAST)
    east.host = ""
    assert "no other server reaches a socket" in copy(run, DEV)["msg"]


def test_a_copy_that_goes_on_without_its_controller_is_waited_for(server: FakeIncus, east: FakeIncus, run: Run) -> None:
    build(run, **DEV, **EAST)
    build(run, **DEV, state="open")
    set_key(server, "px-build-dev", "build.lease", "2020-01-01T00:00:00Z")
    going = server._operation(Asked("POST", "default", {}, {}, {}, None), "Creating instance", "px-build-dev")
    assert "is being built by another run" in copy(run, DEV, timeout=1)["msg"]
    assert "px-build-dev" in names(server)
    going.record.update(status_code=200)
    assert copy(run, DEV)["base"]["status"] == "ready"


def test_a_lease_that_is_renewed_at_the_end_of_a_copy_is_no_conflict(
    server: FakeIncus, east: FakeIncus, run: Run
) -> None:
    build(run, **DEV, **EAST)

    def beats(seen: Seen) -> None:
        if seen.method == "PUT" and seen.path.endswith("/px-build-dev"):
            server.before = lambda _seen: None
            set_key(server, "px-build-dev", "build.lease", later())

    server.before = beats
    result = copy(run, DEV, timeout=5)
    assert not result.get("failed"), result
    assert result["base"]["status"] == "ready"


@pytest.mark.parametrize("options", [{"state": "copied"}, {"from_server": EAST}])
def test_a_copy_needs_a_server_to_come_from(server: FakeIncus, run: Run, options: dict[str, Any]) -> None:
    assert "belong together" in run(pixels_base, **DEV, **options)["msg"]
    assert server.requests == []


# -- sandboxes that are behind


def behind(server: FakeIncus, run: Run) -> str:
    """Make a sandbox with a file of its own that is behind its base, and return the build that is published now."""
    build(run, **DEV)
    run(pixels_instance, name="box", clone_from="base:dev", state="present", labels={"a": "b"})
    set_key(server, "px-box", "provision.status", "ready")
    IncusBackend(server.transport()).write_file("box", "/root/mine", io.BytesIO(b"1"))
    return str(build(run, **DEV, force=True)["base"]["published"])


def test_a_sandbox_is_brought_up_to_date_and_keeps_what_it_had(server: FakeIncus, run: Run) -> None:
    published = behind(server, run)
    before = dict(server.instance("px-box").record["config"])
    checked = run(pixels_instance, name="box", state="recreated", check_mode=True)
    assert server.written() == []
    done = run(pixels_instance, name="box", state="recreated")
    assert not done.get("failed"), done
    assert (checked["actions"], checked["diff"]) == (done["actions"], done["diff"])
    box = server.instance("px-box")
    assert "/root/mine" not in box.disk.files
    ((label, snapshot),) = box.snapshots.items()
    assert label.startswith("before-")
    assert snapshot.disk.files["/root/mine"].content == b"1"
    after = box.record["config"]
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    assert changed == {"user.pixels.build", "user.pixels.provision.status"}
    assert info(run)["dev"]["behind"] == []
    for key, value in checked["instance"].items():
        assert done["instance"][key] == value, key
    assert done["instance"]["base_build"] == published
    assert run(pixels_instance, name="box", state="recreated")["changed"] is False


def test_a_sandbox_that_runs_is_recreated_only_when_that_is_said(server: FakeIncus, run: Run) -> None:
    behind(server, run)
    run(pixels_instance, name="box", state="started")
    result = run(pixels_instance, name="box", state="recreated")
    assert "box is running; force: true ends what runs in it" in result["msg"]
    assert server.written() == []
    assert run(pixels_instance, name="box", state="recreated", force=True)["instance"]["status"] == "running"
    assert info(run)["dev"]["behind"] == []


def test_a_recreation_that_was_killed_is_done_again_and_its_checkpoint_kept(server: FakeIncus, run: Run) -> None:
    behind(server, run)

    def dies(seen: Seen) -> None:
        if seen.method == "POST" and seen.path == "/1.0/instances":
            server.instance("px-box").disk.files.clear()
            raise ConnectionFailed("the controller is dead")

    server.before = dies
    assert run(pixels_instance, name="box", state="recreated")["failed"]
    server.before = lambda _seen: None
    assert info(run)["dev"]["behind"] == ["box"]
    done = run(pixels_instance, name="box", state="recreated")
    assert not done.get("failed"), done
    (snapshot,) = server.instance("px-box").snapshots.values()
    assert "/root/mine" in snapshot.disk.files


def test_what_cannot_be_recreated_is_refused(server: FakeIncus, run: Run) -> None:
    assert "no sandbox box to recreate" in run(pixels_instance, name="box", state="recreated")["msg"]
    run(pixels_instance, name="box", image="debian/13", state="present")
    assert "does not come from a base" in run(pixels_instance, name="box", state="recreated")["msg"]
    run(pixels_instance, name="box", state="absent")
    behind(server, run)
    set_key(server, "px-box", "egress", Policy(mode="none", enforcement="guest").text)
    result = run(pixels_instance, name="box", state="recreated")
    assert "enforces its policy itself" in result["msg"]
    assert server.written() == []


# -- package managers


def test_a_lock_of_a_package_manager_is_waited_for_three_times(
    run: Run, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_steps, "_BUSY_SECONDS", 0.01)
    guest.ends["apt-get"] = ExecResult(100, b"E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1\n")
    result = run(pixels_base, **DEV)
    assert "Could not get lock" in result["msg"]
    assert [what for _name, what in guest.ran] == ["apt-get"] * 3
    turns = iter(range(9))
    guest.meanwhile = lambda: guest.ends.clear() if next(turns) == 2 else None
    assert build(run, **DEV)["base"]["status"] == "ready"


def test_no_other_failure_is_tried_again(run: Run, guest: Guest) -> None:
    guest.ends["apt-get"] = ExecResult(100, b"E: Unable to locate package gti\n")
    assert run(pixels_base, **DEV)["failed"]
    assert len(guest.ran) == 1


def test_children_of_a_base_that_is_skipped_are_not_stale_for_it(run: Run) -> None:
    build(run, **DEV)
    build(run, **PYTHON)
    wanted = {**DEV, "packages": ["jq"]}
    assert info(run, wanted, PYTHON)["python"]["reasons"] == ["parent"]
    assert info(run, wanted, PYTHON, skip=["dev"])["python"]["status"] == "ready"
    build(run, **wanted)
    assert info(run, wanted, PYTHON, skip=["dev"])["python"]["reasons"] == ["parent"]


@pytest.mark.parametrize("name", ["px-base-dev", "px-build-dev"])
def test_what_is_not_ours_is_left_alone(server: FakeIncus, run: Run, name: str) -> None:
    run(pixels_instance, name="other", image="debian/13", state="present")
    IncusBackend(server.transport()).rename_instance("other", name, Deadline(9))
    for options in (DEV, {"name": "dev", "state": "absent"}):
        result = run(pixels_base, **options)
        assert "was not made by this collection" in result["msg"]
        assert server.written() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Dev"}, "base 'Dev' is not legal"),
        ({**DEV, "from": "x"}, "mutually exclusive"),
        ({"name": "dev", "from": "dev-0123456789ab"}, "is not legal"),
        ({**DEV, "timeout": 0}, "timeout 0"),
        ({**DEV, "keep": -1}, "keep -1"),
        ({**DEV, "mutate": True}, "mutate is for state open"),
        ({**DEV, "max_age": "old"}, "max_age 'old' is not a duration"),
        ({**DEV, "lease": "x"}, "lease 'x' is not a duration"),
        ({**DEV, "packages": ["--purge"]}, "is not the name of a package"),
    ],
)
def test_bad_input_reaches_no_server(server: FakeIncus, run: Run, options: dict[str, Any], message: str) -> None:
    result = run(pixels_base, **options)
    assert result["failed"] is True
    assert message in result["msg"]
    assert server.requests == []


def test_a_graph_that_is_none_is_refused(run: Run) -> None:
    wanted = [{"name": "a", "from": "b"}, {"name": "b", "from": "a"}]
    assert "a cycle: a from b from a" in run(pixels_base_info, definitions=wanted)["msg"]
    assert "there is no base c" in run(pixels_base_info, definitions=[{"name": "a", "from": "c"}])["msg"]


def test_results_have_what_the_documentation_names_and_nothing_else(run: Run) -> None:
    documented = yaml.safe_load(pixels_base.RETURN)
    listed = yaml.safe_load(pixels_base_info.RETURN)["bases"]["contains"]
    seen: set[str] = set()
    for options in (
        DEV,
        DEV,
        {**DEV, "state": "open", "force": True},
        {"name": "dev", "state": "absent", "force": True},
    ):
        for check_mode in (True, False):
            result = run(pixels_base, check_mode=check_mode, **options)
            assert set(result) - {"invocation"} <= {*documented, "changed", "diff"}
            seen |= set(result["base"])
    assert seen == set(documented["base"]["contains"]) - {"failed", "msg", "failed_step", "completed_steps"}
    build(run, **DEV)
    assert set(info(run, DEV)["dev"]) == set(listed)
    assert run(pixels_base_info, query="[].name")["result"] == ["dev"]
    assert info(run, name=["other"]) == {}
