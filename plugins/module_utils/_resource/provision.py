# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""How far the provisioning of sandboxes is, as plans that record it on the instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    PROVISION_PREFIX,
    Instance,
    InstanceChange,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import (
    Clock,
    provision_record,
    time_text,
    utc_now,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import refuse_foreign, update

_SECONDS = 60.0
_PARALLEL = 8


@dataclass(frozen=True)
class DesiredProvision:
    """What a task of pixels_provision wants to be recorded; None is nothing to be told."""

    names: tuple[str, ...]
    status: str
    step: str | None
    definition: str | None


def desired_provision(params: Mapping[str, Any]) -> DesiredProvision:
    """Return what the options want; ConfigError for what is illegal or contradictory."""
    told = {
        option: names.printable(option, params[option]) or None if params[option] is not None else None
        for option in ("step", "definition")
    }
    if params["status"] == "none" and any(told.values()):
        raise ConfigError("status none forgets what was recorded: step and definition have no meaning with it")
    return DesiredProvision(names=names.sandbox_names(params["name"]), status=params["status"], **told)


def plan_provision(backend: Backend, desired: DesiredProvision, clock: Clock = utc_now) -> Work:
    """Return what has to be recorded for every name; nothing is changed yet."""
    there = backend.get_instances(desired.names, addresses=False)
    plans = []
    for name in desired.names:
        found = there.get(name)
        if found is None:
            raise ConfigError(f"there is no sandbox {name}")
        refuse_foreign(found)
        plans.append(_plan(backend, desired, found, clock))

    def observe() -> Mapping[str, Mapping[str, object]]:
        now = backend.get_instances(desired.names, addresses=False)
        return {name: provision_record(instance) for name, instance in now.items()}

    return Work(tuple(plans), observe, parallel=_PARALLEL, many=len(plans) != 1)


def _plan(backend: Backend, desired: DesiredProvision, found: Instance, clock: Clock) -> Plan:
    before = _told(found)
    wanted: dict[str, object] = {"status": desired.status, "step": desired.step, "definition": desired.definition}
    steps: tuple[Step, ...] = ()
    if before != wanted:
        text = f"record {desired.status} for {found.name}" + (f" at {desired.step}" if desired.step else "")
        steps = (Step(text, lambda: _record(backend, desired, found, clock)),)
    return Plan(found.name, before, wanted, steps, seen=provision_record(found))


def _told(instance: Instance) -> dict[str, object]:
    """Return the record without its time, which only says when the rest changed."""
    return {key: value for key, value in provision_record(instance).items() if key != "since"}


def _record(backend: Backend, desired: DesiredProvision, found: Instance, clock: Clock) -> None:
    keys: dict[str, str | None] = {
        "status": desired.status if desired.status != "none" else None,
        "step": desired.step,
        "definition": desired.definition,
        "since": time_text(clock()) if desired.status != "none" else None,
    }
    change = InstanceChange(keys={f"{PROVISION_PREFIX}{name}": value for name, value in keys.items()})
    update(backend, found.name, lambda _current: change, Deadline(_SECONDS), found)
