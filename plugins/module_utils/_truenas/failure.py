# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""From the errors of a TrueNAS to those of the collection, by their numbers; pure."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    Conflict,
    NotFound,
    OperationFailed,
    OutcomeUnknown,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import Endpoint

NO_METHOD = -32601
INVALID = -32602
NOT_SERIALISED = -32603
TOO_MANY_CALLS = -32000
METHOD_FAILED = -32001
#: The server's own numbers beside those of the system.
NO_SUCH_METHOD = 201
NOT_LOGGED_IN = 207

#: What the end of a log is worth in a message, in lines.
LOG_LINES = 5


def errno_of(error: Mapping[str, Any]) -> int:
    """Return the number that says most about an error of an answer; the code of JSON-RPC where there is none.

    That something is not there comes as an invalid request, whose details alone have the number.
    """
    data = error.get("data")
    if not isinstance(data, dict):
        return int(error.get("code") or 0)
    return _telling(data.get("extra"), data.get("error")) or int(error.get("code") or 0)


def failure(method: str, error: Mapping[str, Any], endpoint: Endpoint) -> PixelsError:
    """Return the failure that the error of an answer stands for; its trace is left out, since it may hold arguments."""
    code = error.get("code")
    data = error.get("data") if isinstance(error.get("data"), dict) else {}
    words = _words((data or {}).get("extra")) or (data or {}).get("reason") or error.get("message") or "no reason given"
    text = endpoint.masked(f"{method}: {words}")
    if code == NOT_SERIALISED:
        return OutcomeUnknown(f"{text}: the server could not put its answer into words, so it may have been done")
    if code == NO_METHOD:
        return Unsupported(f"{endpoint.url} does not know {method}")
    return _by_number(errno_of(error), text, method, endpoint, ApiError if code != METHOD_FAILED else OperationFailed)


def job_failure(method: str, record: Mapping[str, Any], endpoint: Endpoint) -> PixelsError:
    """Return the failure that the record of a job stands for which did not succeed."""
    info = record.get("exc_info") if isinstance(record.get("exc_info"), dict) else {}
    extra = (info or {}).get("extra")
    invalid = (info or {}).get("type") == "VALIDATION"
    words = (_words(extra) if invalid else "") or record.get("error") or f"the job was {record.get('state')}"
    log = str(record.get("logs_excerpt") or "").strip().splitlines()[-LOG_LINES:]
    if log:
        words = f"{words}; its log ends with: {' / '.join(log)}"
    number = _telling(extra if invalid else None, (info or {}).get("errno") or (errno.EINVAL if invalid else 0))
    text = endpoint.masked(f"{method}: {words}")
    return _by_number(number, text, method, endpoint, ApiError if invalid else OperationFailed)


def _by_number(number: int, text: str, method: str, endpoint: Endpoint, other: type[ApiError]) -> PixelsError:
    if number in (errno.EACCES, errno.EPERM, NOT_LOGGED_IN):
        return AuthenticationFailed(f"{text} (user {endpoint.username} of {endpoint.url})")
    if number == NO_SUCH_METHOD:
        return Unsupported(f"{endpoint.url} does not know {method}")
    kinds: Mapping[int, type[ApiError]] = {errno.ENOENT: NotFound, errno.EEXIST: Conflict, errno.EBUSY: Conflict}
    return kinds.get(number, other)(text, number, method)


def _details(extra: object) -> list[list[Any]]:
    if not isinstance(extra, list):
        return []
    return [entry for entry in extra if isinstance(entry, list) and len(entry) == 3]


def _telling(extra: object, number: object) -> int:
    """Return the number of the first detail that says more than that something is invalid, else the whole's."""
    for entry in _details(extra):
        if isinstance(entry[2], int) and entry[2] != errno.EINVAL:
            return entry[2]
    return number if isinstance(number, int) else 0


def _words(extra: object) -> str:
    return "; ".join(f"{field}: {words}" if field else str(words) for field, words, _number in _details(extra))
