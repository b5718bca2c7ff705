# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What live tests of egress do with policies, as the modules do it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import list_egress, plan_egress
from support import live

_ATTACK = Path(__file__).parents[2] / "roles/verify_egress/files/attack.py"

#: Options of pixels_egress, none of them given.
OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("mode", "allow", "allow_add", "allow_remove", "deny", "presets", "enforcement", "private")),
    "timeout": 60,
    "max_parallel": 8,
}


def egress(server: IncusBackend, name: str, **options: Any) -> Plan:
    """Do what pixels_egress would do with these options, and return its plan."""
    work = plan_egress(server, {**OPTIONS, "name": [name], **options})
    failed = apply(work)
    assert not failed, failed
    return work.plans[0]


def found(server: IncusBackend, name: str) -> Instance:
    """Return the sandbox."""
    instance = server.get_instance(name)
    assert instance is not None
    return instance


def info(server: IncusBackend, name: str, denied: bool = False) -> dict[str, Any]:
    """Return what pixels_egress_info says of one sandbox."""
    (record,) = list_egress(server, [name], denied)
    return record


def probe(server: IncusBackend, name: str, *probes: dict[str, Any]) -> dict[str, str]:
    """Run probes in a sandbox as root, and return their outcomes by id."""
    request = ExecRequest(("python3", "-c", _ATTACK.read_text()), stdin=json.dumps(probes).encode())
    result = server.execute(name, request, Deadline(60))
    assert result.rc == 0, result.stderr
    return {key: told["outcome"] for key, told in json.loads(result.stdout)["outcomes"].items()}


def remove(server: IncusBackend, *but: str) -> None:
    """Remove all sandboxes but these."""
    for instance in server.list_instances(addresses=False):
        if instance.kind == "sandbox" and instance.name not in but:
            failed = live.ensure(server, instance.name, state="absent")
            assert not failed, failed
