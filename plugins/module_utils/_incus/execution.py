# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Commands in a guest, over websockets, with nothing of them in sight of other clients of the server."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.streams import Streams
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import OperationFailed, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest, ExecResult
from ansible_collections.pixels.sandbox.plugins.module_utils._core.shell import KILLER, MARK, WRAPPER, header
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client

if TYPE_CHECKING:
    import websocket

_KILL_SECONDS = 20.0
_STREAM_CHUNK = 1 << 16
#: Time for the last output to come in after a process has ended or was killed.
_DRAIN_SECONDS = 10.0


def execute(
    client: Client, server_name: str, request: ExecRequest, ids: tuple[int, int], deadline: Deadline
) -> ExecResult:
    """Run a command in a guest as the numeric user and group, and wait for its end.

    When the deadline is over the process and what it started are killed, and the result says timed_out.
    """
    mark = secrets.token_hex(16)
    with _Session(client, server_name, WRAPPER, ids) as session:
        streams = session.stream(header(request, {MARK: mark}), request)
        ended = session.finished(deadline)
        if not ended:
            _kill(client, server_name, mark)
            session.finished(Deadline(_DRAIN_SECONDS))
        streams.drain(_DRAIN_SECONDS)
        rc = session.rc() if ended else -1
    out, err = streams.out, streams.err
    return ExecResult(rc, bytes(out.kept), bytes(err.kept), out.truncated, err.truncated, not ended)


def _kill(client: Client, server_name: str, mark: str) -> None:
    """End what carries the mark; what cannot be killed is the guest's own end."""
    try:
        with _Session(client, server_name, KILLER, (0, 0)) as session:
            session.stream(f"{mark}\n".encode(), ExecRequest((), output_limit=0))
            session.finished(Deadline(_KILL_SECONDS))
    except PixelsError:
        # the guest went down, and its processes with it
        return


class _Session:
    """One exec operation with its sockets, closed in every case."""

    def __init__(self, client: Client, server_name: str, script: str, ids: tuple[int, int]) -> None:
        self._client = client
        self._sockets: dict[str, websocket.WebSocket] = {}
        self._streams: Streams | None = None
        body = {
            "command": ["/bin/sh", "-c", script, "pixels"],
            "environment": {},
            "wait-for-websocket": True,
            "interactive": False,
            "user": ids[0],
            "group": ids[1],
        }
        path = f"/1.0/instances/{server_name}/exec"
        operation = client.request("POST", path, json=body).json()["metadata"]
        self._id = str(operation["id"])
        self._ended: dict[str, Any] | None = None
        try:
            for name, secret in sorted(operation["metadata"]["fds"].items(), reverse=True):
                target = f"/1.0/operations/{self._id}/websocket"
                self._sockets[name] = client.transport.websocket(target, {"secret": secret})
                self._sockets[name].settimeout(None)
        except PixelsError:
            self.close()
            raise

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_args: object) -> None:
        self.close()

    def stream(self, head: bytes, request: ExecRequest) -> Streams:
        """Start to feed the command and to read from it."""
        sockets = self._sockets
        self._streams = Streams(
            request, _frames(sockets["1"]), _frames(sockets["2"]), lambda rest: _feed(sockets["0"], head, rest)
        )
        return self._streams

    def finished(self, deadline: Deadline) -> bool:
        """Wait for the end of the command; say whether it came before the deadline."""
        while True:
            self._ended = self._client.poll(self._id, deadline.slice(20))
            if self._ended is not None:
                return True
            if deadline.left() <= 0:
                return False

    def rc(self) -> int:
        """Return the exit code; OperationFailed when the server could not run the command at all."""
        operation = self._ended or {}
        result = operation.get("metadata")
        if isinstance(result, dict) and isinstance(result.get("return"), int):
            return int(result["return"])
        raise OperationFailed(f"the command could not be run: {operation.get('err') or 'the guest went down'}")

    def close(self) -> None:
        """Close the sockets and wait for the threads on them."""
        for stream in self._sockets.values():
            with contextlib.suppress(OSError):
                if stream.sock is not None:
                    stream.sock.shutdown(socket.SHUT_RDWR)
        if self._streams:
            self._streams.join(5)
        for stream in self._sockets.values():
            stream.shutdown()
        self._sockets = {}


def _frames(stream: websocket.WebSocket) -> Iterator[bytes]:
    """Yield what comes in until the other side says, in one of its ways, that this is all."""
    import websocket

    while True:
        try:
            opcode, data = stream.recv_data()
        except (websocket.WebSocketException, OSError, AttributeError):
            # AttributeError: closed by the other thread while this one was about to read
            return
        if opcode != websocket.ABNF.OPCODE_BINARY:
            return
        yield data


def _feed(stream: websocket.WebSocket, head: bytes, rest: Callable[[], bytes]) -> None:
    """Send the header and standard input; a process that ends without reading it is no failure."""
    import websocket

    try:
        _send(stream, head)
        _send(stream, rest())
        # an empty text message is the API's end of file
        stream.send("")
    except (websocket.WebSocketException, OSError, AttributeError):
        return


def _send(stream: websocket.WebSocket, data: bytes) -> None:
    view = memoryview(data)
    for start in range(0, len(view), _STREAM_CHUNK):
        stream.send_binary(bytes(view[start : start + _STREAM_CHUNK]))
