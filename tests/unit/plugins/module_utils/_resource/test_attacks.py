# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of attacks: each has an id of its own, and a control on the way that the attack takes."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.attacks import (
    CONTROL,
    INSIDE,
    OTHER,
    WIDE,
    WORDS,
    Attack,
    Targets,
    catalogue,
    colluding,
    filled,
    frames,
    not_tried,
    second_addresses,
)

ATTACK = Path(__file__).parents[5] / "roles/verify_egress/files/attack.py"
TARGETS = Targets(
    "good.example.test",
    "198.51.100.10",
    "198.51.100.66",
    "evil.test",
    mark="evil",
    slow="/slow",
    foreign6="2001:db8::66",
    resolvers=("198.51.100.53", "198.51.100.54"),
    private=("10.255.255.1",),
    private_names=("private.example.test",),
    metadata=("169.254.169.254",),
    hosts=("10.1.2.1",),
)
TABLE = {attack.id: attack for attack in catalogue(TARGETS, "px-control", "10.1.2.1", "10.9.9.2")}
ALL = [*TABLE.values(), *frames(), *second_addresses(TARGETS), *colluding()]


@pytest.fixture(scope="module")
def program() -> Any:
    """The program that runs in the sandboxes."""
    spec = importlib.util.spec_from_file_location("attack", ATTACK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_attack_has_an_id_and_a_title_of_its_own_and_a_probe_that_exists(program: Any) -> None:
    assert len({attack.id for attack in ALL}) == len({attack.title for attack in ALL}) == len(ALL)
    for attack in ALL:
        assert attack.probe.get("kind", "shout") in program.KINDS
        words = set(re.findall("<([a-z_]+)>", repr(attack.probe) + repr(attack.control)))
        assert words <= set(WORDS)


def test_what_goes_to_the_leg_has_a_control_at_a_leg_and_what_goes_past_it_has_one_past_it() -> None:
    # the server answers these of itself, and no gateway lets them through whatever its policy
    elsewhere = {"no-sni", "no-host", "host-user", "two-hosts"}
    for attack in TABLE.values():
        at_a_leg = "leg>" in str(attack.probe.get("address"))
        looks_up = attack.probe["kind"] == "dns"
        if attack.id in elsewhere or (looks_up and attack.by == CONTROL):
            assert attack.by == CONTROL
        elif at_a_leg or attack.probe.get("address") == TARGETS.allowed:
            assert attack.by in (WIDE, INSIDE), attack
        elif attack.id == "guest-api":
            assert attack.by == OTHER
        elif attack.id.startswith("uplink"):
            assert (attack.by, attack.control["address"]) == (INSIDE, "<leg>")
        else:
            assert (attack.by, attack.control) == (CONTROL, {}), attack
    assert TABLE["forged-sni"] == replace(TABLE["forged-sni"], by=WIDE, control={})


def test_what_the_issue_names_is_there() -> None:
    wanted = {
        *(
            "address-http",
            "other-port",
            "forged-sni",
            "forged-host",
            "no-sni",
            "no-host",
            "resolver-udp",
            "resolver-tcp",
        ),
        *(
            "resolver-udp-2",
            "resolver-tcp-2",
            "server-dns-udp",
            "server-dns-tcp",
            "tunnel",
            "tunnel-allowed",
            "dot",
            "doh",
        ),
        *("quic", "icmp", "frame-resolver", "ipv6-link", "address-ipv6", "metadata", "server-icmp", "server-mac"),
        *(
            "gateway-ports",
            "uplink-http",
            "uplink-ports",
            "peer-leg-tls",
            "wide-leg",
            "private",
            "private-name",
            "peer-icmp",
        ),
        *("frame-unicast", "frame-ip", "frame-vlan", "frame-dhcp", "frame-ipv6", "collude-nested", "second-address"),
        *("guest-api", "absolute-form", "pipelined", "upgrade-h2c", "upgrade-websocket", "leases"),
    }
    assert wanted <= {attack.id for attack in ALL}
    again = {attack.id for attack in ALL if attack.again}
    assert {"address-http", "forged-sni", "forged-host", "quic", "resolver-udp", "frame-resolver"} <= again


def test_what_has_no_target_is_not_tried_and_told() -> None:
    bare = Targets("good.example.test", "198.51.100.10", "198.51.100.66", "evil.test")
    few = {attack.id for attack in catalogue(bare, "px-control", "", None)}
    assert not few & {"address-ipv6", "resolver-udp", "private", "metadata", "server-mac", "uplink-http"}
    assert len(not_tried(bare)) == len(not_tried(TARGETS)) + 7
    assert "the kernel of the server" in not_tried(TARGETS)


def test_words_are_of_who_tries_and_without_one_nothing_is_sent() -> None:
    probe = {"address": "<leg>", "name": "data-<me>.evil.test", "port": 53, "tags": [[1, 2]]}
    words = {"leg": "100.64.0.1", "me": "inside", "peer": ""}
    assert filled(probe, words) == {
        "address": "100.64.0.1",
        "name": "data-inside.evil.test",
        "port": 53,
        "tags": [[1, 2]],
    }
    assert filled({"address": "<peer>"}, words) is None


def test_an_answer_counts_when_it_is_one_of_who_was_meant(program: Any) -> None:
    page = b"HTTP/1.1 200 OK\r\n\r\nevil"
    assert program.told(page, {"mark": "evil"}) == "evil"
    for answer, probe in (
        (b"HTTP/1.1 403 Forbidden\r\n\r\nevil", {"mark": "evil"}),
        (page, {"mark": "other"}),
        (page, {"answers": 2}),
        (b"", {}),
    ):
        with pytest.raises(program.Refused):
            program.told(answer, probe)
    assert program.told(page + page, {"answers": 2})


def test_every_frame_has_its_token_and_says_what_it_is(program: Any) -> None:
    words = {word: "02:00:00:00:00:09" if word.endswith("mac") else "10.0.0.9" for word in WORDS}
    made = {}
    for attack in frames():
        spec = filled({**attack.probe, "token": f"token-{attack.id}."}, words)
        assert spec is not None
        made[attack.id] = program.frame_of(spec, b"\x02\0\0\0\0\x01")
        assert f"token-{attack.id}.".encode() in made[attack.id]
        assert len(made[attack.id]) >= 60
    assert made["frame-vlan"][12:16] == b"\x81\0\0\x07"
    assert made["frame-vlan-nested"][12:20] == b"\x88\xa8\0\x07\x81\0\0\x08"
    assert made["frame-unicast"][:6] == b"\x02\0\0\0\0\x09"
    assert made["frame-other-mac"][6:12] == b"\x02\0\x5e\0\x53\x21"
    assert made["frame-dhcp"][34:38] == b"\0\x43\0\x44"
    assert made["frame-ip"][12:14] == b"\x08\0"
    assert made["frame-ipv6"][12:14] == b"\x86\xdd"


def test_probes_say_how_they_ended(program: Any) -> None:
    asked = Attack("x", "x", {"kind": "tcp", "address": "127.0.0.1", "port": 1, "id": "x"})
    assert program.attempt(asked.probe)["x"]["outcome"] == "refused"
    assert program.attempt({"kind": "no such kind", "id": "y"})["y"]["outcome"] == "error"
    assert program.attempt({"kind": "hear", "tokens": None, "id": "z"})["z"]["outcome"] == "error"
