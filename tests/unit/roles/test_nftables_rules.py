# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ruleset that a policy becomes in a guest."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import guest

FILES = Path(__file__).parents[3] / "roles/nftables/files"


@pytest.fixture
def rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nftables_rules", FILES / "rules.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def document(**options: Any) -> Any:
    """Return what a guest is told of an allowlist."""
    return guest.document(policy("allowlist", **{"enforcement": "guest", **options}))


def elements(text: str, name: str) -> set[str]:
    """Return the elements of a set in a ruleset."""
    found = re.search(rf"^  set {name} {{ [^=]*(?:elements = {{ (.*?) }} )?}}$", text, flags=re.MULTILINE)
    assert found, name
    return set(found[1].split(", ")) if found[1] else set()


def test_the_fingerprint_is_that_of_the_collection(rules: ModuleType) -> None:
    for wanted in (policy("agent", enforcement="guest"), policy("none", enforcement="both")):
        rules.check(guest.document(wanted))
        assert rules.fingerprint(guest.document(wanted)) == guest.fingerprint(wanted)


def test_what_is_loaded_first_lets_nothing_through(rules: ModuleType) -> None:
    assert (FILES / "closed.nft").read_text() == rules.render(rules.NOTHING, {}, ["192.0.2.1"])
    assert guest.document(policy("none", enforcement="guest")) == rules.NOTHING


@pytest.mark.parametrize(
    "spoil",
    [
        {"names": {"a.example } accept": [443]}},
        {"names": {"a.example\n192.0.2.1 b.example": [443]}},
        {"names": {"a.example": ["443"]}},
        {"names": {"a.example": [True]}},
        {"names": {"a.example": [70000]}},
        {"names": ["a.example"]},
        {"wildcards": {"example.com": [443]}},
        {"networks": {"10.0.0.1/8": [443]}},
        {"networks": {"127.0.0.0/8": [443]}},
        {"networks": {"fe80::1": [443]}},
        {"bound": {"a.example": "169.254.169.254"}},
        {"denied_networks": {"all": []}},
        {"more": {}},
    ],
)
def test_what_no_rules_can_be_made_of_is_refused(rules: ModuleType, spoil: dict[str, Any]) -> None:
    told = document(allow=["a.example"])
    with pytest.raises((ValueError, TypeError)):
        rules.check({**told, "rules": {**told["rules"], **spoil}})


@pytest.mark.parametrize("told", [[], {}, {"rules": {}}, {"rules": None, "behind_gateway": False}])
def test_what_is_no_policy_is_refused(rules: ModuleType, told: Any) -> None:
    with pytest.raises(ValueError, match=r"it is not a policy|its rules are not"):
        rules.check(told)


def test_each_entry_has_its_own_ports_in_both_families(rules: ModuleType) -> None:
    told = document(allow=["a.example", "b.example:22", "192.0.2.0/24:5432", "2001:db8::/32"])
    known = {"a.example": ["198.51.100.1", "2a00::1"], "b.example": ["198.51.100.2"], "c.example": ["198.51.100.3"]}
    text = rules.render(told, known, ["10.0.0.53", "fd00::53"], [22])
    assert elements(text, "allowed4") == {
        *("198.51.100.1 . 80", "198.51.100.1 . 443"),
        *("198.51.100.2 . 22", "192.0.2.0/24 . 5432"),
    }
    assert elements(text, "allowed6") == {"2a00::1 . 80", "2a00::1 . 443", "2001:db8::/32 . 80", "2001:db8::/32 . 443"}
    assert (elements(text, "resolvers4"), elements(text, "resolvers6")) == ({"10.0.0.53"}, {"fd00::53"})
    assert elements(text, "inbound") == {"22"}


def test_networks_that_lie_in_others_are_told_once(rules: ModuleType) -> None:
    text = rules.render(
        document(allow=["192.0.2.0/24:80", "192.0.2.7:80,81", "a.example:80"]), {"a.example": ["192.0.2.9"]}
    )
    assert elements(text, "allowed4") == {"192.0.2.0/24 . 80", "192.0.2.7 . 81"}


def test_denied_networks_come_before_all_that_is_allowed(rules: ModuleType) -> None:
    told = document(allow=["a.example"], deny=["198.51.100.0/24", "198.51.0.0/16:80", "2001:db8::/32"])
    text = rules.render(told, {"a.example": ["198.51.100.1"]})
    assert elements(text, "denied4") == {"198.51.100.0/24"}
    assert elements(text, "denied6") == {"2001:db8::/32"}
    assert elements(text, "denied_ports4") == {"198.51.0.0/16 . 80"}
    for chain in re.findall(r"chain (?:in|out)put \{.*?\n  \}", text, flags=re.DOTALL):
        assert 0 < chain.rindex("@denied_ports6") < chain.index("@allowed4")


def test_a_name_leads_to_the_internet_alone_unless_a_gateway_judges(rules: ModuleType) -> None:
    inside = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fd00::1"]
    known = {"a.example": [*inside, "198.51.100.1", "2a00::1"]}
    told = document(allow=["a.example:443"])
    assert rules.places(told, known) == {"a.example": ["198.51.100.1", "2a00::1"]}
    assert rules.places({**told, "behind_gateway": True}, {"a.example": ["100.64.0.1", "127.0.0.1"]}) == {
        "a.example": ["100.64.0.1"]
    }
    bound = document(allow=["a.example=10.1.2.3:22"], private=True)
    assert rules.pins(bound, known) == ["10.1.2.3 a.example"]
    assert rules.wanted_names(bound) == []


def test_nobody_asks_for_names_where_there_are_none(rules: ModuleType) -> None:
    for told in (document(), document(allow=["192.0.2.1"]), guest.document(policy("none", enforcement="guest"))):
        assert elements(rules.render(told, {}, ["10.0.0.53"]), "resolvers4") == set()


def test_the_lines_of_hosts_are_ours_alone(rules: ModuleType) -> None:
    others = "127.0.0.1 localhost\n192.0.2.1 mine"
    with_some = rules.with_pins(others, ["198.51.100.1 a.example"])
    assert with_some.startswith(f"{others}\n{rules.BEGIN}\n198.51.100.1 a.example\n")
    again = rules.with_pins(with_some + "192.0.2.2 later\n", ["198.51.100.2 a.example"])
    assert again.count("a.example") == 1
    assert "198.51.100.2 a.example" in again
    assert rules.with_pins(again, []) == f"{others}\n192.0.2.2 later\n"


def test_nothing_is_let_through_because_it_was_once(rules: ModuleType) -> None:
    text = rules.render(document(allow=["a.example"]), {})
    accepting = [line for line in text.splitlines() if line.endswith("accept") and "established" in line]
    assert all("@resolvers" in line or "@inbound" in line for line in accepting)
    assert text.count("policy drop") == 3
    # ours alone, and all of it at once
    assert "flush" not in text
    assert re.findall(r"^(?:table|delete) .*", text, flags=re.MULTILINE) == [
        "table inet px_egress {}",
        "delete table inet px_egress",
        "table inet px_egress {",
    ]
