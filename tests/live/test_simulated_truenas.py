# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SIMULATED TrueNAS over the real Incus: what it starts boots and is reached, and its disks are real disks."""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ApiError, OperationFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import incus_backend
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import Rpc, rpc_from
from support.live import IMAGE, needs_incus
from support.truenas.incus_engine import IncusEngine
from support.truenas.server import Simulation

pytestmark = needs_incus

CONTAINERS = "tank/.ix-virt/containers"
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"


def rootfs(name: str) -> str:
    """Return where a running container's root is on the NAS."""
    return f"/var/lib/incus/storage-pools/tank/containers/{name}/rootfs"


@pytest.fixture(scope="module")
def engine() -> Iterator[IncusEngine]:
    """Real containers in a project of their own."""
    found = IncusEngine()
    yield found
    found.close()


@pytest.fixture(params=["25.04", "25.10"])
def simulation(request: pytest.FixtureRequest, tmp_path: Path, engine: IncusEngine) -> Iterator[Simulation]:
    """A simulated TrueNAS of each release, over the same project."""
    with Simulation(tmp_path, request.param, IncusEngine(engine.project)) as found:
        yield found


@pytest.fixture
def rpc(simulation: Simulation) -> Iterator[Rpc]:
    """Our client, and the end of every instance that was made."""
    found = rpc_from(simulation.options())
    yield found
    for name in list(simulation.state.instances):
        found.job("virt.instance.delete", [name], Deadline(60))
    found.close()


def make(rpc: Rpc, name: str, start: bool = True) -> None:
    """Make an instance of the test's image."""
    new = {"name": name, "image": IMAGE, "cpu": "1", "memory": 512 << 20, "autostart": start}
    rpc.job("virt.instance.create", [new], Deadline(120))


def stop(rpc: Rpc, name: str) -> None:
    """Switch an instance off."""
    rpc.job("virt.instance.stop", [name, {"timeout": -1, "force": True}], Deadline(60))


def write(rpc: Rpc, name: str, path: str, text: str) -> None:
    """Have the NAS write a file into a running container."""
    content = base64.b64encode(text.encode()).decode()
    rpc.call("filesystem.file_receive", [rootfs(name) + path, content, {"mode": 0o600}], Deadline(30))


def read(rpc: Rpc, name: str, path: str) -> str:
    """Have the NAS read a file of a running container."""
    return rpc.download(rootfs(name) + path, 1 << 20, Deadline(30)).decode()


def test_what_it_starts_boots_and_is_reached(simulation: Simulation, rpc: Rpc) -> None:
    make(rpc, "px-boot")
    deadline = Deadline(60)
    while not (found := rpc.call("virt.instance.query", [[["id", "=", "px-boot"]]], deadline)[0])["aliases"]:
        deadline.pause(0.3, "wait for an address")
    assert (found["status"], found["cpu"], found["memory"]) == ("RUNNING", "1", 512 << 20)
    [address] = [alias["address"] for alias in found["aliases"] if alias["type"] == "INET"]
    with socket.socket() as stream:
        stream.settimeout(5)
        # whether or not the image has a server of SSH: the guest's own network answers
        assert stream.connect_ex((address, 22)) in (0, 111)
    assert read(rpc, "px-boot", "/etc/hostname") == "px-boot\n"
    with pytest.raises(OperationFailed, match="already running"):
        rpc.job("virt.instance.start", ["px-boot"], Deadline(60))
    with pytest.raises(ApiError):
        rpc.job("virt.instance.create", [{"name": "px-none", "image": "no/such", "autostart": False}], Deadline(60))


def test_what_the_nas_writes_is_in_the_guest(simulation: Simulation, rpc: Rpc, engine: IncusEngine) -> None:
    make(rpc, "px-files")
    write(rpc, "px-files", "/root/.ssh/authorized_keys", "ssh-ed25519 KEY\n")
    target = io.BytesIO()
    info = incus_backend({"incus_project": engine.project}).read_file("files", "/root/.ssh/authorized_keys", target)
    assert target.getvalue() == b"ssh-ed25519 KEY\n"
    assert (info.mode, info.uid, info.gid) == (0o600, 0, 0)
    # a link of the image leads out of the container, and what is written over it does not land on this machine
    before = Path("/run/systemd/resolve/stub-resolv.conf").exists()
    write(rpc, "px-files", "/etc/resolv.conf", "nameserver 192.0.2.1\n")
    assert simulation.state.nas_files == {"/run/systemd/resolve/stub-resolv.conf": b"nameserver 192.0.2.1\n"}
    assert Path("/run/systemd/resolve/stub-resolv.conf").exists() == before


def test_disks_go_back_and_are_cloned(simulation: Simulation, rpc: Rpc) -> None:
    space = "pool.snapshot" if simulation.state.dialect.release == (25, 10) else "zfs.snapshot"
    make(rpc, "px-a")
    write(rpc, "px-a", "/root/x", "old")
    write(rpc, "px-a", "/etc/machine-id", MACHINE_ID)
    stop(rpc, "px-a")
    rpc.call(f"{space}.create", [{"dataset": f"{CONTAINERS}/px-a", "name": "one"}], Deadline(60))
    rpc.job("virt.instance.start", ["px-a"], Deadline(60))
    write(rpc, "px-a", "/root/x", "new")
    stop(rpc, "px-a")
    rpc.call(f"{space}.rollback", [f"{CONTAINERS}/px-a@one"], Deadline(60))
    make(rpc, "px-b", start=False)
    rpc.call("zfs.dataset.delete", [f"{CONTAINERS}/px-b"], Deadline(60))
    clone = {"snapshot": f"{CONTAINERS}/px-a@one", "dataset_dst": f"{CONTAINERS}/px-b"}
    rpc.call(f"{space}.clone", [clone], Deadline(60))
    for name in ("px-a", "px-b"):
        rpc.job("virt.instance.start", [name], Deadline(60))
        assert read(rpc, name, "/root/x") == "old"
        # a clone of ZFS changes nothing inside: whoever clones gives it an identity of its own
        assert read(rpc, name, "/etc/hostname") == "px-a\n"
        assert read(rpc, name, "/etc/machine-id") == MACHINE_ID
    mac = [simulation.engine.raw(name)["config"]["volatile.eth0.hwaddr"] for name in ("px-a", "px-b")]
    assert mac[0] != mac[1]
