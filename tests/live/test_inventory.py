# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a real Incus, tasks in what it finds, and the playbooks that remove sandboxes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import InstanceChange
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import list_checkpoint_records
from support import live

pytestmark = live.needs_incus

EVIL = "{{ lookup('pipe', 'false') }}"


@pytest.fixture(scope="module")
def project() -> Iterator[str]:
    with live.throw_away_project() as name:
        there = live.backend(name)
        live.make(there, "web", labels={"team": "red", "note": EVIL}, owner="alice")
        live.make(there, "db", clone_from="web", labels={"team": "blue"}, state="stopped")
        there.close()
        yield name


def ansible(program: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible."""
    settings = {
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_INVENTORY_ENABLED": "pixels.sandbox.pixels",
    }
    return subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **settings, **environment},
        timeout=300,
    )


def source(folder: Path, **options: Any) -> Path:
    """Write an inventory file with these options."""
    path = folder / "lab.pixels.yml"
    path.write_text(json.dumps({"plugin": "pixels.sandbox.pixels", **options}), encoding="utf-8")
    return path


def listed(folder: Path, **options: Any) -> dict[str, Any]:
    """Return what ansible-inventory makes of a file with these options."""
    result = ansible(
        "ansible-inventory", "-i", source(folder, **options), "--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true"
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout, object_hook=lambda item: item.get("__ansible_unsafe", item))
    return found


def test_groups_and_variables_tell_what_is_there(tmp_path: Path, project: str) -> None:
    found = listed(tmp_path, incus_project=project, addresses=True)
    assert found["pixels"]["hosts"] == ["db", "web"]
    assert found["pixels_running"]["hosts"] == ["web"]
    assert found["pixels_stopped"]["hosts"] == ["db"]
    assert found["pixels_label_team_red"]["hosts"] == ["web"]
    web = found["_meta"]["hostvars"]["web"]
    assert web["ansible_connection"] == "pixels.sandbox.incus"
    assert web["ansible_pixels_incus_project"] == project
    assert web["pixels_owner"] == "alice"
    assert web["pixels_addresses"]


def test_query_and_constructed_groups(tmp_path: Path, project: str) -> None:
    found = listed(
        tmp_path,
        incus_project=project,
        query="[?owner=='alice']",
        keyed_groups=[{"key": "pixels_labels.team", "prefix": "team"}],
        compose={"who": "pixels_owner | upper"},
        strict=True,
    )
    assert found["team_red"]["hosts"] == ["web"]
    assert found["_meta"]["hostvars"]["web"]["who"] == "ALICE"
    assert "db" not in found["_meta"]["hostvars"]


def test_a_task_runs_in_what_the_inventory_finds(tmp_path: Path, project: str) -> None:
    path = source(tmp_path, incus_project=project)
    result = ansible(
        "ansible", "-i", path, "pixels_running", "-m", "ansible.builtin.command", "-a", "hostname", "-e",
        "ansible_python_interpreter=/usr/bin/python3",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "web | CHANGED | rc=0 >>\npx-web" in result.stdout


def test_labels_are_no_templates(tmp_path: Path, project: str) -> None:
    path = source(tmp_path, incus_project=project, compose={"note": "pixels_labels.note"})
    for variable in ("pixels_labels.note", "note"):
        result = ansible("ansible", "-i", path, "web", "-m", "ansible.builtin.debug", "-a", f"msg={{{{ {variable} }}}}")
        assert result.returncode == 0, result.stdout + result.stderr
        assert EVIL in result.stdout


def test_one_server_of_two_may_be_away(tmp_path: Path, project: str) -> None:
    servers = [
        {"name": "here", "prefix": "h-", "incus_project": project},
        {"name": "away", "incus_socket": str(tmp_path / "nowhere.socket")},
    ]
    found = listed(tmp_path, servers=servers, skip_unreachable=True)
    assert found["pixels_server_here"]["hosts"] == ["h-db", "h-web"]
    result = ansible("ansible-inventory", "-i", source(tmp_path, servers=servers), "--list")
    assert "server away: " in result.stderr
    assert "is not there" in result.stderr


# the playbooks


def playbook(name: str, project: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the collection in the project."""
    return ansible(
        "ansible-playbook",
        f"pixels.sandbox.{name}",
        *arguments,
        PIXELS_INCUS_PROJECT=project,
        ANSIBLE_INVENTORY_ENABLED="auto",
    )


def names(server: IncusBackend) -> set[str]:
    """Return the names of what is there."""
    return {instance.name for instance in server.list_instances(addresses=False)}


def test_destroy_removes_what_is_named_and_no_more(server: IncusBackend, project: str) -> None:
    live.make(server, ["one", "two", "three"], clone_from="db", state="stopped")
    result = playbook("destroy", project, "--check", "-e", "names=one,two")
    assert result.returncode == 0, result.stdout + result.stderr
    assert {"one", "two", "three"} <= names(server)
    result = playbook("destroy", project, "-e", json.dumps({"names": "px-one, two,was-never-there"}))
    assert result.returncode == 0, result.stdout + result.stderr
    assert names(server) == {"web", "db", "three"}
    result = playbook("destroy", project, "-e", json.dumps({"names": ["three"]}))
    assert result.returncode == 0, result.stdout + result.stderr
    assert names(server) == {"web", "db"}


@pytest.mark.parametrize("arguments", [(), ("-e", "names="), ("-e", "names=,")])
def test_destroy_does_not_guess(server: IncusBackend, project: str, arguments: tuple[str, ...]) -> None:
    result = playbook("destroy", project, *arguments)
    assert result.returncode != 0
    assert "Give their names" in result.stdout + result.stderr
    assert {"web", "db"} <= names(server)


def expired(server: IncusBackend, *names: str, **labels: str) -> None:
    """Make sandboxes whose time was over long ago."""
    live.make(server, list(names), clone_from="db", state="stopped", ttl="1h", labels=labels)
    for instance in server.get_instances(names).values():
        server.update_instance(instance, InstanceChange(keys={"expires": "2020-01-01T00:00:00Z"}), Deadline(30))


def test_reap_removes_what_has_expired_and_nothing_else(server: IncusBackend, project: str) -> None:
    expired(server, "old")
    expired(server, "older", protected="false")
    expired(server, "shielded", protected="true")
    expired(server, "shielded-too", protected="yes please")
    live.make(server, "young", clone_from="db", ttl="1h", state="stopped")
    result = playbook("reap", project, "--check")
    assert "Would remove: old, older" in result.stdout, result.stdout + result.stderr
    assert {"old", "older"} <= names(server)
    result = playbook("reap", project)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Removed: old, older" in result.stdout
    assert names(server) == {"web", "db", "shielded", "shielded-too", "young"}
    result = playbook("reap", project)
    assert "Removed: nothing" in result.stdout
    assert "changed=0" in result.stdout
    assert list_checkpoint_records(server, None) == []


def test_two_reapers_at_once_do_no_harm(server: IncusBackend, project: str) -> None:
    expired(server, "late-1", "late-2", "late-3", "late-4")
    programs = [Path(sys.executable).parent / "ansible-playbook", "pixels.sandbox.reap"]
    environment = {**os.environ, "PIXELS_INCUS_PROJECT": project, "ANSIBLE_LOCALHOST_WARNING": "false"}
    runs = [
        subprocess.Popen(programs, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment)
        for _turn in range(2)
    ]
    outputs = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(outputs)
    assert not [name for name in names(server) if name.startswith("late-")]
