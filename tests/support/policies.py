# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What live tests of egress do with policies, as the modules do it."""

from __future__ import annotations

from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import Instance
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import plan_egress

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
