# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Messages to and from one TrueNAS, over a websocket on verified TLS; and the files it hands out over HTTPS."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import struct
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConnectionFailed,
    MissingDependency,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import Endpoint

if TYPE_CHECKING:
    import websocket

PATH = "/api/current"
CONNECT_SECONDS = 10.0
#: How long a message may take on its way out.
SEND_SECONDS = 30.0
#: The largest message that is taken in, in bytes.
MOST_BYTES = 32 << 20


class Link:
    """One open websocket: many threads may send, one receives.

    OpenSSL's connections are not for two threads at once, so each use of it is brief and under one lock; waiting is not.
    """

    def __init__(self, connection: websocket.WebSocket, stream: ssl.SSLSocket, url: str, most: int) -> None:
        self._connection = connection
        self._stream = stream
        self._poll = select.poll()
        self._poll.register(stream.fileno(), select.POLLIN)
        self._url = url
        self._most = most
        self._use = threading.Lock()
        self._parts: list[bytes] = []
        self._size = 0
        self._bound_frames()
        #: How many frames came, of whatever kind.
        self.heard = 0

    def _bound_frames(self) -> None:
        """Have a frame refused by the length that it announces, before the library makes room for it."""
        frames = self._connection.frame_buffer
        unbounded = frames.recv_length

        def bounded() -> None:
            unbounded()
            self._bound(frames.length or 0)

        frames.recv_length = bounded  # type: ignore[method-assign]

    def _bound(self, more: int) -> None:
        if self._size + more > self._most:
            raise ConnectionFailed(
                f"{self._url} sends a message of more than {self._most} bytes, which is not taken in"
            )

    def send(self, text: str) -> None:
        """Send a message; ConnectionFailed when it did not go out whole."""
        self._guarded(lambda: self._connection.send(text))

    def ping(self) -> None:
        """Ask the other end for a sign of life."""
        self._guarded(self._connection.ping)

    def _guarded(self, work: Callable[[], object]) -> None:
        import websocket as library

        try:
            with self._use:
                self._stream.settimeout(SEND_SECONDS)
                work()
        except (library.WebSocketException, OSError) as exc:
            raise ConnectionFailed(f"{self._url}: the connection broke: {exc}") from exc

    def receive(self, seconds: float) -> bytes | None:
        """Return the next message, or None when no frame of one came in that time.

        Raises ConnectionFailed when the other end is gone, says why it closes, or sends more than is taken in.
        """
        import websocket as library

        try:
            frame = self._frame() if self._is_readable(seconds) else None
        except (library.WebSocketException, OSError) as exc:
            raise ConnectionFailed(f"{self._url}: the connection broke: {exc}") from exc
        if frame is None:
            return None
        self.heard += 1
        code = library.ABNF
        data = frame.data.encode() if isinstance(frame.data, str) else frame.data
        if frame.opcode in (code.OPCODE_TEXT, code.OPCODE_CONT):
            return self._assembled(data, bool(frame.fin))
        if frame.opcode == code.OPCODE_PING:
            self._guarded(lambda: self._connection.pong(data))
        elif frame.opcode == code.OPCODE_CLOSE:
            raise ConnectionFailed(f"{self._url} closed the connection{_why(data)}")
        return None

    def _is_readable(self, seconds: float) -> bool:
        with self._use:
            if self._stream.pending():
                return True
        return bool(self._poll.poll(min(max(0.0, seconds), 3600.0) * 1000))

    def _frame(self) -> websocket.ABNF | None:
        """Return a frame if one is there whole; the library keeps the parts of one that is not."""
        with self._use:
            self._stream.settimeout(0)
            try:
                return self._connection.recv_frame()
            except (ssl.SSLWantReadError, BlockingIOError):
                return None

    def _assembled(self, data: bytes, last: bool) -> bytes | None:
        self._parts.append(data)
        self._size += len(data)
        if not last:
            return None
        message, self._parts, self._size = b"".join(self._parts), [], 0
        return message

    def break_off(self) -> None:
        """Have the receiving thread find the connection at its end; nothing is waited for."""
        # it may be at its end already
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the connection; only for the thread that receives."""
        with self._use:
            self._connection.shutdown()


class Transport:
    """Opens connections to one server; C(most) bounds what is taken in, in bytes."""

    def __init__(self, endpoint: Endpoint, most: int = MOST_BYTES) -> None:
        self.endpoint = endpoint
        self._most = most

    def connect(self, seconds: float) -> Link:
        """Return an open websocket to the server, which was verified before anything was sent.

        Raises ConnectionFailed, Unsupported for a server without this API, and MissingDependency.
        """
        try:
            import websocket as library
        except ImportError as exc:
            raise MissingDependency("websocket-client", traceback.format_exc()) from exc
        endpoint = self.endpoint
        stream = self._open(seconds)
        try:
            connection = library.create_connection(
                f"wss://{endpoint.authority}{PATH}",
                timeout=min(seconds, CONNECT_SECONDS),
                socket=stream,
                suppress_origin=True,
                redirect_limit=0,
                # what is no UTF-8 is no JSON: it is found there, and faster
                skip_utf8_validation=True,
            )
        except library.WebSocketBadStatusException as exc:
            stream.close()
            # its web server gives the page of the user interface for a path that it does not know
            if exc.status_code in (200, 404):
                raise Unsupported(
                    f"{endpoint.url} has no {PATH}: it is TrueNAS 24.10 or older, or no TrueNAS; "
                    "TrueNAS 25.04 and 25.10 are supported"
                ) from exc
            raise ConnectionFailed(f"{endpoint.url} refused a websocket with HTTP status {exc.status_code}") from exc
        except library.WebSocketException as exc:
            stream.close()
            raise ConnectionFailed(f"{endpoint.url} refused a websocket: {exc}") from exc
        except OSError as exc:
            stream.close()
            raise self._explained(exc) from exc
        return Link(connection, stream, endpoint.url, self._most)

    def download(self, target: str, most: int, seconds: float) -> bytes:
        """Return what the server hands out at a path with its query; ConnectionFailed for more than C(most) bytes."""
        connection = http.client.HTTPConnection(self.endpoint.authority)
        connection.sock = self._open(seconds)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            content = answer.read(most + 1)
        except (http.client.HTTPException, OSError) as exc:
            raise self._explained(exc) from exc
        finally:
            connection.close()
        if answer.status != 200:
            raise ConnectionFailed(f"{self.endpoint.url} refused a download with HTTP status {answer.status}")
        if len(content) > most:
            raise ConnectionFailed(f"{self.endpoint.url} hands out more than {most} bytes, which are not taken in")
        return content

    def _open(self, seconds: float) -> ssl.SSLSocket:
        """Return a stream whose other end has been verified."""
        endpoint = self.endpoint
        context = endpoint.tls_context()
        seconds = min(seconds, CONNECT_SECONDS)
        try:
            plain = socket.create_connection((endpoint.host, endpoint.port), timeout=seconds)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secure = context.wrap_socket(plain, server_hostname=endpoint.host)
            except OSError:
                plain.close()
                raise
        except OSError as exc:
            raise self._explained(exc) from exc
        try:
            endpoint.verify_peer(secure.getpeercert(binary_form=True))
        except PixelsError:
            secure.close()
            raise
        return secure

    def _explained(self, exc: BaseException) -> ConnectionFailed:
        """Return the failure in words that help."""
        url = self.endpoint.url
        if isinstance(exc, ssl.SSLCertVerificationError):
            return ConnectionFailed(
                f"{url}: its certificate is refused: {exc.verify_message}; truenas_ca_cert and truenas_fingerprint "
                "say what to trust instead"
            )
        if isinstance(exc, ssl.SSLError):
            return ConnectionFailed(f"{url}: TLS failed: {exc.reason or exc}")
        if isinstance(exc, TimeoutError):
            return ConnectionFailed(f"{url} does not answer in time")
        if isinstance(exc, ConnectionRefusedError):
            return ConnectionFailed(f"{url}: nothing listens there")
        if isinstance(exc, OSError) and exc.errno:
            return ConnectionFailed(f"{url} cannot be reached: {exc.strerror or os.strerror(exc.errno)}")
        return ConnectionFailed(f"{url} cannot be reached: {exc}")


def _why(data: bytes) -> str:
    """Return the number and the reason of a closing frame, in words."""
    if len(data) < 2:
        return ""
    (number,) = struct.unpack("!H", data[:2])
    reason = data[2:].decode(errors="replace")
    return f": {reason} ({number})" if reason else f" ({number})"
