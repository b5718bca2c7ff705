# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person types to enter a sandbox, read by a shell as it would be."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.console import enter, set_up
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import SOCKETS, Endpoint

COMMAND = ("/usr/local/bin/px-session", "attach", "console")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (Endpoint(socket=SOCKETS[0]), "incus exec local:px-box -- /usr/local/bin/px-session attach console"),
        (Endpoint(socket=SOCKETS[1], project="lab"), "incus exec --project lab local:px-box -- su -l"),
        (Endpoint(socket="/srv/a b"), "INCUS_SOCKET='/srv/a b' incus exec local:px-box -- su -l"),
    ],
)
def test_a_local_server_needs_nothing_before(endpoint: Endpoint, expected: str) -> None:
    command = COMMAND if "px-session" in expected else ("su", "-l")
    assert enter(endpoint, "px-box", command) == expected
    assert set_up(endpoint) == []


@pytest.mark.parametrize("host", ["incus.example.com", "2001:db8::1"])
def test_a_remote_server_gets_settings_of_its_own_with_its_pin(tmp_path: Path, host: str) -> None:
    endpoint = Endpoint(
        host=host,
        port=8444,
        client_cert="/c's/client.crt",
        client_key="/c/key",
        server_cert="/c/server.crt",
        project="lab",
    )
    for line in set_up(endpoint):
        subprocess.run(["sh", "-euc", line], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
    folder = tmp_path / ".config/pixels/incus" / f"{host}_8444".replace(":", "_")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert str((folder / "client.crt").readlink()) == "/c's/client.crt"
    assert str((folder / "client.key").readlink()) == "/c/key"
    assert str((folder / "servercerts/pixels.crt").readlink()) == "/c/server.crt"
    settings = json.loads((folder / "config.yml").read_text())
    assert settings["remotes"]["pixels"]["addr"] == endpoint.url
    echo = enter(endpoint, "px-box", COMMAND).replace(" incus exec", " sh -c 'echo \"$INCUS_CONF $*\"' sh")
    seen = subprocess.run(
        ["sh", "-euc", echo],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert seen.stdout == f"{folder} --project lab pixels:px-box -- {' '.join(COMMAND)}\n"


def test_a_server_that_authorities_vouch_for_is_verified_by_them() -> None:
    endpoint = Endpoint(host="incus.example.com", client_cert="/c", client_key="/k", ca_cert="/ca.pem")
    assert [line.rsplit("/", 1)[1] for line in set_up(endpoint) if "ca.pem" in line] == ["client.ca"]
