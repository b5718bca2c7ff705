# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded of a provisioning, and what goes with the disk."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, Foreign
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.provision import (
    desired_provision,
    plan_provision,
)
from support.fake_incus import FakeIncus

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
DEFAULTS: dict[str, Any] = {"name": ["box"], "status": "ready", "step": None, "definition": None}


@pytest.fixture
def server() -> FakeIncus:
    """Return a server with the sandboxes box and other."""
    server = FakeIncus()
    for name in ("box", "other"):
        make(server, name)
    return server


def make(server: FakeIncus, name: str, **source: Any) -> None:
    """Put a sandbox into the server."""
    body = {
        "name": f"px-{name}",
        "type": "container",
        "source": {"type": "image", "alias": "debian/13", **source},
        "config": {"user.pixels.kind": "sandbox"},
        "devices": {"root": {"type": "disk", "path": "/", "pool": "pixels"}},
        "profiles": ["default"],
    }
    server.transport().request("POST", "/1.0/instances", json=body)


def record(server: FakeIncus, **options: Any) -> Any:
    """Record something; return what is seen afterwards."""
    work = plan_provision(IncusBackend(server.transport()), desired_provision({**DEFAULTS, **options}), lambda: NOW)
    assert apply(work) == {}
    return work


def test_what_is_recorded_is_seen_with_its_time(server: FakeIncus) -> None:
    work = record(server, name=["box", "other"], status="provisioning", step="devtools", definition="5f2b")
    assert [plan.actions for plan in work.plans] == [
        ["record provisioning for box at devtools"],
        ["record provisioning for other at devtools"],
    ]
    told = {"status": "provisioning", "step": "devtools", "definition": "5f2b", "since": "2026-01-02T03:04:05Z"}
    assert work.observe() == {"box": told, "other": told}


def test_the_same_again_changes_nothing(server: FakeIncus) -> None:
    record(server)
    work = record(server)
    assert [plan.changed for plan in work.plans] == [False]
    assert work.plans[0].before == work.plans[0].after


def test_what_is_not_told_any_more_goes(server: FakeIncus) -> None:
    record(server, status="failed", step="devtools", definition="5f2b")
    assert record(server, status="ready").observe()["box"]["step"] is None
    record(server, status="none")
    assert not [key for key in server.instance("px-box").record["config"] if "provision" in key]


def test_words_that_are_not_ours_count_as_none(server: FakeIncus) -> None:
    server.instance("px-box").record["config"]["user.pixels.provision.status"] = "splendid"
    instance = IncusBackend(server.transport()).get_instance("box")
    assert instance is not None
    assert instance.provision.status == "none"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ["No"]}, "not legal"),
        ({"name": ["box", "px-box"]}, "more than once"),
        ({"step": "a\nb"}, "control characters"),
        ({"status": "none", "step": "x"}, "status none"),
        ({"name": ["never"]}, "there is no sandbox never"),
    ],
)
def test_bad_input_records_nothing(server: FakeIncus, options: dict[str, Any], message: str) -> None:
    server.requests.clear()
    with pytest.raises(ConfigError, match=message):
        record(server, **options)
    assert server.written() == []


def test_what_is_not_ours_is_left_alone(server: FakeIncus) -> None:
    del server.instance("px-box").record["config"]["user.pixels.kind"]
    with pytest.raises(Foreign):
        record(server)
