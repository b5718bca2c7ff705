# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires of a real Incus that somebody else changes, starts beside them, and legs that cannot be brought."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import (
    desired_checkpoint,
    plan_checkpoint,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import list_egress
from support import live
from support.policies import egress, found, remove

pytestmark = live.needs_incus

ALLOW = ["good.example.test", "*.wild.example.test"]


@pytest.fixture(scope="module", autouse=True)
def _origin(project: str, built: Future[None]) -> Iterator[None]:
    """Have a confined sandbox that all others are cloned from."""
    built.result()
    with contextlib.closing(live.backend(project)) as there:
        live.make(there, "origin", egress="allowlist", egress_allow=ALLOW)
        yield
        remove(there)


@pytest.fixture
def box(server: IncusBackend) -> Iterator[str]:
    """A confined sandbox of the test's own."""
    live.make(server, "box", clone_from="origin")
    yield "box"
    remove(server, "origin")


def incus(project: str, *words: str) -> None:
    """Do something behind our back."""
    verb, noun = words[:2]
    subprocess.run(
        ["incus", verb, noun, words[2], "--project", project, *words[3:]], check=True, capture_output=True, timeout=60
    )


def gateway(project: str, *argv: str) -> str:
    """Run a command in the gateway."""
    command = ["incus", "exec", "--project", project, "local:px-gateway", "--", *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def shell(server: IncusBackend, name: str, script: str) -> str:
    """Run a script in a sandbox as root."""
    result = server.execute(name, ExecRequest(("sh", "-c", script), cwd="/"), Deadline(60))
    return result.stdout.decode() + result.stderr.decode()


def drift(server: IncusBackend, name: str) -> list[str]:
    """Return what pixels_egress_info says that is wrong with a sandbox."""
    (record,) = list_egress(server, [name], False)
    assert record["verified"] is not bool(record["drift"])
    return list(record["drift"])  # type: ignore[call-overload]


def addressed(server: IncusBackend, name: str, seconds: float) -> Instance:
    """Return a sandbox when it has an address, at the latest after some seconds."""
    end = time.monotonic() + seconds
    while not found(server, name).addresses:
        assert time.monotonic() < end, shell(server, name, "ip -br address; journalctl -u systemd-networkd -n 20")
        time.sleep(0.2)
    return found(server, name)


def test_a_wire_of_another_and_one_with_additions_are_told_and_left(
    server: IncusBackend, box: str, project: str
) -> None:
    origin, own = found(server, "origin").wire, found(server, box).wire
    incus(project, "config", "device", "set", "local:px-box", "eth0", f"parent={origin}")
    assert f"the wire {origin} is that of origin" in drift(server, box)
    assert drift(server, "origin") == [f"px-box hangs on the wire {origin} too"]
    assert egress(server, box).changed
    assert (found(server, box).wire, drift(server, box), drift(server, "origin")) == (own, [], [])
    live.server().request(
        "PATCH", f"/1.0/networks/{own}", json={"config": {"ipv4.address": "10.231.7.1/24", "ipv4.nat": "true"}}
    )
    assert f"the wire {own} has the key ipv4.address, which it was not made with" in drift(server, box)
    assert egress(server, box).changed
    assert found(server, box).wire != own
    assert drift(server, box) == []
    assert live.server().find(f"/1.0/networks/{own}") is None
    assert addressed(server, box, 60).addresses


def test_what_the_gateway_was_not_made_with_is_told_and_nothing_is_trusted_to_it(
    server: IncusBackend, box: str, project: str
) -> None:
    incus(project, "config", "device", "add", "local:px-gateway", "eth9", "nic", "network=pixels0")
    try:
        assert drift(server, box) == ["the gateway has the device eth9, which it was not made with"]
        with pytest.raises(ConfigError, match="the gateway has the device eth9"):
            egress(server, box, allow_add=["b.example.test"])
    finally:
        incus(project, "config", "device", "remove", "local:px-gateway", "eth9")
    assert drift(server, box) == []


def test_profiles_do_not_lead_out(server: IncusBackend, box: str, project: str) -> None:
    incus(project, "profile", "create", "local:more")
    try:
        incus(project, "profile", "device", "add", "local:more", "eth5", "nic", "network=pixels0")
        live.make(server, box, image=None, profiles=["default", "more"])
        assert drift(server, box) == []
        assert shell(server, box, "ls /sys/class/net").split() == ["eth0", "lo"]
        incus(project, "profile", "device", "add", "local:more", "eth6", "nic", "network=pixels0")
        assert drift(server, box) == ["the device eth6 is a nic"]
        # nothing starts like that, and it is put right
        live.make(server, box, image=None, state="stopped")
        with pytest.raises(ConfigError, match=r"box is not started: .* the device eth6 is a nic"):
            live.work_for(server, box)
        assert egress(server, box).changed
        live.make(server, box, image=None)
        assert drift(server, box) == []
        # as a profile might, or a client of another kind
        incus(project, "profile", "device", "add", "local:more", "run", "disk", "source=/run/lock", "path=/x")
        assert drift(server, box) == ["the device run brings /run/lock of the server into the guest"]
    finally:
        live.ensure(server, box, state="absent")
        incus(project, "profile", "delete", "local:more")


def test_a_policy_that_cannot_be_read_starts_nothing_until_there_is_another(
    server: IncusBackend, box: str, project: str
) -> None:
    live.make(server, box, image=None, state="stopped")
    incus(project, "config", "set", "local:px-box", 'user.pixels.egress={"format":1,"mode":"unrestricted"}')
    with pytest.raises(ConfigError, match=r"box: the key user\.pixels\.egress: "):
        live.work_for(server, box)
    live.make(server, box, image=None, egress="allowlist", egress_allow=ALLOW)
    assert drift(server, box) == []


def test_a_restore_from_before_the_policy_has_its_network_at_once(server: IncusBackend, box: str) -> None:
    live.make(server, "more")
    options = {"label": "before", "state": "present", "keep": None, "prefix": None, "expires": None, "protected": None}
    options |= {"remove_newer": False, "force": True, "timeout": 120, "name": "more"}
    assert not apply(plan_checkpoint(server, desired_checkpoint(options)))
    egress(server, "more", mode="allowlist", allow=ALLOW)
    # the guest had the address as another client: its machine-id is that of the checkpoint then
    shell(server, "more", "rm /etc/machine-id; systemd-machine-id-setup; rm -rf /run/systemd/netif/leases")
    live.make(server, "more", image=None, state="restarted", force=True)
    before = addressed(server, "more", 60)
    assert not apply(plan_checkpoint(server, desired_checkpoint({**options, "state": "restored"})))
    assert addressed(server, "more", 60).addresses == before.addresses
    assert drift(server, "more") == []


def test_one_guest_neither_starves_another_of_leases_nor_fills_the_log(
    server: IncusBackend, box: str, project: str
) -> None:
    flood = (
        "import os,socket,struct,time\n"
        "s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW); s.bind(('eth0',0))\n"
        "end=time.time()+6\n"
        "while time.time()<end:\n"
        "  m=b'\\x02'+os.urandom(5)\n"
        "  d=struct.pack('!BBBBIHHIIII',1,1,6,0,1,0,0x8000,0,0,0,0)+m+b'\\0'*202+b'\\x63\\x82\\x53\\x63\\x35\\x01\\x01\\xff'\n"
        "  u=struct.pack('!HHHH',68,67,8+len(d),0)+d\n"
        "  h=struct.pack('!BBHHHBBHII',69,0,20+len(u),0,0,64,17,0,0,0xffffffff)\n"
        "  c=sum(struct.unpack('!10H',h)); c=(c>>16)+(c&65535); c=~(c+(c>>16))&65535\n"
        "  s.send(b'\\xff'*6+m+b'\\x08\\0'+h[:10]+struct.pack('!H',c)+h[12:]+u)\n"
    )
    write = "import sys; open('/root/flood.py','w').write(sys.stdin.read())"
    server.execute(box, ExecRequest(("python3", "-c", write), stdin=flood.encode()), Deadline(20))
    shell(server, box, "systemd-run python3 /root/flood.py")
    begin = time.monotonic()
    live.make(server, "more", clone_from="origin")
    assert time.monotonic() - begin < 60
    # a name as long as a message can be is a line as short as any
    leg = found(server, box).addresses[0].rpartition(".")[0] + ".1"
    ask = (
        "import socket\n"
        f"s=socket.create_connection(('{leg}',80),5); s.settimeout(5)\n"
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: '+b'x'*20000+b'\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: second.test\\r\\n\\r\\n')\n"
        "d=b''\n"
        "while True:\n"
        "  p=s.recv(65536)\n"
        "  if not p: break\n"
        "  d+=p\n"
        "print(d.count(b'HTTP/1.1 403'))\n"
    )
    asked = server.execute(box, ExecRequest(("python3", "-c", ask)), Deadline(20))
    assert asked.stdout == b"1\n", asked
    lines = gateway(project, "cat", "/var/log/pixels/refused.log").splitlines()
    assert max(map(len, lines), default=0) < 1000
    (room,) = json.loads(gateway(project, "findmnt", "--json", "--bytes", "-o", "SIZE", "/var/log/pixels"))[
        "filesystems"
    ]
    assert room["size"] <= 16 << 20


def test_a_leg_that_cannot_be_brought_leaves_nothing(server: IncusBackend, project: str) -> None:
    def state() -> tuple[str, Any]:
        there = gateway(
            project,
            "sh",
            "-c",
            "ls /etc/pixels/legs /etc/pixels/dns /etc/systemd/network; md5sum /etc/nginx/nginx.conf",
        )
        record = live.server().get("/1.0/instances/px-gateway", project=project)
        return there, record["devices"]

    before = state()
    gateway(project, "mv", "/usr/sbin/dnsmasq", "/usr/sbin/dnsmasq.away")
    try:
        failed = live.ensure(server, "more", clone_from="origin", egress="allowlist", egress_allow=["b.example.test"])
        assert "its DNS does not" in str(failed["more"])
        assert state() == before
        assert found(server, "more").status == "stopped"
        assert drift(server, "origin") == []
    finally:
        gateway(project, "mv", "/usr/sbin/dnsmasq.away", "/usr/sbin/dnsmasq")
        assert not live.ensure(server, "more", state="absent")
    assert state() == before
