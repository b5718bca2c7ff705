# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys the role account hands in."""

from __future__ import annotations

from pathlib import Path

from support.roles import hold

AGENT, FIRST, SECOND, GIVEN = (
    f"ssh-ed25519 AAAA{word} {word}@example.com" for word in ("agent", "first", "second", "given")
)
CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com AAAA certificate"


def keys(tmp_path: Path, agent: str, files: dict[str, str], cases: list[tuple[dict[str, object], list[str]]]) -> None:
    """Check conditions where the agent and the home of the operator have these keys."""
    (tmp_path / "home/.ssh").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "home/.ssh" / name).write_text(text)
    program = tmp_path / "bin/ssh-add"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{agent}\n")
    program.chmod(0o755)
    path = f"{program.parent}:/usr/bin:/bin"
    hold(tmp_path, "account", cases, HOME=str(tmp_path / "home"), PATH=path)


def test_the_first_key_of_the_agent_goes_first(tmp_path: Path) -> None:
    agent = f"printf '%s\\n' '{CERTIFICATE}' '{AGENT}' '{GIVEN}'"
    keys(
        tmp_path,
        agent,
        {"id_rsa.pub": FIRST},
        [
            ({}, [f"__account_keys == ['{AGENT}']", "__account_root_keys == []"]),
            ({"account_ssh": True}, [f"__account_root_keys == ['{AGENT}']"]),
            ({"account_authorized_keys": [GIVEN]}, [f"__account_keys == ['{GIVEN}', '{AGENT}']"]),
            ({"account_operator_key": ""}, ["__account_keys == []"]),
            ({"account_operator_key": SECOND}, [f"__account_keys == ['{SECOND}']"]),
        ],
    )


def test_without_an_agent_it_is_the_first_file_that_is_a_key(tmp_path: Path) -> None:
    files = {
        "id_ed25519-cert.pub": CERTIFICATE,
        "id_ed25519.pub": FIRST,
        "id_rsa.pub": f"{SECOND}\n",
        "other.pub": GIVEN,
    }
    keys(tmp_path, "echo The agent has no identities.; exit 1", files, [({}, [f"__account_keys == ['{FIRST}']"])])


def test_whoever_has_no_key_hands_none_in(tmp_path: Path) -> None:
    keys(tmp_path, "exit 2", {}, [({"account_ssh": True}, ["__account_keys == []", "__account_root_keys == []"])])
