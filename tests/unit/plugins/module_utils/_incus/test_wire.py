# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as a server was seen to send them, and what we make of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import Limits, Mount
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import wire


def record(**changes: Any) -> dict[str, Any]:
    """Return the record of a stopped sandbox."""
    base = {
        "name": "px-one",
        "status": "Stopped",
        "type": "container",
        "config": {"user.pixels.kind": "sandbox", "volatile.uuid": "1"},
        "devices": {"root": {"type": "disk", "path": "/", "pool": "tank"}},
        "profiles": ["default"],
        "created_at": "2026-11-24T04:11:38.284134322Z",
        "last_used_at": "1970-01-01T00:00:00Z",
        "location": "none",
    }
    return {**base, **changes}


def state(**interfaces: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the state of an instance with addresses of (address, scope)."""
    return {
        "network": {
            name: {"addresses": [{"address": address, "scope": scope} for address, scope in addresses]}
            for name, addresses in interfaces.items()
        }
    }


# -- times


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T04:11:38.284134322Z", datetime(2026, 11, 24, 4, 11, 38, tzinfo=timezone.utc)),
        ("2026-11-24T04:11:38Z", datetime(2026, 11, 24, 4, 11, 38, tzinfo=timezone.utc)),
        ("2026-11-24T04:11:38.5+02:00", datetime(2026, 11, 24, 2, 11, 38, tzinfo=timezone.utc)),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_to_the_second_and_in_utc(text: str | None, moment: datetime | None) -> None:
    assert wire.time_from_wire(text) == moment


def test_times_are_written_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert wire.time_to_wire(datetime(2026, 1, 2, 3, 4, 5, tzinfo=east)) == "2026-01-02T01:04:05Z"


# -- addresses


def test_addresses_of_the_managed_nic_come_first_then_ipv4_then_in_order_of_number() -> None:
    found = wire.addresses_from_wire(
        state(
            docker0=[("172.17.0.1", "global")],
            eth0=[("fd00::2", "global"), ("10.0.0.10", "global"), ("fe80::1", "link"), ("10.0.0.9", "global")],
            lo=[("127.0.0.1", "local"), ("::1", "local")],
        ),
        "eth0",
    )
    assert found == ("10.0.0.9", "10.0.0.10", "fd00::2", "172.17.0.1")


@pytest.mark.parametrize("nothing", [None, {}, {"network": None}, {"network": {"eth0": {"addresses": []}}}])
def test_no_state_is_no_address(nothing: dict[str, Any] | None) -> None:
    assert wire.addresses_from_wire(nothing, "eth0") == ()


def test_the_managed_nic_is_eth0_or_else_the_first() -> None:
    nic = {"type": "nic", "network": "n"}
    assert wire.managed_nic({"aaa": nic, "eth0": nic, "root": {"type": "disk"}})[0] == "eth0"
    assert wire.managed_nic({"bbb": nic, "aaa": nic})[0] == "aaa"
    assert wire.managed_nic({"root": {"type": "disk"}}) == ("", {})


# -- instances


def test_keys_of_ours_come_without_their_prefix_and_those_of_others_not_at_all() -> None:
    config = {"user.pixels.kind": "sandbox", "user.pixels.label.a": "1", "user.other": "x", "image.os": "Debian"}
    found = wire.instance_from_wire(record(config=config), "default")
    assert dict(found.keys) == {"kind": "sandbox", "label.a": "1"}
    assert found.labels == {"a": "1"}


def test_an_instance_of_somebody_else_has_no_kind() -> None:
    found = wire.instance_from_wire(record(config={}), "default")
    assert (found.kind, found.name, found.server_name) == (None, "one", "px-one")


def test_what_counts_is_the_expanded_configuration_and_our_keys_are_the_instances_own() -> None:
    """A profile can set limits, and cannot make an instance ours."""
    expanded = {"limits.cpu": "3", "limits.memory": "512MiB", "security.nesting": "true", "user.pixels.kind": "sandbox"}
    found = wire.instance_from_wire(record(config={}, expanded_config=expanded), "default")
    assert found.limits == Limits(cpu=3, memory=512 * 2**20)
    assert found.nesting
    assert found.kind is None


@pytest.mark.parametrize("text", ["0-3", "1,2", "50%", "", "²"])
def test_limits_that_are_no_number_are_unknown_and_no_failure(text: str) -> None:
    config = {"limits.cpu": text, "limits.memory": text, "limits.processes": text}
    assert wire.instance_from_wire(record(config=config), "default").limits == Limits()


def test_the_root_disk_is_found_by_its_path_whatever_its_name() -> None:
    devices = {
        "data": {"type": "disk", "path": "/data", "pool": "slow", "size": "1GiB"},
        "system": {"type": "disk", "path": "/", "pool": "tank", "size": "2GiB"},
    }
    found = wire.instance_from_wire(record(devices=devices), "default")
    assert (found.pool, found.limits.disk) == ("tank", 2 * 2**30)


def test_a_restart_is_required_until_the_instance_has_been_started_again() -> None:
    config = {wire.RESTART_AFTER: "2026-01-01T00:00:00Z"}
    ran = record(config=config, status="Running", last_used_at="2026-01-01T00:00:00Z")
    assert wire.instance_from_wire(ran, "default").restart_required
    assert not wire.instance_from_wire({**ran, "last_used_at": "2026-01-02T00:00:00Z"}, "default").restart_required
    assert not wire.instance_from_wire({**ran, "status": "Stopped"}, "default").restart_required


def test_virtual_machines_and_unknown_words_for_power_are_named_in_our_words() -> None:
    found = wire.instance_from_wire(record(type="virtual-machine", status="Error"), "default")
    assert (found.type, found.status) == ("vm", "error")


# -- revision


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"user.pixels.kind": "sandbox", "user.pixels.owner": "me"}},
        {"devices": {}},
        {"profiles": []},
    ],
)
def test_a_change_of_what_is_managed_changes_the_revision(changes: dict[str, Any]) -> None:
    assert wire.revision(record(**changes)) != wire.revision(record())


def test_a_start_does_not_change_the_revision() -> None:
    config = {**record()["config"], "volatile.last_state.power": "RUNNING"}
    assert wire.revision(record(config=config, status="Running")) == wire.revision(record())


# -- mounts, limits


def test_mounts_survive_the_way_there_and_back_in_their_order() -> None:
    mounts = tuple(Mount(f"/srv/{number}", f"/mnt/{number}", readonly=bool(number % 2)) for number in range(12))
    assert wire.mounts_from_wire(wire.mounts_to_wire(mounts)) == mounts


def test_a_mount_is_read_only_unless_told() -> None:
    (device,) = wire.mounts_to_wire((Mount("/srv", "/mnt"),)).values()
    assert device["readonly"] == "true"


def test_devices_of_others_are_no_mounts() -> None:
    assert wire.mounts_from_wire({"data": {"type": "disk", "source": "/a", "path": "/b"}}) == ()


def test_only_given_limits_are_written() -> None:
    assert wire.limits_to_wire(Limits()) == {}
    assert wire.limits_to_wire(Limits(cpu=2, memory=2**30, disk=5, processes=9)) == {
        "limits.cpu": "2",
        "limits.memory": "1GiB",
        "limits.processes": "9",
    }


# -- checkpoints, images, files


@pytest.mark.parametrize(("size", "shown"), [(16384, 16384), (0, 0), (-1, None), (None, None)])
def test_a_size_that_the_driver_does_not_know_is_none(size: int | None, shown: int | None) -> None:
    assert wire.checkpoint_from_wire({"name": "px-one/ready", "size": size}, frozenset()).size == shown


def test_a_checkpoint_has_a_bare_label() -> None:
    for name in ("px-one/ready", "ready"):
        found = wire.checkpoint_from_wire({"name": name}, frozenset({"ready"}))
        assert (found.label, found.protected) == ("ready", True)


@pytest.mark.parametrize(("text", "labels"), [("", set()), ("a", {"a"}), ("a,b", {"a", "b"}), (",a,,", {"a"})])
def test_protected_labels_are_a_list_with_commas(text: str, labels: set[str]) -> None:
    assert wire.protected_labels({"protected": text}) == labels


def test_an_image_has_its_aliases_sorted() -> None:
    found = wire.image_from_wire(
        {
            "fingerprint": "abc",
            "aliases": [{"name": "b"}, {"name": "a"}],
            "type": "container",
            "properties": {"description": "An image"},
        }
    )
    assert (found.aliases, found.description) == (("a", "b"), "An image")


def test_the_mode_of_a_file_is_octal() -> None:
    headers = {"x-incus-type": "file", "x-incus-mode": "0750", "x-incus-uid": "7", "x-incus-gid": "8"}
    found = wire.file_from_wire(headers)
    assert (found.type, found.mode, found.uid, found.gid) == ("file", 0o750, 7, 8)
