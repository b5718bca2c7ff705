# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: what is legal, what is ours, what is never doubled."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError


@pytest.mark.parametrize("given", ["box", "px-box"])
def test_prefix_is_understood_and_never_doubled(given: str) -> None:
    assert names.sandbox_name(given) == "box"
    assert names.server_name(given) == "px-box"


def test_only_one_prefix_is_taken_off() -> None:
    assert names.sandbox_name("px-px-box") == "px-box"


@pytest.mark.parametrize("name", ["a", "7", "a-b", "a--b", "x" * 60, "base", "build", "gateway-2", "px"])
def test_legal_name_is_returned(name: str) -> None:
    assert names.sandbox_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "px-", "-a", "a-", "A", "a_b", "a.b", "a b", "a/b", "../a", "ä", "x" * 61, "a\n", "a\x00", "٣"],
)
def test_illegal_name_is_named_in_the_message(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names.sandbox_name(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["gateway", "px-gateway", "base-dev", "px-base-dev", "build-dev-1a2b"])
def test_name_of_the_collections_own_instances_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="reserved"):
        names.sandbox_name(name)


@pytest.mark.parametrize("label", ["ready", "v1.2_3-x", "2026-01-02T03", "x" * 62])
def test_legal_checkpoint_label_is_returned(label: str) -> None:
    assert names.checkpoint_label(label) == label


@pytest.mark.parametrize("label", ["", ".", "-x", "_x", "a/b", "a b", "a:b", "a,b", "x" * 63, "a\n", "é"])
def test_illegal_checkpoint_label_names_its_option(label: str) -> None:
    with pytest.raises(ConfigError, match=r"^prefix "):
        names.checkpoint_label(label, "prefix")


@pytest.mark.parametrize("key", ["a", "team", "a.b-c_d", "x" * 63])
def test_legal_key_of_a_label_is_returned(key: str) -> None:
    assert names.label_key(key) == key


@pytest.mark.parametrize("key", ["", "A", ".a", "a.", "a b", "a=b", "x" * 64, "a\n"])
def test_illegal_key_of_a_label_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^labels: key "):
        names.label_key(key)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "A B", "A\n", "Ä"])
def test_illegal_name_of_a_variable_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^env: "):
        names.env_name(name)


def test_legal_name_of_a_variable_is_returned() -> None:
    assert names.env_name("_A1") == "_A1"


@pytest.mark.parametrize("text", ["a\nb", "\x00", "a\x7f", "\t"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^owner "):
        names.printable("owner", text)


def test_any_printable_text_is_returned() -> None:
    assert names.printable("owner", "Åda <a@b.test>") == "Åda <a@b.test>"
