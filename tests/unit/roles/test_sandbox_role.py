# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role sandbox makes of its settings, templated by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROLE = Path(__file__).parents[3] / "roles/sandbox"


def hold(folder: Path, cases: Sequence[tuple[Mapping[str, object], Sequence[str]]]) -> None:
    """Check that with each of these settings all of the conditions are true."""
    tasks = [
        {
            "name": f"with {json.dumps(settings)}",
            "vars": settings,
            "ansible.builtin.assert": {"that": list(conditions), "quiet": True},
        }
        for settings, conditions in cases
    ]
    files = [str(ROLE / part / "main.yml") for part in ("defaults", "vars")]
    book = folder / "book.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": tasks}]))
    env = {**os.environ, "ANSIBLE_HOME": str(folder), "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}
    program = "from ansible.cli.playbook import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "-i", "localhost,", "-c", "local", str(book)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_clone_is_under_its_own_policy_from_its_first_start(tmp_path: Path) -> None:
    cloned = {"sandbox_instance": {"clone_from": "ready"}, "sandbox_egress_allow": ["docs.example.com"]}
    own = ["__sandbox_first == __sandbox_policy", "__sandbox_first_enforcement == 'gateway'"]
    needs = ["__sandbox_first == __sandbox_provision_policy", "__sandbox_first_enforcement == 'gateway'"]
    free = ["__sandbox_first.mode == 'unrestricted'"]
    hold(
        tmp_path,
        [
            ({**cloned, "sandbox_egress": "agent"}, [*own, "__sandbox_first.presets == ['agent']"]),
            ({**cloned, "sandbox_egress": "allowlist"}, [*own, "__sandbox_first.allow == ['docs.example.com']"]),
            ({**cloned, "sandbox_egress": "none"}, [*own, "__sandbox_first.mode == 'none'"]),
            ({**cloned, "sandbox_egress": "agent", "sandbox_egress_enforcement": "both"}, own),
            ({**cloned, "sandbox_egress": "unrestricted"}, free),
            ({"sandbox_egress": "agent"}, needs),
            ({"sandbox_egress": "none"}, needs),
            ({"sandbox_egress": "agent", "sandbox_egress_enforcement": "guest"}, free),
            ({"sandbox_egress": "none", "sandbox_provision": False}, own),
        ],
    )


def test_clones_that_are_not_ready_with_the_same_settings_are_told_apart(tmp_path: Path) -> None:
    def made(name: str, status: str, definition: str | None, action: str) -> dict[str, object]:
        told = {"status": status, "definition": definition}
        return {"name": name, "provision": told, "actions": [f"{action} {name} from ready"] if action else []}

    instances = [
        made("same", "ready", "abc", "create"),
        made("other", "ready", "abd", "create"),
        made("bare", "none", None, "create"),
        made("there", "ready", "abd", "start"),
        made("kept", "ready", "abd", ""),
        made("lost", "ready", "abd", "create"),
    ]
    settings: dict[str, object] = {
        "sandbox_instance": {"clone_from": "ready"},
        "sandbox_made": {"instances": instances},
        "sandbox_failed_names": ["lost"],
        "__sandbox_definition": "abc",
    }
    none = ["__sandbox_cloned_ready == []", "__sandbox_cloned_unready == []"]
    hold(
        tmp_path,
        [
            (settings, ["__sandbox_cloned_ready == ['same']", "__sandbox_cloned_unready == ['bare', 'other']"]),
            ({**settings, "sandbox_instance": {}}, none),
        ],
    )
