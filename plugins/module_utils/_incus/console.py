# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The commands with which a person enters a sandbox by the incus program; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from shlex import quote

from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import SOCKETS, Endpoint

#: What our server is called in the folder of settings that the set-up makes for it.
_REMOTE = "pixels"


def enter(endpoint: Endpoint, server_name: str, command: Sequence[str]) -> str:
    """Return the shell command that runs a command on a terminal in an instance."""
    words = ["incus", "exec"]
    if endpoint.project:
        words += ["--project", endpoint.project]
    words += [f"{_REMOTE}:{server_name}" if endpoint.host else f"local:{server_name}", "--", *command]
    line = " ".join(quote(word) for word in words)
    if endpoint.host:
        return f"INCUS_CONF={_folder(endpoint)} {line}"
    if endpoint.socket not in SOCKETS:
        return f"INCUS_SOCKET={quote(endpoint.socket)} {line}"
    return line


def set_up(endpoint: Endpoint) -> list[str]:
    """Return the shell commands that are needed once before enter: settings of our own, with the server pinned."""
    if not endpoint.host:
        return []
    folder = _folder(endpoint)
    remote = {"addr": endpoint.url, "auth_type": "tls", "protocol": "incus", "public": False}
    settings = json.dumps({"default-remote": _REMOTE, "remotes": {_REMOTE: remote}})
    links = [("client.crt", endpoint.client_cert), ("client.key", endpoint.client_key)]
    if endpoint.server_cert:
        links.append((f"servercerts/{_REMOTE}.crt", endpoint.server_cert))
    if endpoint.ca_cert:
        links.append(("client.ca", endpoint.ca_cert))
    return [
        f"mkdir -p -m 700 {folder} {folder}/servercerts",
        *(f"ln -sfn {quote(path)} {folder}/{name}" for name, path in links),
        # JSON is YAML too
        f"printf '%s\\n' {quote(settings)} > {folder}/config.yml",
    ]


def _folder(endpoint: Endpoint) -> str:
    # the shell of the user knows the home, which need not be that of the machine where the module ran
    name = f"{endpoint.host}_{endpoint.port}".replace(":", "_")
    return f'"$HOME/.config/pixels/incus/{name}"'
