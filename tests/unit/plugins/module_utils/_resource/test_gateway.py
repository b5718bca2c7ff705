# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pixels_gateway plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import GatewaySite
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.gateway import plan_gateway

SITE = GatewaySite("running", "100.64.0.0/14", "pxu-1", "10.9.9.0/24", "10.9.9.1", "10.9.9.250", {"team": "red"})
OPTIONS: dict[str, Any] = {
    "state": "started",
    "image": "local:pixels/debian/13",
    "image_server": "https://images.invalid",
    "legs_range": None,
    "pool": None,
    "cpu": 2,
    "memory": "1GiB",
    "processes": 4096,
    "labels": None,
    "timeout": 10,
}


class Server:
    """A server as far as a plan asks it."""

    def __init__(self, site: GatewaySite | None, forbidden: str = "") -> None:
        self.site = site
        self.forbidden = forbidden

    def gateway_site(self) -> GatewaySite | None:
        return self.site

    def check_egress_permitted(self, building: bool = False) -> None:
        assert building
        if self.forbidden:
            raise ConfigError(self.forbidden)


def planned(site: GatewaySite | None, **options: Any) -> Plan:
    (plan,) = plan_gateway(cast(Backend, Server(site)), {**OPTIONS, **options}).plans
    return plan


@pytest.mark.parametrize(
    ("site", "options", "actions"),
    [
        (None, {}, ["create the gateway", "start the gateway"]),
        (SITE, {}, []),
        (replace(SITE, status="stopped"), {}, ["start the gateway"]),
        (SITE, {"state": "restarted"}, ["restart the gateway"]),
        (None, {"state": "absent"}, []),
        (SITE, {"state": "absent"}, ["stop the gateway", "delete the gateway"]),
        (replace(SITE, status="stopped"), {"state": "absent"}, ["delete the gateway"]),
        (SITE, {"legs_range": "100.64.0.0/14"}, []),
    ],
)
def test_what_is_not_so_is_done(site: GatewaySite | None, options: dict[str, Any], actions: list[str]) -> None:
    assert planned(site, **options).actions == actions


@pytest.mark.parametrize(
    ("site", "options", "message"),
    [
        (SITE, {"legs_range": "100.68.0.0/14"}, "remove the gateway to change it"),
        (None, {"legs_range": "bananas"}, "is not an IPv4 network"),
        (None, {"legs_range": "8.8.0.0/16"}, "addresses of the internet"),
        (None, {"legs_range": "10.1.2.0/24"}, "room for less than two"),
        (None, {"image": "docker:x"}, "the remote 'docker' is not known"),
        (None, {"labels": {"a b": "x"}}, "label"),
        # it would be left stopped, and every sandbox without a way
        (replace(SITE, sandboxes=("task1",)), {"state": "absent"}, "task1; remove them first"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(
    site: GatewaySite | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(site, **options)


def test_it_is_shown_with_its_labels_and_who_hangs_on_it() -> None:
    seen = planned(replace(SITE, sandboxes=("task1",))).seen
    assert seen is not None
    assert (seen["labels"], seen["sandboxes"]) == ({"team": "red"}, ["task1"])


def test_what_may_not_be_built_is_not_begun() -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        plan_gateway(cast(Backend, Server(None, "not allowed")), OPTIONS)
    # what is there needs no leave
    assert not plan_gateway(cast(Backend, Server(SITE, "not allowed")), OPTIONS).plans[0].changed
