# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of plugins on their way to a backend."""

from __future__ import annotations

import pytest
import yaml
from ansible.constants import config
from ansible.playbook.play_context import PlayContext
from ansible_collections.pixels.sandbox.plugins.connection import incus
from ansible_collections.pixels.sandbox.plugins.doc_fragments._connection import ModuleDocFragment
from ansible_collections.pixels.sandbox.plugins.plugin_utils._session import connection_options

NAME = "pixels.sandbox.incus"


def loaded() -> incus.Connection:
    """Return the plugin as Ansible's loader would."""
    options = {
        text: part for source in (ModuleDocFragment.PLUGIN, incus.DOCUMENTATION) for text, part in _options(source)
    }
    config.initialize_plugin_configuration_definitions("connection", NAME, options)
    connection = incus.Connection(PlayContext())
    connection._load_name = connection.ansible_name = NAME
    return connection


def _options(text: str) -> list[tuple[str, object]]:
    return list(yaml.safe_load(text)["options"].items())


def test_an_empty_variable_of_a_host_is_an_option_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    # the environment names another server, and the host says that it is not on that one
    monkeypatch.setenv("PIXELS_INCUS_SOCKET", "/run/of-the-environment")
    monkeypatch.setenv("PIXELS_INCUS_CA_CERT", "/etc/of-the-environment.pem")
    connection = loaded()
    names = ("incus_socket", "incus_remote", "incus_ca_cert", "incus_project")
    connection.set_options(var_options={f"ansible_pixels_{name}": "" for name in names})
    found = connection_options(connection)
    assert {name: found[name] or "" for name in names} == dict.fromkeys(names, "")
