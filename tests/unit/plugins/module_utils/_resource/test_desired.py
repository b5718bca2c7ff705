# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of pixels_instance mean, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import CloneSource, Limits, Mount
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.desired import desired_from

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("image", "clone_from", "cpu", "memory", "disk", "processes", "type", "pool", "network", "profiles"),
            *("target", "hardening", "nesting", "mounts", "labels", "owner", "ttl", "autostart"),
        )
    ),
    "name": ["box"],
    "state": "started",
    "image_server": "https://images.example",
    "renew": False,
    "wait_for": "address",
    "timeout": 300,
    "force": False,
    "max_parallel": 8,
}


def mount(source: str = "/srv/data", path: str = "/data", readonly: bool = True) -> dict[str, Any]:
    """Return a mount as a task has it."""
    return {"source": source, "path": path, "readonly": readonly}


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"name": ["px-box", "other"]}, "names", ("box", "other")),
        ({"name": []}, "names", ()),
        ({"memory": "512"}, "limits", Limits(memory=512 * 2**20)),
        ({"memory": "4GiB"}, "limits", Limits(memory=4 * 2**30)),
        ({"memory": "1 GB"}, "limits", Limits(memory=10**9)),
        ({"disk": "20"}, "limits", Limits(disk=20 * 2**30)),
        ({"cpu": 3, "processes": 100}, "limits", Limits(cpu=3, processes=100)),
        ({"clone_from": "px-dev"}, "clone", CloneSource("dev")),
        ({"clone_from": "dev:ready"}, "clone", CloneSource("dev", "ready")),
        ({"ttl": "90"}, "ttl", 90),
        ({"ttl": "1h30m"}, "ttl", 5400),
        ({"ttl": "never"}, "ttl", 0),
        ({"labels": {"a": 1, "b": True, "c": "x"}}, "labels", {"a": "1", "b": "true", "c": "x"}),
        ({"labels": {}}, "labels", {}),
        ({"labels": None}, "labels", None),
        ({"owner": ""}, "owner", ""),
        ({"profiles": []}, "profiles", ()),
        ({"mounts": [mount()]}, "mounts", (Mount("/srv/data", "/data"),)),
        ({"mounts": [mount("/srv//a/./b/", "//data/")]}, "mounts", (Mount("/srv/a/b", "/data"),)),
        ({"mounts": []}, "mounts", ()),
    ],
)
def test_options_are_understood(options: dict[str, Any], field: str, value: object) -> None:
    assert getattr(desired_from({**DEFAULTS, **options}), field) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ["Box"]}, "'Box' is not legal"),
        ({"name": [""]}, "'' is not legal"),
        ({"name": ["a" * 61]}, "is not legal"),
        ({"name": ["a\n"]}, "is not legal"),
        ({"name": ["-a"]}, "is not legal"),
        ({"name": ["gateway"]}, "is reserved"),
        ({"name": ["px-base-x"]}, "is reserved"),
        ({"name": ["build-x"]}, "is reserved"),
        ({"name": ["a", "px-a"]}, "a more than once"),
        ({"memory": "4 bananas"}, "memory '4 bananas' is not a size"),
        ({"memory": "0"}, "memory '0' is not above zero"),
        ({"memory": "-1"}, "is not a size"),
        ({"memory": "1e3"}, "is not a size"),
        ({"disk": "50%"}, "disk '50%' is not a size"),
        ({"cpu": 0}, "cpu 0 is not above zero"),
        ({"processes": -5}, "processes -5 is not above zero"),
        ({"clone_from": "base:Dev"}, "base 'Dev' is not legal"),
        ({"clone_from": "dev:"}, "checkpoint '' is not legal"),
        ({"clone_from": "dev:../x"}, "is not legal"),
        ({"clone_from": "gateway"}, "is reserved"),
        ({"clone_from": " "}, "clone_from is empty"),
        ({"image": ""}, "image is empty"),
        ({"ttl": "soon"}, "ttl 'soon' is not a duration"),
        ({"ttl": "0"}, "ttl '0' is not above zero"),
        ({"ttl": "200000d"}, "more than a hundred years"),
        ({"ttl": "never", "renew": True}, "renew extends"),
        ({"labels": {"A": "x"}}, "key 'A' is not legal"),
        ({"labels": {"a b": "x"}}, "is not legal"),
        ({"labels": {"a": "x\ny"}}, "has control characters"),
        ({"owner": "x\x07"}, "has control characters"),
        ({"timeout": 0}, "timeout 0"),
        ({"max_parallel": 0}, "max_parallel 0"),
        ({"max_parallel": 65}, "max_parallel 65"),
        ({"mounts": [mount("srv")]}, "is not an absolute path"),
        ({"mounts": [mount("/srv/../etc")]}, "without '..'"),
        ({"mounts": [mount("/srv/a\nb")]}, "has control characters"),
        ({"mounts": [mount(), mount("/srv/other")]}, "/data is the path of more than one"),
    ],
)
def test_what_is_illegal_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        desired_from({**DEFAULTS, **options})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "source",
    ["/", "//", "/etc", "/etc/pixels", "/proc/1", "/sys", "/dev/disk", "/run", "/var/run/x", "/var/lib/incus", "/root",
     "/root/.ssh", "/boot", "/usr/bin", "/home", "/var", "/tmp", "/srv"],
)  # fmt: skip
def test_folders_of_the_servers_system_are_never_mounted(source: str) -> None:
    with pytest.raises(ConfigError, match="belongs to the system"):
        desired_from({**DEFAULTS, "mounts": [mount(source)]})


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/etc/sudoers.d", "/usr/bin", "/proc", "/dev/shm", "/root", "/home", "/lib64"]
)
def test_folders_of_the_guests_system_are_never_mounted_over(path: str) -> None:
    with pytest.raises(ConfigError, match="belongs to the system"):
        desired_from({**DEFAULTS, "mounts": [mount(path=path)]})
