# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which instance a host is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.pixels.sandbox.plugins.connection import incus


@pytest.mark.parametrize(
    ("given", "name"),
    [("box", "box"), ("px-box", "box"), ("px-px-box", "px-box"), ("gateway", "gateway"), ("px-gateway", "gateway")],
)
def test_one_prefix_is_understood_and_no_more(monkeypatch: pytest.MonkeyPatch, given: str, name: str) -> None:
    connection: Any = incus.Connection.__new__(incus.Connection)
    connection._open = None
    monkeypatch.setattr(incus.Connection, "get_option", lambda _self, _option: given)
    monkeypatch.setattr(incus.Connection, "_check", lambda _self, _backend: None)
    monkeypatch.setattr(incus, "connection_options", lambda _plugin: {})
    monkeypatch.setattr(incus, "incus_backend", lambda _options, direct: object())
    connection._connect()
    assert connection._name == name


def test_a_sandbox_of_a_truenas_is_not_looked_for_on_the_incus_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    connection: Any = incus.Connection.__new__(incus.Connection)
    connection._open = None
    monkeypatch.setattr(incus.Connection, "get_option", lambda _self, _option: "box")
    monkeypatch.setattr(incus, "connection_options", lambda _plugin: {"backend": "truenas"})
    with pytest.raises(AnsibleConnectionFailure, match="over SSH"):
        connection._connect()
