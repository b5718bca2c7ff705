# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Sandboxes that are behind their base get the disk of what is published now, and stay what they are otherwise."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, Conflict
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_BASE,
    KEY_BUILD,
    KEY_IMAGE,
    KEY_LINEAGE,
    PROVISION_PREFIX,
    STOPPED,
    Instance,
    InstanceChange,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Step
from ansible_collections.pixels.sandbox.plugins.module_utils._core.possible import check_option
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.base import published_build
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import policy_of
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import owned, update

#: Keys that tell of which base a disk is.
_OF_BASE = (KEY_IMAGE, KEY_BASE, KEY_LINEAGE, KEY_BUILD)


def recreation(
    backend: Backend, found: Instance, force: bool, deadline: Deadline, start: Callable[[], None]
) -> tuple[list[Step], Instance | None]:
    """Return the steps that bring a sandbox up to date, and the build that it gets; none for one that is not behind.

    start starts it again. Raises ConfigError for one that comes from no base, that runs and is not forced, or whose policy is on its disk.
    """
    check_option(backend.features, "base")
    name, base = found.name, found.keys.get(KEY_BASE)
    if not base:
        raise ConfigError(f"{name} does not come from a base, so there is nothing to recreate it from")
    build = published_build(backend, base)
    if found.keys.get(KEY_BUILD) == build.name:
        return [], None
    if policy_of(found).in_guest:
        raise ConfigError(f"{name} enforces its policy itself, on the disk that it would lose; make it again instead")
    if found.status != STOPPED and not force:
        raise ConfigError(f"{name} is {found.status}; force: true ends what runs in it and recreates it")
    label = f"before-{build.keys.get(KEY_LINEAGE, '')[:12]}-{found.keys.get(KEY_BUILD, '').rpartition('-')[2][:12]}"
    steps = []
    if found.status != STOPPED:
        steps.append(Step(f"stop {name}", lambda: power.stop(backend, name, deadline, force=False), Phase.STOP))
    steps += [
        Step(f"take checkpoint {label} of {name}", lambda: _keep(backend, name, label, deadline), Phase.CLONE),
        Step(f"give {name} the disk of {build.name}", lambda: _refill(backend, name, build, deadline), Phase.CLONE),
    ]
    if found.status != STOPPED:
        steps.append(Step(f"start {name}", start, Phase.BOOT))
    return steps, build


def refilled(found: Instance, build: Instance) -> InstanceChange:
    """Return what a sandbox says of its disk when it has that of a build."""
    told = {key: value for key, value in build.keys.items() if key in _OF_BASE or key.startswith(PROVISION_PREFIX)}
    gone = {key: None for key in found.keys if key.startswith(PROVISION_PREFIX)}
    return InstanceChange(keys={**gone, **told})


def _keep(backend: Backend, name: str, label: str, deadline: Deadline) -> None:
    """Take the checkpoint, once: after a run that was killed the disk is not what it was."""
    try:
        backend.create_checkpoint(name, label, None, deadline)
    except Conflict:
        if not backend.is_whole(owned(backend, name), label):
            raise


def _refill(backend: Backend, name: str, build: Instance, deadline: Deadline) -> None:
    """Replace the disk; what it is said to be comes last, so that a run that is killed leaves a sandbox that is behind."""
    backend.refill_instance(name, build.name, deadline)
    update(backend, name, lambda found: refilled(found, build), deadline)
