# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task wants of checkpoints, what there is, and what is done about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    Conflict,
    Foreign,
    NotFound,
    OperationFailed,
    PixelsError,
    StepFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    Checkpoint,
    Features,
    Instance,
    InstanceChange,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, Work, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import guest
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import (
    desired_checkpoint,
    list_checkpoint_records,
    plan_checkpoint,
    stem,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
DEFAULTS: dict[str, Any] = {
    "name": "box",
    "label": None,
    "state": "present",
    "keep": None,
    "prefix": None,
    "expires": None,
    "protected": None,
    "remove_newer": False,
    "force": False,
    "timeout": 60,
}


class Server:
    """A server with the checkpoints of its sandboxes, that notes what it is told to do."""

    features = Features()

    def __init__(self, *instances: Instance) -> None:
        self.instances = {instance.name: instance for instance in instances}
        self.checkpoints: dict[str, list[Checkpoint]] = {instance.name: [] for instance in instances}
        self.hollow: set[str] = set()
        self.loses_newer = False
        self.conflicts = 0
        self.done: list[str] = []
        self.fails: dict[str, PixelsError] = {}
        self.files: set[str] = set()

    def has(self, *labels: str, name: str = "box", **fields: Any) -> None:
        """Put checkpoints there, each an hour younger than the one before."""
        for label in labels:
            there = self.checkpoints[name]
            made = NOW - timedelta(days=30) + timedelta(hours=len(there))
            there.append(Checkpoint(label, made, **fields))

    def labels(self, name: str = "box") -> list[str]:
        """Return the labels of the sandbox, oldest first."""
        return [checkpoint.label for checkpoint in self.checkpoints[name]]

    def get_instance(self, name: str) -> Instance | None:
        return self.instances.get(name)

    def list_instances(self, addresses: bool = True) -> tuple[Instance, ...]:
        return tuple(self.instances.values())

    def update_instance(self, instance: Instance, change: InstanceChange, deadline: Deadline) -> None:
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("changed meanwhile", 412)
        keys = {**instance.keys, **change.keys}
        kept = {key: value for key, value in keys.items() if value is not None}
        self._note(f"keys {' '.join(f'{key}={value}' for key, value in change.keys.items())}")
        self.instances[instance.name] = replace(instance, keys=kept)

    def set_power(self, name: str, action: str, deadline: Deadline, force: bool = False) -> None:
        self._note(f"{action}{' by force' if force else ''}")
        status = {"start": "running", "stop": "stopped", "freeze": "frozen"}[action]
        self.instances[name] = replace(self.instances[name], status=status)

    def list_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        if name not in self.checkpoints:
            raise NotFound(f"{name} is not there", 404)
        protected = self.instances[name].keys.get("protected", "").split(",")
        return tuple(replace(entry, protected=entry.label in protected) for entry in self.checkpoints[name])

    def create_checkpoint(self, name: str, label: str, expires_at: datetime | None, deadline: Deadline) -> None:
        self._note(f"create {label}")
        if label in self.labels(name):
            raise Conflict(f"{label} is taken", 409)
        self.checkpoints[name].append(Checkpoint(label, NOW, expires_at))

    def delete_checkpoint(self, name: str, label: str, deadline: Deadline) -> None:
        self._note(f"delete {label}")
        if label not in self.labels(name):
            raise NotFound(f"{label} is not there", 404)
        self.checkpoints[name] = [entry for entry in self.checkpoints[name] if entry.label != label]
        self.hollow.discard(label)

    def is_whole(self, instance: Instance, label: str) -> bool:
        return label not in self.hollow

    def restore_checkpoint(self, instance: Instance, label: str, deadline: Deadline) -> None:
        assert self.instances[instance.name].status == "stopped", "a running sandbox was restored"
        self._note(f"restore {label}")

    def delete_file(self, name: str, path: str) -> None:
        assert self.instances[name].status == "stopped"
        self.files.discard(path)

    def has_file(self, name: str, path: str) -> bool:
        return path in self.files

    def write_file(self, name: str, path: str, source: BinaryIO, mode: int | None = None) -> None:
        self._note(f"write {path}")
        self.files.add(path)

    def lost_by_restore(self, instance: Instance, label: str) -> tuple[str, ...]:
        labels = self.labels(instance.name)
        return tuple(labels[labels.index(label) + 1 :]) if self.loses_newer else ()

    def _note(self, text: str) -> None:
        if text in self.fails:
            raise self.fails[text]
        self.done.append(text)


def sandbox(name: str = "box", status: str = "running", **keys: str) -> Instance:
    """Return a sandbox of ours."""
    return Instance(name, f"px-{name}", status, kind="sandbox", keys={"kind": "sandbox", **keys}, pool="pool")


def work_for(server: Server, **params: Any) -> Work:
    """Return the work for a task with these options."""
    desired = desired_checkpoint({**DEFAULTS, **params})
    return plan_checkpoint(cast(Backend, server), desired, lambda: NOW)


def plan_for(server: Server, **params: Any) -> Plan:
    """Return the plan for a task with these options."""
    (plan,) = work_for(server, **params).plans
    return plan


def run(server: Server, **params: Any) -> Plan:
    """Carry a task out and return its plan."""
    work = work_for(server, **params)
    failed = apply(work)
    assert not failed
    return work.plans[0]


@pytest.fixture
def server() -> Server:
    return Server(sandbox())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "No"}, "name 'No' is not legal"),
        ({"name": "gateway"}, "reserved"),
        ({"label": "a/b"}, "label 'a/b' is not legal"),
        ({"label": "a", "state": "absent", "keep": 1}, "keep is for state present"),
        ({"label": "a", "state": "restored", "expires": "1h"}, "expires is for state present"),
        ({"state": "absent"}, "state absent needs a label"),
        ({"state": "restored"}, "state restored needs a label"),
        ({"keep": 0}, "keep 0 is not above zero"),
        ({"prefix": "a"}, "give keep too"),
        ({"protected": True, "expires": "1h"}, "give protected or expires"),
        ({"expires": "soon"}, "expires 'soon' is not a duration"),
        ({"timeout": 0}, "timeout 0 is not above zero"),
    ],
)
def test_what_cannot_be_is_refused_before_the_server_is_asked(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        desired_checkpoint({**DEFAULTS, **params})


def test_a_prefix_of_the_server_is_understood_in_the_name() -> None:
    assert desired_checkpoint({**DEFAULTS, "name": "px-box"}).name == "box"


@pytest.mark.parametrize("state", ["present", "restored"])
def test_a_sandbox_that_is_not_there_is_an_error(state: str) -> None:
    with pytest.raises(ConfigError, match="there is no sandbox box; there are: one, two"):
        plan_for(Server(sandbox("one"), sandbox("two")), label="a", state=state)


@pytest.mark.parametrize("state", ["present", "absent", "restored"])
def test_what_is_not_ours_is_never_touched(state: str) -> None:
    server = Server(Instance("box", "px-box", "running"))
    server.has("a")
    with pytest.raises(Foreign):
        plan_for(server, label="a", state=state)


def test_a_broken_creation_is_no_sandbox_yet() -> None:
    with pytest.raises(ConfigError, match="was broken off"):
        plan_for(Server(sandbox(unfinished="2026-01-02T03:04:05Z")), label="a")


# present


def test_a_task_without_a_label_makes_one_of_the_time_in_utc(server: Server) -> None:
    plan = run(server)
    assert plan.actions == ["create checkpoint px-20260102-030405 of box"]
    assert server.labels() == ["px-20260102-030405"]


def test_a_task_without_a_label_makes_another_one_within_the_same_second(server: Server) -> None:
    run(server)
    assert run(server).changed
    assert server.labels() == ["px-20260102-030405", "px-20260102-030406"]


def test_a_task_without_a_label_does_not_take_that_of_another_run_for_its_own(server: Server) -> None:
    work = work_for(server)
    run(server)
    assert isinstance(apply(work)["box"], StepFailed)


def test_a_checkpoint_that_is_there_is_left_alone(server: Server) -> None:
    server.has("ready")
    plan = plan_for(server, label="ready")
    assert not plan.steps
    assert plan.before == plan.after


def test_a_second_run_changes_nothing(server: Server) -> None:
    task = {"label": "a-3", "keep": 2, "protected": False, "expires": "1h"}
    server.has("a-1", "a-2")
    assert run(server, **task).changed
    second = plan_for(server, **task)
    assert not second.changed
    assert second.before == second.after


def test_what_is_predicted_is_what_is_seen_afterwards(server: Server) -> None:
    work = work_for(server, label="a", expires="1h")
    apply(work)
    seen = work.observe()["box"]
    after = work.plans[0].after
    assert {field: seen[field] for field in ("label", "protected", "expires_at")} == {
        field: after[field] for field in ("label", "protected", "expires_at")
    }


def test_expires_counts_from_now(server: Server) -> None:
    run(server, label="a", expires="2h")
    assert server.checkpoints["box"][0].expires_at == NOW + timedelta(hours=2)


def test_an_expiry_stays_as_it_was_made(server: Server) -> None:
    run(server, label="a", expires="2h")
    assert not plan_for(server, label="a", expires="2h").steps
    with pytest.raises(ConfigError, match="is 2026-01-02T05:04:05Z and stays so: remove it, or take another label"):
        plan_for(server, label="a", expires="3h")


def test_one_that_never_expires_does_not_begin_to(server: Server) -> None:
    server.has("a")
    with pytest.raises(ConfigError, match="is never and stays so"):
        plan_for(server, label="a", expires="3h")


def test_another_run_that_was_faster_is_success(server: Server) -> None:
    work = work_for(server, label="a")
    server.has("a")
    assert not apply(work)
    assert server.labels() == ["a"]


def test_a_record_without_a_disk_is_made_anew(server: Server) -> None:
    server.has("a")
    server.hollow.add("a")
    plan = run(server, label="a")
    assert plan.actions == ["delete checkpoint a of box, which has no disk", "create checkpoint a of box"]
    assert server.labels() == ["a"]


# protected


def test_protection_is_kept_with_the_sandbox(server: Server) -> None:
    plan = run(server, label="b", protected=True)
    assert plan.actions == ["create checkpoint b of box", "protect checkpoint b of box"]
    run(server, label="a", protected=True)
    assert server.instances["box"].keys["protected"] == "a,b"
    assert not plan_for(server, label="a", protected=True).steps


def test_protection_is_left_alone_when_it_is_not_given(server: Server) -> None:
    run(server, label="a", protected=True)
    assert not plan_for(server, label="a").steps


def test_protection_can_be_taken_back(server: Server) -> None:
    run(server, label="a", protected=True)
    assert run(server, label="a", protected=False).actions == ["unprotect checkpoint a of box"]
    assert "protected" not in server.instances["box"].keys


def test_what_the_server_would_remove_cannot_be_protected(server: Server) -> None:
    run(server, label="a", expires="1h")
    with pytest.raises(ConfigError, match=r"expires at .* would remove it all the same: remove it, or take another"):
        plan_for(server, label="a", protected=True)


def test_a_mark_of_one_that_is_long_gone_protects_nothing_new() -> None:
    server = Server(sandbox(protected="a"))
    plan = run(server, label="a")
    assert plan.actions == ["create checkpoint a of box", "unprotect checkpoint a of box"]
    assert "protected" not in server.instances["box"].keys


def test_one_that_is_made_anew_stays_protected() -> None:
    server = Server(sandbox(protected="a"))
    server.has("a")
    server.hollow.add("a")
    run(server, label="a")
    assert server.instances["box"].keys["protected"] == "a"


def test_protection_outlasts_changes_by_others(server: Server) -> None:
    server.conflicts = 2
    run(server, label="a", protected=True)
    assert server.instances["box"].keys["protected"] == "a"


# keep


@pytest.mark.parametrize(
    ("label", "shared"),
    [
        ("px-20260102-030405", "px-"),
        ("nightly-7", "nightly-"),
        ("v1.2.3", "v"),
        ("ready", "ready"),
        ("a1-b2", "a1-b"),
    ],
)
def test_a_series_is_what_labels_share_before_the_number_at_their_end(label: str, shared: str) -> None:
    assert stem(label) == shared


def test_keep_removes_the_oldest_of_the_series(server: Server) -> None:
    server.has("n-1", "other", "n-2", "n-3")
    plan = run(server, label="n-4", keep=2)
    assert plan.actions == [
        "create checkpoint n-4 of box",
        "delete checkpoint n-1 of box",
        "delete checkpoint n-2 of box",
    ]
    assert server.labels() == ["other", "n-3", "n-4"]
    assert plan.after["others"] == ["n-3", "other"]
    assert work_for(server, label="n-4", keep=2).plans[0].steps == ()


def test_keep_counts_by_prefix_where_one_is_given(server: Server) -> None:
    server.has("n-1", "n-a", "m-1")
    run(server, label="n-2", keep=1, prefix="n-")
    assert server.labels() == ["m-1", "n-2"]


def test_keep_converges_where_nothing_is_to_be_made(server: Server) -> None:
    server.has("n-1", "n-2", "n-3")
    assert run(server, label="n-3", keep=1).actions == [
        "delete checkpoint n-1 of box",
        "delete checkpoint n-2 of box",
    ]


def test_keep_neither_counts_nor_removes_protected_ones() -> None:
    server = Server(sandbox(protected="n-1"))
    server.has("n-1", "n-2", "n-3")
    run(server, label="n-4", keep=2)
    assert server.labels() == ["n-1", "n-3", "n-4"]


def test_keep_spares_what_is_protected_between_the_count_and_the_removal(server: Server) -> None:
    server.has("n-1", "n-2", "n-3")
    work = work_for(server, label="n-4", keep=2)
    server.instances["box"] = sandbox(protected="n-1")
    assert apply(work) == {}
    assert server.labels() == ["n-1", "n-3", "n-4"]
    assert work.observe()["box"]["removed"] == ["n-2"]


def test_keep_does_not_count_the_new_one_when_it_is_protected(server: Server) -> None:
    server.has("n-1", "n-2")
    run(server, label="n-3", keep=2, protected=True)
    assert server.labels() == ["n-1", "n-2", "n-3"]


def test_keep_neither_counts_nor_removes_those_that_instances_come_from() -> None:
    clone = sandbox("clone", source="box:n-1")
    build = Instance("build-x", "px-build-x", "stopped", kind="build", keys={"kind": "build", "source": "box:n-2"})
    elsewhere = sandbox("elsewhere", source="other:n-3")
    server = Server(sandbox(), clone, build, elsewhere)
    server.has("n-1", "n-2", "n-3")
    run(server, label="n-4", keep=1)
    assert server.labels() == ["n-1", "n-2", "n-4"]


def test_keep_removes_nothing_when_the_new_one_cannot_be_made(server: Server) -> None:
    server.has("n-1")
    server.fails["create n-2"] = OperationFailed("the pool is full")
    failed = apply(work_for(server, label="n-2", keep=1))
    assert "could not create checkpoint n-2 of box: the pool is full" in str(failed["box"])
    assert server.labels() == ["n-1"]


# absent


def test_a_checkpoint_is_removed(server: Server) -> None:
    server.has("a", "b")
    plan = run(server, label="a", state="absent")
    assert plan.actions == ["delete checkpoint a of box"]
    assert plan.after == {}
    assert plan.seen["removed"] == ["a"]
    assert server.labels() == ["b"]


@pytest.mark.parametrize("there", [True, False])
def test_what_is_not_there_is_absent(there: bool) -> None:
    server = Server(sandbox()) if there else Server()
    plan = plan_for(server, label="a", state="absent")
    assert not plan.changed
    assert plan.before == plan.after == {}


def test_one_that_somebody_else_removes_meanwhile_is_absent(server: Server) -> None:
    server.has("a")
    work = work_for(server, label="a", state="absent")
    server.checkpoints["box"].clear()
    assert not apply(work)


def test_one_that_two_runs_remove_at_once_is_absent(server: Server) -> None:
    server.has("a")
    work = work_for(server, label="a", state="absent")
    server.checkpoints["box"].clear()
    server.fails["delete a"] = OperationFailed("a matching operation has now succeeded", 400)
    assert not apply(work)


def test_one_that_the_server_does_not_remove_is_a_failure(server: Server) -> None:
    server.has("a")
    server.fails["delete a"] = OperationFailed("the disk is busy", 400)
    assert "the disk is busy" in str(apply(work_for(server, label="a", state="absent"))["box"])


def test_a_protected_one_is_removed_only_when_the_task_says_so() -> None:
    server = Server(sandbox(protected="a,b"))
    server.has("a", "b")
    with pytest.raises(ConfigError, match="a of box is protected: protected: false removes it all the same"):
        plan_for(server, label="a", state="absent", force=True)
    run(server, label="a", state="absent", protected=False)
    assert server.labels() == ["b"]
    # otherwise the next one of that label would be protected without being asked for
    assert server.instances["box"].keys["protected"] == "b"


# restored


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ("running", ["stop", "restore a", "start"]),
        ("stopped", ["restore a"]),
        ("frozen", ["stop", "restore a", "start", "freeze"]),
    ],
)
def test_a_restore_leaves_the_power_state_as_it_was(status: str, done: list[str]) -> None:
    server = Server(sandbox(status=status))
    server.has("a", "b")
    plan = run(server, label="a", state="restored")
    assert server.done == done
    assert server.instances["box"].status == status
    assert plan.changed
    assert server.labels() == ["a", "b"]


def test_a_restored_disk_gets_the_policy_that_is_wanted_before_it_boots() -> None:
    wanted = policy("allowlist", allow=["a.example.test"], enforcement="guest")
    server = Server(sandbox(status="stopped", egress=wanted.text))
    server.has("a")
    failed = apply(work_for(server, label="a", state="restored"))
    assert "the role pixels.sandbox.nftables" in str(failed["box"])
    assert server.instances["box"].status == "stopped"
    server.files.add(guest.PROGRAM)
    run(server, label="a", state="restored")
    assert server.done[-2:] == ["restore a", f"write {guest.POLICY_FILE}"]
    # one that enforces nothing itself is not to be held by what was on the disk then
    server.instances["box"] = sandbox(status="stopped")
    run(server, label="a", state="restored")
    assert guest.POLICY_FILE not in server.files


@pytest.mark.parametrize("status", ["running", "frozen", "stopped"])
def test_a_restored_sandbox_is_not_started_beside_its_wire(status: str) -> None:
    wanted = policy("allowlist", allow=["a.example.test"])
    server = Server(replace(sandbox(status=status, egress=wanted.text), network="pixels0"))
    server.has("a")
    if status == "stopped":
        run(server, label="a", state="restored")
        assert server.done == ["restore a"]
        return
    with pytest.raises(ConfigError, match="box is not started: its egress is allowlist, and it hangs on no wire"):
        plan_for(server, label="a", state="restored")
    assert server.done == []
    # moved when the plan was made already
    server.instances["box"] = replace(server.instances["box"], wire="pxe-0007")
    work = work_for(server, label="a", state="restored")
    server.instances["box"] = replace(server.instances["box"], wire=None)
    assert "is not started" in str(apply(work)["box"])
    assert server.instances["box"].status == "stopped"


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_a_sandbox_with_a_policy_that_cannot_be_read_is_not_restored(status: str) -> None:
    server = Server(sandbox(status=status, egress='{"format":1,"mode":"unrestricted"}'))
    server.has("a")
    with pytest.raises(ConfigError, match=r"box: the key user\.pixels\.egress: .* cannot be read"):
        plan_for(server, label="a", state="restored")
    assert server.done == []


def test_a_restore_is_done_each_time(server: Server) -> None:
    server.has("a")
    run(server, label="a", state="restored")
    assert plan_for(server, label="a", state="restored").changed


def test_a_guest_that_does_not_stop_is_switched_off(server: Server) -> None:
    server.has("a")
    server.fails["stop"] = OperationFailed("the guest does not answer")
    run(server, label="a", state="restored")
    assert server.done == ["stop by force", "restore a", "start"]


def test_force_switches_off_at_once(server: Server) -> None:
    server.has("a")
    run(server, label="a", state="restored", force=True)
    assert server.done[0] == "stop by force"


def test_an_unknown_label_is_an_error_that_says_which_there_are(server: Server) -> None:
    server.has("a", "b")
    with pytest.raises(ConfigError, match="box has no checkpoint c; it has: a, b"):
        plan_for(server, label="c", state="restored")


def test_a_checkpoint_without_a_disk_is_not_restored(server: Server) -> None:
    server.has("a")
    server.hollow.add("a")
    with pytest.raises(ConfigError, match="has no disk"):
        plan_for(server, label="a", state="restored")


def test_what_a_restore_would_lose_is_named_and_refused(server: Server) -> None:
    server.loses_newer = True
    server.has("a", "b", "c")
    with pytest.raises(ConfigError, match="without removing what is newer: b, c; remove_newer: true does so"):
        plan_for(server, label="a", state="restored")


def test_remove_newer_removes_what_is_in_the_way_newest_first(server: Server) -> None:
    server.loses_newer = True
    server.has("a", "b", "c")
    plan = run(server, label="a", state="restored", remove_newer=True)
    assert server.done == ["stop", "delete c", "delete b", "restore a", "start"]
    assert plan.seen["removed"] == ["b", "c"]
    assert plan.after["others"] == []


def test_remove_newer_never_removes_protected_ones() -> None:
    server = Server(sandbox(protected="b"))
    server.loses_newer = True
    server.has("a", "b")
    with pytest.raises(ConfigError, match="b is protected"):
        plan_for(server, label="a", state="restored", remove_newer=True)


def test_remove_newer_spares_what_is_protected_before_it_goes(server: Server) -> None:
    server.loses_newer = True
    server.has("a", "b", "c")
    work = work_for(server, label="a", state="restored", remove_newer=True)
    server.instances["box"] = sandbox(protected="b")
    # the server does not go back past it
    server.fails["restore a"] = OperationFailed("newer ones are in the way", 400)
    assert "newer ones are in the way" in str(apply(work)["box"])
    assert server.labels() == ["a", "b"]


def test_the_newest_one_is_restored_without_a_loss(server: Server) -> None:
    server.loses_newer = True
    server.has("a", "b")
    assert run(server, label="b", state="restored").seen["removed"] == []


# lists


def records(server: Server, wanted: list[str] | None = None) -> list[dict[str, object]]:
    """Return the records of the info module."""
    return list_checkpoint_records(cast(Backend, server), wanted)


def test_records_tell_everything_of_a_checkpoint() -> None:
    server = Server(sandbox(protected="a"), sandbox("clone", source="box:a"))
    server.has("a", size=4096)
    assert records(server) == [
        {
            "name": "box",
            "label": "a",
            "created_at": "2025-12-03T03:04:05Z",
            "expires_at": None,
            "size": 4096,
            "protected": True,
            "clones": ["clone"],
        }
    ]


def test_records_are_of_sandboxes_only_and_of_those_that_are_asked_for() -> None:
    foreign = Instance("foreign", "px-foreign", "running")
    server = Server(sandbox("one"), sandbox("two"), foreign)
    for name in ("one", "two", "foreign"):
        server.has("a", name=name)
    assert [record["name"] for record in records(server)] == ["one", "two"]
    assert [record["name"] for record in records(server, ["two", "foreign"])] == ["two"]


def test_a_sandbox_that_is_removed_while_it_is_listed_has_no_records() -> None:
    server = Server(sandbox("one"), sandbox("two"))
    server.has("a", name="one")
    del server.checkpoints["two"]
    assert [record["name"] for record in records(server)] == ["one"]
