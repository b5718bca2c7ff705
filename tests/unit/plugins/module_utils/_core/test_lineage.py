# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions of bases, their order and their fingerprints."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.lineage import Definition, checked, ordered

DEV = Definition("dev", image="debian/13")
PYTHON = Definition("python", parent="dev")
NODE = Definition("node", parent="dev")
DJANGO = Definition("django", parent="python")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (Definition("dev"), "base dev: give either image or from"),
        (Definition("dev", image="a", parent="b"), "base dev: give either image or from"),
        (Definition("dev", image=" "), "base dev: image is empty"),
        (Definition("dev", parent=""), "base dev: from is empty"),
        (Definition("Dev", image="a"), "base 'Dev' is not legal"),
        (Definition("dev-0123456789ab", image="a"), "no end like that of a build"),
        (Definition("dev-0123456789ab-2", image="a"), "no end like that of a build"),
        (Definition("d" * 37, image="a"), "is not legal: up to 36"),
        (replace(DEV, packages=("-o=x",)), "base dev: '-o=x' is not the name of a package"),
        (replace(DEV, variables={"a b": 1}), "base dev: variables: 'a b' is not the name of an environment variable"),
        (replace(DEV, description="a\nb"), "base dev: description 'a\\nb' has control characters"),
    ],
)
def test_what_no_base_can_be_is_named(definition: Definition, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(definition)
    assert message in str(caught.value)


def test_parents_come_before_their_children() -> None:
    placed = ordered([DJANGO, PYTHON, NODE, DEV])
    assert [(entry.definition.name, entry.depth) for entry in placed] == [
        ("dev", 0),
        ("node", 1),
        ("python", 1),
        ("django", 2),
    ]


def test_a_parent_may_be_there_without_a_definition() -> None:
    assert [(entry.definition.name, entry.depth) for entry in ordered([PYTHON], known=["dev"])] == [("python", 1)]


@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        ([PYTHON], "python from dev: there is no base dev; there are: python"),
        ([DJANGO, PYTHON, NODE], "django from python from dev: there is no base dev; there are: django, node, python"),
        ([Definition("a", parent="a")], "a cycle: a from a"),
        (
            [Definition("a", parent="b"), Definition("b", parent="c"), Definition("c", parent="a")],
            "a cycle: a from b from c from a",
        ),
        ([DEV, NODE, replace(DEV, packages=("git",))], "dev is defined more than once"),
    ],
)
def test_no_graph_of_bases_is_refused_with_its_path(definitions: list[Definition], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ordered(definitions)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "debian/12"},
        {"image": None, "parent": "debian/13"},
        {"script": ""},
        {"packages": ("git",)},
        {"roles": ("a",)},
        {"variables": {"A": 1}},
        {"content": "abc"},
        {"name": "other"},
    ],
)
def test_each_part_of_a_definition_is_in_its_fingerprint(changes: dict[str, object]) -> None:
    assert replace(DEV, **changes).fingerprint() != DEV.fingerprint()  # type: ignore[arg-type]


def test_words_and_the_order_of_packages_make_no_other_base() -> None:
    one = replace(DEV, packages=("git", "jq"), description="tools")
    assert one.fingerprint() == replace(DEV, packages=("jq", "git")).fingerprint()


def test_another_parent_is_another_fingerprint() -> None:
    assert len({PYTHON.fingerprint(), PYTHON.fingerprint("a"), PYTHON.fingerprint("b")}) == 3
    assert len(PYTHON.fingerprint("a")) == 64


def test_names_of_bases_and_builds() -> None:
    assert names.base_name("px-base-dev") == names.base_name("base-dev") == names.base_name("dev") == "dev"
    assert (names.anchor_name("dev"), names.builder_name("dev")) == ("base-dev", "build-dev")
    taken = ["build-dev-0123456789ab", "build-dev-0123456789ab-2"]
    assert names.build_name("dev", "0123456789abcdef", []) == taken[0]
    assert names.build_name("dev", "0123456789abcdef", taken) == "build-dev-0123456789ab-3"
    assert len(names.server_name(names.build_name("d" * 36, "0" * 64, [f"build-{'d' * 36}-{'0' * 12}"]))) <= 63


@pytest.mark.parametrize(
    ("given", "name"), [("px-task", "task"), ("gateway", "gateway"), ("px-build-dev", "build-dev")]
)
def test_what_can_be_entered_has_a_name(given: str, name: str) -> None:
    assert names.guest_name(given) == name


@pytest.mark.parametrize("given", ["base-dev", "build-", "build-dev-0123456789ab", "No"])
def test_what_cannot_be_entered_is_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        names.guest_name(given)
