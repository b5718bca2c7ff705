# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stories are verified with: it runs what it is given, where it is told, and says what came of it."""

from __future__ import annotations

import pytest
import testinfra
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live
from support.by_incus import ByIncus, asked
from testinfra.host import Host

pytestmark = live.needs_incus


@pytest.fixture
def entered(sandbox: str, project: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return the shared sandbox as stories have theirs."""
    monkeypatch.setenv("PIXELS_INCUS_PROJECT", project)
    return testinfra.get_host(f"incus://{sandbox}")


def test_arguments_stay_what_they_are(entered: Host) -> None:
    odd = ("a b", "it's", 'a "c"', "$HOME `id` \\", "ünï", "two\nlines", "")
    said = entered.run("printf '[%%s]' " + "%s " * len(odd), *odd)
    assert said.stdout == "".join(f"[{word}]" for word in odd)


def test_exit_code_and_streams_are_told_apart(entered: Host) -> None:
    said = entered.run("echo out; echo err >&2; exit 7")
    assert (said.rc, said.stdout, said.stderr) == (7, "out\n", "err\n")
    assert entered.check_output("hostname; id -u").split() == [f"px-{entered.backend.host}", "0"]
    assert entered.run("printf '\\377\\0'").stdout_bytes == b"\xff\0"
    assert entered.file("/etc/sudoers.d/pixel").mode == 0o440


def test_what_cannot_be_entered_is_a_failure(entered: Host) -> None:
    assert testinfra.get_host("incus://never").run("true").rc != 0


def test_those_that_run_are_found_and_no_others(entered: Host, backend: IncusBackend) -> None:
    live.make(backend, "asleep", state="present")
    try:
        assert "px-asleep" in [instance["name"] for instance in asked("/1.0/instances")]
        found = ByIncus.get_hosts("running")
    finally:
        live.ensure(backend, "asleep", state="absent")
    assert entered.backend.host in found
    assert "asleep" not in found
