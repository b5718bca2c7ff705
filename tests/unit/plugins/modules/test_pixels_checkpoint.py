# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoint modules, whole, over a server in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible_collections.pixels.sandbox.plugins.modules import (
    pixels_checkpoint,
    pixels_checkpoint_info,
    pixels_instance,
)
from support.fake_incus import FakeIncus

Run = Callable[..., dict[str, Any]]
SNAPSHOTS = "/1.0/instances/px-box/snapshots"


@pytest.fixture
def box(run: Run) -> str:
    """A stopped sandbox."""
    result = run(pixels_instance, name="box", image="debian/13", state="present", labels={"phase": "then"})
    assert not result.get("failed"), result
    return "box"


def labels(server: FakeIncus) -> list[str]:
    """Return the labels on the server."""
    return list(server.instance("px-box").snapshots)


def test_a_checkpoint_is_one_request(server: FakeIncus, run: Run, box: str) -> None:
    result = run(pixels_checkpoint, name=box, label="ready")
    assert result["changed"] is True
    assert result["actions"] == ["create checkpoint ready of box"]
    assert result["checkpoint"]["label"] == "ready"
    assert server.written() == [f"POST {SNAPSHOTS}"]
    (sent,) = [seen for seen in server.requests if seen.method == "POST"]
    assert sent.body == {"name": "ready", "stateful": False, "expires_at": "0001-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({"label": "ready", "protected": True}, False),
        ({"label": "n-9", "keep": 1}, False),
        ({"label": "n-1", "state": "absent"}, False),
        ({"label": "n-1", "state": "restored"}, True),
    ],
)
def test_each_change_climbs_the_ladder(
    server: FakeIncus, run: Run, box: str, options: dict[str, Any], again: bool
) -> None:
    for label in ("n-1", "n-2"):
        run(pixels_checkpoint, name=box, label=label)
    before = run(pixels_checkpoint_info)["checkpoints"]
    first = run(pixels_checkpoint, check_mode=True, name=box, **options)
    assert server.written() == []
    assert run(pixels_checkpoint_info)["checkpoints"] == before
    real = run(pixels_checkpoint, name=box, **options)
    assert first["changed"] is real["changed"] is True
    assert first["actions"] == real["actions"]
    assert first["diff"] == real["diff"]
    assert run(pixels_checkpoint, name=box, **options)["changed"] is again
    assert run(pixels_checkpoint, check_mode=True, name=box, **options)["changed"] is again


def test_results_have_what_the_documentation_names_and_nothing_else(run: Run, box: str) -> None:
    documented = yaml.safe_load(pixels_checkpoint.RETURN)
    listed = yaml.safe_load(pixels_checkpoint_info.RETURN)["checkpoints"]["contains"]
    seen: set[str] = set()
    for options in (
        {"label": "a", "expires": "1h"},
        {"label": "a", "state": "restored"},
        {"label": "a", "state": "absent"},
    ):
        for check_mode in (True, False):
            result = run(pixels_checkpoint, check_mode=check_mode, name=box, **options)
            assert set(result) - {"invocation"} <= {*documented, "changed", "diff", "failed_names"}
            seen |= set(result["checkpoint"])
        for record in run(pixels_checkpoint_info)["checkpoints"]:
            assert set(record) == set(listed)
    assert seen == set(documented["checkpoint"]["contains"]) - {"failed", "msg"}


def test_the_server_is_told_when_a_checkpoint_expires(server: FakeIncus, run: Run, box: str) -> None:
    result = run(pixels_checkpoint, name=box, label="a", expires="1h")
    (sent,) = [seen for seen in server.requests if seen.method == "POST"]
    assert sent.body["expires_at"] == result["checkpoint"]["expires_at"]


def test_protection_is_a_key_of_the_sandbox(server: FakeIncus, run: Run, box: str) -> None:
    result = run(pixels_checkpoint, name=box, label="a", protected=True)
    assert result["checkpoint"]["protected"] is True
    assert server.instance("px-box").record["config"]["user.pixels.protected"] == "a"


def test_a_protected_checkpoint_is_not_removed_by_mistake(server: FakeIncus, run: Run, box: str) -> None:
    run(pixels_checkpoint, name=box, label="a", protected=True)
    result = run(pixels_checkpoint, name=box, label="a", state="absent", force=True)
    assert result["failed"] is True
    assert "protected: false removes it" in result["msg"]
    assert server.written() == []
    assert run(pixels_checkpoint, name=box, label="a", state="absent", protected=False)["changed"]
    assert labels(server) == []


def test_a_restore_keeps_what_was_set_since(server: FakeIncus, run: Run, box: str) -> None:
    run(pixels_checkpoint, name=box, label="then")
    run(pixels_instance, name=box, state="started", wait_for="none", labels={"phase": "now"}, memory="3GiB")
    before = dict(server.instance("px-box").record["config"])
    result = run(pixels_checkpoint, name=box, label="then", state="restored")
    assert result["actions"] == ["stop box", "restore checkpoint then of box", "start box"]
    after = server.instance("px-box").record["config"]
    for key in ("user.pixels.label.phase", "limits.memory", "volatile.eth0.hwaddr"):
        assert after[key] == before[key]
    assert server.instance("px-box").status == "Running"
    assert list(server.profiles) == [("default", "default")], "the journal of the restore is gone"


def test_a_restore_keeps_the_mac_of_a_nic_that_was_of_another_type_then(server: FakeIncus, run: Run, box: str) -> None:
    run(pixels_checkpoint, name=box, label="then")
    record = server.instance("px-box").record
    # the leg's lease is this one's, and nobody else gets an address there
    record["devices"]["eth0"] = {"type": "nic", "nictype": "macvlan", "parent": "pixels0", "name": "eth0"}
    record["config"]["volatile.eth0.hwaddr"] = "10:66:6a:00:00:09"
    assert run(pixels_checkpoint, name=box, label="then", state="restored")["changed"]
    after = server.instance("px-box").record
    assert after["devices"]["eth0"]["nictype"] == "macvlan"
    assert after["config"]["volatile.eth0.hwaddr"] == "10:66:6a:00:00:09"


def test_a_restore_that_fails_keeps_what_was_set_too(server: FakeIncus, run: Run, box: str) -> None:
    run(pixels_checkpoint, name=box, label="then")
    run(pixels_instance, name=box, state="present", labels={"phase": "now"})
    server.fail("Restoring snapshot", "No space left on device")
    result = run(pixels_checkpoint, name=box, label="then", state="restored")
    assert result["failed"] is True
    assert result["msg"] == "box: could not restore checkpoint then of box: No space left on device"
    assert result["failed_step"] == "restore checkpoint then of box"
    assert server.instance("px-box").record["config"]["user.pixels.label.phase"] == "now"
    assert list(server.profiles) == [("default", "default")], "the journal of the restore is gone"


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_zfs_would_lose_is_named_and_refused(server: FakeIncus, run: Run, box: str, check_mode: bool) -> None:
    server.pools["pixels"]["driver"] = "zfs"
    for label in ("a", "b", "c"):
        run(pixels_checkpoint, name=box, label=label)
    result = run(pixels_checkpoint, check_mode=check_mode, name=box, label="a", state="restored")
    assert result["failed"] is True
    assert "removing what is newer: b, c; remove_newer: true does so" in result["msg"]
    assert server.written() == []
    result = run(pixels_checkpoint, check_mode=check_mode, name=box, label="a", state="restored", remove_newer=True)
    assert result["checkpoint"]["removed"] == ["b", "c"]
    assert labels(server) == (["a", "b", "c"] if check_mode else ["a"])


def test_a_full_pool_is_reported_in_the_words_of_the_server(server: FakeIncus, run: Run, box: str) -> None:
    run(pixels_checkpoint, name=box, label="n-1")
    server.fail("Snapshotting instance", "No space left on device")
    result = run(pixels_checkpoint, name=box, label="n-2", keep=1)
    assert result["msg"] == "box: could not create checkpoint n-2 of box: No space left on device"
    assert result["failed_step"] == "create checkpoint n-2 of box"
    assert labels(server) == ["n-1"]


def test_a_server_that_died_over_a_checkpoint_is_helped_by_the_next_run(server: FakeIncus, run: Run, box: str) -> None:
    server.crash("Snapshotting instance")
    assert run(pixels_checkpoint, name=box, label="a")["failed"]
    result = run(pixels_checkpoint, name=box, label="a", state="restored")
    assert "has no disk" in result["msg"]
    result = run(pixels_checkpoint, name=box, label="a")
    assert result["actions"] == ["delete checkpoint a of box, which has no disk", "create checkpoint a of box"]
    assert run(pixels_checkpoint, name=box, label="a", state="restored")["changed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Box", "label": "a"}, "name 'Box' is not legal"),
        ({"name": "box", "label": "../a"}, "label '../a' is not legal"),
        ({"name": "box", "state": "restored"}, "state restored needs a label"),
        ({"name": "box", "label": "a", "protected": True, "expires": "1h"}, "give protected or expires"),
        ({"name": "box", "label": "a", "expires": "4 bananas"}, "expires '4 bananas' is not a duration"),
    ],
)
def test_bad_input_reaches_no_server(server: FakeIncus, run: Run, options: dict[str, Any], message: str) -> None:
    result = run(pixels_checkpoint, **options)
    assert result["failed"] is True
    assert message in result["msg"]
    assert server.requests == []


def test_what_is_not_ours_is_refused(server: FakeIncus, run: Run, box: str) -> None:
    del server.instance("px-box").record["config"]["user.pixels.kind"]
    result = run(pixels_checkpoint, name=box, label="a")
    assert result["failed"] is True
    assert "box" in result["msg"]
    assert server.written() == []


def test_the_info_module_lists_what_is_asked_for(run: Run, box: str) -> None:
    run(pixels_checkpoint, name=box, label="a", protected=True)
    run(pixels_instance, name="copy", clone_from="box:a", state="present")
    run(pixels_checkpoint, name="copy", label="b")
    result = run(pixels_checkpoint_info)
    assert result["changed"] is False
    assert [(record["name"], record["label"], record["clones"]) for record in result["checkpoints"]] == [
        ("box", "a", ["copy"]),
        ("copy", "b", []),
    ]
    assert [record["label"] for record in run(pixels_checkpoint_info, name=["px-copy"])["checkpoints"]] == ["b"]
    assert run(pixels_checkpoint_info, name="never")["checkpoints"] == []
    result = run(pixels_checkpoint_info, query="[?protected].[name, label]")
    assert result["result"] == [["box", "a"]]
    assert "query" in run(pixels_checkpoint_info, query="[?")["msg"]
