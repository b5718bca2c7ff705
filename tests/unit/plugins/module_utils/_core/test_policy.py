# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies: what an entry may be, what comes of them, and what denies what."""

from __future__ import annotations

import json
import time
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core import policy as policies
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import (
    Policy,
    Rules,
    parse,
    policy,
    readable_name,
    stored_policy,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.presets import PRESETS, PRESETS_VERSION, SUMS


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("example.com:443", "example.com:443"),
        ("example.com:443,22,443", "example.com:22,443"),
        ("*.Example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.0/24:5432", "192.0.2.0/24:5432"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("git.example.com=192.0.2.7:22", "git.example.com=192.0.2.7:22"),
    ],
)
def test_an_entry_has_one_canonical_form(entry: str, text: str) -> None:
    assert parse(entry).text == text
    assert parse(text).text == text


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " example.com",
        "example.com\n",
        "a.com\nb.com",
        'a".com',
        "a'.com",
        "a;b.com",
        "a_b.com",
        "a|b.com",
        "-a.com",
        "a-.com",
        "a..com",
        ".com",
        "com",
        "localhost",
        "printer.local",
        "a." + "b" * 64 + ".com",
        ".".join(["a" * 60] * 5),
        "1.2.3.400",
        "1.2.3",
        "https://example.com",
        "example.com/path",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:1-3",
        "example.com:http",
        "straße.example",
        "*",
        "*.com",
        "*.co.uk",
        "*.*.example.com",
        "a.*.example.com",
        "*a.example.com",
        "*.github.io",
        "*.s3.amazonaws.com",
        "*.example.com:22",
        "*.example.com=192.0.2.1",
        "a.example.com=b.example.com",
        "a.example.com=192.0.2.0/24",
        "192.0.2.1/24",
        "127.0.0.1",
        "0.0.0.0/8",
        "169.254.169.254",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "[::ffff:0:0",
        "10.0.0.1",
        "100.64.0.0/16",
        "0.0.0.0/0",
        "fd00::/8",
        "a.example.com=10.0.0.1",
        # what is never let through lies in them
        "169.0.0.0/8",
        "126.0.0.0/7",
        "192.0.0.0/2",
        "fe00::/8",
        "::/0",
        # above what anybody can rent
        "*.windows.net",
        "*.on.aws",
        "*.amazonaws.com",
        # addresses of IPv4 in those of IPv6
        "::ffff:10.0.0.1",
        "[::ffff:8.8.8.8]:443",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "2002:a00:1::/48",
        "2002:7f00:1::1",
        "64:ff9b::a00:1",
        "64:ff9b:1::/64",
        "2001::/32",
        "2000::/3",
        "fec0::1",
        # whoever answers there carries data out
        "a.example.com:53",
        "a.example.com:443,853",
        "192.0.2.1:53",
        "192.0.2.0/24:853",
        "[2001:db8::1]:53",
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_text(entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(entry)
    assert repr(entry) in str(caught.value)


def test_private_targets_are_there_for_who_asks_and_the_gateway_itself_for_nobody() -> None:
    assert parse("10.1.0.0/16:5432", True).value == "10.1.0.0/16"
    assert parse("a.example.com=10.0.0.1", True).address == "10.0.0.1"
    for entry in (
        "127.0.0.1",
        "169.254.169.254",
        "a.example.com=127.0.0.1",
        "169.0.0.0/8",
        "::ffff:10.0.0.1",
        "10.0.0.1:53",
    ):
        with pytest.raises(ConfigError):
            parse(entry, True)


def test_modes_and_what_contradicts_them() -> None:
    assert policy("unrestricted") == Policy()
    assert policy("none").rules() == Rules()
    assert policy("allowlist", allow=["a.example.com"]).rules().names == {"a.example.com": (80, 443)}
    for mode, options in (
        ("unrestricted", {"allow": ["a.example.com"]}),
        ("unrestricted", {"enforcement": "gateway"}),
        ("none", {"presets": ["git"]}),
        ("agent", {"presets": ["nothing"]}),
        ("agent", {"enforcement": "elsewhere"}),
        ("allowlist", {"allow": ["2001:db8::1"]}),
        ("allowlist", {"allow": ["*.example.com"], "enforcement": "guest"}),
        ("allowlist", {"allow": ["a.example.com=192.0.2.1", "a.example.com=192.0.2.2"]}),
        ("open", {}),
    ):
        with pytest.raises(ConfigError):
            policy(mode, **options)  # type: ignore[arg-type]


def test_an_agent_has_all_presets_with_ssh_for_git() -> None:
    found = policy("agent", allow=["more.example.com"]).rules()
    for preset in SUMS["agent"]:
        for entry in PRESETS[preset]:
            assert parse(entry).value in found.names
    assert found.names["github.com"] == (22, 80, 443)
    assert found.names["more.example.com"] == (80, 443)
    assert not found.wildcards
    assert not found.networks


def test_denials_win() -> None:
    found = policy(
        "allowlist",
        allow=["a.example.com", "b.example.com:22,443", "*.wild.example", "x.wild.example:22", "192.0.2.0/24:80"],
        deny=["a.example.com", "b.example.com:22", "bad.wild.example", "*.deep.wild.example", "192.0.2.7"],
    ).rules()
    assert found.names == {"b.example.com": (443,), "x.wild.example": (22, 80, 443)}
    assert found.denied_names == {"bad.wild.example": ()}
    assert found.denied_wildcards == {"deep.wild.example": ()}
    assert found.denied_networks == {"192.0.2.7": ()}
    for name, port, allowed in (
        ("b.example.com", 443, True),
        ("b.example.com", 22, False),
        ("y.wild.example", 443, True),
        ("z.y.wild.example", 80, True),
        ("y.wild.example", 22, False),
        ("wild.example", 443, False),
        ("xwild.example", 443, False),
        ("bad.wild.example", 443, False),
        ("below.bad.wild.example", 443, True),
        ("deep.wild.example", 443, True),
        ("a.deep.wild.example", 443, False),
        ("a.example.com", 80, False),
    ):
        assert found.permits(name, port) is allowed, name
    assert policy("allowlist", allow=["*.a.example"], deny=["*.a.example"]).rules() == Rules()


def test_the_canonical_form_comes_back_and_its_order_is_no_difference() -> None:
    one = policy("allowlist", allow=["b.example.com", "A.example.com:443,80"], deny=["c.example.com"])
    two = policy("allowlist", allow=["a.example.com:80,443", "b.example.com.", "b.example.com"], deny=["c.example.com"])
    assert (one.text, one.digest) == (two.text, two.digest)
    assert stored_policy(one.text) == one
    assert one.digest != policy("allowlist", allow=["b.example.com"]).digest
    told = json.loads(one.text)
    for text in (
        *("", "{}", "[]", '{"format":2}', '{"format":1,"surprise":1}', "[" * 100000, one.text[:-1]),
        *(
            json.dumps({**told, name: value})
            for name, value in (
                *(("mode", "unrestricted"), ("mode", "open"), ("mode", None), ("enforcement", None)),
                *(
                    ("enforcement", "elsewhere"),
                    ("presets", "git"),
                    ("allow", "a.example.com"),
                ),
                *(("allow", ["*"]), ("allow", [1]), ("deny", [None]), ("entries", ["a b"]), ("private", "no")),
                *(("presets_version", "1"), ("allow", {"a.example.com": 1}), ("presets", [["git"]])),
            )
        ),
    ):
        with pytest.raises(ConfigError, match="the policy that the sandbox carries cannot be read"):
            stored_policy(text)


def test_what_presets_had_is_enforced_until_a_task_asks_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    given = policy("allowlist", presets=["git"], allow=["a.example.com"])
    text = given.text
    # one that was written before entries were kept is of the version that there was then
    told = json.loads(text)
    del told["entries"]
    assert stored_policy(json.dumps(told)) == given
    monkeypatch.setitem(cast(Any, PRESETS), "git", ("new.example.test",))
    monkeypatch.setattr(policies, "PRESETS_VERSION", PRESETS_VERSION + 1)
    kept = stored_policy(text)
    assert kept.outdated
    assert (kept.text, kept.rules()) == (text, given.rules())
    asked = policy("allowlist", presets=["git"], allow=["a.example.com"])
    assert set(asked.rules().names) == {"new.example.test", "a.example.com"}
    assert asked.digest != kept.digest


def test_a_denial_may_name_what_is_never_let_through() -> None:
    for entry in ("169.254.169.254", "0.0.0.0/0", "*.github.io", "::ffff:10.0.0.1", "10.0.0.1:53", "a.example.com:853"):
        assert parse(entry, refusing=True).text == entry


def test_a_denied_network_that_the_gateway_would_meet_behind_names_alone_is_refused() -> None:
    names = ["a.example.com"]
    for allow, deny, possible in (
        (names, "198.51.100.7", False),
        ([*names, "192.0.2.0/24", "192.0.2.64/26", "203.0.113.0/24"], "198.51.100.7", False),
        (names, "0.0.0.0/0", False),
        ([*names, "198.51.100.0/24"], "198.51.100.7", True),
        ([*names, "198.51.100.7"], "198.51.100.0/24", True),
        ([*names, "b.example.com=198.51.100.7"], "198.51.100.0/24", True),
        # nothing leads there anyway
        (names, "169.254.169.254", True),
        (names, "10.0.0.0/8", True),
        (names, "2001:db8::/32", True),
        (["192.0.2.0/24"], "198.51.100.7", True),
    ):
        if possible:
            policy("allowlist", allow=allow, deny=[deny])
        else:
            with pytest.raises(ConfigError, match=rf"^deny: {deny}: the gateway lets a name through"):
                policy("allowlist", allow=allow, deny=[deny])
        policy("allowlist", allow=allow, deny=[deny], enforcement="both")
    with pytest.raises(ConfigError, match=r"^deny: "):
        policy("agent", deny=["198.51.100.7"])


def test_a_name_that_is_bound_to_a_denied_address_is_refused_at_its_ports() -> None:
    options: dict[str, Any] = {"allow": ["a.example.com=198.51.100.7:80,443", "b.example.com=198.51.100.8"]}
    assert policy("allowlist", deny=["198.51.100.7:80"], **options).rules().names["a.example.com"] == (443,)
    rules = policy("allowlist", deny=["198.51.100.0/29"], **options).rules()
    assert (set(rules.names), set(rules.bound)) == ({"b.example.com"}, {"b.example.com"})


def test_an_older_preset_is_told() -> None:
    assert not policy("agent").outdated
    assert Policy("agent", "gateway", ("agent",), presets_version=PRESETS_VERSION - 1).outdated
    assert not Policy("allowlist", "gateway", (), presets_version=PRESETS_VERSION - 1).outdated


def test_long_lists_and_long_names_are_matched_in_linear_time() -> None:
    found = policy("allowlist", allow=[f"*.d{number}.example.com" for number in range(2000)]).rules()
    name = "a." * 120 + "d1999.example.com"
    begin = time.monotonic()
    for _turn in range(1000):
        assert found.permits(name, 443)
    assert time.monotonic() - begin < 2
    with pytest.raises(ConfigError, match="5000 are the most"):
        policy("allowlist", allow=[f"d{number}.example.com" for number in range(5001)])


def test_hostile_text_is_no_name() -> None:
    assert readable_name("Good.Example.com") == "good.example.com"
    for text in ("", "x", "a b.c", "a.com\x1b[31m", "a.com:443", "*.a.com", "${jndi:x}.com", "{{ a }}.com"):
        assert readable_name(text) is None


def test_a_guest_knows_denied_networks_and_a_gateway_those_that_it_has_a_path_to() -> None:
    options: dict[str, Any] = {"allow": ["a.example.test", "192.0.2.0/24"], "deny": ["192.0.2.7", "2001:db8::/32"]}
    assert set(policy("allowlist", **options).rules().denied_networks) == {"192.0.2.7"}
    assert set(policy("allowlist", enforcement="both", **options).rules().denied_networks) == {"192.0.2.7"}
    options["allow"] = ["a.example.test"]
    found = policy("allowlist", enforcement="guest", **options).rules().denied_networks
    assert set(found) == {"192.0.2.7", "2001:db8::/32"}


def test_a_wildcard_that_no_guest_can_look_up_names_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for enforcement in ("guest", "both"):
        with pytest.raises(ConfigError, match=r"^allow: \*\.example\.test: .* cannot be looked up"):
            policy("allowlist", allow=["*.example.test"], enforcement=enforcement)
    monkeypatch.setitem(cast(Any, PRESETS), "git", ("*.example.test",))
    with pytest.raises(ConfigError, match=r"^presets: \*\.example\.test"):
        policy("agent", enforcement="guest")
