# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes on the real Incus: made, cloned, changed, powered, removed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import managed_fields
from support import live, module_process

pytestmark = live.needs_incus
IMAGE = f"local:{live.IMAGE}"


@pytest.fixture
def gone(backend: IncusBackend, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Remove what a test makes, by the names that it puts on the list."""
    names: list[str] = []
    yield names
    live.ensure(backend, names, state="absent")


@pytest.fixture(scope="module")
def box(backend: IncusBackend) -> Iterator[str]:
    """Return the name of a running sandbox that tests may change."""
    live.make(backend, "changing", wait_for="ready")
    yield "changing"
    live.ensure(backend, "changing", state="absent")


def found(backend: IncusBackend, name: str) -> Instance:
    """Return a sandbox that must be there."""
    there = backend.get_instance(name)
    assert there, f"{name} is not there"
    return there


def inside(backend: IncusBackend, name: str, script: str) -> str:
    """Return what a script prints in a sandbox, errors included."""
    result = backend.execute(name, ExecRequest(("/bin/sh", "-c", script)), Deadline(60))
    return (result.stdout + result.stderr).decode().strip()


def managed(backend: IncusBackend, name: str) -> dict[str, object]:
    """Return what a task manages of a sandbox; {} when it is not there."""
    there = backend.get_instance(name)
    return managed_fields(there) if there else {}


def climb(backend: IncusBackend, name: str, **options: Any) -> Plan:
    """Check, apply, apply again, check again: a change is as foretold, and is there once."""
    options = {"image": IMAGE, "wait_for": "address", **options}
    before = managed(backend, name)
    (foretold,) = live.work_for(backend, name, **options).plans
    assert foretold.changed
    assert managed(backend, name) == before, "to look changed something"
    work = live.work_for(backend, name, **options)
    assert not apply(work)
    assert work.plans[0].actions == foretold.actions
    after = managed(backend, name)
    assert foretold.before == before
    assert {key: after.get(key) for key in foretold.after} == foretold.after
    for _turn in range(2):
        again = live.work_for(backend, name, **options)
        assert not again.plans[0].changed, again.plans[0].actions
        assert again.plans[0].before == again.plans[0].after == after
        assert not apply(again)
    return foretold


def test_a_sandbox_climbs_the_ladder_from_nothing_to_nothing(backend: IncusBackend, gone: list[str]) -> None:
    gone.append("ladder")
    climb(backend, "ladder", state="present", cpu=1, memory="512", labels={"team": "search"}, ttl="8h", owner="ada")
    for state in ("started", "frozen", "stopped", "frozen", "started"):
        climb(backend, "ladder", state=state)
    there = found(backend, "ladder")
    assert (there.limits.cpu, there.limits.memory, there.hardening) == (1, 512 * 2**20, "standard")
    assert (there.labels, there.keys["owner"], there.keys["ttl"]) == ({"team": "search"}, "ada", "28800")
    (removed,) = live.work_for(backend, "ladder", state="absent").plans
    assert removed.actions == ["stop ladder", "delete ladder"]
    assert not live.ensure(backend, "ladder", state="absent")
    assert backend.get_instance("ladder") is None
    assert not live.work_for(backend, "ladder", state="absent").plans[0].changed


@pytest.mark.parametrize(
    "options",
    [
        {"cpu": 1},
        {"memory": "768MiB"},
        {"disk": "3GiB"},
        {"processes": 1000},
        {"cpu": 2, "memory": "1GiB", "processes": 2000},
        {"labels": {"a": "1", "b": "two words"}},
        {"labels": {"b": "2"}},
        {"labels": {}},
        {"owner": "grace"},
        {"owner": ""},
        {"ttl": "2h"},
        {"ttl": "never"},
        {"autostart": True},
        {"nesting": True},
        {"hardening": "none"},
        {"hardening": "strict"},
        {"hardening": "standard", "nesting": False},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)
def test_each_change_of_a_running_sandbox_climbs_the_ladder(
    backend: IncusBackend, box: str, options: dict[str, Any]
) -> None:
    climb(backend, box, **options)
    assert found(backend, box).status == "running"


def test_what_is_not_given_stays(backend: IncusBackend, box: str) -> None:
    live.make(backend, box, cpu=1, labels={"keep": "me"}, ttl="5h", owner="ada", autostart=True)
    before = managed(backend, box)
    (plan,) = live.work_for(backend, box).plans
    assert not plan.changed
    assert managed(backend, box) == before


def test_time_to_live_counts_from_the_creation_and_can_be_renewed(backend: IncusBackend, box: str) -> None:
    live.make(backend, box, ttl="1h")
    there = found(backend, box)
    assert there.created_at
    assert there.keys["expires"] == time.strftime(
        "%Y-%m-%dT%H:%M:%SZ", time.gmtime(there.created_at.timestamp() + 3600)
    )
    time.sleep(1)
    live.make(backend, box, renew=True)
    assert found(backend, box).keys["expires"] > there.keys["expires"]


def test_new_limits_hold_in_the_guest_at_once(backend: IncusBackend, box: str) -> None:
    live.make(backend, box, cpu=1, memory="640MiB", processes=1500)
    assert inside(backend, box, "nproc; sed -n 's/MemTotal: *//p' /proc/meminfo") == f"1\n{640 * 1024} kB"


def test_a_level_of_hardening_waits_for_a_restart_and_says_so(backend: IncusBackend, box: str) -> None:
    live.make(backend, box, hardening="none")
    live.make(backend, box, state="restarted", wait_for="ready")
    assert not found(backend, box).restart_required
    live.make(backend, box, hardening="standard")
    assert found(backend, box).restart_required
    live.make(backend, box, state="restarted", wait_for="ready")
    there = found(backend, box)
    assert (there.restart_required, there.hardening) == (False, "standard")


def test_a_strict_sandbox_boots_and_is_shut_in(backend: IncusBackend, gone: list[str]) -> None:
    gone.append("shut-in")
    live.make(backend, "shut-in", hardening="strict", wait_for="ready")
    there = found(backend, "shut-in")
    assert (there.hardening, there.isolated, there.nesting) == ("strict", True, False)
    assert there.limits.processes == 4096
    assert there.limits.disk == 10 * 2**30
    assert there.addresses
    assert inside(backend, "shut-in", "systemctl is-system-running") == "running"
    assert "Operation not permitted" in inside(backend, "shut-in", "unshare --user true")
    assert inside(backend, "shut-in", "unshare --mount true && echo allowed") == "allowed"
    assert inside(backend, "shut-in", "test -e /dev/incus && echo there") == ""
    bounding = int(inside(backend, "shut-in", "sed -n 's/CapBnd:\t//p' /proc/self/status"), 16)
    # linux_immutable, ipc_lock, audit_control, syslog, wake_alarm, block_suspend, perfmon, bpf
    assert not [bit for bit in (9, 14, 30, 34, 35, 36, 38, 39) if bounding >> bit & 1]


def test_four_clones_at_once_are_four_machines(backend: IncusBackend, gone: list[str]) -> None:
    names = [f"clone-{number}" for number in range(4)]
    gone += ["origin", *names]
    live.make(
        backend, "origin", cpu=1, memory="512MiB", labels={"of": "origin"}, owner="ada", ttl="1h", wait_for="ready"
    )
    inside(backend, "origin", "mkdir -p /etc/ssh; echo old > /etc/ssh/ssh_host_ed25519_key; echo kept > /root/kept")
    backend.create_checkpoint("origin", "ready", None, Deadline(60))
    inside(backend, "origin", "echo later > /root/kept")
    work = live.work_for(backend, names, clone_from="origin:ready", memory="640MiB", wait_for="ready")
    assert not apply(work)
    there = [found(backend, name) for name in names]
    script = "cat /etc/machine-id; hostname; cat /sys/class/net/eth0/address; cat /root/kept; cat /etc/ssh/ssh_host_*"
    seen = [inside(backend, name, script).splitlines() for name in ["origin", *names]]
    assert len({lines[0] for lines in seen}) == 5, "machine-id"
    assert [lines[1] for lines in seen] == [f"px-{name}" for name in ["origin", *names]]
    assert len({lines[2] for lines in seen}) == 5, "MAC"
    assert [lines[3] for lines in seen] == ["later", *["kept"] * 4]
    assert not [lines for lines in seen[1:] if "old" in lines], "host keys of the source"
    assert len({address for instance in there for address in instance.addresses}) >= 4
    for instance in there:
        assert (instance.limits.cpu, instance.limits.memory) == (1, 640 * 2**20)
        assert (instance.labels, instance.keys.get("owner"), instance.keys.get("ttl")) == ({}, None, None)
        assert instance.keys["source"] == "origin:ready"
    again = live.work_for(backend, names, clone_from="origin:ready", memory="640MiB")
    assert not [plan.actions for plan in again.plans if plan.changed]


def test_a_clone_of_a_running_sandbox_has_its_current_state(backend: IncusBackend, gone: list[str], box: str) -> None:
    gone.append("of-now")
    inside(backend, box, "echo now > /root/now; sync")
    live.make(backend, "of-now", clone_from=box)
    assert inside(backend, "of-now", "cat /root/now") == "now"


def test_mounts_are_read_only_unless_told(backend: IncusBackend, gone: list[str], tmp_path: Path) -> None:
    # a folder that the server and the test both see, and that is none of the system's
    gone.append("mounted")
    (tmp_path / "note").write_text("from the server")
    tmp_path.chmod(0o755)
    mount = {"source": str(tmp_path), "path": "/data", "readonly": True}
    failed = live.ensure(backend, "mounted", image=IMAGE, mounts=[mount], wait_for="ready")
    assert not failed, failed
    assert inside(backend, "mounted", "cat /data/note") == "from the server"
    assert "Read-only" in inside(backend, "mounted", "touch /data/new")
    live.make(backend, "mounted", mounts=[{**mount, "readonly": False}])
    assert inside(backend, "mounted", "echo back > /data/new") == ""
    assert (tmp_path / "new").read_text() == "back\n"
    live.make(backend, "mounted", mounts=[])
    assert "No such file" in inside(backend, "mounted", "ls /data/note")


def test_a_guest_that_does_not_shut_down_is_switched_off_when_the_time_is_over(
    backend: IncusBackend, gone: list[str]
) -> None:
    gone.append("stubborn")
    live.make(backend, "stubborn", wait_for="ready")
    stubborn = "systemd-run -q -p TimeoutStopSec=600 -p KillMode=none --unit=stubborn sh -c 'trap : TERM; while :; do sleep 1; done'"
    assert inside(backend, "stubborn", stubborn) == ""
    begin = time.monotonic()
    failed = live.ensure(backend, "stubborn", state="stopped", force=False, timeout=4)
    assert not failed, failed
    assert found(backend, "stubborn").status == "stopped"
    assert 3 < time.monotonic() - begin < 40


def test_a_result_tells_all_there_is_to_tell(project: str, backend: IncusBackend, gone: list[str]) -> None:
    gone.append("told")
    options = {"name": ["px-told"], "image": IMAGE, "labels": {"a": 1}, "incus_project": project, "cpu": 1}
    check = module_process.run("pixels_instance", check_mode=True, **options)
    assert (check["changed"], check["actions"]) == (True, [f"create told from {IMAGE}", "start told"])
    assert backend.get_instance("told") is None
    result = module_process.run("pixels_instance", **options)
    assert result["diff"] == check["diff"]
    assert result["actions"] == check["actions"]
    assert result["failed_names"] == []
    told = result["instance"]
    assert [told] == result["instances"]
    assert (told["name"], told["server_name"], told["status"], told["kind"]) == (
        "told",
        "px-told",
        "running",
        "sandbox",
    )
    assert (told["project"], told["image"], told["labels"], told["cpu"]) == (project, IMAGE, {"a": "1"}, 1)
    assert told["addresses"]
    assert told["pool"]
    assert told["network"]
    again = module_process.run("pixels_instance", **options)
    assert (again["changed"], again["actions"]) == (False, [])
    assert {**again["instance"], "changed": True, "actions": told["actions"]} == told

    info = module_process.run("pixels_instance_info", labels={"a": "1"}, query="[].name", incus_project=project)
    assert (info["changed"], info["result"]) == (False, ["told"])
    seen = dict(told)
    assert seen.pop("changed")
    assert seen.pop("actions")
    assert info["instances"] == [seen]
