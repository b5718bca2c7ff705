# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Calls and jobs of a TrueNAS: one login for many threads, and nothing done twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Transport


class Rpc:
    """A TrueNAS that was logged in to when it is first used; safe for many threads, and anew after a fork.

    What every method raises: Unsupported for a TrueNAS that is neither 25.04 nor 25.10 (it names the version),
    AuthenticationFailed for a key that is refused or may not do it, ConnectionFailed, DeadlineExceeded, and
    MissingDependency. No message has the API key or a trace of the server.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def version(self, deadline: Deadline) -> tuple[int, int]:
        """Return the release, (25, 4) or (25, 10)."""
        raise NotImplementedError

    def version_text(self, deadline: Deadline) -> str:
        """Return the version in the server's own words, such as 25.10.1."""
        raise NotImplementedError

    def call(self, method: str, params: Sequence[Any], deadline: Deadline) -> Any:
        """Call a method that is no job and return its result.

        A read (by the last word of its name: query, config, get_instance ...) is repeated when the connection breaks; any
        other call is not: OutcomeUnknown says that it may have been done. Raises NotFound, Conflict (exists, busy),
        Unsupported (no such method), ConfigError (the request is too large; nothing was sent), OperationFailed (the
        method failed) or ApiError (refused as invalid), with the server's errno as code.
        """
        raise NotImplementedError

    def job(self, method: str, params: Sequence[Any], deadline: Deadline) -> Any:
        """Start a job, wait for its end and return its result.

        The wait survives a broken connection; the job is never started twice. Raises what call() does, ApiError when the
        job refuses its arguments, OperationFailed when it failed or was aborted, DeadlineExceeded when it still runs,
        and OutcomeUnknown when nobody knows what became of it (its state must be read again).
        """
        raise NotImplementedError

    def check_permitted(self, methods: Iterable[str], deadline: Deadline) -> None:
        """Raise AuthenticationFailed, which names all that is missing, where the user of the key may not call these.

        Private methods are not in the server's list: ask for filesystem.put in their place, which needs the same full
        administrator. The list is read once.
        """
        raise NotImplementedError

    def download(self, path: str, most: int, deadline: Deadline) -> bytes:
        """Return a file of the NAS by its absolute path (filesystem.get); NotFound, or ConnectionFailed over C(most) bytes."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection, if this process has one."""
        raise NotImplementedError


def rpc_from(options: Mapping[str, object]) -> Rpc:
    """Return the client that the options truenas_* name (endpoint_from); nothing is sent yet."""
    raise NotImplementedError
