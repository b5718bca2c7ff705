# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role base_node with an archive of the tests' own: exactly one key is trusted, and exactly the pinned one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live
from support.live import needs_incus

pytestmark = needs_incus
BOX = "nodebox"
#: An archive in a folder, signed by the first of two keys; prints the fingerprint of that.
ARCHIVE = r"""
set -e
{ apt-get -qq update; apt-get -qq -y --no-install-recommends install gnupg apt-utils dpkg-dev python3-apt; } > /dev/null 2>&1
mkdir -p /srv/repo/x/DEBIAN /root/g; chmod 700 /root/g; cd /srv/repo; export GNUPGHOME=/root/g
printf 'Package: nodejs\nVersion: 99.0\nArchitecture: all\nMaintainer: t <t@example.test>\nDescription: stand-in\n' > x/DEBIAN/control
{
  dpkg-deb -b x nodejs_99.0_all.deb
  for name in one two; do gpg --batch --passphrase '' --quick-gen-key $name@example.test ed25519 sign never; done
} > /dev/null 2>&1
apt-ftparchive packages . > Packages; apt-ftparchive release . > Release
gpg --batch --yes -u one@example.test --clearsign -o InRelease Release
gpg --armor --export one@example.test > /srv/one.asc; gpg --armor --export > /srv/both.asc
gpg --with-colons --list-keys one@example.test | grep -oE '[0-9A-F]{40}' | head -n 1
"""


def run(backend: IncusBackend, script: str) -> str:
    """Run a script in the guest and return what it printed."""
    result = backend.execute(BOX, ExecRequest(("/bin/sh", "-c", script)), Deadline(240))
    assert result.rc == 0, result.stderr
    return result.stdout.decode().strip()


def apply(project: str, folder: Path, key: Path, fingerprint: str) -> tuple[int, str]:
    """Apply the role, and return how it ended."""
    variables: dict[str, Any] = {
        "base_dev_packages": [],
        "base_node_source": "file:///srv/repo",
        "base_node_suite": "./",
        "base_node_key": str(key),
        "base_node_key_fingerprint": fingerprint,
    }
    plays: list[dict[str, Any]] = [
        {"hosts": BOX, "gather_facts": False, "vars": variables, "roles": ["pixels.sandbox.base_node"]}
    ]
    host = {
        "ansible_connection": "pixels.sandbox.incus",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_pixels_incus_project": project,
    }
    done = live.play(folder, plays, {BOX: host})
    return done.returncode, done.stdout + done.stderr


def test_exactly_the_pinned_key_is_trusted(project: str, backend: IncusBackend, tmp_path: Path) -> None:
    live.make(backend, BOX, wait_for="ready")
    pinned = run(backend, ARCHIVE).splitlines()[-1]
    keys = {}
    for name in ("one", "both"):
        keys[name] = tmp_path / f"{name}.asc"
        with keys[name].open("wb") as target:
            backend.read_file(BOX, f"/srv/{name}.asc", target)
    for key, fingerprint in ((keys["both"], pinned), (keys["one"], "0" * 40)):
        code, said = apply(project, tmp_path, key, fingerprint)
        assert code != 0
        assert "the file has to have exactly one key" in said
        assert not backend.has_file(BOX, "/etc/apt/keyrings/nodesource.gpg")
        assert not backend.has_file(BOX, "/etc/apt/sources.list.d/nodesource.sources")
    code, said = apply(project, tmp_path, keys["one"], pinned)
    assert code == 0, said
    assert run(backend, "dpkg-query -W -f '${Version}' nodejs") == "99.0"
    code, said = apply(project, tmp_path, keys["one"], pinned)
    assert "changed=0" in said
