# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots of datasets, under the name that the release has for them."""

from __future__ import annotations

from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import READ_SECONDS, Rpc

#: From this release on they are pool.snapshot.*, and zfs.snapshot.* before.
_RENAMED = (25, 10)


class Snapshots:
    """The snapshots of a server. A snapshot is known by its dataset and its own name."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def method(self, verb: str) -> str:
        """Return the method of the release for a verb."""
        renamed = self._rpc.version(Deadline(READ_SECONDS)) >= _RENAMED
        return f"{'pool' if renamed else 'zfs'}.snapshot.{verb}"

    def create(self, dataset: str, name: str, deadline: Deadline) -> None:
        """Take a snapshot; Conflict where the name is taken."""
        self._rpc.call(self.method("create"), [{"dataset": dataset, "name": name}], deadline)

    def delete(self, dataset: str, name: str, deadline: Deadline) -> None:
        """Delete a snapshot; NotFound where there is none, and a refusal where something depends on it."""
        self._rpc.call(self.method("delete"), [f"{dataset}@{name}", {"defer": False, "recursive": False}], deadline)

    def rollback(self, dataset: str, name: str, deadline: Deadline) -> None:
        """Turn a dataset back to its newest snapshot. The server refuses where there are newer ones: it is never told to destroy them."""
        self._rpc.call(self.method("rollback"), [f"{dataset}@{name}", {}], deadline)

    def clone(self, dataset: str, name: str, new: str, deadline: Deadline) -> None:
        """Make a dataset of a snapshot, which it depends on from then on; it is mounted by nobody but Incus."""
        properties = {"mountpoint": "legacy", "canmount": "noauto"}
        body = {"snapshot": f"{dataset}@{name}", "dataset_dst": new, "dataset_properties": properties}
        self._rpc.call(self.method("clone"), [body], deadline)

    def names(self, dataset: str) -> tuple[str, ...]:
        """Return the names of all snapshots of a dataset, in the order of the server."""
        # with their properties the server would read every snapshot that it has
        rows = self._rpc.call(
            self.method("query"), [[["dataset", "=", dataset]], {"select": ["name"]}], Deadline(READ_SECONDS)
        )
        return tuple(str(row["name"]).partition("@")[2] for row in rows)

    def get(self, dataset: str, name: str) -> dict[str, Any] | None:
        """Return one snapshot with its properties."""
        rows = self._rpc.call(self.method("query"), [[["id", "=", f"{dataset}@{name}"]], {}], Deadline(READ_SECONDS))
        return dict(rows[0]) if rows else None

    def records(self, dataset: str) -> list[dict[str, Any]]:
        """Return all snapshots of a dataset with their properties, the oldest first."""
        found = [self.get(dataset, name) for name in self.names(dataset)]
        return sorted((record for record in found if record), key=lambda record: int(record["createtxg"]))
