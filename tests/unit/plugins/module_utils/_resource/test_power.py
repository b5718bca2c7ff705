# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How it is told that a guest has finished its start, with a systemctl that answers as one does that was started just now."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import power


def said(folder: Path, init: str, answers: list[str]) -> str:
    """Return what the script says in a guest with this init, whose systemctl gives these answers, one after the other."""
    (folder / "readlink").write_text(f"#!/bin/sh\necho {init}\n")
    cases = "\n".join(f"  {number}) {answer} ;;" for number, answer in enumerate(answers))
    (folder / "systemctl").write_text(f"""\
#!/bin/sh
asked=$(cat {folder}/asked)
echo $((asked + 1)) > {folder}/asked
case $asked in
{cases}
esac
""")
    (folder / "asked").write_text("0")
    for name in ("readlink", "systemctl"):
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/sh", "-c", power.BOOTED], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout


@pytest.mark.parametrize("state", ["running", "degraded"])
def test_a_guest_that_answers_nothing_yet_is_asked_again(tmp_path: Path, state: str) -> None:
    nothing = "echo no bus >&2; exit 1"
    assert said(
        tmp_path,
        "/usr/lib/systemd/systemd",
        [nothing, "echo offline; exit 1", "echo unknown; exit 1", nothing, f"echo {state}; exit 1"],
    ) == (f"{state}\n")


def test_a_guest_without_systemd_is_ready_when_it_runs_a_command(tmp_path: Path) -> None:
    assert said(tmp_path, "/bin/busybox", []) == "running\n"
