# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What we keep of sandboxes, in the user properties of datasets of our own, by the public API alone.

The creation of an object with a unique name is what excludes others: of a dataset where a sandbox is made, of a snapshot of it where
it is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    Conflict,
    NotFound,
    OutcomeUnknown,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas import wire
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import READ_SECONDS, Rpc
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.snapshots import Snapshots
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.wire import State

_FOLDER = "pixels"
_POLL_SECONDS = 0.2
#: How long another writer may take before it counts as dead.
_PATIENCE = 20.0


class States:
    """The states of all sandboxes of a server, by bare names."""

    def __init__(self, rpc: Rpc, snapshots: Snapshots, pool: Callable[[], str]) -> None:
        self._rpc = rpc
        self._snapshots = snapshots
        self._pool = pool
        self._has_folder = False

    def all(self) -> dict[str, State]:
        """Return every state."""
        stem = f"{self._folder}/"
        records = self._rpc.call("pool.dataset.query", [[["id", "^", stem]], {}], Deadline(READ_SECONDS))
        found = {str(record["id"]).removeprefix(stem): wire.state_from_wire(record) for record in records}
        return {name: state for name, state in found.items() if "/" not in name}

    def get(self, name: str) -> State | None:
        """Return the state of a sandbox."""
        records = self._rpc.call("pool.dataset.query", [[["id", "=", self._path(name)]], {}], Deadline(READ_SECONDS))
        return wire.state_from_wire(records[0]) if records else None

    def claim(self, name: str, state: State, deadline: Deadline) -> None:
        """Make the state of a sandbox that has none; Conflict where it has one."""
        self._make_folder(deadline)
        properties = wire.properties_to_wire(None, state)
        body = {"name": self._path(name), "user_properties": properties}
        try:
            self._rpc.call("pool.dataset.create", [body], deadline)
        except (ApiError, OutcomeUnknown) as exc:
            # a name that is taken has no number of its own among the answers, and a lost answer says nothing
            there = self.get(name)
            if there is None:
                raise
            if there.mark != state.mark:
                raise Conflict(f"{self._path(name)} is there", 409) from exc

    def put(self, name: str, before: State, after: State, deadline: Deadline) -> State:
        """Write a state that nobody else writes to, as that of a sandbox which is being made, and return it."""
        return self._write(name, before, replace(after, number=before.number + 1), deadline)

    def change(self, name: str, change: Callable[[State], State], deadline: Deadline) -> State:
        """Read a state and write what comes of it, alone among all that do so; NotFound where there is none.

        What C(change) raises is raised, and nothing written. The snapshot that says who writes carries the number that the state
        will have: one that a killed run has left behind stands in nobody's way for longer than a moment.
        """
        patience = Deadline(_PATIENCE)
        skip = 1
        seen = -1
        while True:
            before = self._there(name)
            if before.number != seen:
                seen, skip, patience = before.number, 1, Deadline(_PATIENCE)
            mark = f"write-{before.number + skip}"
            try:
                self._snapshots.create(self._path(name), mark, deadline)
            except Conflict:
                if patience.left() <= 0:
                    skip, patience = skip + 1, Deadline(_PATIENCE)
                deadline.pause(_POLL_SECONDS, f"change what is kept of {name}")
                continue
            try:
                now = self._there(name)
                if now.number == before.number:
                    return self._write(name, now, replace(change(now), number=now.number + skip), deadline)
            finally:
                with contextlib.suppress(PixelsError):
                    self._snapshots.delete(self._path(name), mark, Deadline(READ_SECONDS))

    def drop(self, name: str, deadline: Deadline) -> None:
        """Forget a sandbox; one that is not known is success."""
        with contextlib.suppress(NotFound):
            self._rpc.call("pool.dataset.delete", [self._path(name), {"recursive": True}], deadline)

    def _write(self, name: str, before: State, after: State, deadline: Deadline) -> State:
        changes = wire.properties_to_wire(before, after)
        self._rpc.call("pool.dataset.update", [self._path(name), {"user_properties_update": changes}], deadline)
        return after

    def _there(self, name: str) -> State:
        found = self.get(name)
        if found is None:
            raise NotFound(f"nothing is kept of {name} in {self._path(name)}", 404)
        return found

    @property
    def _folder(self) -> str:
        return f"{self._pool()}/{_FOLDER}"

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _make_folder(self, deadline: Deadline) -> None:
        if self._has_folder:
            return
        wanted = [[["id", "=", self._folder]], {}]
        if not self._rpc.call("pool.dataset.query", wanted, deadline):
            try:
                self._rpc.call("pool.dataset.create", [{"name": self._folder}], deadline)
            except (ApiError, OutcomeUnknown):
                # another run may have been faster
                if not self._rpc.call("pool.dataset.query", wanted, deadline):
                    raise
        self._has_folder = True
