# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user who wants to be root tries, in a real guest. Each attack is tried where the ancestor's rules hold too: there it works."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from conftest import Said, as_pixel, on_terminal, run

OURS = "mol-agent"
MARK = "/root/owned"
#: A hook that APT would run as root, in each spelling.
HOOK = f"APT::Update::Pre-Invoke::=touch {MARK}"


@dataclass(frozen=True)
class Attack:
    """A script of the user; WRAPPER is the command that it may run as root. It has worked when root says so."""

    name: str
    script: str
    worked: str = f"test -e {MARK}"
    after: str = f"rm -f {MARK}"
    #: what someone types on a terminal
    typed: str = ""


def _options() -> list[Attack]:
    spellings = {
        "glued": f"'-o{HOOK}'",
        "bundled": f"'-qo{HOOK}'",
        "upper-case": f"'--OPTION={HOOK}'",
        "capital": f"--Option '{HOOK}'",
        "file": "-c /tmp/evil.conf",
        "file-glued": "-c/tmp/evil.conf",
        "file-equals": "-c=/tmp/evil.conf",
        "file-long": "--config-file=/tmp/evil.conf",
        "file-upper-case": "--CONFIG-FILE=/tmp/evil.conf",
    }
    write = f"echo 'APT::Update::Pre-Invoke:: \"touch {MARK}\";' > /tmp/evil.conf"
    return [Attack(f"S2-{name}", f"{write}; sudo -n WRAPPER update {words}") for name, words in spellings.items()]


BUILD = f"""
cd; rm -rf evil evil*.deb; mkdir -p evil/DEBIAN
printf 'Package: evil\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.com>\\nDescription: x\\n' > evil/DEBIAN/control
printf '#!/bin/sh\\ntouch {MARK}\\n' > evil/DEBIAN/postinst; chmod 755 evil/DEBIAN/postinst
dpkg-deb --build evil evil.deb > /dev/null
"""
UNIT = f"printf '[Service]\\nType=oneshot\\nExecStart=/usr/bin/touch {MARK}\\n[Install]\\nWantedBy=multi-user.target\\n' > ~/evil.service"
GONE = "apt-get -qq -y purge evil > /dev/null 2>&1; rm -f /root/owned"
ATTACKS = [
    Attack(
        "S1-nft",
        "sudo -n /usr/sbin/nft list ruleset ';' add table inet owned",
        "nft list tables | grep owned",
        after="nft flush ruleset",
    ),
    *_options(),
    Attack("S3-path", f"{BUILD} sudo -n WRAPPER install -y /home/pixel/evil.deb", after=GONE),
    Attack("S3-relative-path", f"{BUILD} sudo -n WRAPPER install -y ./evil.deb", after=GONE),
    Attack("S3-remove-what-confines", "sudo -n WRAPPER remove -y nftables", "! test -e /usr/sbin/nft", after="true"),
    Attack("S4-unit", f"{UNIT}; sudo -n systemctl enable /home/pixel/evil.service && sudo -n systemctl start evil"),
    Attack("S5-pager", "sudo -n dpkg-query -l", typed=f"!touch {MARK}\n\nq"),
    Attack("S6-journal", f"sudo -n journalctl -n1 --cursor-file={MARK}"),
    Attack(
        "S7-oracle",
        "sudo -n test -e /root/.bashrc && ! sudo -n test -e /root/.none && touch /tmp/told",
        "test -e /tmp/told",
        after="rm -f /tmp/told",
    ),
]


def attempt(name: str, attack: Attack, wrapper: str) -> tuple[Said, bool]:
    """Try an attack in a guest; return what was said, and whether it worked."""
    run(name, "sh", "-c", attack.after)
    script = attack.script.replace("WRAPPER", wrapper)
    said = on_terminal(name, script, attack.typed) if attack.typed else as_pixel(name, script)
    worked = run(name, "sh", "-c", attack.worked).rc == 0
    run(name, "sh", "-c", attack.after)
    return said, worked


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_that_works_on_the_ancestor_does_not_work_here(attack: Attack, loose: str) -> None:
    said, worked = attempt(OURS, attack, "/usr/local/sbin/safe-apt")
    assert not worked, said.out
    said, worked = attempt(loose, attack, "/usr/local/bin/loose-apt")
    assert worked, f"the attack itself does not work: {said.out}"


def test_what_the_user_may_do_is_one_command() -> None:
    said = run(OURS, "sudo", "-l", "-U", "pixel")
    assert [line.strip() for line in said.out.splitlines() if line.startswith(" ") and "(" in line] == [
        "(root) NOPASSWD: /usr/local/sbin/safe-apt"
    ]


@pytest.mark.parametrize(
    "words",
    [
        "id",
        "-s",
        "-i",
        "-u#-1 id",
        "-u '#0' id",
        "sh -c id",
        "sudoedit /etc/passwd",
        "/usr/bin/apt-get update",
        "/usr/sbin/nft flush ruleset",
        "/usr/bin/dpkg -i x.deb",
        "/usr/bin/systemctl restart systemd-resolved",
        "/usr/bin/python3 -c 1",
        "/usr/bin/python3 /usr/local/lib/pixels/safe_apt.py update",
        "/usr/local/sbin/px-step list",
        "LD_PRELOAD=/tmp/x.so /usr/local/sbin/safe-apt update",
        "PYTHONPATH=/tmp /usr/local/sbin/safe-apt update",
        "--preserve-env /usr/local/sbin/safe-apt update",
        "--chdir=/tmp /usr/local/sbin/safe-apt update",
        "--chroot=/tmp /usr/local/sbin/safe-apt update",
        "-g root /usr/local/sbin/safe-apt update",
    ],
)
def test_sudo_does_nothing_else(words: str) -> None:
    said = as_pixel(OURS, f"sudo -n {words}")
    assert said.rc != 0, said.out
    assert "uid=0" not in said.out


def test_no_variable_of_the_user_reaches_what_runs_as_root() -> None:
    evil = "export APT_CONFIG=/tmp/evil.conf PYTHONSTARTUP=/tmp/e.py ENV=/tmp/e.sh BASH_ENV=/tmp/e.sh PAGER='touch /root/owned' LESS=x"
    script = f"""
echo 'APT::Update::Pre-Invoke:: "touch {MARK}";' > /tmp/evil.conf; echo 'touch {MARK}' > /tmp/e.sh
mkdir -p /tmp/bin; printf '#!/bin/sh\ntouch {MARK}\n' > /tmp/bin/python3; cp /tmp/bin/python3 /tmp/bin/apt-get; chmod 755 /tmp/bin/*
{evil} PATH=/tmp/bin:$PATH; cd /tmp; printf 'import os; os.system("touch {MARK}")' > json.py
sudo -n safe-apt update
"""
    said = as_pixel(OURS, script)
    assert said.rc == 0, said.out
    assert run(OURS, "test", "-e", MARK).rc != 0


def test_no_limit_of_the_user_makes_root_do_half_of_something() -> None:
    said = as_pixel(OURS, "ulimit -f 1; sudo -n safe-apt update")
    assert said.rc != 0
    assert "safe-apt: it does nothing below limits" in said.out
    assert as_pixel(OURS, "sudo -n safe-apt update").rc == 0


@pytest.fixture(scope="module")
def evil_package() -> None:
    """Give the user a package whose script would run as root, in two places."""
    assert as_pixel(OURS, f"{BUILD} cp evil.deb /tmp").rc == 0


@pytest.mark.parametrize(
    "words",
    [
        "",
        "purge jq",
        "dist-upgrade",
        "autoremove",
        "source jq",
        "build-dep jq",
        "download jq",
        "changelog jq",
        "INSTALL jq",
        "install",
        "update jq",
        "install -- -o=x",
        "install --allow-downgrades jq",
        "install --reinstall jq",
        "install -yq jq",
        "install --no-install-recommend jq",
        "install --yes=no jq",
        "install '-y ' jq",
        "install jq/stable",
        "install 'jq*'",
        "install '^jq$'",
        "install 'j.'",
        "install jq-",
        "install jq+",
        "install 'jq;id'",
        "install 'task^'",
        "install 'jq\n'",
        "install evil.deb",
        "install ./evil.deb",
        "install /tmp/evil.deb",
        "install http://127.0.0.1/evil.deb",
        "remove sudo",
        "remove sudo-",
        "remove python3",
        "remove libpam0g",
        "remove libc6",
        "remove jq=1",
    ],
)
@pytest.mark.usefixtures("evil_package")
def test_the_command_refuses_what_it_does_not_know(words: str) -> None:
    said = as_pixel(OURS, f"sudo -n safe-apt {words}")
    assert said.rc != 0, said.out
    assert "safe-apt: " in said.out
    assert run(OURS, "sh", "-c", f"test -e {MARK} || ! dpkg -s sudo python3 > /dev/null").rc != 0


def test_packages_of_the_archives_come_and_go() -> None:
    script = """
set -e
sudo -n safe-apt update -q 2>&1 && exit 90
sudo -n safe-apt update
version=$(apt-cache policy jq | awk '/Candidate/ {print $2}')
sudo -n safe-apt install -y --no-install-recommends "jq=$version"
echo '{"a": 1}' | jq .a
sudo -n safe-apt remove -y jq
command -v jq && exit 92
sudo -n safe-apt upgrade -y --dry-run
"""
    said = as_pixel(OURS, script)
    assert said.rc == 0, said.out


def test_a_question_about_a_configuration_file_is_answered_with_what_is_there() -> None:
    publish = """
set -e
mkdir -p /srv/archive && cd /srv/archive && rm -rf asks && mkdir -p asks/DEBIAN asks/etc
printf 'Package: asks\nVersion: VERSION\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' > asks/DEBIAN/control
echo /etc/asks.conf > asks/DEBIAN/conffiles
echo VERSION > asks/etc/asks.conf
printf '#!/bin/sh\nif [ -t 1 ] || [ -t 2 ] || (: < /dev/tty) 2> /dev/null; then touch /root/owned; fi\n' > asks/DEBIAN/postinst
chmod 755 asks/DEBIAN/postinst
dpkg-deb --build asks asks_VERSION.deb > /dev/null
dpkg-scanpackages . > Packages 2> /dev/null
echo 'deb [trusted=yes] file:/srv/archive ./' > /etc/apt/sources.list.d/asks.list
"""
    try:
        assert run(OURS, "sh", "-c", publish.replace("VERSION", "1")).rc == 0
        first = as_pixel(OURS, "sudo -n safe-apt update && sudo -n safe-apt install -y asks")
        assert first.rc == 0, first.out
        run(OURS, "sh", "-c", "echo mine > /etc/asks.conf")
        assert run(OURS, "sh", "-c", publish.replace("VERSION", "2")).rc == 0
        said = on_terminal(OURS, "sudo -n safe-apt update && sudo -n safe-apt upgrade -y", "z\n!touch /root/owned\n")
        assert "Setting up asks (2)" in said.out, said.out
        assert run(OURS, "cat", "/etc/asks.conf").out == "mine\n"
        assert run(OURS, "test", "-e", MARK).rc != 0
    finally:
        run(
            OURS,
            "sh",
            "-c",
            "apt-get -qq -y purge asks; rm -rf /srv/archive /etc/apt/sources.list.d/asks.list; apt-get -qq update",
        )
