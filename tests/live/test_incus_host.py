# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role incus_host on a fresh machine, on one that somebody else has set up, and on one that had a bad day."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend, incus_backend
from support import live
from support.certificates import Authority

pytestmark = live.needs_incus


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_dead(path: Path) -> bool:
    """Tell whether a file system was mounted here whose process is gone."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


@pytest.fixture
def lxcfs(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Run an lxcfs of the test's own, not the one that the sandboxes of this machine see."""
    there = tmp_path / "lxcfs"
    there.mkdir()
    with subprocess.Popen(["lxcfs", "-f", "-p", tmp_path / "lxcfs.pid", there], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until((there / "proc" / "meminfo").exists)
            yield there, process
        finally:
            process.kill()
            process.wait()
            subprocess.run(["umount", "--lazy", there], stderr=subprocess.DEVNULL, check=False)


def clear_leftovers(there: Path, *options: str) -> str:
    """Run the tasks of the role that clear leftovers, and return the counts of the play."""
    playbook = there.parent / "play.yml"
    playbook.write_text(
        "- hosts: localhost\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - ansible.builtin.include_role:\n"
        "        name: pixels.sandbox.incus_host\n"
        "        tasks_from: leftovers\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", playbook, "-e", f"__incus_host_lxcfs={there}", *options],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_NOCOLOR": "true"},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rpartition("localhost")[2]


def test_the_mount_of_a_killed_lxcfs_is_cleared_once(lxcfs: tuple[Path, subprocess.Popen[bytes]]) -> None:
    there, process = lxcfs
    process.kill()
    wait_until(lambda: is_dead(there))

    clear_leftovers(there, "--check")
    assert is_dead(there)
    assert "changed=1" in clear_leftovers(there)
    assert list(there.iterdir()) == []
    assert "changed=0" in clear_leftovers(there)


def test_a_living_lxcfs_keeps_its_mount(lxcfs: tuple[Path, subprocess.Popen[bytes]]) -> None:
    there, _process = lxcfs
    assert "changed=0" in clear_leftovers(there)
    assert (there / "proc" / "meminfo").exists()


# -- a fresh machine: a sandbox that may have containers of its own, entered through the connection plugin


@pytest.fixture(scope="module")
def machine(backend: IncusBackend) -> Iterator[str]:
    """Return the name of a sandbox that has systemd, and no Incus yet."""
    live.make(backend, "machine", nesting=True, wait_for="ready")
    yield "machine"
    live.ensure(backend, "machine", state="absent")


def prepare(folder: Path, project: str, name: str, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role in a sandbox."""
    host = {
        "ansible_connection": "pixels.sandbox.incus",
        "ansible_pixels_incus_project": project,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_pipelining": True,
    }
    role = {"role": "pixels.sandbox.incus_host", "vars": {"incus_host_pool_driver": "dir", **variables}}
    play = {"hosts": "all", "gather_facts": False, "roles": [role]}
    return live.play(folder, [play], {name: host}, *options)


def counts(done: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    """Return how many tasks of a run changed something, and how many failed."""
    found = re.search(r"changed=(\d+) .*failed=(\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1]), int(found[2])


def inside(backend: IncusBackend, name: str, *argv: str) -> str:
    """Run a command in a sandbox and return what it prints."""
    result = backend.execute(name, ExecRequest(argv), Deadline(120))
    assert result.rc == 0, result.stderr
    return result.stdout.decode()


def query(backend: IncusBackend, name: str, path: str, *options: str) -> Any:
    """Ask the server in a sandbox."""
    return json.loads(inside(backend, name, "incus", "query", *options, f"local:{path}") or "null")


def test_a_fresh_machine_becomes_a_server_that_a_client_can_use(
    machine: str, backend: IncusBackend, project: str, tmp_path: Path
) -> None:
    (address, *_others) = backend.get_instances([machine])[machine].addresses
    client = Authority(tmp_path / "certificates").client("tester")
    variables = {
        "incus_host_https_address": f"{address}:8443",
        "incus_host_client_certificates": [
            {"name": "tester", "certificate": client.pem, "projects": ["default"]},
        ],
    }
    foretold = prepare(tmp_path, project, machine, "--check", **variables)
    assert foretold.returncode == 0, foretold.stdout + foretold.stderr
    assert counts(foretold)[0] > 0
    assert backend.execute(machine, ExecRequest(("which", "incus")), Deadline(60)).rc != 0

    done = prepare(tmp_path, project, machine, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    # its systemd runs no lxcfs in a container, which is said and not waited for
    assert "systemd does not run lxcfs here (ConditionVirtualization=!container)" in done.stdout
    assert query(backend, machine, "/1.0/storage-pools/pixels")["driver"] == "dir"
    bridge = query(backend, machine, "/1.0/networks/pixels0")
    assert (bridge["config"]["ipv4.nat"], bridge["config"]["ipv6.address"]) == ("true", "none")
    (trusted,) = query(backend, machine, "/1.0/certificates?recursion=1")
    assert (trusted["name"], trusted["restricted"], trusted["projects"]) == ("tester", True, ["default"])

    pinned = io.BytesIO()
    backend.read_file(machine, "/var/lib/incus/server.crt", pinned)
    (tmp_path / "server.crt").write_bytes(pinned.getvalue())
    remote = incus_backend(
        {
            "incus_remote": f"https://{address}:8443",
            "incus_client_cert": str(client.cert_file),
            "incus_client_key": str(client.key_file),
            "incus_server_cert": str(tmp_path / "server.crt"),
        }
    )
    assert remote.list_instances() == ()
    remote.close()

    for options in ((), ("--check",)):
        again = prepare(tmp_path, project, machine, *options, **variables)
        assert (again.returncode, counts(again)) == (0, (0, 0)), again.stdout + again.stderr

    moved = prepare(tmp_path, project, machine, "--tags", "incus_host_tls", incus_host_https_address=f"{address}:9443")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert query(backend, machine, "/1.0")["config"]["core.https_address"] == f"{address}:9443"


def test_what_somebody_else_has_made_is_used_and_left_alone_unless_it_is_adopted(
    machine: str, backend: IncusBackend, project: str, tmp_path: Path
) -> None:
    pool = {"name": "theirs", "driver": "dir", "config": {}}
    network = {"name": "theirs0", "type": "bridge", "config": {"ipv4.address": "192.0.2.1/24", "ipv6.address": "none"}}
    query(backend, machine, "/1.0/storage-pools", "--request=POST", f"--data={json.dumps(pool)}")
    query(backend, machine, "/1.0/networks", "--request=POST", f"--data={json.dumps(network)}")
    query(backend, machine, "/1.0", "--request=PATCH", '--data={"config": {"user.pixels.https_address": ""}}')
    variables = {"incus_host_pool": "theirs", "incus_host_network": "theirs0", "incus_host_https_address": ":7443"}
    places = ("/1.0/storage-pools/theirs", "/1.0/networks/theirs0")
    before = [query(backend, machine, place) for place in places]
    only = ("--tags", "incus_host_storage,incus_host_network")

    done = prepare(tmp_path, project, machine, *only, **variables)
    assert (done.returncode, counts(done)) == (0, (0, 0)), done.stdout + done.stderr
    refused = prepare(tmp_path, project, machine, "--tags", "incus_host_tls", **variables)
    assert "which this role did not set" in refused.stdout + refused.stderr
    assert [query(backend, machine, place) for place in places] == before

    done = prepare(tmp_path, project, machine, *only, **variables, incus_host_adopt=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = [query(backend, machine, place)["config"] for place in places]
    assert [config["user.pixels.made_by"] for config in after] == ["pixels.sandbox.incus_host"] * 2
    assert after[1]["ipv4.nat"] == "true"
    done = prepare(tmp_path, project, machine, *only, **variables, incus_host_adopt=True)
    assert (done.returncode, counts(done)) == (0, (0, 0)), done.stdout + done.stderr


# -- other machines, by a stand-in for the file that says what a machine is

UBUNTU = "NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n"
DEBIAN = 'NAME="Debian GNU/Linux"\nID=debian\n'


@pytest.mark.parametrize(
    ("release", "refused"),
    [
        (f'{UBUNTU}VERSION_ID="24.04"\nVERSION="24.04.1 LTS (Noble Numbat)"\nVERSION_CODENAME=noble\n', ""),
        (f'{DEBIAN}VERSION_ID="12"\nVERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\n', ""),
        (f'{UBUNTU}VERSION_ID="22.04"\nVERSION="22.04.4 LTS (Jammy)"\nVERSION_CODENAME=jammy\n', "Ubuntu 22.04"),
        (f'{DEBIAN}VERSION_ID="11"\nVERSION="11 (bullseye)"\nVERSION_CODENAME=bullseye\n', "Debian 11"),
        ('NAME="Fedora Linux"\nID=fedora\nVERSION_ID=41\nVERSION="41"\n', "Fedora Linux 41"),
    ],
    ids=["ubuntu-24.04", "debian-12", "ubuntu-22.04", "debian-11", "fedora"],
)
def test_each_release_that_is_supported_passes_and_others_are_told(release: str, refused: str, tmp_path: Path) -> None:
    stand_in, version = tmp_path / "os-release", tmp_path / "debian_version"
    stand_in.write_text(release)
    # the number of the point release, which Debian keeps apart
    version.write_text(f"{re.findall('VERSION_ID=.?([0-9.]+)', release)[0]}.9\n")
    binds = f'mount --bind {stand_in} /usr/lib/os-release && mount --bind {version} /etc/debian_version && exec "$@"'
    ansible = [Path(sys.executable).parent / "ansible", "localhost", "-m", "ansible.builtin.include_role"]
    role = "name=pixels.sandbox.incus_host tasks_from=preflight"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", binds, "sh", *ansible, "-a", role],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_NOCOLOR": "true"},
        timeout=120,
    )
    said = " ".join((done.stdout + done.stderr).split())
    if refused:
        assert done.returncode != 0, said
        assert f"incus_host knows Debian 12, Debian 13 and Ubuntu 24.04; this is {refused}" in said
    else:
        assert done.returncode == 0, said
