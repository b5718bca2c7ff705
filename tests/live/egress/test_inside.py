# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes on a real Incus that enforce their policies themselves, and an internet of the test's own around them."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import (
    desired_checkpoint,
    plan_checkpoint,
)
from support import live, policies
from support.internet import EVIL, GOOD, NET, RESOLVER, Internet
from support.policies import egress, found, info, remove

pytestmark = live.needs_incus

ALLOW = ["good.example.test", "git.example.test:22"]
GUEST = {"egress": "allowlist", "egress_allow": ALLOW, "egress_enforcement": "guest"}


@pytest.fixture(scope="module", autouse=True)
def _origin(project: str, built: Future[None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have a sandbox that has the role and no policy, which all others are cloned from."""
    with contextlib.closing(live.backend(project)) as there:
        live.make(there, "origin", wait_for="ready")
        role = {"name": "pixels.sandbox.nftables", "vars": {"nftables_resolvers": [RESOLVER]}}
        hosts = {
            "origin": {
                "ansible_connection": "pixels.sandbox.incus",
                "ansible_pixels_incus_project": project,
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_pipelining": True,
            }
        }
        done = live.play(
            tmp_path_factory.mktemp("role"), [{"hosts": "all", "gather_facts": False, "roles": [role]}], hosts
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield
        remove(there)


@pytest.fixture
def box(server: IncusBackend) -> Iterator[str]:
    """A sandbox that enforces its policy since before its first start; whatever a test did to it is undone."""
    if server.get_instance("box") is None:
        live.make(server, "box", clone_from="origin", **GUEST)
    egress(server, "box", mode="allowlist", allow=ALLOW, deny=[], enforcement="guest", private=False)
    yield "box"
    gone = [name for name in ("copy", "free") if server.get_instance(name)]
    failed = live.ensure(server, gone, state="absent") if gone else {}
    assert not failed, failed


def root(server: IncusBackend, name: str, script: str, seconds: float = 30) -> str:
    """Run a shell script in a sandbox as root, and return what it printed."""
    result = server.execute(name, ExecRequest(("sh", "-c", script), cwd="/"), Deadline(seconds))
    assert result.rc == 0, result.stderr
    return result.stdout.decode()


def probe(server: IncusBackend, name: str, *probes: dict[str, Any]) -> set[str]:
    """Run probes in a sandbox as root, and return those that got through."""
    return {key for key, outcome in policies.probe(server, name, *probes).items() if outcome == "reached"}


def web(address: str, port: int = 80) -> dict[str, Any]:
    """Return a probe by HTTP, or TLS."""
    kind = "tls" if port == 443 else "http"
    return {
        "id": f"{kind} {address}",
        "kind": kind,
        "address": address,
        "port": port,
        "host": address,
        "name": "x.test",
    }


def ssh(address: str) -> dict[str, Any]:
    """Return a probe that hears a greeting."""
    return {"id": f"ssh {address}", "kind": "tcp", "address": address, "port": 22}


def dns(address: str, name: str, stream: bool = False) -> dict[str, Any]:
    """Return a probe that looks a name up."""
    return {"id": f"dns {address} {stream}", "kind": "dns", "address": address, "name": name, "stream": stream}


def test_it_reaches_what_its_policy_names_and_nothing_else(server: IncusBackend, box: str) -> None:
    bridge = "10.222.77.1"
    attempts = (
        web("good.example.test"),
        web("good.example.test", 443),
        ssh("git.example.test"),
        # names are looked up where the role says
        dns(RESOLVER, "good.example.test"),
        dns(RESOLVER, "good.example.test", True),
        web(EVIL),
        web(EVIL, 443),
        ssh(EVIL),
        {"id": "other port", "kind": "tcp", "address": GOOD, "port": 8443},
        dns(EVIL, "good.example.test"),
        dns(EVIL, "good.example.test", True),
        {"id": "host", "kind": "dns", "address": bridge, "name": "px-box.incus", "any": True},
        {"id": "port 53 of another", "kind": "udp", "address": GOOD, "port": 443},
        {"id": "icmp", "kind": "icmp", "address": GOOD},
    )
    # what is refused here gets through where there is no policy
    assert len(probe(server, "origin", *(entry for entry in attempts if entry["address"][0].isdigit()))) == 11
    assert info(server, box)["verified"], info(server, box)
    assert probe(server, box, *attempts) == {
        "http good.example.test",
        "tls good.example.test",
        "ssh git.example.test",
        f"dns {RESOLVER} False",
        f"dns {RESOLVER} True",
    }
    told = {
        (entry["how"], entry["target"], entry["port"], entry["protocol"]) for entry in info(server, box, True)["denied"]
    }
    assert {("guest", EVIL, 80, "tcp"), ("guest", EVIL, 53, "udp"), ("guest", GOOD, None, "icmp")} <= told
    assert ("guest", GOOD, 80, "tcp") not in told


def test_a_policy_is_changed_read_back_and_unchanged_the_second_time(server: IncusBackend, box: str) -> None:
    root(server, box, "nft add table ip other && nft add chain ip other kept")
    assert egress(server, box, allow_add=["evil.test"]).changed
    assert not egress(server, box, allow_add=["evil.test"]).changed
    assert probe(server, box, web("evil.test")) == {"http evil.test"}
    egress(server, box, deny=[EVIL])
    assert probe(server, box, web("evil.test"), web("good.example.test")) == {"http good.example.test"}
    egress(server, box, mode="none")
    assert probe(server, box, web(GOOD), dns(RESOLVER, "good.example.test")) == set()
    assert info(server, box)["verified"]
    egress(server, box, mode="unrestricted")
    assert probe(server, box, web(EVIL)) == {f"http {EVIL}"}
    assert "px_egress" not in root(server, box, "nft list tables; cat /etc/hosts; ls /etc/pixels")
    # what others have loaded is theirs
    assert "chain kept" in root(server, box, "nft list table ip other")


SIX = """
ip netns add far && ip link add six type veth peer name six netns far
ip addr add fd77::1/64 dev six nodad && ip link set six up
far="nsenter --net=/run/netns/far"
$far ip addr add fd77::2/64 dev six nodad && $far ip link set six up
for port in 80 8080; do
  systemd-run --quiet --unit=far$port $far python3 -m http.server --protocol HTTP/1.1 --bind :: $port
done
"""


def test_ipv6_is_held_as_ipv4_is(server: IncusBackend, box: str) -> None:
    root(server, box, SIX)
    both = (web("fd77::2"), {**web("fd77::2", 8080), "id": "8080"})
    egress(server, box, allow=["[fd77::2]:80,8080"], private=True)
    wait_for(lambda: probe(server, box, *both) == {"http fd77::2", "8080"}, "nobody answers by IPv6")
    egress(server, box, allow=["[fd77::2]:80"], private=True)
    assert probe(server, box, *both) == {"http fd77::2"}
    assert ("fd77::2", 8080) in {(entry["target"], entry["port"]) for entry in info(server, box, True)["denied"]}
    egress(server, box, deny=["fd77::/16"])
    assert probe(server, box, *both) == set()
    root(server, box, "systemctl stop far80 far8080; ip netns del far")


def test_nobody_comes_in_but_by_what_is_published(server: IncusBackend, box: str) -> None:
    serve = "systemctl -q is-active web || systemd-run --quiet --unit=web python3 -m http.server 8000"
    for name in ("origin", box):
        root(server, name, serve)

    def answers(address: str, port: int) -> bool:
        try:
            return urllib.request.urlopen(f"http://{address}:{port}/", timeout=1).status == 200
        except OSError:
            return False

    assert not live.ensure(server, box, publish=["18439:8000"])
    wait_for(lambda: answers(found(server, "origin").addresses[0], 8000), "the control is not reached")
    wait_for(lambda: answers("127.0.0.1", 18439), "the published port is not reached")
    assert not answers(found(server, box).addresses[0], 8000)
    assert not live.ensure(server, box, publish=[])


def test_who_has_no_rights_changes_nothing(server: IncusBackend, box: str) -> None:
    own = ("unshare", "--user", "--map-root-user", "/usr/sbin/nft", "flush", "ruleset")
    for command in (("/usr/local/sbin/px-egress", "clear"), ("/usr/sbin/nft", "flush", "ruleset"), own):
        assert server.execute(box, ExecRequest(command, user="nobody", cwd="/"), Deadline(20)).rc != 0
    # below the rules there are frames, and beside them what DHCP is let through by: neither is for users
    for words in (
        "socket(AF_PACKET, SOCK_RAW)",
        "socket(AF_INET, SOCK_RAW, 1)",
        "socket(AF_INET, SOCK_DGRAM).bind(('127.0.0.1', 68))",
    ):
        command = ("python3", "-c", f"from socket import *; {words}")
        assert server.execute(box, ExecRequest(command, cwd="/"), Deadline(20)).rc == 0, words
        refused = server.execute(box, ExecRequest(command, user="nobody", cwd="/"), Deadline(20))
        assert b"PermissionError" in refused.stderr, words
    assert info(server, box)["verified"]


def test_names_that_lead_to_private_addresses_lead_nowhere(server: IncusBackend, box: str) -> None:
    egress(server, box, allow=["private.example.test", "metadata.example.test", "nowhere.test", f"bound.test={GOOD}"])
    record = info(server, box)
    assert record["verified"]
    assert record["unresolved"] == ["metadata.example.test", "nowhere.test", "private.example.test"]
    assert "10.255.255.1" not in root(server, box, "nft list table inet px_egress; cat /etc/hosts")
    assert probe(server, box, web("bound.test")) == {"http bound.test"}


def test_a_tightened_policy_ends_live_connections_and_no_others(server: IncusBackend, box: str) -> None:
    script = (
        "import socket,sys,time\n"
        "s=socket.create_connection((sys.argv[1],80),5); s.settimeout(3)\n"
        "s.sendall(b'GET /slow/60 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "last=0\n"
        "try:\n"
        "  while s.recv(4096): last=time.time()\n"
        "except OSError: pass\n"
        "print(last)\n"
    )
    egress(server, box, allow_add=["evil.test"])
    last: dict[str, float] = {}

    def download(name: str) -> None:
        request = ExecRequest(("python3", "-c", script, name), output_limit=1000)
        last[name] = float(server.execute(box, request, Deadline(60)).stdout)

    threads = [threading.Thread(target=download, args=(name,)) for name in ("evil.test", "good.example.test")]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    begin = time.time()
    egress(server, box, allow_remove=["evil.test"])
    for thread in threads:
        thread.join(40)
    assert begin - 2 < last["evil.test"] < begin + 2
    assert last["good.example.test"] > begin + 2


EARLY = """
import socket, sys, time
end = time.monotonic() + 4
while time.monotonic() < end:
    for name in sys.argv[2:]:
        try:
            with socket.create_connection((name, 80), 0.2) as stream:
                stream.sendall(b"GET /early-" + sys.argv[1].encode() + b" HTTP/1.0\\r\\n\\r\\n"); stream.recv(10)
        except OSError:
            pass
    time.sleep(0.01)
"""


def test_a_reboot_keeps_it_and_leaves_no_window(server: IncusBackend, box: str, net: Internet) -> None:
    live.make(server, "free", clone_from="origin")
    heard: dict[str, set[str]] = {}
    for name in ("free", box):
        unit = (
            f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/usr/bin/python3 /root/early.py {name} {EVIL} {GOOD}\n"
            "[Install]\nWantedBy=sysinit.target\n"
        )
        script = (
            f"cat > /root/early.py <<'END'\n{EARLY}END\ncat > /etc/systemd/system/early.service <<'END'\n{unit}END\n"
        )
        root(server, name, f"{script}systemctl --quiet enable early.service")
        # the guest restarts itself: nobody is there to tell it anything
        server.execute(name, ExecRequest(("systemctl", "reboot"), cwd="/"), Deadline(30))
        end = f"/early-{name}"
        wait_for(lambda end=end: any(line.endswith(end) for line in net.heard), "it talked to nobody")
        wait_for(
            lambda name=name: "inactive" in root(server, name, "systemctl is-active early || true"), "it still talks"
        )
        heard[name] = {line.split()[1] for line in net.heard if line.endswith(end)}
    assert heard == {"free": {EVIL, GOOD}, box: {GOOD}}
    assert info(server, box)["verified"]


def wait_for(holds: Any, otherwise: str, seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def test_without_a_good_set_nothing_passes(server: IncusBackend, box: str) -> None:
    root(server, box, "echo '{' > /etc/pixels/egress-policy.json; systemctl restart px-egress.service")
    assert probe(server, box, web(GOOD), web(EVIL), dns(RESOLVER, "good.example.test")) == set()
    assert info(server, box)["in_force"] == "no"
    assert egress(server, box).changed
    assert probe(server, box, web("good.example.test")) == {"http good.example.test"}


@pytest.mark.parametrize("verb", ["restart", "reload", "stop"])
def test_a_flush_by_the_service_of_nftables_is_made_good_at_once(server: IncusBackend, box: str, verb: str) -> None:
    # as an update of its package does, where the service is in use
    root(server, box, f"systemctl start nftables.service && systemctl {verb} nftables.service")
    assert info(server, box)["verified"], info(server, box)
    assert probe(server, box, web(EVIL), web("good.example.test")) == {"http good.example.test"}


def test_a_resolver_that_is_down_leaves_what_was_known(server: IncusBackend, box: str) -> None:
    dead = f"{NET}.54"
    root(server, box, f"sed -i s/{RESOLVER}/{dead}/ /etc/pixels/egress.json; px-egress refresh; test $? = 75")
    assert probe(server, box, web("good.example.test")) == {"http good.example.test"}
    # a name that nobody could look up is not let through, and is told
    egress(server, box, allow_add=["evil.test"])
    assert info(server, box)["unresolved"] == ["evil.test"]
    assert probe(server, box, web(EVIL), web("good.example.test")) == {"http good.example.test"}
    root(server, box, f"sed -i s/{dead}/{RESOLVER}/ /etc/pixels/egress.json; systemctl start px-egress-refresh.service")
    assert probe(server, box, web("evil.test")) == {"http evil.test"}


@pytest.mark.parametrize(
    ("behind", "words"),
    [
        ("nft flush ruleset", "no rules are loaded"),
        ("nft insert rule inet px_egress output accept", "the loaded rules were changed"),
        (f"nft add element inet px_egress allowed4 {{ {EVIL} . 80 }}", "the loaded rules were changed"),
        ("systemctl --quiet disable px-egress.service", "px-egress.service is not enabled"),
        ("echo '{}' > /etc/pixels/egress-policy.json", "the policy cannot be read"),
        ("px-egress clear", "keeps another policy"),
        ("rm /usr/local/sbin/px-egress", "the role pixels.sandbox.nftables"),
    ],
)
def test_a_change_by_hand_is_told_and_put_right(server: IncusBackend, box: str, behind: str, words: str) -> None:
    root(server, box, behind)
    record = info(server, box)
    assert record["in_force"] == "no", record
    assert words in "; ".join(record["drift"])
    if "rm" in behind:
        with pytest.raises(ConfigError, match=r"pixels\.sandbox\.nftables"):
            egress(server, box)
        live.ensure(server, box, state="absent")
    elif "disable" in behind:
        # what the role has set up only the role sets up again
        with pytest.raises(AssertionError, match="is not enabled"):
            egress(server, box)
        assert found(server, box).status == "stopped"
        live.ensure(server, box, state="absent")
    else:
        assert egress(server, box).changed
        assert info(server, box)["verified"]
        assert probe(server, box, web(EVIL), web("good.example.test")) == {"http good.example.test"}


def test_restore_clone_and_a_stopped_sandbox_get_the_policy_that_is_wanted(server: IncusBackend, box: str) -> None:
    options = {"label": "then", "state": "present", "keep": None, "prefix": None, "expires": None, "protected": None}
    options |= {"remove_newer": False, "force": True, "timeout": 120, "name": box}
    assert not apply(plan_checkpoint(server, desired_checkpoint(options)))
    egress(server, box, allow=["evil.test"])
    assert not apply(plan_checkpoint(server, desired_checkpoint({**options, "state": "restored"})))
    live.make(server, "copy", clone_from="box:then")
    for name in (box, "copy"):
        assert info(server, name)["verified"], info(server, name)
        assert probe(server, name, web("evil.test"), web(GOOD)) == {"http evil.test"}
    assert not live.ensure(server, "copy", state="stopped")
    egress(server, "copy", allow=["good.example.test"])
    record = info(server, "copy")
    assert (record["in_force"], record["verified"]) == ("unknown", False)
    assert "it is stopped" in record["drift"][0]
    assert not live.ensure(server, "copy")
    assert info(server, "copy")["verified"]
    assert probe(server, "copy", web("good.example.test"), web(EVIL)) == {"http good.example.test"}
    # a copy that is told to be free forgets what its disk has
    live.make(server, "free", clone_from="box", egress="unrestricted")
    assert probe(server, "free", web(GOOD), web(EVIL)) == {f"http {GOOD}", f"http {EVIL}"}


def test_what_cannot_be_is_refused_and_what_has_no_program_stays_stopped(server: IncusBackend) -> None:
    wild = {"egress": "allowlist", "egress_allow": ["*.example.test"], "egress_enforcement": "guest"}
    with pytest.raises(ConfigError, match="a wildcard cannot be looked up"):
        live.work_for(server, "never", clone_from="origin", **wild)
    failed = live.ensure(server, "never", image=f"local:{live.IMAGE}", **GUEST)
    assert "the role pixels.sandbox.nftables" in str(failed["never"])
    assert found(server, "never").status == "stopped"
    with pytest.raises(ConfigError, match=r"pixels\.sandbox\.nftables"):
        live.work_for(server, "copy", clone_from="never")
    live.ensure(server, "never", state="absent")


def test_both_hold_and_each_is_told(server: IncusBackend, box: str, built: Future[None]) -> None:
    built.result()
    egress(server, box, enforcement="both")
    assert info(server, box)["verified"], info(server, box)
    wait_for(lambda: probe(server, box, web("good.example.test")), "it does not reach what it may")
    leg = found(server, box).addresses[0].rpartition(".")[0] + ".1"
    assert probe(server, box, web(EVIL), web(leg), ssh("git.example.test")) == {"ssh git.example.test"}
    root(server, box, "nft flush ruleset")
    assert info(server, box)["drift"] == ["no rules are loaded"]
    # the other one still holds
    assert probe(server, box, web(EVIL)) == set()
    live.make(server, "copy", clone_from="box")
    assert info(server, "copy")["verified"], info(server, "copy")
    wait_for(lambda: probe(server, "copy", web("good.example.test")), "the copy does not reach what it may")
    egress(server, "copy", enforcement="gateway")
    assert "px_egress" not in root(server, "copy", "nft list tables")
    assert info(server, "copy")["verified"]
    wait_for(lambda: probe(server, "copy", web("good.example.test")), "it does not reach what it may by the gateway")
    egress(server, "copy", enforcement="guest")
    assert found(server, "copy").network == "pixels0"
    wait_for(lambda: probe(server, "copy", web("good.example.test")), "it does not reach what it may by itself")
    assert probe(server, "copy", web(EVIL)) == set()
