# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What confines an instance, and what leads around that."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import confinement, hardening

WIRE = "pxe-0007"
ROOT = {"type": "disk", "path": "/", "pool": "pixels"}
GOOD = {"eth0": confinement.nic(WIRE), "root": ROOT}


def test_a_confined_sandbox_has_no_way_out() -> None:
    assert confinement.ways_out(WIRE, {}, GOOD) == ()
    assert confinement.ways_out("none", {}, {"eth0": {"type": "none"}, "root": ROOT}) == ()
    more = {
        "mount-0": {"type": "disk", "source": "/srv/x", "path": "/x"},
        "data": {"type": "disk", "pool": "p", "source": "v", "path": "/d"},
    }
    published = {"publish-tcp-80": {"type": "proxy", "bind": "host"}, "eth1": {"type": "none"}}
    strict = hardening.LEVELS["strict"]
    assert confinement.ways_out(WIRE, strict, {**GOOD, **more, **published}) == ()


@pytest.mark.parametrize(
    ("config", "devices", "words"),
    [
        ({}, {"eth0": {"type": "nic", "network": "pixels0"}}, "private macvlan"),
        ({}, {"eth0": {**confinement.nic(WIRE), "mode": "bridge"}}, "private macvlan"),
        ({}, {"eth0": {**confinement.nic(WIRE), "parent": "pxe-0008"}}, "private macvlan"),
        ({}, {"eth0": {**confinement.nic(WIRE), "hwaddr": "02:70:00:00:00:08"}}, "the MAC of pxe-0007"),
        ({}, {"eth1": {"type": "nic", "network": "pixels0"}}, "eth1 is a nic"),
        ({}, {"out": {"type": "proxy", "bind": "instance"}}, "proxy out leads"),
        ({}, {"host": {"type": "disk", "source": "/var/run", "path": "/run2"}}, "/var/run of the server"),
        ({}, {"gpu": {"type": "gpu"}}, "is a gpu"),
        ({"raw.lxc": "lxc.net.0.type = none"}, {}, "raw.lxc"),
        ({"raw.idmap": "both 0 0"}, {}, "raw.idmap"),
        *(({"security.privileged": word}, {}, "privileged") for word in ("true", "1", "Yes", "on")),
    ],
)
def test_each_way_out_is_named(config: dict[str, str], devices: dict[str, dict[str, str]], words: str) -> None:
    (found,) = confinement.ways_out(WIRE, config, {**GOOD, **devices})
    assert words in found


@pytest.mark.parametrize(
    "source",
    [
        *("/", "//", "/var", "/var/", "/var/lib", "/var/run/incus/unix.socket", "/var/lib/incus", "/var/lib/incus/x"),
        *("/run", "/run/user/1000", "/dev/shm", "/proc/1", "/sys", "/etc", "/srv/../run", "//run", "/srv/a.sock"),
        *("/usr/lib/x", "/var/log", "/home", "/root/.ssh", "/opt/incus/bin", "tmpfs:", "cephfs:x", "relative"),
    ],
)
def test_a_mount_of_what_belongs_to_the_system_is_a_way_out(source: str) -> None:
    mount = {"type": "disk", "source": source, "path": "/x"}
    (found,) = confinement.ways_out(WIRE, {}, {**GOOD, "mount-0": mount})
    assert found == f"the device mount-0 brings {source} of the server into the guest"


@pytest.mark.parametrize(
    "source",
    ["/srv/x", "/home/me/project", "/tmp/a/b", "/var/www", "/variable", "/opt/tools", "/mnt/run"],
)
def test_a_mount_of_a_folder_of_the_user_is_none(source: str) -> None:
    mount = {"type": "disk", "source": source, "path": "/x"}
    assert confinement.ways_out(WIRE, {}, {**GOOD, "mount-0": mount}) == ()


def test_without_a_wire_any_nic_will_do_and_other_ways_out_are_told() -> None:
    nics = {"eth0": {"type": "nic", "network": "a"}, "eth1": {"type": "nic", "network": "b"}, "root": ROOT}
    assert confinement.ways_out(None, {}, nics) == ()
    proxy = {"type": "proxy", "bind": "instance"}
    assert "leads from the guest" in confinement.ways_out(None, {}, {**nics, "out": proxy})[0]


def test_a_wire_is_known_by_its_name_alone() -> None:
    assert confinement.wire_of({"eth0": confinement.nic(WIRE)}) == WIRE
    assert confinement.wire_of({"eth0": {"type": "none"}}) == "none"
    for device in ({"type": "nic", "network": "pixels0"}, {"type": "nic", "parent": "pxe-zz"}, {"type": "disk"}):
        assert confinement.wire_of({"eth0": device}) is None
    assert confinement.masks({"eth0": {"type": "nic"}, "eth1": {"type": "nic"}, "root": ROOT}) == {
        "eth1": {"type": "none"}
    }
