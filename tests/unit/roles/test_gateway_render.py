# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that legs of a gateway become."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import confinement

PROGRAM = Path(__file__).parents[3] / "roles/gateway/files/render.py"
SETTINGS: dict[str, Any] = {
    "uplink": "eth0",
    "uplink_network": "10.9.0.0/24",
    "legs_range": "100.64.0.0/14",
    "bound_source": "10.9.0.250",
    "resolver": "10.9.0.1",
    "archives": [],
    "limits": {"connections": 512, "opened": 200, "queries": 200},
}


@pytest.fixture
def render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leg(number: int = 0, **options: Any) -> dict[str, Any]:
    """Return a leg with the rules of a policy."""
    return {"subnet": f"100.64.{number}.0/24", "rules": policy("allowlist", **options).rules().record}


def test_the_fingerprint_is_that_of_the_collection(render: ModuleType) -> None:
    rules = policy("agent").rules()
    assert render.fingerprint(rules.record) == rules.digest


@pytest.mark.parametrize(
    "spoil",
    [
        {"subnet": "100.64.0.0/16"},
        {"subnet": "100.64.0.1/24"},
        {"names": {'a.example"; }': [443]}},
        {"names": {"a.example\nserver=/#/8.8.8.8": [443]}},
        {"wildcards": {"com/": [443]}},
        {"bound": {"a.example": "1.2.3"}},
        {"networks": {"10.0.0.0/8; accept": [1]}},
        {"denied_networks": {"::/0": [1]}},
        {"names": {"a.example": ["443"]}},
        {"names": {"a.example": [70000]}},
    ],
)
def test_what_would_be_another_line_of_a_file_is_refused(render: ModuleType, spoil: dict[str, Any]) -> None:
    made = leg(allow=["a.example.test"])
    render.check("pxe-0000", made)
    if "subnet" in spoil:
        made.update(spoil)
    else:
        made["rules"].update(spoil)
    with pytest.raises(ValueError):  # noqa: PT011  # of many kinds
        render.check("pxe-0000", made)
    with pytest.raises(ValueError, match="is not a leg"):
        render.check("eth0", leg())


def test_a_name_with_ports_of_its_own_keeps_its_address(render: ModuleType) -> None:
    first = render.with_slots(leg(allow=["m.example.test:22"]), None)
    second = render.with_slots(leg(allow=["a.example.test:22", "m.example.test:22"]), first)
    assert first["slots"] == {"m.example.test": 3}
    assert second["slots"] == {"m.example.test": 3, "a.example.test": 4}
    with pytest.raises(ValueError, match="more than 248 names"):
        render.with_slots(leg(allow=[f"n{number}.example.test:22" for number in range(249)]), None)


@pytest.mark.parametrize("wire", ["pxe-0000", "pxe-0007", "pxe-fffe", "pxe-0102a0ff"])
def test_dhcp_answers_the_mac_that_the_sandbox_has_on_its_wire_and_no_other(render: ModuleType, wire: str) -> None:
    mac = str(confinement.nic(wire)["hwaddr"])
    # one station, locally administered
    assert int(mac[:2], 16) & 3 == 2
    lines = render.dns(wire, render.with_slots(leg(3), None)).splitlines()
    assert [line for line in lines if line.startswith("dhcp-host=")] == [f"dhcp-host={mac},100.64.3.2"]
    assert "dhcp-ignore=tag:!known" in lines
    assert "dhcp-range=100.64.3.0,static,255.255.255.0,1h" in lines


def test_legs_of_one_policy_share_its_map(render: ModuleType) -> None:
    legs = {
        f"pxe-000{n}": render.with_slots(leg(n, allow=["a.example.test", "g.example.test:22"]), None) for n in range(3)
    }
    files = render.render(SETTINGS, legs)
    text = files["/etc/nginx/nginx.conf"]
    assert text.count('|a.example.test" a.example.test:443;') == 1
    assert text.count('"100.64.1.3:22" g.example.test:22;') == 1
    assert "@GENERATION@" not in text
    assert "host-record=g.example.test,100.64.2.3" in files["/etc/pixels/dns/pxe-0002.conf"]
    assert "Address=100.64.2.3/24" in files["/etc/systemd/network/50-pxe-0002.network"]
    assert files["/etc/nftables.conf"].endswith(render.element_script(legs))


def test_denials_come_before_what_they_deny(render: ModuleType) -> None:
    made = render.with_slots(
        leg(
            allow=["*.wild.example", "198.51.100.0/24:80", "in.example.test=192.0.2.9"],
            deny=["bad.wild.example", "*.deep.wild.example", "198.51.100.7", "198.51.100.8:80"],
        ),
        None,
    )
    text = render.render(SETTINGS, {"pxe-0000": made})["/etc/nginx/nginx.conf"]
    assert 'bad.wild.example" "";' in text
    assert text.index("deep") < text.index("(?<h>")
    assert "192.0.2.9:443 10.9.0.250;" in text
    found = render.elements({"pxe-0000": made})
    spans = ("0/30", "4/31", "6", "9", "10/31", "12/30", "16/28", "32/27", "64/26", "128/25")
    assert found["direct"] == sorted(f'"pxe-0000" . 198.51.100.{span} . 80' for span in spans)
    assert found["bound"] == ["192.0.2.9 . 443", "192.0.2.9 . 80"]


def test_without_legs_nothing_is_let_through(render: ModuleType) -> None:
    assert render.elements({}) == {"guests": [], "direct": [], "bound": [], "ports": ["443", "80"]}


def test_an_archive_is_for_the_gateway_itself(render: ModuleType) -> None:
    text = render.nftables({**SETTINGS, "archives": ["10.1.2.3", "10.4.0.0/16"]}, {})
    assert (
        "set archives { type ipv4_addr; flags interval; auto-merge; elements = { 10.1.2.3/32, 10.4.0.0/16 } }" in text
    )
    # nginx speaks for the sandboxes
    assert text.count("@archives") == 1
    assert 'ip daddr @archives meta skuid != "www-data" tcp dport { 80, 443 } accept' in text
    with pytest.raises(ValueError, match="nonsense"):
        render.nftables({**SETTINGS, "archives": ["nonsense"]}, {})


def test_each_leg_has_limits_of_its_own(render: ModuleType) -> None:
    text = render.nftables(SETTINGS, {})
    # leases, look-ups, new and open connections, counted refusals: a limit without the leg's name is one for all of them
    for name in ("leases", "queries", "opened", "counted"):
        assert f"update @{name} {{ iifname limit rate over " in text
    assert "add @open { iifname ct count over 512 }" in text
    assert text.count(" limit rate ") == text.count("{ iifname limit rate over ")
    # what one leg may add within the minute between two readings fits many times
    assert 60 * render._COUNTED * 50 < 65536


def test_the_gateway_itself_is_heard_by_its_users_alone(render: ModuleType) -> None:
    chain = render.nftables(SETTINGS, {}).partition("chain output {")[2].partition("}\n  chain")[0].splitlines()
    rules = [line.strip() for line in chain if line.strip() and not line.strip().startswith("#")]
    gate = rules.index('meta skuid != { "root", "_apt", "www-data" } jump refuse_out')
    before, behind = rules[:gate], rules[gate + 1 :]
    assert [rule for rule in before if rule.endswith("accept")] == [
        'oifname "lo" meta skuid 0 accept',
        "ct state established,related accept",
        'oifname "pxe-*" udp sport 67 udp dport 68 accept',
        'oifname "eth0" ip daddr { 255.255.255.255, 10.9.0.0/24 } udp sport 68 udp dport 67 accept',
    ]
    assert behind[-1] == "jump refuse_out"
    assert all("th dport 53" in rule or "skuid" in rule for rule in behind if rule.endswith("accept"))


def test_a_line_of_the_log_has_an_end(render: ModuleType) -> None:
    text = render.render(SETTINGS, {"pxe-0000": render.with_slots(leg(), None)})["/etc/nginx/nginx.conf"]
    assert text.count('"name":"$told"') == 2
    assert '"name":"$host"' not in text
    assert '$ssl_preread_server_name"}' not in text
    whole, cut = (re.search(rf'"~(\^\(\?<{name}>.*)" \$', text) for name in ("like", "unlike"))
    assert whole
    assert cut
    like, unlike = (
        re.compile(found[1].replace("(?<", "(?P<").replace(r"\z", r"\Z").encode()) for found in (whole, cut)
    )
    assert like.search(b"A-b_c.example.test")
    for name in (b"x" * 254, b"a.test\n", b"a b", b'"', b"\xff" * 16000, b"\n" * 300):
        assert not like.search(name)
        assert len(unlike.search(name)[0]) <= 64


def test_each_refusal_by_http_takes_a_connection(render: ModuleType) -> None:
    text = render.nginx(SETTINGS, {})
    refused = text.partition("location @refused {")[2].partition("    }\n")[0]
    assert "keepalive_timeout 0;" in refused
    assert "if ($refused) { return 418; }" in text


def test_dns_is_no_port_of_nginx(render: ModuleType) -> None:
    made = leg()
    made["rules"]["names"]["a.example.test"] = [53]
    with pytest.raises(ValueError, match="53 of names is no port"):
        render.check("pxe-0000", made)
