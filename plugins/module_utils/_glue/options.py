# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The connection options: one table for modules and plugins alike."""

from __future__ import annotations

from dataclasses import dataclass

from ansible.module_utils.basic import env_fallback


@dataclass(frozen=True)
class Option:
    """A connection option; env is the variable that pixels reads too."""

    name: str
    env: str
    type: str = "str"
    choices: tuple[str, ...] = ()
    default: str | None = None


CONNECTION_OPTIONS = (
    Option("backend", "PIXELS_BACKEND", choices=("incus",), default="incus"),
    Option("incus_socket", "PIXELS_INCUS_SOCKET", "path"),
    Option("incus_remote", "PIXELS_INCUS_REMOTE"),
    Option("incus_client_cert", "PIXELS_INCUS_CLIENT_CERT", "path"),
    Option("incus_client_key", "PIXELS_INCUS_CLIENT_KEY", "path"),
    Option("incus_server_cert", "PIXELS_INCUS_SERVER_CERT", "path"),
    Option("incus_ca_cert", "PIXELS_INCUS_CA_CERT", "path"),
    Option("incus_project", "PIXELS_INCUS_PROJECT"),
)
OPTION_NAMES = tuple(option.name for option in CONNECTION_OPTIONS)


def connection_spec() -> dict[str, dict[str, object]]:
    """Return the argument spec of the connection options."""
    spec: dict[str, dict[str, object]] = {}
    for option in CONNECTION_OPTIONS:
        entry: dict[str, object] = {"type": option.type, "fallback": (env_fallback, [option.env])}
        if option.choices:
            entry["choices"] = list(option.choices)
        if option.default is not None:
            entry["default"] = option.default
        if option.name == "incus_client_key":
            # the path of a key is no secret, and the name would make Ansible warn
            entry["no_log"] = False
        spec[option.name] = entry
    return spec
