# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""An identity of its own for a clone, written into its disk before its first start."""

from __future__ import annotations

from ansible_collections.pixels.sandbox.plugins.module_utils._core import identity
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import files
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client


class _Files(identity.Files):
    """The files of an instance through the API, running or not."""

    def __init__(self, client: Client, server_name: str) -> None:
        self._of = (client, server_name)

    def folder(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder."""
        return files.list_folder(*self._of, path)

    def has(self, path: str) -> bool:
        """Say whether there is anything at the path."""
        return files.has_file(*self._of, path)

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a whole file of root."""
        files.write_file(*self._of, path, content, mode)

    def delete(self, path: str) -> None:
        """Delete a file."""
        files.delete_file(*self._of, path)


def give_identity(client: Client, server_name: str) -> None:
    """Give a stopped clone an identity of its own."""
    identity.give_identity(_Files(client, server_name), server_name)
