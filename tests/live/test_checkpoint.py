# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints on a real Incus: made, kept, protected, and what a restore brings back and what not."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, NotFound
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import (
    desired_checkpoint,
    list_checkpoint_records,
    plan_checkpoint,
)
from support import live

pytestmark = live.needs_incus

OPTIONS: dict[str, Any] = {
    "label": None,
    "state": "present",
    "keep": None,
    "prefix": None,
    "expires": None,
    "protected": None,
    "remove_newer": False,
    "force": True,
    "timeout": 120,
}
NOTE = "/root/note"


@pytest.fixture(scope="module")
def project() -> Iterator[str]:
    with live.throw_away_project() as name:
        there = live.backend(name)
        live.make(there, "origin", state="stopped")
        there.close()
        yield name


@pytest.fixture
def box(server: IncusBackend) -> Iterator[str]:
    """A stopped sandbox of the test's own."""
    live.make(server, "box", clone_from="origin", state="stopped")
    yield "box"
    for name in [instance.name for instance in server.list_instances(addresses=False) if instance.name != "origin"]:
        live.ensure(server, name, state="absent")


def task(server: IncusBackend, name: str, **options: Any) -> Plan:
    """Do what pixels_checkpoint would do with these options, and return its plan."""
    work = plan_checkpoint(server, desired_checkpoint({**OPTIONS, "name": name, **options}))
    failed = apply(work)
    assert not failed, failed
    return work.plans[0]


def found(server: IncusBackend, name: str) -> Instance:
    """Return the sandbox."""
    instance = server.get_instance(name)
    assert instance is not None
    return instance


def labels(server: IncusBackend, name: str) -> list[str]:
    """Return the labels of a sandbox, oldest first."""
    return [checkpoint.label for checkpoint in server.list_checkpoints(name)]


def write(server: IncusBackend, name: str, text: str) -> None:
    """Write a note onto the disk of a sandbox."""
    server.write_file(name, NOTE, io.BytesIO(text.encode()))


def read(server: IncusBackend, name: str) -> str:
    """Return the note on the disk of a sandbox."""
    target = io.BytesIO()
    server.read_file(name, NOTE, target)
    return target.getvalue().decode()


def test_a_restore_brings_back_the_disk_and_nothing_else(server: IncusBackend, box: str) -> None:
    write(server, box, "then")
    live.ensure(server, box, labels={"phase": "then"}, cpu=1, memory="512", state="present")
    task(server, box, label="then")
    write(server, box, "now")
    live.ensure(
        server,
        box,
        labels={"phase": "now"},
        cpu=2,
        memory="768",
        owner="alice",
        ttl="1d",
        autostart=False,
        state="present",
    )
    task(server, box, label="shield", protected=True)
    before = found(server, box)
    task(server, box, label="then", state="restored")
    assert read(server, box) == "then"
    after = found(server, box)
    assert after.revision == before.revision
    assert after.keys == before.keys
    assert after.status == "stopped"
    assert labels(server, box) == ["then", "shield"]


def test_a_running_sandbox_runs_again_with_its_old_disk_and_its_own_address(server: IncusBackend, box: str) -> None:
    write(server, box, "then")
    task(server, box, label="then")
    live.ensure(server, box, state="started")
    mac = read_mac(server, box)
    server.execute(box, ExecRequest(("sh", "-c", f"echo now > {NOTE}; sync")), Deadline(30))
    plan = task(server, box, label="then", state="restored")
    assert plan.actions == [f"stop {box}", f"restore checkpoint then of {box}", f"start {box}"]
    assert found(server, box).status == "running"
    assert read(server, box) == "then"
    assert read_mac(server, box) == mac


def read_mac(server: IncusBackend, name: str) -> str:
    """Return the MAC address that the guest sees."""
    result = server.execute(name, ExecRequest(("cat", "/sys/class/net/eth0/address")), Deadline(30))
    assert result.rc == 0
    return result.stdout.decode().strip()


def test_a_frozen_sandbox_is_frozen_again(server: IncusBackend, box: str) -> None:
    task(server, box, label="then")
    live.ensure(server, box, state="started")
    live.ensure(server, box, state="frozen")
    task(server, box, label="then", state="restored")
    assert found(server, box).status == "frozen"


class Killed(BaseException):
    """What a run sees that is killed; not caught by anything."""


def test_a_restore_that_was_broken_off_is_finished_before_the_next_start(
    server: IncusBackend, box: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.ensure(server, box, labels={"phase": "then"}, state="present")
    task(server, box, label="then")
    live.ensure(server, box, labels={"phase": "now"}, state="present")

    def killed(*_args: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(server, "_finish_restore", killed)
        with pytest.raises(Killed):
            server.restore_checkpoint(found(server, box), "then", Deadline(60))
    assert found(server, box).labels == {"phase": "then"}, "the server is expected to turn the keys back"
    live.ensure(server, box, state="started")
    assert found(server, box).labels == {"phase": "now"}


def test_keep_spares_protected_ones_and_those_with_clones(server: IncusBackend, box: str) -> None:
    for number in (1, 2, 3):
        task(server, box, label=f"n-{number}", protected=number == 1)
    live.make(server, "copy", clone_from=f"{box}:n-2", state="stopped")
    plan = task(server, box, label="n-4", keep=1)
    assert plan.actions == [f"create checkpoint n-4 of {box}", f"delete checkpoint n-3 of {box}"]
    assert labels(server, box) == ["n-1", "n-2", "n-4"]
    assert [
        (record["label"], record["protected"], record["clones"]) for record in list_checkpoint_records(server, [box])
    ] == [
        ("n-1", True, []),
        ("n-2", False, ["copy"]),
        ("n-4", False, []),
    ]


def test_a_protected_checkpoint_is_removed_only_when_told_so(server: IncusBackend, box: str) -> None:
    task(server, box, label="a", protected=True)
    with pytest.raises(ConfigError, match="is protected"):
        task(server, box, label="a", state="absent")
    task(server, box, label="a", state="absent", protected=False)
    assert labels(server, box) == []
    assert "protected" not in found(server, box).keys


def test_the_server_knows_when_a_checkpoint_expires(server: IncusBackend, box: str) -> None:
    plan = task(server, box, label="a", expires="2h")
    (checkpoint,) = server.list_checkpoints(box)
    assert checkpoint.expires_at is not None
    assert checkpoint.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ") == plan.after["expires_at"]
    assert not task(server, box, label="a", expires="2h").changed
    with pytest.raises(ConfigError, match="stays so"):
        task(server, box, label="a", expires="4h")


def test_a_clone_of_a_checkpoint_does_not_inherit_protection(server: IncusBackend, box: str) -> None:
    task(server, box, label="a", protected=True)
    live.make(server, "copy", clone_from=f"{box}:a", state="stopped")
    assert "protected" not in found(server, "copy").keys


def test_a_sandbox_takes_its_checkpoints_and_their_marks_along(server: IncusBackend, box: str) -> None:
    task(server, box, label="a", protected=True)
    live.ensure(server, box, state="absent")
    with pytest.raises(NotFound):
        server.list_checkpoints(box)


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({"label": "a", "protected": True}, False),
        ({"label": "old", "state": "absent"}, False),
        ({"label": "new-9", "keep": 1, "expires": "1d"}, False),
        ({"label": "old", "state": "restored"}, True),
    ],
)
def test_each_change_climbs_the_ladder(
    server: IncusBackend, project: str, box: str, tmp_path: Path, options: dict[str, Any], again: bool
) -> None:
    for label in ("old", "new-1", "new-2"):
        task(server, box, label=label)
    module = {"pixels.sandbox.pixels_checkpoint": {"name": box, **options}}
    facts = "[].[name, label, created_at, expires_at, protected]"
    look = {"pixels.sandbox.pixels_checkpoint_info": {"name": box, "query": facts}}
    same = "first.diff.after == real.diff.after and first.diff.before == real.diff.before"
    # the time of an expiry goes on between the two
    timeless = "first.actions == real.actions"
    steps = [
        {**look, "register": "before"},
        {**module, "check_mode": True, "register": "first"},
        {**look, "register": "between"},
        {**module, "register": "real"},
        {**module, "register": "second"},
        {**module, "check_mode": True, "register": "last"},
        {
            "ansible.builtin.assert": {
                "that": [
                    "first is changed",
                    # sizes move by themselves: some drivers count late
                    "before.result == between.result",
                    "real is changed",
                    timeless if "expires" in options else same,
                    f"second is {'' if again else 'not '}changed",
                    f"last is {'' if again else 'not '}changed",
                ]
            }
        },
    ]
    plays = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "module_defaults": {"group/pixels.sandbox.pixels": {"incus_project": project}},
            "tasks": steps,
        }
    ]
    hosts = {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    result = live.play(tmp_path, plays, hosts)
    assert result.returncode == 0, result.stdout + result.stderr
