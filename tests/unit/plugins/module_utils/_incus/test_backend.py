# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend on bad days: failures and crashes in the middle, races, servers of another shape; and what it asks for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    ConfigError,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    OperationFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    KEY_HARDENING,
    KEY_KIND,
    KEY_UNFINISHED,
    SANDBOX,
    CloneSource,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Limits,
    Mount,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend, incus_backend
from support.fake_guest import FakeFile
from support.fake_incus import FakeIncus, Refused, Seen

MARK = "2026-01-01T00:00:00Z/0123456789abcdef"


@pytest.fixture
def server() -> FakeIncus:
    """A server in memory."""
    return FakeIncus()


@pytest.fixture
def backend(server: FakeIncus) -> IncusBackend:
    """A backend on it."""
    return IncusBackend(server.transport())


def spec(name: str = "one", mark: str = MARK, **changes: Any) -> InstanceSpec:
    """Return what a planner would ask for."""
    keys = {KEY_KIND: SANDBOX, KEY_HARDENING: changes.get("hardening", "standard"), KEY_UNFINISHED: mark}
    return replace(InstanceSpec(name, ImageSource("debian/13"), keys), **changes)


def make(backend: IncusBackend, **changes: Any) -> Instance:
    """Make a sandbox and return it."""
    wanted = spec(**changes)
    backend.create_instance(wanted, Deadline(10))
    found = backend.get_instance(wanted.name)
    assert found is not None
    return found


def config_of(server: FakeIncus, name: str = "px-one") -> Mapping[str, str]:
    """Return the configuration that the server has."""
    config: Mapping[str, str] = server.instance(name).record["config"]
    return config


# -- a creation that fails


def test_a_failed_creation_leaves_nothing_and_says_why(server: FakeIncus, backend: IncusBackend) -> None:
    for _turn in range(3):
        server.fail("Creating instance", "No space left on device")
    with pytest.raises(OperationFailed, match="No space left on device"):
        make(backend)
    assert server.instances == {}


def test_a_creation_that_fails_at_its_end_is_removed(server: FakeIncus, backend: IncusBackend) -> None:
    server.fail("Updating instance", "disk full")
    with pytest.raises(OperationFailed, match="disk full"):
        make(backend)
    assert server.instances == {}


def test_a_clone_whose_identity_cannot_be_written_is_removed(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend, name="source")

    def refuse(seen: Seen) -> None:
        if seen.method == "POST" and seen.path == "/1.0/instances/px-twin/files":
            server.before = lambda _: None
            server.instance("px-twin").disk.files.pop("/etc")

    server.before = refuse
    with pytest.raises(ApiError):
        make(backend, name="twin", origin=CloneSource("source"))
    assert list(server.instances) == [("default", "px-source")]


@pytest.mark.parametrize(
    ("path", "look"),
    [
        ("/etc/passwd", lambda backend: backend.account("source", "pixel")),
        ("/etc/ssh", lambda backend: make(backend, name="twin", origin=CloneSource("source"))),
    ],
)
def test_what_a_guest_has_in_place_of_a_small_file_does_not_fill_the_memory(
    server: FakeIncus, backend: IncusBackend, path: str, look: Callable[[IncusBackend], object]
) -> None:
    make(backend, name="source")
    server.instance("px-source").disk.files[path] = FakeFile(b"x" * (1 << 20) + b"y")
    with pytest.raises(OperationFailed, match="more than 1048576 bytes"):
        look(backend)
    assert list(server.instances) == [("default", "px-source")]


def test_a_creation_whose_server_dies_is_left_with_its_mark(server: FakeIncus, backend: IncusBackend) -> None:
    server.crash("Creating instance")
    with pytest.raises(ConnectionFailed):
        make(backend)
    found = backend.get_instance("one")
    assert found is not None
    assert found.unfinished
    assert found.kind == SANDBOX


def test_a_creation_that_runs_out_of_time_says_what_is_left(server: FakeIncus, backend: IncusBackend) -> None:
    server.stall = [10**9]
    with pytest.raises(
        DeadlineExceeded, match=r"px-one carries user\.pixels\.unfinished, and the next run makes it again"
    ):
        backend.create_instance(spec(), Deadline(0.05))


def test_a_failure_never_removes_what_another_run_has_made(server: FakeIncus, backend: IncusBackend) -> None:
    other = "2026-01-01T00:00:00Z/fedcba9876543210"

    def meanwhile(seen: Seen) -> None:
        if seen.method == "POST" and seen.path == "/1.0/instances":
            server.before = lambda _: None
            make(IncusBackend(server.transport()), mark=other)

    server.before = meanwhile
    with pytest.raises(Conflict):
        make(backend)
    assert not backend.get_instance("one").unfinished  # type: ignore[union-attr]


def test_a_creation_that_another_run_has_claimed_does_not_end(server: FakeIncus, backend: IncusBackend) -> None:
    other = "2026-01-01T00:00:00Z/fedcba9876543210"
    there = IncusBackend(server.transport())

    def claim(seen: Seen) -> None:
        found = None if seen.path == "/1.0/instances" else server.instances.get(("default", "px-one"))
        if found:
            server.before = lambda _: None
            left = there.get_instance("one")
            assert left is not None
            there.update_instance(left, InstanceChange(keys={KEY_UNFINISHED: other}), Deadline(10))

    server.before = claim
    with pytest.raises(Conflict, match="broken off"):
        make(backend)
    # what there is belongs to whoever claimed it
    assert config_of(server)["user.pixels.unfinished"] == other


# -- ways out of a wire


def confined(backend: IncusBackend, **changes: Any) -> Instance:
    """Make a sandbox that hangs on a wire."""
    wanted = spec(wire="pxe-0007", **changes)
    backend.create_instance(replace(wanted, keys={**wanted.keys, KEY_EGRESS: "{}"}), Deadline(10))
    found = backend.get_instance("one")
    assert found is not None
    assert (found.wire, found.ways_out) == ("pxe-0007", ())
    return found


def profile(server: FakeIncus, **devices: Mapping[str, str]) -> None:
    """Make or change the profile more."""
    server.profiles["default", "more"] = {"name": "more", "description": "", "config": {}, "devices": devices}


NIC = {"type": "nic", "network": "pixels0"}
PROXY = {"type": "proxy", "bind": "instance", "listen": "tcp:127.0.0.1:1", "connect": "tcp:127.0.0.1:2"}


def test_nics_of_new_profiles_are_masked_where_a_sandbox_is_confined(server: FakeIncus, backend: IncusBackend) -> None:
    found = confined(backend)
    profile(server, eth5=NIC, eth0=NIC)
    backend.update_instance(found, InstanceChange(profiles=("default", "more")), Deadline(10))
    found = backend.get_instance("one")  # type: ignore[assignment]
    assert (found.wire, found.ways_out, found.profiles) == ("pxe-0007", (), ("default", "more"))
    assert server.instance("px-one").record["devices"]["eth5"] == {"type": "none"}


def test_other_ways_out_of_new_profiles_and_mounts_are_refused(server: FakeIncus, backend: IncusBackend) -> None:
    found = confined(backend)
    profile(server, out=PROXY)
    before = server.instance("px-one").record
    for change, words in (
        (InstanceChange(profiles=("default", "more")), "the proxy out leads from the guest"),
        (InstanceChange(mounts=(Mount("/run", "/x"),)), "brings /run of the server"),
    ):
        with pytest.raises(ConfigError, match=f"one is confined, which this would lead around: .*{words}"):
            backend.update_instance(found, change, Deadline(10))
    assert server.instance("px-one").record == before
    backend.update_instance(found, InstanceChange(mounts=(Mount("/srv/x", "/x"),)), Deadline(10))


def test_a_sandbox_is_not_made_beside_its_wire(server: FakeIncus, backend: IncusBackend) -> None:
    profile(server, out=PROXY)
    for options in (
        {"wire": "pxe-0007", "profiles": ("default", "more")},
        {"wire": "none", "mounts": (Mount("/var/lib/incus", "/x"),)},
        # what enforces its policy itself is led around as well
        {"mounts": (Mount("/", "/x"),)},
    ):
        wanted = spec(**options)
        with pytest.raises(ConfigError, match="one is confined, which this would lead around"):
            backend.create_instance(replace(wanted, keys={**wanted.keys, KEY_EGRESS: "{}"}), Deadline(10))
    assert server.instances == {}
    make(backend, mounts=(Mount("/", "/x"),))


def test_a_profile_that_changes_behind_our_back_is_told(server: FakeIncus, backend: IncusBackend) -> None:
    profile(server)
    found = confined(backend, profiles=("default", "more"))
    profile(server, eth5=NIC, out=PROXY)
    found = backend.get_instance("one")  # type: ignore[assignment]
    assert found.ways_out == (
        "the device eth5 is a nic",
        "the proxy out leads from the guest to the server's network",
    )
    # and what is done about something else neither stumbles nor makes it worse
    backend.update_instance(found, InstanceChange(mounts=(Mount("/srv/x", "/x"),)), Deadline(10))
    found = backend.get_instance("one")  # type: ignore[assignment]
    assert found.ways_out == ("the proxy out leads from the guest to the server's network",)


# -- ids of its own


def test_a_server_without_room_for_ids_of_its_own_is_tried_twice_and_then_shares(
    server: FakeIncus, backend: IncusBackend
) -> None:
    for _turn in range(2):
        server.fail("Creating instance", "Not enough uid/gid available for the container")
    made = make(backend)
    assert not made.isolated
    assert made.keys["shared_ids"] == "true"
    assert made.hardening == "standard"
    assert config_of(server)["security.idmap.isolated"] == "false"


def test_one_failure_does_not_make_ids_shared(server: FakeIncus, backend: IncusBackend) -> None:
    server.fail("Creating instance", "the server had a cold")
    made = make(backend)
    assert made.isolated
    assert "shared_ids" not in made.keys


def test_without_hardening_a_failure_is_not_tried_again(server: FakeIncus, backend: IncusBackend) -> None:
    server.fail("Creating instance", "no")
    with pytest.raises(OperationFailed):
        make(backend, hardening="none")
    assert server.sent("POST").count("/1.0/instances") == 1


# -- what a creation asks for


def test_a_creation_takes_few_requests(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend, name="source")
    server.requests.clear()
    backend.create_instance(spec("twin", origin=CloneSource("source")), Deadline(10))
    reads = [path for path in server.sent("GET") if not path.startswith("/1.0/operations")]
    assert len(reads) <= 6
    assert len(server.sent("PUT")) == 1


def test_a_copy_names_configuration_and_devices_in_full(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend, name="source", keys={**spec().keys, "owner": "them"}, nesting=True)
    server.requests.clear()
    backend.create_instance(spec("twin", origin=CloneSource("source")), Deadline(10))
    (body,) = [seen.body for seen in server.requests if seen.method == "POST" and seen.path == "/1.0/instances"]
    assert body["source"] == {"type": "copy", "source": "px-source", "instance_only": True}
    # a cluster refuses a copy to another member that does not have it
    assert body["architecture"] == "x86_64"
    assert set(body["devices"]) == {"root", "eth0"}
    assert body["config"]["security.nesting"] == "true"
    assert not any(key.startswith("volatile.") for key in body["config"])
    assert "user.pixels.owner" not in config_of(server, "px-twin")


def test_the_server_has_a_mac_on_a_link_that_is_there(server: FakeIncus, backend: IncusBackend) -> None:
    server.add_network("pxe-0001")
    assert backend.wire_address("pxe-0001") == "10:66:6a:ff:00:01"
    assert backend.wire_address("pxe-0002") is None


def test_a_clone_has_a_mac_of_its_own(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend, name="source")
    server.instance("px-source").record["devices"]["eth0"]["hwaddr"] = "10:66:6a:00:00:01"
    make(backend, name="twin", origin=CloneSource("source"))
    assert "hwaddr" not in server.instance("px-twin").record["devices"]["eth0"]
    assert (
        config_of(server, "px-twin")["volatile.eth0.hwaddr"] != config_of(server, "px-source")["volatile.eth0.hwaddr"]
    )


def test_a_clone_does_not_bring_devices_of_its_source_that_open_a_way(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend, name="source")
    server.instance("px-source").record["devices"]["host"] = {"type": "disk", "source": "/", "path": "/host"}
    make(backend, name="twin", origin=CloneSource("source"))
    assert set(server.instance("px-twin").record["devices"]) == {"root", "eth0"}


def test_a_clone_does_not_bring_raw_settings_of_its_source(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend, name="source")
    server.instance("px-source").record["config"]["raw.lxc"] = "lxc.apparmor.profile = unconfined"
    twin = make(backend, name="twin", origin=CloneSource("source"))
    assert twin.hardening == "standard"
    assert "raw.lxc" not in config_of(server, "px-twin")


def test_an_image_is_found_by_its_fingerprint(server: FakeIncus, backend: IncusBackend) -> None:
    fingerprint = backend.list_images()[0].fingerprint
    made = make(backend, origin=ImageSource(fingerprint))
    assert config_of(server)["volatile.base_image"] == fingerprint
    assert made.status == "stopped"


def test_an_image_of_a_public_server_is_pulled_from_it(server: FakeIncus, backend: IncusBackend) -> None:
    with pytest.raises(OperationFailed, match=r"images\.test"):
        make(backend, origin=ImageSource("debian/13", "https://images.test"), hardening="none")
    (body,) = [seen.body for seen in server.requests if seen.method == "POST"]
    assert body["source"] == {
        "type": "image",
        "mode": "pull",
        "server": "https://images.test",
        "protocol": "simplestreams",
        "alias": "debian/13",
    }


# -- pools and networks


def test_pool_and_network_of_a_profile_are_left_to_it(server: FakeIncus, backend: IncusBackend) -> None:
    server.add_pool("fast")
    server.profiles["default", "default"]["devices"] = {
        "root": {"type": "disk", "path": "/", "pool": "fast"},
        "eth0": {"type": "nic", "name": "eth0", "network": "pixels0"},
    }
    made = make(backend)
    assert server.instance("px-one").record["devices"] == {}
    assert (made.pool, made.network) == ("fast", "pixels0")


def test_a_quota_keeps_the_pool_of_the_profile(server: FakeIncus, backend: IncusBackend) -> None:
    server.add_pool("fast")
    server.profiles["default", "default"]["devices"] = {"root": {"type": "disk", "path": "/", "pool": "fast"}}
    made = make(backend, limits=Limits(disk=2**30))
    assert (made.pool, made.limits.disk) == ("fast", 2**30)


def test_our_own_pool_and_network_come_before_others(server: FakeIncus, backend: IncusBackend) -> None:
    server.add_pool("another")
    server.add_network("another0")
    made = make(backend)
    assert (made.pool, made.network) == ("pixels", "pixels0")


def test_the_only_pool_and_the_only_managed_network_are_used(server: FakeIncus, backend: IncusBackend) -> None:
    server.pools.clear()
    server.networks.clear()
    server.add_pool("tank")
    server.add_network("br0")
    server.add_network("lan", managed=False)
    made = make(backend)
    assert (made.pool, made.network) == ("tank", "br0")


def test_of_several_none_is_guessed(server: FakeIncus, backend: IncusBackend) -> None:
    server.pools.clear()
    server.add_pool("a")
    server.add_pool("b")
    with pytest.raises(ConfigError, match=r"pool is not given.*a, b"):
        make(backend)


def test_a_server_without_a_pool_names_the_role_that_makes_one(server: FakeIncus, backend: IncusBackend) -> None:
    server.pools.clear()
    with pytest.raises(ConfigError, match="incus_host"):
        make(backend)


# -- reads


def test_a_server_that_stumbles_over_a_guest_that_goes_is_asked_again(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend)
    answers = [Refused(500, "Invalid PID"), Refused(500, "Instance is busy")]
    original = FakeIncus._of

    def stumble(project: str) -> Any:
        if answers:
            raise answers.pop()
        return original(server, project)

    server._of = stumble  # type: ignore[method-assign]
    assert [found.name for found in backend.list_instances()] == ["one"]


@pytest.mark.parametrize("turns", [2, 99])
def test_a_sandbox_that_is_listed_hollow_while_it_goes_is_looked_at_again(
    server: FakeIncus, backend: IncusBackend, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    make(backend)
    make(backend, name="two")
    real, left = backend._client.get, [turns]

    def get(path: str, **params: str) -> Any:
        answer = real(path, **params)
        if left[0] and path == "/1.0/instances":
            left[0] -= 1
            return [{**record, "config": None} if record["name"] == "px-one" else record for record in answer]
        return answer

    monkeypatch.setattr(backend._client, "get", get)
    names = [found.name for found in backend.list_instances()]
    assert names == (["one", "two"] if turns == 2 else ["two"])


def test_a_list_without_addresses_costs_the_server_less(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend)
    server.requests.clear()
    backend.list_instances(addresses=False)
    backend.list_instances()
    assert [seen.params["recursion"] for seen in server.requests] == ["1", "2"]


def test_many_names_are_one_request(server: FakeIncus, backend: IncusBackend) -> None:
    for name in ("a", "b", "c"):
        make(backend, name=name)
    server.requests.clear()
    assert list(backend.get_instances(["a", "c", "x"])) == ["a", "c"]
    assert len(server.requests) == 1


def test_instances_that_are_none_of_ours_are_not_listed_without_the_prefix(
    server: FakeIncus, backend: IncusBackend
) -> None:
    make(backend)
    other = server.instances.pop(("default", "px-one"))
    other.record["name"] = "theirs"
    server.instances["default", "theirs"] = other
    assert backend.list_instances() == ()


def test_a_project_that_is_not_there_is_named(server: FakeIncus) -> None:
    backend = IncusBackend(server.transport("nowhere"), "nowhere")
    for read in (backend.list_instances, backend.list_images, lambda: backend.get_instance("one")):
        with pytest.raises(ConfigError, match="incus_project: there is no project nowhere"):
            read()


def test_projects_do_not_see_each_other(server: FakeIncus, backend: IncusBackend) -> None:
    server.add_project("other")
    make(IncusBackend(server.transport("other"), "other"))
    assert backend.list_instances() == ()


def test_an_operation_that_goes_on_makes_an_instance_busy(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend)
    make(backend, name="one-more")
    server.stall = [1]
    server.waited = lambda _: busy.append((backend.is_busy("one"), backend.is_busy("one-more"), backend.is_busy("on")))
    busy: list[tuple[bool, bool, bool]] = []
    backend.create_checkpoint("one", "ready", None, Deadline(10))
    assert busy == [(True, False, False)]
    assert not backend.is_busy("one")


# -- changing


def test_a_change_between_reading_and_writing_is_not_written_over(server: FakeIncus, backend: IncusBackend) -> None:
    made = make(backend)

    def meanwhile(seen: Seen) -> None:
        if seen.method == "PUT":
            server.before = lambda _: None
            server.instance("px-one").record["config"]["user.pixels.label.theirs"] = "1"

    server.before = meanwhile
    with pytest.raises(Conflict):
        backend.update_instance(made, InstanceChange(keys={"label.mine": "1"}), Deadline(10))
    assert "user.pixels.label.mine" not in config_of(server)
    assert config_of(server)["user.pixels.label.theirs"] == "1"


def test_what_the_server_changes_by_itself_between_reading_and_writing_is_no_conflict(
    server: FakeIncus, backend: IncusBackend
) -> None:
    made = make(backend)

    def meanwhile(seen: Seen) -> None:
        if seen.method == "PUT":
            server.before = lambda _: None
            server.instance("px-one").record["config"]["volatile.last_state.power"] = "RUNNING"

    server.before = meanwhile
    backend.update_instance(made, InstanceChange(keys={"label.mine": "1"}), Deadline(10))
    assert config_of(server)["user.pixels.label.mine"] == "1"
    assert config_of(server)["volatile.last_state.power"] == "RUNNING"


def test_every_update_carries_the_etag(server: FakeIncus, backend: IncusBackend) -> None:
    made = make(backend)
    server.requests.clear()
    sent: list[Mapping[str, str]] = []
    original = server.answer

    def record(method: str, target: str, body: Any, headers: Mapping[str, str], into: Any) -> Any:
        if method == "PUT":
            sent.append(headers)
        return original(method, target, body, headers, into)

    server.answer = record  # type: ignore[method-assign]
    backend.update_instance(made, InstanceChange(autostart=True), Deadline(10))
    assert all(headers["If-Match"] for headers in sent)


def test_a_change_keeps_keys_and_devices_of_others(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend)
    server.instance("px-one").record["config"]["user.theirs"] = "kept"
    server.instance("px-one").record["devices"]["data"] = {"type": "disk", "source": "/srv", "path": "/data"}
    made = backend.get_instance("one")
    assert made is not None
    backend.update_instance(made, InstanceChange(hardening="strict", mounts=()), Deadline(10))
    assert config_of(server)["user.theirs"] == "kept"
    assert "data" in server.instance("px-one").record["devices"]


# -- checkpoints and restore


def test_a_checkpoint_that_has_a_record_and_no_disk_is_known(server: FakeIncus, backend: IncusBackend) -> None:
    made = make(backend)
    server.crash("Snapshotting instance")
    with pytest.raises(ConnectionFailed):
        backend.create_checkpoint("one", "ready", None, Deadline(10))
    assert [checkpoint.label for checkpoint in backend.list_checkpoints("one")] == ["ready"]
    assert not backend.is_whole(made, "ready")


def test_a_listing_of_checkpoints_does_not_ask_for_each(server: FakeIncus, backend: IncusBackend) -> None:
    make(backend)
    for label in "abcdef":
        backend.create_checkpoint("one", label, None, Deadline(10))
    server.requests.clear()
    assert len(backend.list_checkpoints("one")) == 6
    assert len(server.requests) == 2


@pytest.mark.parametrize(("driver", "lost"), [("zfs", ("b", "c")), ("btrfs", ()), ("dir", ())])
def test_newer_checkpoints_are_lost_by_a_restore_on_zfs_alone(
    server: FakeIncus, backend: IncusBackend, driver: str, lost: tuple[str, ...]
) -> None:
    server.pools["pixels"]["driver"] = driver
    made = make(backend)
    for label in "abc":
        backend.create_checkpoint("one", label, None, Deadline(10))
    assert backend.lost_by_restore(made, "a") == lost


def changed_since_checkpoint(backend: IncusBackend) -> Instance:
    """Make a sandbox whose keys, limits and level are others than those of its checkpoint."""
    made = make(backend, hardening="none")
    backend.create_checkpoint("one", "ready", None, Deadline(10))
    backend.write_file("one", "/root/later", io.BytesIO(b"x"))
    change = InstanceChange(Limits(cpu=1), hardening="strict", keys={"label.now": "1"})
    backend.update_instance(made, change, Deadline(10))
    found = backend.get_instance("one")
    assert found is not None
    return found


def test_a_restore_leaves_no_profile_behind(server: FakeIncus, backend: IncusBackend) -> None:
    present = changed_since_checkpoint(backend)
    backend.restore_checkpoint(present, "ready", Deadline(10))
    assert list(server.profiles) == [("default", "default")]
    assert backend.get_instance("one") == present
    assert not backend.has_file("one", "/root/later")


def test_a_restore_that_was_killed_is_finished_before_the_next_start(server: FakeIncus, backend: IncusBackend) -> None:
    present = changed_since_checkpoint(backend)
    dead = False

    def die(seen: Seen) -> None:
        nonlocal dead
        dead = dead or (seen.method == "GET" and seen.path.endswith("/wait"))
        if dead:
            raise ConnectionFailed("the server is gone")

    server.before = die
    with pytest.raises(ConnectionFailed):
        backend.restore_checkpoint(present, "ready", Deadline(10))
    server.before = lambda _: None
    half = backend.get_instance("one")
    assert half is not None
    assert half.hardening == "none", "the server has turned everything back"

    IncusBackend(server.transport()).set_power("one", "start", Deadline(10))

    after = backend.get_instance("one")
    assert after is not None
    assert (after.limits, after.labels, after.hardening) == (present.limits, present.labels, "strict")
    assert list(server.profiles) == [("default", "default")]


def test_a_restore_that_was_killed_and_is_run_again_gives_back_what_was_there_at_first(
    server: FakeIncus, backend: IncusBackend
) -> None:
    present = changed_since_checkpoint(backend)
    server.crash("Restoring snapshot")

    def die(seen: Seen) -> None:
        if server._crashes == []:
            raise ConnectionFailed("the server is gone")

    server.before = die
    with pytest.raises(ConnectionFailed):
        backend.restore_checkpoint(present, "ready", Deadline(10))
    server.before = lambda _: None
    half = backend.get_instance("one")
    assert half is not None
    assert half.hardening == "none"
    IncusBackend(server.transport()).restore_checkpoint(half, "ready", Deadline(10))
    assert backend.get_instance("one") == present


def test_a_restore_that_fails_gives_everything_back_too(server: FakeIncus, backend: IncusBackend) -> None:
    present = changed_since_checkpoint(backend)
    server.fail("Restoring snapshot", "the pool is gone")
    with pytest.raises(OperationFailed, match="the pool is gone"):
        backend.restore_checkpoint(present, "ready", Deadline(10))
    assert backend.get_instance("one") == present
    assert list(server.profiles) == [("default", "default")]


def test_what_a_killed_restore_left_goes_with_its_sandbox(server: FakeIncus, backend: IncusBackend) -> None:
    present = changed_since_checkpoint(backend)
    server.before = _die_at_wait
    with pytest.raises(ConnectionFailed):
        backend.restore_checkpoint(present, "ready", Deadline(10))
    server.before = lambda _: None
    assert len(server.profiles) == 2
    backend.delete_instance("one", Deadline(10))
    assert list(server.profiles) == [("default", "default")]


def _die_at_wait(seen: Seen) -> None:
    if seen.path.endswith("/wait") or seen.method in ("PUT", "DELETE"):
        raise ConnectionFailed("the server is gone")


def test_what_a_killed_restore_left_is_no_orders_for_a_new_sandbox_of_the_name(
    server: FakeIncus, backend: IncusBackend
) -> None:
    """A sandbox deleted by hand leaves its journal; a new one must not get the keys of the old one."""
    present = changed_since_checkpoint(backend)
    server.before = _die_at_wait
    with pytest.raises(ConnectionFailed):
        backend.restore_checkpoint(present, "ready", Deadline(10))
    server.before = lambda _: None
    del server.instances["default", "px-one"]
    made = make(backend, keys={**spec().keys, "owner": "new"})
    backend.set_power("one", "start", Deadline(10))
    after = backend.get_instance("one")
    assert after is not None
    assert (after.keys, after.hardening) == (made.keys, "standard")


def test_the_journal_holds_nothing_that_belongs_to_the_server(server: FakeIncus, backend: IncusBackend) -> None:
    present = changed_since_checkpoint(backend)
    backend.restore_checkpoint(present, "ready", Deadline(10))
    (body,) = [seen.body for seen in server.requests if seen.path == "/1.0/profiles" and seen.method == "POST"]
    assert body["devices"] == {} if "devices" in body else True
    assert set(json.loads(body["config"]["user.pixels.journal"])) >= {"config", "devices", "profiles"}


# -- options


def test_options_are_judged_before_anything_is_sent() -> None:
    for direct in (True, False):
        with pytest.raises(ConfigError, match="incus_client_cert"):
            incus_backend({"incus_remote": "https://server.test"}, direct=direct)


def test_a_graceful_stop_that_the_guest_ignores_is_the_servers_failure(
    server: FakeIncus, backend: IncusBackend
) -> None:
    make(backend)
    backend.set_power("one", "start", Deadline(10))
    server.ignores_shutdown = True
    with pytest.raises(OperationFailed):
        backend.set_power("one", "stop", Deadline(10))
    backend.set_power("one", "stop", Deadline(10), force=True)
    assert server.instance("px-one").status == "Stopped"
