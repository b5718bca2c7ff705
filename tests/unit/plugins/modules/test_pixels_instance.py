# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of sandboxes, whole, over a server in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConnectionFailed
from ansible_collections.pixels.sandbox.plugins.modules import pixels_instance, pixels_instance_info
from support.fake_incus import FakeIncus, Seen

Run = Callable[..., dict[str, Any]]
EIGHT = [f"task{number}" for number in range(1, 9)]


@pytest.fixture
def box(run: Run) -> str:
    """A running sandbox."""
    result = run(pixels_instance, name="box", image="debian/13", labels={"team": "search"})
    assert not result.get("failed"), result
    return "box"


@pytest.mark.parametrize(
    ("options", "actions"),
    [
        ({"cpu": 1, "memory": "512"}, ["change cpu, memory of box"]),
        ({"labels": {"team": "mail"}}, ["change labels of box"]),
        ({"state": "stopped"}, ["stop box"]),
        ({"state": "frozen"}, ["freeze box"]),
        ({"state": "absent"}, ["stop box", "delete box"]),
        ({"name": "new", "image": "debian/13"}, ["create new from debian/13", "start new"]),
        ({"name": "copy", "clone_from": "box", "state": "present"}, ["create copy from box"]),
    ],
)
def test_each_change_climbs_the_ladder(
    server: FakeIncus, run: Run, box: str, options: dict[str, Any], actions: list[str]
) -> None:
    options = {"name": box, **options}
    before = run(pixels_instance_info)["instances"]
    foretold = run(pixels_instance, check_mode=True, **options)
    assert server.written() == []
    assert run(pixels_instance_info)["instances"] == before
    real = run(pixels_instance, **options)
    assert foretold["changed"] is real["changed"] is True
    assert foretold["actions"] == real["actions"] == actions
    assert foretold["diff"] == real["diff"]
    for check_mode in (False, True):
        again = run(pixels_instance, check_mode=check_mode, **options)
        assert (again["changed"], again["actions"]) == (False, [])
        assert again["diff"]["before"] == again["diff"]["after"]
        assert server.written() == []


def test_results_have_what_the_documentation_names_and_nothing_else(run: Run) -> None:
    documented = yaml.safe_load(pixels_instance.RETURN)
    listed = yaml.safe_load(pixels_instance_info.RETURN)["instances"]["contains"]
    seen: set[str] = set()
    for options in ({"image": "debian/13"}, {"state": "stopped"}, {"state": "absent"}):
        result = run(pixels_instance, name="box", **options)
        assert set(result) - {"invocation"} <= {*documented, "changed", "diff"}
        assert result["instances"] == [result["instance"]]
        seen |= set(result["instance"])
        for record in run(pixels_instance_info)["instances"]:
            assert set(record) == set(listed)
    failures = {"failed", "msg", "failed_step", "completed_steps"}
    assert seen == set(documented["instances"]["contains"]) - failures


def test_one_of_eight_fails_and_all_eight_are_told_of(server: FakeIncus, run: Run, box: str) -> None:
    def refuse(seen: Seen) -> None:
        if (seen.method, seen.path) == ("POST", "/1.0/instances") and seen.body["name"] == "px-task5":
            server.fail("Creating instance", "No space left on device")

    server.before = refuse
    # one at a time, since the fake fails the next creation whosoever it is
    result = run(pixels_instance, name=EIGHT, clone_from=box, hardening="none", max_parallel=1)
    assert result["failed"] is True
    assert result["changed"] is True
    assert result["failed_names"] == ["task5"]
    assert result["msg"] == "task5: could not create task5 from box: No space left on device"
    assert [record["name"] for record in result["instances"]] == EIGHT
    for record in result["instances"]:
        if record["name"] == "task5":
            assert record["status"] == "absent"
            assert record["failed"] is True
            assert record["failed_step"] == "create task5 from box"
            assert record["completed_steps"] == []
            assert record["msg"] == result["msg"]
        else:
            assert (record["status"], "failed" in record) == ("running", False)
    assert ("default", "px-task5") not in server.instances

    server.before = lambda seen: None
    again = run(pixels_instance, name=EIGHT, clone_from=box, hardening="none")
    assert again["actions"] == ["create task5 from box", "start task5"]
    assert not again.get("failed")


def test_a_server_that_is_gone_at_the_end_leaves_the_results(server: FakeIncus, run: Run, box: str) -> None:
    def die(seen: Seen) -> None:
        if (seen.method, seen.path) == ("POST", "/1.0/instances"):
            server.before = dead

    def dead(seen: Seen) -> None:
        raise ConnectionFailed("nothing listens there")

    server.before = die
    result = run(pixels_instance, name=[box, "new"], image="debian/13", cpu=1)
    assert result["failed"] is True
    assert result["failed_names"] == [box, "new"]
    assert [record["status"] for record in result["instances"]] == ["running", "absent"]
    assert "nothing listens there" in result["msg"]


def test_a_success_that_cannot_be_read_back_is_a_failure_that_says_so(server: FakeIncus, run: Run, box: str) -> None:
    def die(seen: Seen) -> None:
        if written and seen.method == "GET" and seen.path == "/1.0/instances/px-box":
            raise ConnectionFailed("nothing listens there")
        written.extend([seen.path] if seen.method == "PUT" else [])

    written: list[str] = []
    server.before = die
    result = run(pixels_instance, name=box, state="frozen")
    assert result["failed"] is True
    assert result["actions"] == ["freeze box"]
    assert result["failed_names"] == []
    assert result["msg"] == "all was done, but what is there now could not be read: nothing listens there"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Box"}, "name 'Box' is not legal"),
        ({"name": "-box"}, "name '-box' is not legal"),
        ({"name": "a" * 61}, "is not legal"),
        ({"name": "base-x"}, "is reserved"),
        ({"name": "bx", "image": "a", "clone_from": "b"}, "mutually exclusive: image|clone_from"),
        ({"name": ["bx", "px-bx"]}, "more than once"),
        ({"memory": "4 bananas"}, "memory '4 bananas'"),
        ({"cpu": 0}, "cpu 0 is not above zero"),
        ({"cpu": "two"}, "cpu"),
        ({"ttl": "soon"}, "ttl 'soon' is not a duration"),
        ({"ttl": "never", "renew": True}, "renew"),
        ({"state": "gone"}, "value of state must be one of"),
        ({"labels": {"a b": 1}}, "a b"),
        ({"labels": {"a": "1\n2"}}, "labels: a"),
        ({"mounts": [{"source": "/etc", "path": "/data"}]}, "mounts: source '/etc' belongs to the system"),
        ({"mounts": [{"source": "/srv/a", "path": "/usr/bin"}]}, "mounts: path '/usr/bin' belongs to the system"),
        ({"clone_from": "base:Py"}, "base 'Py' is not legal"),
        ({"clone_from": "dev:../x"}, "checkpoint '../x' is not legal"),
        ({"labels": {"a": None}}, "labels: a has no text"),
        ({"labels": {"a": ["b"]}}, "labels: a has no text"),
        ({"image": "a\nb"}, "image 'a\\nb' has control characters"),
        ({"pool": "../networks/pixels0"}, "pool '../networks/pixels0' is no name"),
        ({"network": " "}, "network ' ' is no name"),
        ({"profiles": ["default", ".."]}, "profiles '..' is no name"),
        ({"target": "a/b"}, "target 'a/b' is no name"),
        ({"timeout": 0}, "timeout 0"),
        ({"max_parallel": 0}, "max_parallel 0"),
    ],
)
def test_bad_input_reaches_no_server(server: FakeIncus, run: Run, options: dict[str, Any], message: str) -> None:
    result = run(pixels_instance, **{"name": "bx", **options})
    assert result["failed"] is True
    assert message in result["msg"]
    assert server.requests == []


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"name": "new", "image": "local:debian/12"}, ("debian/12", "debian/13")),
        ({"name": "new", "clone_from": "nobody"}, ("nobody",)),
        ({"name": "new", "clone_from": "box:then"}, ("then",)),
        ({"name": "new", "image": "nowhere:x"}, ("nowhere",)),
        ({"name": "new", "image": "local:"}, ("names no image of local",)),
        ({"name": "new", "image": "local:d"}, ("the server has no image d", "debian/13")),
        ({"name": "new", "image": "images:x", "image_server": "http://images.example"}, ("image_server", "https")),
        ({"image": "images:alpine/3"}, ("image", "debian/13")),
        ({"pool": "other"}, ("pool", "pixels")),
        ({"type": "vm"}, ("type", "container")),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_what_cannot_be_is_said_and_nothing_is_changed(
    server: FakeIncus, run: Run, box: str, options: dict[str, Any], messages: tuple[str, ...], check_mode: bool
) -> None:
    before = {name: dict(instance.record) for name, instance in server.instances.items()}
    result = run(pixels_instance, check_mode=check_mode, **{"name": box, **options})
    assert result["failed"] is True, result
    for message in messages:
        assert message in result["msg"]
    assert {name: dict(instance.record) for name, instance in server.instances.items()} == before


@pytest.mark.parametrize("state", ["started", "stopped", "absent", "present", "restarted", "frozen"])
def test_an_instance_of_somebody_else_is_left_alone(server: FakeIncus, run: Run, box: str, state: str) -> None:
    del server.instance("px-box").record["config"]["user.pixels.kind"]
    before = dict(server.instance("px-box").record)
    result = run(pixels_instance, name=box, state=state, force=True, cpu=1)
    assert result["failed"] is True
    assert "box" in result["msg"]
    assert server.written() == []
    assert server.instance("px-box").record == before
    assert run(pixels_instance_info)["instances"] == []
    assert [record["kind"] for record in run(pixels_instance_info, foreign=True)["instances"]] == [None]


def test_a_sandbox_deleted_by_hand_is_made_again_and_absent_is_success(server: FakeIncus, run: Run, box: str) -> None:
    server.instances.clear()
    assert run(pixels_instance, name=box, state="absent")["changed"] is False
    again = run(pixels_instance, name=box, image="debian/13")
    assert again["actions"] == ["create box from debian/13", "start box"]


def test_a_creation_that_the_server_did_not_survive_is_made_again(
    server: FakeIncus, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.pixels.sandbox.plugins.module_utils._resource import instance

    server.crash("Creating instance")
    broken = run(pixels_instance, name="box", image="debian/13")
    assert broken["failed"] is True
    assert server.instance("px-box").record["config"]["user.pixels.unfinished"]
    (listed,) = run(pixels_instance_info)["instances"]
    assert listed["unfinished"] is True
    # otherwise it waits whether the run that began it is still alive
    monkeypatch.setattr(instance, "GRACE_SECONDS", 0.0)
    again = run(pixels_instance, name="box", image="debian/13")
    assert not again.get("failed"), again
    assert again["instance"]["status"] == "running"
    assert again["instance"]["unfinished"] is False


@pytest.mark.parametrize("level", ["none", "standard", "strict"])
def test_a_virtual_machine_gets_nothing_that_only_containers_have(server: FakeIncus, run: Run, level: str) -> None:
    server.virtual_machines = True
    options = {"name": "machine", "type": "vm", "image": "debian/13", "mounts": [{"source": "/srv/a", "path": "/a"}]}
    made = run(pixels_instance, hardening=level, memory="4GiB", nesting=False, publish=[], **options)
    assert not made.get("failed"), made
    assert (made["instance"]["type"], made["instance"]["hardening"]) == ("vm", level)
    assert server.instance("px-machine").record["devices"]["mount-0"].get("shift") is None
    for after in ("strict", "none", "standard"):
        changed = run(pixels_instance, hardening=after, memory="2GiB", **options)
        assert not changed.get("failed"), changed
        assert changed["instance"]["hardening"] == after
        assert changed["instance"]["restart_required"] is False
        assert run(pixels_instance, hardening=after, memory="2GiB", **options)["changed"] is False


@pytest.mark.parametrize("option", [{"processes": 9}, {"nesting": True}, {"publish": ["8080:80"]}])
def test_what_a_virtual_machine_cannot_have_is_refused(server: FakeIncus, run: Run, option: dict[str, Any]) -> None:
    server.virtual_machines = True
    for _turn in ("new", "there"):
        result = run(pixels_instance, name="machine", type="vm", image="debian/13", **option)
        assert result["failed"] is True
        assert result["msg"].startswith(f"{next(iter(option))}: only containers have that")
        assert server.written() == []
        run(pixels_instance, name="machine", type="vm", image="debian/13", state="present")


def test_a_virtual_machine_is_not_cloned_with_the_identity_of_its_source(server: FakeIncus, run: Run) -> None:
    server.virtual_machines = True
    run(pixels_instance, name="machine", type="vm", image="debian/13", state="present")
    result = run(pixels_instance, name="twin", clone_from="machine")
    assert "machine is a virtual machine" in result["msg"]
    assert server.written() == []


def test_no_name_at_all_is_nothing_to_do(run: Run) -> None:
    result = run(pixels_instance, name=[], state="absent")
    assert (result["changed"], result["instances"], result["failed_names"]) == (False, [], [])


def test_a_removal_does_not_ask_for_addresses(server: FakeIncus, run: Run, box: str) -> None:
    run(pixels_instance, name=EIGHT, clone_from=box, state="present")
    run(pixels_instance, name=EIGHT, state="absent")
    (listed, *_after) = [seen for seen in server.requests if seen.path == "/1.0/instances"]
    assert listed.params["recursion"] == "1"


def test_nothing_to_do_for_fifty_is_one_request(server: FakeIncus, run: Run, box: str) -> None:
    fifty = [f"n{number}" for number in range(50)]
    run(pixels_instance, name=fifty, clone_from=box, state="present")
    result = run(pixels_instance, name=fifty, clone_from=box, state="present", cpu=2)
    assert result["changed"] is False
    assert len([path for path in server.sent("GET") if path.startswith("/1.0/instances")]) == 1
    assert len(server.requests) <= 2


def test_a_restart_that_is_needed_is_said_until_it_was_done(run: Run, box: str) -> None:
    changed = run(pixels_instance, name=box, nesting=True)
    assert changed["instance"]["restart_required"] is True
    assert run(pixels_instance, name=box, nesting=True)["instance"]["restart_required"] is True
    restarted = run(pixels_instance, name=box, state="restarted", force=True)
    assert restarted["changed"] is True
    assert restarted["instance"]["restart_required"] is False


def test_the_info_module_lists_what_is_asked_for(run: Run, box: str) -> None:
    run(pixels_instance, name=["c", "a"], clone_from=box, state="present", labels={"team": "mail"})
    listed = run(pixels_instance_info)
    assert listed["changed"] is False
    assert [record["name"] for record in listed["instances"]] == ["a", "box", "c"]
    mail = run(pixels_instance_info, labels={"team": "mail"}, query="[].[name, status]")
    assert mail["result"] == [["a", "stopped"], ["c", "stopped"]]
    assert [record["name"] for record in run(pixels_instance_info, name=["px-c", "never"])["instances"]] == ["c"]
    assert "query" in run(pixels_instance_info, query="[?")["msg"]


def test_a_query_without_its_library_names_the_library(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jmespath", None)
    result = run(pixels_instance_info, query="[]")
    assert result["failed"] is True
    assert "jmespath" in result["msg"]
