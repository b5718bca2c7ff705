# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of Ansible in a real guest, through the connection plugin; what ansible-core asks of any connection."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live

pytestmark = live.needs_incus


def host(project: str, **variables: Any) -> dict[str, Any]:
    """Return the variables of a sandbox as a host."""
    return {
        "ansible_connection": "pixels.sandbox.incus",
        "ansible_pixels_incus_project": project,
        "ansible_python_interpreter": "/usr/bin/python3",
        **variables,
    }


def tasks(
    folder: Path, hosts: dict[str, Any], *entries: dict[str, Any], **keywords: Any
) -> subprocess.CompletedProcess[str]:
    """Run tasks on hosts."""
    return live.play(folder, [{"hosts": "all", "gather_facts": False, "tasks": list(entries), **keywords}], hosts)


GENERIC = [
    {
        "name": "raw with unicode",
        "ansible.builtin.raw": "echo 汉语 > /tmp/'raw 汉语' && cat /tmp/'raw 汉语'",
        "register": "raw",
    },
    {"ansible.builtin.assert": {"that": ["raw.stdout_lines == ['汉语']"]}},
    {"ansible.builtin.command": "cat -", "args": {"stdin": "汉语"}, "register": "command"},
    {"ansible.builtin.assert": {"that": ["command.stdout == '汉语'"]}},
    {
        "ansible.builtin.copy": {"src": "{{ local }}/汉语 file", "dest": "/tmp/汉语 dir/", "mode": "0644"},
        "register": "copied",
    },
    {"ansible.builtin.assert": {"that": ["copied is changed"]}},
    {
        "ansible.builtin.copy": {"src": "{{ local }}/汉语 file", "dest": "/tmp/汉语 dir/", "mode": "0644"},
        "register": "copied",
    },
    {"ansible.builtin.assert": {"that": ["copied is not changed"]}},
    {"ansible.builtin.fetch": {"src": "/tmp/汉语 dir/汉语 file", "dest": "{{ local }}/fetched", "flat": True}},
    {"ansible.builtin.file": {"path": "/tmp/汉语 dir", "state": "absent"}},
]


# each user and each way once: they do not depend on each other
@pytest.mark.parametrize(
    ("user", "pipelining"), [("root", False), ("pixel", True)], ids=["root-files", "pixel-pipelining"]
)
def test_the_generic_tasks_of_a_connection(
    pipelining: bool, user: str, tmp_path: Path, sandbox: str, project: str
) -> None:
    data = os.urandom(300_000) + "汉语".encode()
    (tmp_path / "汉语 file").write_bytes(data)
    variables = host(project, ansible_user=user, ansible_pipelining=pipelining, local=str(tmp_path))
    result = tasks(
        tmp_path,
        {sandbox: variables},
        {"ansible.builtin.file": {"path": "/tmp/汉语 dir", "state": "directory", "mode": "0755"}},
        *GENERIC,
        {"ansible.builtin.file": {"path": "/tmp/raw 汉语", "state": "absent"}},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "fetched").read_bytes() == data


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the playbooks with which ansible-core tests any connection, of the version that runs here."""
    folder = tmp_path_factory.mktemp("ansible-core")
    wanted = f"ansible-core=={metadata.version('ansible-core')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "ansible-core"]
    subprocess.run([*pip, "--dest", folder, wanted], check=True, stdin=subprocess.DEVNULL, timeout=180)
    (archive,) = folder.glob("*.tar.gz")
    place = "/test/integration/targets/connection/"
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            if member.isfile() and place in member.name:
                content = source.extractfile(member)
                assert content is not None
                (folder / Path(member.name).name).write_bytes(content.read())
    return folder


@pytest.mark.parametrize("playbook", ["test_connection", "test_reset_connection", "test_reset_connection_templated"])
def test_the_suite_of_ansible_core_passes_whole(
    playbook: str, upstream: Path, tmp_path: Path, sandbox: str, project: str
) -> None:
    hosts = {
        "root-files": host(project, ansible_host=sandbox, ansible_pipelining=False),
        "pixel-pipelining": host(project, ansible_host=sandbox, ansible_pipelining=True, ansible_user="pixel"),
    }
    plays = yaml.safe_load((upstream / f"{playbook}.yml").read_text(encoding="utf-8"))
    more = {"target_hosts": "all", "action_prefix": "", "remote_tmp": "/tmp/suite", "local_tmp": f"{tmp_path}/local"}
    result = live.play(tmp_path, plays, hosts, "-e", json.dumps(more))
    assert result.returncode == 0, result.stdout + result.stderr
    recap = re.findall(
        r"^(\S+)\s+: ok=(\d+) .*unreachable=0 +failed=0 +skipped=0 +rescued=0 +ignored=0", result.stdout, re.M
    )
    # a reset is counted for no host
    count = sum("meta" not in task for play in plays for task in play["tasks"])
    assert recap == ([(name, str(count)) for name in sorted(hosts)] if count else []), result.stdout


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "files"])
def test_become_with_a_password(pipelining: bool, tmp_path: Path, sandbox: str, project: str) -> None:
    variables = host(
        project, ansible_user="pixel", ansible_become_password="open sesame", ansible_pipelining=pipelining
    )
    result = tasks(
        tmp_path,
        {sandbox: variables},
        {"ansible.builtin.command": "id -un", "become": True, "register": "who"},
        {"ansible.builtin.assert": {"that": ["who.stdout == 'root'"]}},
        {"ansible.builtin.command": "id -un", "register": "who"},
        {"ansible.builtin.assert": {"that": ["who.stdout == 'pixel'"]}},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "open sesame" not in result.stdout + result.stderr


def test_a_wrong_password_is_said_in_words(tmp_path: Path, sandbox: str, project: str) -> None:
    variables = host(project, ansible_user="pixel", ansible_become_password="wrong", ansible_pipelining=True)
    result = tasks(tmp_path, {sandbox: variables}, {"ansible.builtin.command": "id", "become": True})
    assert result.returncode != 0
    assert "does not take the password" in result.stdout + result.stderr


def test_root_becomes_another_user(tmp_path: Path, sandbox: str, project: str) -> None:
    result = tasks(
        tmp_path,
        {sandbox: host(project)},
        {"ansible.builtin.command": "id -un", "become": True, "become_user": "pixel", "register": "who"},
        {"ansible.builtin.assert": {"that": ["who.stdout == 'pixel'"]}},
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_reset_in_the_middle_of_a_play(tmp_path: Path, sandbox: str, project: str) -> None:
    result = tasks(
        tmp_path,
        {sandbox: host(project)},
        {"ansible.builtin.ping": {}},
        {"ansible.builtin.meta": "reset_connection"},
        {"ansible.builtin.ping": {}},
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("not-there", "there is no such sandbox"),
        ("Illegal", "is not legal"),
        ("gateway", "there is no such sandbox"),
        ("base-x", "is reserved"),
    ],
)
def test_a_host_that_is_no_sandbox_is_unreachable(name: str, expected: str, tmp_path: Path, project: str) -> None:
    result = tasks(tmp_path, {name: host(project)}, {"ansible.builtin.ping": {}})
    assert result.returncode == 4
    assert expected in result.stdout + result.stderr


def test_a_foreign_instance_is_never_entered(tmp_path: Path, backend: IncusBackend, project: str) -> None:
    source = {"type": "none"}
    body = {
        "name": "px-foreign-host",
        "source": source,
        "devices": {"root": {"type": "disk", "path": "/", "pool": _pool(backend)}},
    }
    operation = live.server().request("POST", "/1.0/instances", json=body, params={"project": project}).json()
    live.server().get(f"/1.0/operations/{operation['metadata']['id']}/wait", timeout="20")
    result = tasks(tmp_path, {"foreign-host": host(project)}, {"ansible.builtin.raw": "true"})
    assert result.returncode == 4
    assert "is no sandbox of this collection" in result.stdout + result.stderr


def _pool(backend: IncusBackend) -> str:
    pools = [pool["name"] for pool in live.server().get("/1.0/storage-pools", recursion="1")]
    return "pixels" if "pixels" in pools else pools[0]


def test_a_stopped_sandbox_is_unreachable(tmp_path: Path, backend: IncusBackend, project: str) -> None:
    live.make(backend, "is-stopped", state="present")
    result = tasks(tmp_path, {"is-stopped": host(project)}, {"ansible.builtin.ping": {}})
    assert result.returncode == 4
    assert "it is stopped" in result.stdout + result.stderr
