# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The connection options: one table for modules and plugins alike."""

from __future__ import annotations

from dataclasses import dataclass

from ansible.module_utils.basic import env_fallback


@dataclass(frozen=True)
class Option:
    """A connection option; env is the variable that pixels reads too, and the value of a secret one is shown nowhere."""

    name: str
    env: str
    type: str = "str"
    choices: tuple[str, ...] = ()
    default: str | None = None
    secret: bool = False


CONNECTION_OPTIONS = (
    Option("backend", "PIXELS_BACKEND", choices=("incus", "truenas"), default="incus"),
    Option("incus_socket", "PIXELS_INCUS_SOCKET", "path"),
    Option("incus_remote", "PIXELS_INCUS_REMOTE"),
    Option("incus_client_cert", "PIXELS_INCUS_CLIENT_CERT", "path"),
    Option("incus_client_key", "PIXELS_INCUS_CLIENT_KEY", "path"),
    Option("incus_server_cert", "PIXELS_INCUS_SERVER_CERT", "path"),
    Option("incus_ca_cert", "PIXELS_INCUS_CA_CERT", "path"),
    Option("incus_project", "PIXELS_INCUS_PROJECT"),
    Option("truenas_host", "PIXELS_TRUENAS_HOST"),
    Option("truenas_port", "PIXELS_TRUENAS_PORT", "int"),
    Option("truenas_username", "PIXELS_TRUENAS_USERNAME"),
    Option("truenas_api_key", "PIXELS_TRUENAS_API_KEY", secret=True),
    Option("truenas_ca_cert", "PIXELS_TRUENAS_CA_CERT", "path"),
    Option("truenas_fingerprint", "PIXELS_TRUENAS_FINGERPRINT"),
    Option("truenas_insecure_skip_verify", "PIXELS_TRUENAS_INSECURE_SKIP_VERIFY", "bool"),
    Option("truenas_pool", "PIXELS_TRUENAS_POOL"),
    Option("truenas_ssh_key", "PIXELS_TRUENAS_SSH_KEY", "path"),
)
OPTION_NAMES = tuple(option.name for option in CONNECTION_OPTIONS)


def connection_spec(*backends: str) -> dict[str, dict[str, object]]:
    """Return the argument spec of the connection options, or of those that servers of these kinds have."""
    spec: dict[str, dict[str, object]] = {}
    for option in CONNECTION_OPTIONS:
        if backends and not option.name.startswith((*backends, "backend")):
            continue
        entry: dict[str, object] = {"type": option.type, "fallback": (env_fallback, [option.env])}
        if option.choices:
            entry["choices"] = [choice for choice in option.choices if not backends or choice in backends]
        if option.default is not None:
            entry["default"] = option.default
        if option.secret:
            entry["no_log"] = True
        elif option.name.endswith("_key"):
            # the path of a key is no secret, and the name would make Ansible warn
            entry["no_log"] = False
        spec[option.name] = entry
    return spec
