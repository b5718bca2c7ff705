# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The verbs of the Incus API: metadata, ETags, errors by number, operations with deadlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    Conflict,
    DeadlineExceeded,
    NotFound,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import Response, Transport

#: One wait for an operation; well under the 60 s that pylxd's socket gives a request.
WAIT_SECONDS = 20
_BY_CODE = {404: NotFound, 409: Conflict, 412: Conflict}


class Client:
    """Requests to one server with its errors raised."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def request(self, method: str, path: str, **options: Any) -> Response:
        """Send a request and return its answer; raise the server's refusal as NotFound, Conflict or ApiError."""
        response = self.transport.request(method, path, **options)
        if response.status >= 400:
            raise refusal(response, method, path)
        return response

    def get(self, path: str, **params: str) -> Any:
        """Return the metadata of a GET."""
        return self.request("GET", path, params=params).json()["metadata"]

    def find(self, path: str, **params: str) -> tuple[Any, str] | None:
        """Return the metadata and the ETag of a GET, None where there is nothing."""
        try:
            response = self.request("GET", path, params=params)
        except NotFound:
            return None
        return response.json()["metadata"], response.headers.get("etag", "")

    def run(
        self,
        method: str,
        path: str,
        body: object,
        deadline: Deadline,
        what: str,
        etag: str = "",
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a request that starts an operation, wait for its end, and return the operation.

        what says in words what is done. Raises OperationFailed with the server's words; when the deadline is over
        the operation is cancelled as far as the server can, and DeadlineExceeded raised.
        """
        deadline.check(what)
        headers = {"If-Match": etag} if etag else {}
        answer = self.request(method, path, json=body, headers=headers, params=params).json()
        if answer.get("type") != "async":
            return dict(answer.get("metadata") or {})
        return self.wait(str(answer["metadata"]["id"]), deadline, what, method, path)

    def wait(self, operation: str, deadline: Deadline, what: str, method: str = "", path: str = "") -> dict[str, Any]:
        """Wait for the end of an operation and return it; see run for what it raises."""
        while True:
            ended = self.poll(operation, deadline.slice(WAIT_SECONDS))
            if ended is None:
                if deadline.left() <= 0:
                    self._cancel(operation)
                    raise DeadlineExceeded(f"{what}: not done after {deadline.seconds:g} s")
            elif ended["status_code"] >= 400:
                raise OperationFailed(str(ended["err"] or ended["status"]), int(ended["status_code"]), method, path)
            else:
                return ended

    def poll(self, operation: str, seconds: float) -> dict[str, Any] | None:
        """Wait for the end of an operation for so long; return it, or None when it goes on.

        The API waits for whole seconds, and answers with status 200 and an error inside both when the time is over and
        when the operation has failed.
        """
        path = f"/1.0/operations/{operation}"
        response = self.transport.request("GET", f"{path}/wait", params={"timeout": str(max(1, int(seconds)))})
        answer = response.json()
        if answer["type"] != "error":
            return dict(answer["metadata"])
        if response.status >= 400:
            raise refusal(response, "GET", path)
        found = self.find(path)
        if found:
            return dict(found[0]) if found[0]["status_code"] >= 200 else None
        return {"status_code": int(answer["error_code"]), "status": "Failure", "err": answer["error"], "metadata": None}

    def _cancel(self, operation: str) -> None:
        try:
            self.request("DELETE", f"/1.0/operations/{operation}")
        except PixelsError:
            # most operations cannot be cancelled; what counts is that the time is over
            return


def refusal(response: Response, method: str, path: str) -> PixelsError:
    """Return what the server refused, by its number."""
    body = response.json()
    code = int(body.get("error_code") or response.status)
    message = str(body.get("error") or f"status {response.status}")
    if code in (401, 403):
        return AuthenticationFailed(f"the server does not let us: {message} ({method} {path})")
    return _BY_CODE.get(code, ApiError)(message, code, method, path)
