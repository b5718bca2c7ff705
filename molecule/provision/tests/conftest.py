# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of provisioned sandboxes share: commands as the user, and a sandbox in which the ancestor's rules hold."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from ansible_collections.pixels.sandbox.tests.support.by_incus import into
from testinfra.host import Host

#: What a shell, an environment file or a locale would spoil; converge.yml has the same.
ODD = 'it\'s "a" $HOME `id` \\ ünï\nand a second line'


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    rc: int
    out: str


def run(name: str, *argv: str, text: str = "") -> Said:
    """Run a command in a guest as root."""
    done = subprocess.run(
        into(name, *argv),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return Said(done.returncode, done.stdout)


def as_pixel(name: str, script: str, text: str = "") -> Said:
    """Run a script as a login of the user does."""
    return run(name, "su", "-l", "pixel", "-c", script, text=text)


def on_terminal(name: str, script: str, text: str) -> Said:
    """Run a script as the user on a terminal, with someone who types."""
    return as_pixel(
        name,
        f"stty -echo 2>/dev/null; (sleep 1; printf {shlex.quote(text)}; sleep 1) | script -qec {shlex.quote(script)} /dev/null",
    )


#: The rights that the ancestor gave, and its wrapper: what each attack is tried on to see that it is one.
LOOSE_RULES = """\
pixel ALL=(ALL) NOPASSWD: /usr/local/bin/loose-apt, /usr/bin/dpkg-query, /usr/bin/test, /usr/sbin/nft list *
pixel ALL=(ALL) NOPASSWD: /usr/bin/journalctl, /usr/bin/journalctl *
pixel ALL=(ALL) NOPASSWD: /usr/bin/systemctl start *, /usr/bin/systemctl stop *, /usr/bin/systemctl enable *
"""
LOOSE_APT = """\
#!/bin/bash
case $1 in install | update | remove | autoremove | upgrade | dist-upgrade | purge) ;; *) exit 1 ;; esac
for word in "${@:2}"; do case $word in -o | --option | -o=* | --option=*) exit 1 ;; esac; done
export DEBIAN_FRONTEND=noninteractive
exec /usr/bin/apt-get "$@"
"""


@pytest.fixture(scope="session")
def loose() -> str:
    """Give the clone mol-loose the rules of the ancestor instead of ours; return its name."""
    script = """
set -e
cat > /usr/local/bin/loose-apt <<'END'
LOOSE_APT
END
cat > /etc/sudoers.d/pixels <<'END'
LOOSE_RULES
END
chmod 755 /usr/local/bin/loose-apt
chmod 440 /etc/sudoers.d/pixels
visudo -c
# hooks of APT run without any archive too, and at once
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
"""
    for name in ("mol-agent", "mol-loose"):
        said = run(name, "sh", "-c", "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install nftables less")
        assert said.rc == 0, said.out
    said = run("mol-loose", "sh", "-c", script.replace("LOOSE_APT", LOOSE_APT).replace("LOOSE_RULES", LOOSE_RULES))
    assert said.rc == 0, said.out
    return "mol-loose"


@pytest.fixture
def pixel(host: Host) -> Callable[[str], Said]:
    """Return a function that runs a script as the user of the host."""
    return lambda script: as_pixel(host.backend.host, script)
