# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is asked of a server that it has no way to do, said before anything is changed."""

from __future__ import annotations

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import Unsupported
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import Features, InstanceChange, InstanceSpec


def check_option(features: Features, option: str) -> None:
    """Raise Unsupported where the server has no place for an option."""
    if option not in features.options:
        raise Unsupported(f"{option}: the API of {features.server} has no way to do this")


def check_wanted(features: Features, wanted: InstanceSpec | InstanceChange) -> None:
    """Raise Unsupported for the first thing that is wanted of a sandbox and that the server cannot do, or not as exactly."""
    there = isinstance(wanted, InstanceChange)
    asked = {
        "disk": wanted.limits.disk,
        "processes": wanted.limits.processes,
        "nesting": wanted.nesting,
        # what is there cannot be taken away either; a new one has none by itself
        "mounts": wanted.mounts is not None if there else wanted.mounts,
        "publish": wanted.published is not None if there else wanted.published,
        "profiles": wanted.profiles is not None if there else wanted.profiles,
        "gateway": wanted.wire,
    }
    for option, value in asked.items():
        if value:
            check_option(features, option)
    if wanted.hardening is not None and wanted.hardening not in features.hardening:
        levels = ", ".join(features.hardening)
        raise Unsupported(
            f"hardening {wanted.hardening}: {features.server} lets nobody set what it needs; it has {levels}"
        )
    memory = wanted.limits.memory
    if memory is not None and (memory % features.memory_step or memory < features.memory_least):
        raise Unsupported(
            f"memory of {memory} bytes: {features.server} counts it in steps of {features.memory_step} bytes, from "
            f"{features.memory_least} on"
        )
