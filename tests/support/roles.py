# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a role, and tasks that need no guest, with Ansible itself to template and run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROLES = Path(__file__).parents[2] / "roles"


def run_tasks(
    folder: Path, role: str, tasks: Sequence[Mapping[str, object]], **env: str
) -> subprocess.CompletedProcess[str]:
    """Run tasks on this machine with the defaults and variables of a role."""
    files = [str(ROLES / role / part / "main.yml") for part in ("defaults", "vars")]
    book = folder / "book.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": tasks}]))
    ours = {"ANSIBLE_HOME": str(folder / ".ansible"), "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}
    program = "from ansible.cli.playbook import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "-i", "localhost,", "-c", "local", str(book)],
        env={**os.environ, **ours, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def hold(folder: Path, role: str, cases: Sequence[tuple[Mapping[str, object], Sequence[str]]], **env: str) -> None:
    """Check that with each of these settings of a role all of the conditions are true."""
    tasks = [
        {
            "name": f"with {json.dumps(settings)}",
            "vars": settings,
            "ansible.builtin.assert": {"that": list(conditions), "quiet": True},
        }
        for settings, conditions in cases
    ]
    done = run_tasks(folder, role, tasks, **env)
    assert done.returncode == 0, done.stdout + done.stderr
