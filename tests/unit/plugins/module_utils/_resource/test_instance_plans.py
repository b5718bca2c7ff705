# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there, what is wanted, and what is done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, cast

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
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_UNFINISHED,
    Capabilities,
    CloneSource,
    Console,
    ExecRequest,
    ExecResult,
    Features,
    Image,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Limits,
    Mount,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Work, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import instance as planner
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.desired import desired_from
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import list_records, plan_instances

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("image", "clone_from", "cpu", "memory", "disk", "processes", "type", "pool", "network", "profiles"),
            *("target", "hardening", "nesting", "mounts", "labels", "owner", "ttl", "autostart"),
        )
    ),
    "state": "started",
    "image_server": "https://images.example",
    "renew": False,
    "wait_for": "address",
    "timeout": 2,
    "force": False,
    "max_parallel": 8,
}


def box(name: str = "box", **fields: Any) -> Instance:
    """Return a sandbox that runs."""
    keys = {"kind": "sandbox", "hardening": "standard", "image": "debian/13", **fields.pop("keys", {})}
    defaults: dict[str, Any] = {
        "status": "running",
        "limits": Limits(cpu=2, memory=2**31, processes=4096),
        "hardening": "standard",
        "isolated": True,
        "profiles": ("default",),
        "pool": "pixels",
        "network": "pixels0",
        "location": "none",
        "addresses": ("192.0.2.7",),
        "created_at": NOW - timedelta(hours=1),
        "revision": "1",
    }
    return Instance(name=name, server_name=f"px-{name}", kind=keys.get("kind"), keys=keys, **{**defaults, **fields})


class Server:
    """A server that has these instances, notes what it is told to do, and does it."""

    features = Features()

    def __init__(self, *instances: Instance) -> None:
        self.there = {instance.name: instance for instance in instances}
        self.done: list[str] = []
        self.specs: dict[str, InstanceSpec] = {}
        self.changes: list[InstanceChange] = []
        self.fails: dict[str, PixelsError] = {}
        self.missing: list[ImageSource | CloneSource] = []
        self.conflicts = 0
        self.busy = False
        self.reads = 0
        self.booted = b"running\n"

    def get_instances(self, wanted: tuple[str, ...], addresses: bool = True) -> dict[str, Instance]:
        """Return those that are there."""
        self.reads += 1
        return {name: self.there[name] for name in wanted if name in self.there}

    def get_instance(self, name: str) -> Instance | None:
        """Return one."""
        self.reads += 1
        return self.there.get(name)

    def list_instances(self, addresses: bool = True) -> tuple[Instance, ...]:
        """Return all."""
        return tuple(self.there[name] for name in sorted(self.there))

    def list_images(self) -> tuple[Image, ...]:
        """Return an image."""
        return (Image("abcdef", ("debian/13",)),)

    def capabilities(self) -> Capabilities:
        """Return those of a plain server."""
        return Capabilities("incus", cores=2)

    def console(self, name: str, command: Sequence[str]) -> Console:
        return Console(f"enter {name} -- {' '.join(command)}")

    def is_busy(self, name: str) -> bool:
        """Say what the test says."""
        return self.busy

    def check_origin(self, origin: ImageSource | CloneSource) -> None:
        """Refuse what the test says is missing."""
        if origin in self.missing:
            raise ConfigError(f"there is no {origin}")

    def create_instance(self, spec: InstanceSpec, deadline: Deadline) -> None:
        """Make a stopped sandbox."""
        self._do(f"create {spec.name}")
        if spec.name in self.there:
            raise Conflict("taken", 409)
        self.specs[spec.name] = spec
        keys = {key: value for key, value in spec.keys.items() if key != KEY_UNFINISHED}
        self.there[spec.name] = box(spec.name, status="stopped", addresses=(), keys=keys, created_at=NOW)

    def update_instance(self, instance: Instance, change: InstanceChange, deadline: Deadline) -> None:
        """Note the change, after as many conflicts as the test wants."""
        if self.conflicts:
            self.conflicts -= 1
            self.there[instance.name] = replace(self.there[instance.name], revision=instance.revision + "+")
            raise Conflict("stale", 412)
        if self.there[instance.name].revision != instance.revision:
            raise Conflict("changed meanwhile", 412)
        self._do(f"update {instance.name}")
        self.changes.append(change)
        self.there[instance.name] = planner.changed_instance(instance, change)

    def set_power(self, name: str, action: str, deadline: Deadline, force: bool = False) -> None:
        """Change the state."""
        self._do(f"{action} {name}" + (" by force" if force else ""))
        if name not in self.there:
            raise NotFound("gone", 404)
        status = {"stop": "stopped", "freeze": "frozen"}.get(action, "running")
        addresses = () if status == "stopped" else ("192.0.2.7",)
        self.there[name] = replace(self.there[name], status=status, addresses=addresses)

    def delete_instance(self, name: str, deadline: Deadline) -> None:
        """Remove it."""
        self._do(f"delete {name}")
        if self.there.pop(name, None) is None:
            raise NotFound("gone", 404)

    def execute(self, name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        """Say how far the guest is."""
        self.done.append(f"ask {name}")
        return ExecResult(0, self.booted)

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in self.fails:
            raise self.fails[what]


def plan(server: Server, name: str | list[str] = "box", **options: Any) -> Work:
    """Return what would be done."""
    given = [name] if isinstance(name, str) else name
    return plan_instances(cast(Backend, server), desired_from({**DEFAULTS, "name": given, **options}), lambda: NOW)


def do(server: Server, name: str | list[str] = "box", **options: Any) -> dict[str, PixelsError]:
    """Do it, and return what failed."""
    return apply(plan(server, name, **options))


@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        (None, "started", ["create box", "start box"]),
        (None, "restarted", ["create box", "start box"]),
        (None, "stopped", ["create box"]),
        (None, "present", ["create box"]),
        (None, "frozen", ["create box", "start box", "freeze box"]),
        (None, "absent", []),
        ("running", "started", []),
        ("running", "present", []),
        ("running", "stopped", ["stop box"]),
        ("running", "frozen", ["freeze box"]),
        ("running", "restarted", ["stop box", "start box"]),
        ("running", "absent", ["stop box by force", "delete box"]),
        ("stopped", "started", ["start box"]),
        ("stopped", "present", []),
        ("stopped", "stopped", []),
        ("stopped", "frozen", ["start box", "freeze box"]),
        ("stopped", "restarted", ["start box"]),
        ("stopped", "absent", ["delete box"]),
        ("frozen", "started", ["unfreeze box"]),
        ("frozen", "stopped", ["unfreeze box", "stop box"]),
        ("frozen", "frozen", []),
        ("frozen", "restarted", ["unfreeze box", "stop box", "start box"]),
        ("frozen", "absent", ["stop box by force", "delete box"]),
    ],
)
def test_every_state_is_reached_from_every_other(status: str | None, state: str, expected: list[str]) -> None:
    server = Server(*([box(status=status, addresses=() if status == "stopped" else ("192.0.2.7",))] if status else []))
    assert do(server, state=state) == {}
    assert server.done == expected
    if state != "restarted":
        server.done.clear()
        work = plan(server, state=state)
        assert not work.plans[0].changed
        assert work.plans[0].before == work.plans[0].after


@pytest.mark.parametrize(
    ("there", "options", "change"),
    [
        ({}, {"cpu": 2, "memory": "2048"}, None),
        ({}, {"cpu": 4}, InstanceChange(limits=Limits(cpu=4))),
        ({}, {"memory": "1GiB", "disk": "5"}, InstanceChange(limits=Limits(memory=2**30, disk=5 * 2**30))),
        ({}, {"hardening": "standard"}, None),
        ({"hardening": "custom"}, {"hardening": "standard"}, InstanceChange(hardening="standard")),
        ({"hardening": "custom"}, {}, None),
        ({}, {"nesting": True}, InstanceChange(nesting=True)),
        ({}, {"nesting": False}, None),
        ({}, {"autostart": False}, InstanceChange(autostart=False)),
        ({}, {"network": "other", "profiles": ["a"]}, InstanceChange(network="other", profiles=("a",))),
        (
            {},
            {"mounts": [{"source": "/srv/a", "path": "/a", "readonly": True}]},
            InstanceChange(mounts=(Mount("/srv/a", "/a"),)),
        ),
        ({"mounts": (Mount("/srv/a", "/a"),)}, {"mounts": []}, InstanceChange(mounts=())),
        (
            {"keys": {"label.a": "1", "label.b": "2"}},
            {"labels": {"a": "1", "c": "3"}},
            InstanceChange(keys={"label.b": None, "label.c": "3"}),
        ),
        ({"keys": {"label.a": "1"}}, {"labels": {"a": 1}}, None),
        ({"keys": {"label.a": "1"}}, {}, None),
        ({"keys": {"owner": "ada"}}, {"owner": "ada"}, None),
        ({"keys": {"owner": "ada"}}, {"owner": ""}, InstanceChange(keys={"owner": None})),
        ({}, {"owner": ""}, None),
        ({}, {"ttl": "2h"}, InstanceChange(keys={"ttl": "7200", "expires": "2026-01-02T04:04:05Z"})),
        ({"keys": {"ttl": "7200", "expires": "x"}}, {"ttl": "2h"}, None),
        (
            {"keys": {"ttl": "7200", "expires": "x"}},
            {"ttl": "never"},
            InstanceChange(keys={"ttl": None, "expires": None}),
        ),
        ({}, {"ttl": "never"}, None),
        (
            {"keys": {"ttl": "7200", "expires": "x"}},
            {"renew": True},
            InstanceChange(keys={"ttl": "7200", "expires": "2026-01-02T05:04:05Z"}),
        ),
        ({}, {"renew": True, "ttl": "60"}, InstanceChange(keys={"ttl": "60", "expires": "2026-01-02T03:05:05Z"})),
        ({}, {"image": "local:debian/13", "pool": "pixels", "type": "container"}, None),
    ],
)
def test_only_what_differs_is_changed(
    there: dict[str, Any], options: dict[str, Any], change: InstanceChange | None
) -> None:
    server = Server(box(**there))
    assert do(server, **options) == {}
    assert server.changes == ([change] if change else [])
    server.changes.clear()
    if not options.get("renew"):
        assert do(server, **options) == {}
        assert server.changes == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "other"}, "pool of box is pixels and cannot be changed to other in place"),
        ({"type": "vm"}, "type of box is container"),
        ({"target": "node2"}, "target of box is none"),
        ({"image": "debian/12"}, "image of box is debian/13"),
        ({"clone_from": "dev"}, "clone_from of box is not known"),
        ({"renew": True}, "box has no time to live"),
    ],
)
def test_what_cannot_be_changed_in_place_is_an_error(options: dict[str, Any], message: str) -> None:
    server = Server(box(), box("dev"))
    with pytest.raises(ConfigError, match=message):
        plan(server, **options)
    assert server.done == []


def test_a_new_sandbox_has_defaults_and_what_was_asked_for() -> None:
    server = Server()
    assert do(server, image="debian/13", labels={"a": "b"}, owner="ada", ttl="1h", memory="512") == {}
    spec = server.specs["box"]
    assert spec.origin == ImageSource("debian/13")
    assert spec.limits == Limits(cpu=2, memory=512 * 2**20)
    assert spec.hardening == "standard"
    mark = spec.keys[KEY_UNFINISHED]
    assert mark.startswith("2026-01-02T03:04:05Z/")
    assert dict(spec.keys) == {
        "kind": "sandbox",
        "hardening": "standard",
        "image": "debian/13",
        "label.a": "b",
        "owner": "ada",
        "ttl": "3600",
        "expires": "2026-01-02T04:04:05Z",
        KEY_UNFINISHED: mark,
    }


@pytest.mark.parametrize(
    ("image", "origin"),
    [
        ("debian/13", ImageSource("debian/13")),
        ("local:other", ImageSource("other")),
        ("images:debian/13", ImageSource("debian/13", "https://images.example")),
        ("alpine/edge", ImageSource("alpine/edge", "https://images.example")),
        (None, ImageSource("ubuntu/24.04", "https://images.example")),
    ],
)
def test_images_are_written_as_incus_writes_them(image: str | None, origin: ImageSource) -> None:
    server = Server()
    do(server, image=image)
    assert server.specs["box"].origin == origin


def test_a_remote_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ConfigError, match="remote 'ubuntu' is not known"):
        plan(Server(), image="ubuntu:24.04")


def test_a_clone_takes_what_its_source_has_now_and_what_was_asked_for() -> None:
    source = box(
        "dev",
        limits=Limits(cpu=6, memory=2**33, processes=10),
        nesting=True,
        keys={"hardening": "strict", "label.a": "b", "owner": "ada", "ttl": "9", "expires": "x"},
    )
    server = Server(source)
    assert do(server, ["one", "two"], clone_from="dev:ready", cpu=1, labels={"c": "d"}) == {}
    for name in ("one", "two"):
        spec = server.specs[name]
        assert spec.origin == CloneSource("dev", "ready")
        assert spec.limits == Limits(cpu=1, memory=2**33, processes=10)
        assert (spec.hardening, spec.nesting, spec.mounts) == ("strict", True, None)
        keys = {key: value for key, value in spec.keys.items() if key != KEY_UNFINISHED}
        assert keys == {
            "kind": "sandbox",
            "hardening": "strict",
            "image": "debian/13",
            "source": "dev:ready",
            "label.c": "d",
        }


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "there is no sandbox dev"),
        ([box("dev", keys={"kind": "gateway"})], "is a gateway, not a sandbox"),
        ([box("dev", keys={"unfinished": "2026-01-02T03:04:05Z/aa"})], "was broken off"),
    ],
)
def test_a_source_that_is_none_is_an_error(sources: list[Instance], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(Server(*sources), clone_from="dev")


@pytest.mark.parametrize("options", [{"image": "local:x"}, {"clone_from": "dev:x"}])
def test_what_is_missing_is_said_before_anything_is_done(options: dict[str, Any]) -> None:
    server = Server(box("dev"))
    server.missing = [ImageSource("x"), CloneSource("dev", "x")]
    with pytest.raises(ConfigError, match="there is no"):
        plan(server, ["one", "two"], **options)


@pytest.mark.parametrize("state", ["started", "stopped", "restarted", "present", "absent", "frozen"])
@pytest.mark.parametrize("kind", [None, "gateway", "base"])
def test_what_is_not_ours_is_never_touched(state: str, kind: str | None) -> None:
    foreign = replace(box(), kind=kind)
    server = Server(foreign)
    with pytest.raises(Foreign, match="is left alone"):
        plan(server, state=state, cpu=8, force=True)
    assert server.done == []


def test_one_foreign_name_keeps_all_from_being_touched() -> None:
    server = Server(replace(box("b"), kind=None))
    with pytest.raises(Foreign):
        plan(server, ["a", "b", "c"])
    assert server.done == []


@pytest.mark.parametrize(
    ("force", "label", "refused"), [(False, "true", True), (True, "true", False), (False, "false", False)]
)
def test_the_label_protected_keeps_a_sandbox(force: bool, label: str, refused: bool) -> None:
    server = Server(box(keys={"label.protected": label}))
    if refused:
        with pytest.raises(ConfigError, match="label protected"):
            plan(server, state="absent", force=force)
    else:
        assert do(server, state="absent", force=force) == {}
        assert not server.there


OVER = {"expires": "2026-01-02T03:04:05Z"}
LATER = {"expires": "2026-01-02T03:04:06Z"}


@pytest.mark.parametrize(
    ("keys", "force", "goes"),
    [
        (OVER, False, True),
        (LATER, False, False),
        ({}, False, False),
        ({"expires": "soon"}, False, False),
        ({**OVER, "label.protected": "true"}, False, False),
        ({**OVER, "label.protected": "true"}, True, True),
        ({**OVER, "label.protected": "false"}, False, True),
        ({**OVER, "unfinished": "2026-01-02T03:04:00Z/aa"}, False, False),
        ({**OVER, "unfinished": "2026-01-02T03:03:00Z/aa"}, False, True),
    ],
)
def test_only_what_has_expired_is_removed_where_the_task_says_so(keys: dict[str, str], force: bool, goes: bool) -> None:
    server = Server(box(keys=keys), box("other", keys=LATER))
    work = plan(server, ["box", "other"], state="absent", expired=True, force=force)
    assert [entry.changed for entry in work.plans] == [goes, False]
    assert apply(work) == {}
    assert set(server.there) == ({"other"} if goes else {"box", "other"})
    assert server.done == (["update box", "stop box by force", "delete box"] if goes else [])


@pytest.mark.parametrize("late", [False, True])
def test_what_is_renewed_before_it_goes_stays(late: bool) -> None:
    server = Server(box(keys=OVER))
    work = plan(server, state="absent", expired=True)
    renewed = box(keys=LATER, revision="2")
    if late:
        # between the last look and the write that would have claimed it
        read = server.get_instance

        def look(name: str) -> Instance | None:
            found = read(name)
            server.there[name] = renewed
            return found

        server.get_instance = look  # type: ignore[method-assign]
    else:
        server.there["box"] = renewed
    assert apply(work) == {}
    assert server.done == []
    assert server.there == {"box": renewed}


def test_what_is_renewed_too_late_is_told_so() -> None:
    server = Server(box(keys={**OVER, "ttl": "60"}))
    work = plan(server, renew=True)
    # the run that removes it has claimed it by now
    server.there["box"] = box(keys={**OVER, "ttl": "60", "unfinished": "2026-01-02T03:04:05Z/aa"}, revision="2")
    assert "box is being removed, or made again, by another run" in str(apply(work)["box"])
    assert server.changes == []


def test_expired_is_for_absent() -> None:
    with pytest.raises(ConfigError, match="expired"):
        plan(Server(box()), expired=True)


@pytest.mark.parametrize("options", [{"type": "vm"}, {"target": "node2"}])
def test_what_the_server_cannot_do_is_said_before_anything_is_done(options: dict[str, Any]) -> None:
    server = Server()
    with pytest.raises(Unsupported):
        plan(server, **options)
    assert server.done == []


def test_one_of_eight_fails_and_seven_are_finished() -> None:
    server = Server(box("dev"))
    server.fails["create c4"] = OperationFailed("no space left on device", 400)
    wanted = [f"c{number}" for number in range(8)]
    failed = do(server, wanted, clone_from="dev")
    assert list(failed) == ["c4"]
    assert "could not create c4 from dev: no space left on device" in str(failed["c4"])
    assert {name for name in wanted if name in server.there} == set(wanted) - {"c4"}
    assert all(server.there[name].status == "running" for name in set(wanted) - {"c4"})


def test_nothing_to_do_for_fifty_costs_one_read() -> None:
    wanted = [f"c{number}" for number in range(50)]
    server = Server(*(box(name) for name in wanted))
    work = plan(server, wanted, cpu=2)
    assert not any(entry.steps for entry in work.plans)
    assert server.reads == 1


def test_a_guest_that_does_not_shut_down_is_switched_off() -> None:
    server = Server(box())
    server.fails["stop box"] = OperationFailed("the guest does not follow", 400)
    assert do(server, state="stopped") == {}
    assert server.done == ["stop box", "stop box by force"]


def test_force_switches_off_at_once() -> None:
    server = Server(box())
    assert do(server, state="stopped", force=True) == {}
    assert server.done == ["stop box by force"]


def test_a_sandbox_that_goes_away_meanwhile_is_absent() -> None:
    server = Server(box())
    work = plan(server, state="absent")
    server.there.clear()
    assert apply(work) == {}
    assert server.done == ["stop box by force", "delete box"]


def test_a_deletion_that_the_server_refuses_is_a_failure() -> None:
    server = Server(box(status="stopped"))
    server.fails["delete box"] = OperationFailed("busy", 400)
    assert "could not delete box: busy" in str(do(server, state="absent")["box"])


def test_a_stale_write_is_planned_again() -> None:
    server = Server(box())
    server.conflicts = 2
    assert do(server, cpu=8) == {}
    assert server.changes == [InstanceChange(limits=Limits(cpu=8))]


def test_a_write_that_is_always_stale_is_a_conflict() -> None:
    server = Server(box())
    server.conflicts = 99
    failed = do(server, cpu=8)
    assert "keeps being changed" in str(failed["box"])


def test_what_another_run_has_changed_already_is_not_changed_again() -> None:
    server = Server(box())
    work = plan(server, cpu=8)
    server.there["box"] = box(limits=Limits(cpu=8, memory=2**31, processes=4096))
    server.conflicts = 1
    assert apply(work) == {}
    assert server.changes == []


def test_a_run_that_is_slower_takes_what_the_faster_one_has_made() -> None:
    server = Server()
    work = plan(server)
    server.there["box"] = box(status="stopped", addresses=())
    assert apply(work) == {}
    assert server.done == ["start box"]


def test_what_a_faster_run_has_made_otherwise_is_changed_or_refused() -> None:
    server = Server()
    work = plan(server, image="debian/13", cpu=8, labels={"team": "search"})
    server.there["box"] = box(status="stopped", addresses=())
    assert apply(work) == {}
    assert server.done == ["update box", "start box"]
    assert (server.there["box"].limits.cpu, server.there["box"].labels) == (8, {"team": "search"})

    server = Server()
    work = plan(server, image="debian/13")
    server.there["box"] = box(status="stopped", addresses=(), keys={"image": "debian/12"})
    assert "image of box is debian/12 and cannot be changed" in str(apply(work)["box"])
    assert server.done == []


def test_what_a_killed_run_has_left_is_made_again() -> None:
    server = Server(box(status="stopped", addresses=(), keys={"unfinished": "2026-01-02T03:00:00Z/aa"}))
    assert do(server) == {}
    assert server.done == ["update box", "delete box", "create box", "start box"]


def test_what_a_killed_run_has_left_too_broken_to_be_written_is_made_again() -> None:
    server = Server(box(status="stopped", addresses=(), keys={"unfinished": "2026-01-02T03:00:00Z/aa"}))
    server.fails["update box"] = OperationFailed("it has no disk", 400)
    assert do(server) == {}
    assert server.done == ["update box", "delete box", "create box", "start box"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_creation_that_ends_while_its_server_is_asked_is_never_removed(refused: bool) -> None:
    server = Server(box(status="stopped", addresses=(), keys={"unfinished": "2026-01-02T03:00:00Z/aa"}))
    finished = box(status="stopped", addresses=(), revision="2", keys={"owner": "the other run"})

    def ends(name: str) -> bool:
        if not refused:
            server.there[name] = finished
        return False

    def refuses(instance: Instance, change: InstanceChange, deadline: Deadline) -> None:
        server.there[instance.name] = finished
        raise OperationFailed("busy", 400)

    server.is_busy = ends  # type: ignore[method-assign]
    if refused:
        server.update_instance = refuses  # type: ignore[method-assign]
    assert do(server) == {}
    assert server.done == ["start box"]
    assert server.there["box"].keys["owner"] == "the other run"


def test_what_another_run_is_making_is_left_to_it() -> None:
    server = Server(box(status="stopped", addresses=(), keys={"unfinished": "2026-01-02T03:04:00Z/aa"}))
    failed = do(server, timeout=1)
    assert "box is being made by another run" in str(failed["box"])
    assert server.done == []


def test_what_the_server_works_at_is_left_to_it_however_old_it_is() -> None:
    server = Server(box(status="stopped", addresses=(), keys={"unfinished": "2026-01-01T00:00:00Z/aa"}))
    server.busy = True
    assert "is being made by another run" in str(do(server, timeout=1)["box"])
    assert server.done == []


def test_a_foreign_instance_that_appears_in_between_is_left_alone() -> None:
    server = Server()
    work = plan(server)
    server.there["box"] = replace(box(), kind=None)
    assert isinstance(cast(Any, apply(work)["box"]).cause, Foreign)
    assert server.done == []


def test_a_guest_that_stops_again_right_after_its_start_is_a_failure() -> None:
    server = Server(box(status="stopped", addresses=()))
    work = plan(server)
    original = server.set_power

    def dies(name: str, action: str, deadline: Deadline, force: bool = False) -> None:
        original(name, action, deadline, force)
        server.there[name] = replace(server.there[name], status="stopped", addresses=())

    server.set_power = dies  # type: ignore[method-assign]
    assert "stopped again right after its start" in str(apply(work)["box"])


def test_an_address_that_does_not_come_is_a_failure() -> None:
    server = Server(box(addresses=()))
    assert "box has no address" in str(do(server, timeout=1)["box"])


@pytest.mark.parametrize(
    ("booted", "fails"), [(b"running\n", False), (b"degraded\n", False), (b"maintenance\n", True), (b"", True)]
)
def test_ready_is_a_guest_whose_start_has_ended(booted: bytes, fails: bool) -> None:
    server = Server(box())
    server.booted = booted
    assert bool(do(server, wait_for="ready")) is fails
    assert server.done == ["ask box"]


def test_lists_have_sandboxes_with_the_labels_asked_for() -> None:
    server = Server(
        box("a", keys={"label.team": "x"}), box("b", keys={"label.team": "y"}), replace(box("c"), kind=None), box("d")
    )
    backend = cast(Backend, server)
    assert [entry["name"] for entry in list_records(backend, None, {}, False)] == ["a", "b", "d"]
    assert [entry["name"] for entry in list_records(backend, None, {}, True)] == ["a", "b", "c", "d"]
    assert [entry["name"] for entry in list_records(backend, None, {"team": "y"}, False)] == ["b"]
    assert [entry["name"] for entry in list_records(backend, ["d", "a", "zz"], {}, False)] == ["a", "d"]


# -- egress of what starts

LIST = policy("allowlist", allow=["a.example.test"])
STARTS = [("stopped", "started"), ("stopped", "restarted"), ("stopped", "frozen"), ("frozen", "started")]


@pytest.mark.parametrize(("status", "state"), STARTS)
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"wire": None}, "it hangs on no wire"),
        ({"wire": "none"}, "it hangs on no wire"),
        ({"wire": "pxe-0007", "ways_out": ("the device eth9 is a nic",)}, "the device eth9 is a nic"),
    ],
)
def test_nothing_starts_beside_its_wire(status: str, state: str, fields: dict[str, Any], words: str) -> None:
    server = Server(box(status=status, keys={"egress": LIST.text}, **fields))
    with pytest.raises(ConfigError, match=f"box is not started: its egress is allowlist, and {words}"):
        plan(server, state=state)
    assert server.done == []
    # and when that happens after the plan was made
    server.there["box"] = replace(server.there["box"], wire="pxe-0007", ways_out=())
    work = plan(server, state=state)
    server.there["box"] = replace(server.there["box"], **fields)
    assert words in str(apply(work)["box"])
    assert server.there["box"].status == status


def test_what_runs_beside_its_wire_is_stopped_by_a_restart() -> None:
    server = Server(box(keys={"egress": LIST.text}))
    assert "is not started" in str(do(server, state="restarted")["box"])
    assert server.there["box"].status == "stopped"


@pytest.mark.parametrize(("status", "state"), [*STARTS, ("running", "restarted"), ("running", "started")])
def test_a_policy_that_cannot_be_read_does_not_count_as_none(status: str, state: str) -> None:
    server = Server(box(status=status, wire="pxe-0007", keys={"egress": "{"}))
    with pytest.raises(ConfigError, match=r"box: the key user\.pixels\.egress: .* cannot be read"):
        plan(server, state=state)
    assert server.done == []
    assert not do(server, state="stopped")
    assert not do(server, "box", state="present")
    clone = {"clone_from": "box", "image": None}
    with pytest.raises(ConfigError, match=r"the key user\.pixels\.egress"):
        plan(server, "copy", **clone)
    (record,) = list_records(cast(Backend, server), ["box"], {}, False)
    assert record["egress"] is None


def test_a_policy_that_cannot_be_read_is_replaced_by_one_that_names_its_mode() -> None:
    server = Server(box(status="stopped", keys={"egress": "{"}))
    with pytest.raises(ConfigError, match=r"the key user\.pixels\.egress"):
        plan(server, egress_allow_add=["b.example.test"])
    (made,) = plan(server, egress="none").plans
    assert made.actions[0].startswith("enforce egress none on box")
    (made,) = plan(server, egress="unrestricted").plans
    assert "its key user.pixels.egress has a policy" in made.actions[0]
