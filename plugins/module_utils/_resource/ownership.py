# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is ours to change, and how it is changed while others change it too."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import Conflict, Foreign, NotFound
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import SANDBOX, Instance, InstanceChange

_TRIES = 5
_POLL_SECONDS = 0.2


def refuse_foreign(instance: Instance) -> None:
    """Raise Foreign unless the instance is a sandbox of ours."""
    if instance.kind != SANDBOX:
        what = "was not made by this collection" if instance.kind is None else f"is a {instance.kind}, not a sandbox"
        raise Foreign(f"{instance.name}: the instance {instance.server_name} {what}; it is left alone")


def owned(backend: Backend, name: str) -> Instance:
    """Return a sandbox of ours as it is now; NotFound when it was removed meanwhile, Foreign when it is not ours."""
    found = backend.get_instance(name)
    if found is None:
        raise NotFound(f"{name} was removed meanwhile", 404)
    refuse_foreign(found)
    return found


def update(
    backend: Backend,
    name: str,
    change_of: Callable[[Instance], InstanceChange],
    deadline: Deadline,
    found: Instance | None = None,
) -> None:
    """Change a sandbox; when somebody else changes it too, look again and change what still differs.

    change_of says what differs from what is wanted, nothing when it is as it should be. found is the sandbox as it was read.
    """
    current = found
    for _turn in range(_TRIES):
        current = current or owned(backend, name)
        if current.unfinished:
            raise Conflict(f"{name} is being removed, or made again, by another run", 409)
        change = change_of(current)
        if not change:
            return
        try:
            backend.update_instance(current, change, deadline)
        except Conflict:
            deadline.pause(_POLL_SECONDS, f"change {name}")
            current = None
        else:
            return
    raise Conflict(f"{name} keeps being changed by somebody else", 412)
