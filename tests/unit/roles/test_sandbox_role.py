# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role sandbox makes of its settings, templated by Ansible itself."""

from __future__ import annotations

from pathlib import Path

from support.roles import ROLES, hold, run_tasks


def test_a_clone_is_under_its_own_policy_from_its_first_start(tmp_path: Path) -> None:
    cloned = {"sandbox_instance": {"clone_from": "ready"}, "sandbox_egress_allow": ["docs.example.com"]}
    own = ["__sandbox_first == __sandbox_policy", "__sandbox_first_enforcement == 'gateway'"]
    needs = ["__sandbox_first == __sandbox_provision_policy", "__sandbox_first_enforcement == 'gateway'"]
    free = ["__sandbox_first.mode == 'unrestricted'"]
    hold(
        tmp_path,
        "sandbox",
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
        made("other", "ready", "xyz", "create"),
        made("bare", "none", None, "create"),
        made("there", "ready", "xyz", "start"),
        made("kept", "ready", "xyz", ""),
        made("lost", "ready", "xyz", "create"),
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
        "sandbox",
        [
            (settings, ["__sandbox_cloned_ready == ['same']", "__sandbox_cloned_unready == ['bare', 'other']"]),
            ({**settings, "sandbox_instance": {}}, none),
        ],
    )


def test_name_servers_are_refused_where_the_gateway_answers(tmp_path: Path) -> None:
    cases = {
        ("agent", "gateway"): True,
        ("none", "gateway"): True,
        ("allowlist", "both"): True,
        ("agent", "guest"): False,
        ("unrestricted", "gateway"): False,
    }
    tasks = [
        {
            "ansible.builtin.include_tasks": {
                "file": str(ROLES / "sandbox/tasks/preflight.yml"),
                "apply": {"ignore_errors": True},
            },
            "vars": {
                "sandbox_egress": egress,
                "sandbox_egress_enforcement": enforcement,
                "account_dns": ["192.0.2.53"],
            },
        }
        for egress, enforcement in cases
    ]
    done = run_tasks(tmp_path, "sandbox", tasks)
    assert done.returncode == 0, done.stdout
    outcomes = [line.startswith("fatal:") for line in done.stdout.splitlines() if line.startswith(("ok:", "fatal:"))]
    assert outcomes == list(cases.values()), done.stdout
    assert done.stdout.count("gateway_resolver, a setting of the role gateway") >= 3
