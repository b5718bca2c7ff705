# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Bytes to and from one Incus server, over its socket or verified TLS.

Two ways carry requests. DirectTransport uses the standard library alone: loading pylxd takes longer than a
command in a sandbox, or than all that a task asks which finds nothing to do. PylxdTransport is for what changes something, which rides
on pylxd's session. Websockets are the same in both: those of pylxd do not verify the server.
"""

from __future__ import annotations

import errno
import http.client
import json as json_codec
import os
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlencode

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    MissingDependency,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import Endpoint

if TYPE_CHECKING:
    import requests
    import websocket


#: pylxd's adapter gives every request on a socket this many seconds; all others get the same.
REQUEST_SECONDS = 60.0
CONNECT_SECONDS = 10.0
CHUNK = 1 << 20


@dataclass(frozen=True)
class Response:
    """What the server answered; headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = b""

    def json(self) -> dict[str, Any]:
        """Return the decoded body; ConnectionFailed when it is no JSON object."""
        try:
            value = json_codec.loads(self.content)
        except ValueError as exc:
            raise ConnectionFailed("the server does not answer as an Incus API does") from exc
        if not isinstance(value, dict):
            raise ConnectionFailed("the server does not answer as an Incus API does")
        return value


class Transport:
    """Requests and websockets to one server; each thread and each process has connections of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._local = threading.local()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = REQUEST_SECONDS,
        into: BinaryIO | None = None,
    ) -> Response:
        """Send one request and return the answer, whatever its status.

        params get the project; data is sent as it is; a successful body goes to the file C(into) when there is one.
        Raises ConnectionFailed, or AuthenticationFailed where the socket may not be opened.
        """
        fields = dict(params or {})
        if self.endpoint.project:
            fields.setdefault("project", self.endpoint.project)
        target = quote(path) + ("?" + urlencode(fields) if fields else "")
        sent = dict(headers or {})
        if json is not None:
            data = json_codec.dumps(json).encode()
            sent["Content-Type"] = "application/json"
        return self._send(method, target, data, sent, timeout, into)

    def _send(
        self,
        method: str,
        target: str,
        data: bytes | IO[bytes] | None,
        headers: dict[str, str],
        timeout: float,
        into: BinaryIO | None,
    ) -> Response:
        raise NotImplementedError

    def websocket(self, path: str, params: Mapping[str, str], timeout: float = CONNECT_SECONDS) -> websocket.WebSocket:
        """Return an open websocket of the server, over a connection of its own."""
        try:
            import websocket as library
        except ImportError as exc:
            raise MissingDependency("websocket-client", traceback.format_exc()) from exc
        scheme = "wss" if self.endpoint.host else "ws"
        url = f"{scheme}://incus{quote(path)}?{urlencode(params)}"
        stream = self._connect(timeout)
        try:
            return library.create_connection(
                url, timeout=timeout, socket=stream, suppress_origin=True, enable_multithread=True
            )
        except library.WebSocketException as exc:
            stream.close()
            raise ConnectionFailed(f"{self.endpoint.url} refused a websocket: {exc}") from exc
        except OSError as exc:
            stream.close()
            raise self._explained(exc) from exc

    def close(self) -> None:
        """Close this thread's connection; those of other threads go with their threads."""
        self._local = threading.local()

    def _connect(self, timeout: float) -> socket.socket:
        """Return a connected stream whose other end has been verified."""
        endpoint = self.endpoint
        try:
            if not endpoint.host:
                plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    plain.settimeout(timeout)
                    plain.connect(endpoint.socket)
                except OSError:
                    plain.close()
                    raise
                return plain
            plain = socket.create_connection((endpoint.host, endpoint.port), timeout=min(timeout, CONNECT_SECONDS))
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.settimeout(timeout)
                secure = self._tls().wrap_socket(plain, server_hostname=endpoint.host)
                endpoint.verify_peer(secure.getpeercert(binary_form=True))
            except (OSError, PixelsError):
                plain.close()
                raise
            return secure
        except OSError as exc:
            raise self._explained(exc) from exc

    def _tls(self) -> ssl.SSLContext:
        context = getattr(self._local, "tls", None)
        if context is None:
            context = self._local.tls = self.endpoint.tls_context()
        return context

    def _explained(self, exc: BaseException) -> ConnectionFailed:
        """Return the failure in words that help."""
        url = self.endpoint.url
        for cause in _causes(exc):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ConnectionFailed(f"{url}: its certificate is refused: {cause.verify_message}")
            if isinstance(cause, ssl.SSLError):
                return ConnectionFailed(f"{url}: TLS failed: {cause.reason or cause}")
            if isinstance(cause, TimeoutError):
                return ConnectionFailed(f"{url} does not answer in time")
            if isinstance(cause, PermissionError):
                return AuthenticationFailed(
                    f"{url} may not be opened by this user: be root or in the group incus-admin"
                )
            if isinstance(cause, FileNotFoundError):
                return ConnectionFailed(f"{url} is not there: is Incus installed, and is this its socket?")
            if isinstance(cause, ConnectionRefusedError):
                return ConnectionFailed(f"{url}: nothing listens there: is Incus running?")
            if isinstance(cause, OSError) and cause.errno:
                return ConnectionFailed(f"{url} cannot be reached: {cause.strerror or os.strerror(cause.errno)}")
        return ConnectionFailed(f"{url} cannot be reached: {exc}")


class DirectTransport(Transport):
    """Requests by the standard library, a connection kept for each thread of each process."""

    def _send(
        self,
        method: str,
        target: str,
        data: bytes | IO[bytes] | None,
        headers: dict[str, str],
        timeout: float,
        into: BinaryIO | None,
    ) -> Response:
        kept: http.client.HTTPConnection | None = getattr(self._local, "kept", None)
        # a connection that a fork brought along belongs to the parent: two users would mix their answers
        reused = kept is not None and self._local.pid == os.getpid()
        if kept is None or not reused:
            kept = self._open(timeout)
        begin = into.tell() if into else 0
        try:
            return self._exchange(kept, method, target, data, headers, timeout, into)
        except PixelsError:
            # whoever takes the answer has had enough, and the rest of it is still on its way
            self._drop()
            raise
        except (http.client.HTTPException, OSError) as exc:
            self._drop()
            # The server may close a kept connection at any time; only what changes nothing is sent twice.
            if reused and method == "GET" and not isinstance(exc, TimeoutError):
                if into:
                    # of an answer that broke off there may be a part
                    into.seek(begin)
                    into.truncate()
                return self._send(method, target, data, headers, timeout, into)
            raise self._explained(exc) from exc

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("incus")
        connection.sock = self._connect(timeout)
        self._local.kept, self._local.pid = connection, os.getpid()
        return connection

    def _drop(self) -> None:
        kept = getattr(self._local, "kept", None)
        if kept is not None and self._local.pid == os.getpid():
            kept.close()
        self._local.kept = None

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        data: bytes | IO[bytes] | None,
        headers: dict[str, str],
        timeout: float,
        into: BinaryIO | None,
    ) -> Response:
        if connection.sock is None:
            raise ConnectionResetError(errno.ECONNRESET, "the kept connection is closed")
        connection.sock.settimeout(timeout)
        connection.request(method, target, body=data, headers=headers, encode_chunked=False)
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        if into is not None and answer.status == 200:
            while chunk := answer.read(CHUNK):
                into.write(chunk)
            if answer.length:
                # to the library an answer that breaks off is one that has ended
                raise http.client.IncompleteRead(b"", answer.length)
            content = b""
        else:
            content = answer.read()
        if answer.will_close:
            self._drop()
        return Response(answer.status, fields, content)

    def close(self) -> None:
        """Close this thread's connection."""
        self._drop()
        super().close()


class PylxdTransport(DirectTransport):
    """Requests by pylxd's session, one for each thread of each process; those that only read go the direct way."""

    def _send(
        self,
        method: str,
        target: str,
        data: bytes | IO[bytes] | None,
        headers: dict[str, str],
        timeout: float,
        into: BinaryIO | None,
    ) -> Response:
        if method == "GET":
            return super()._send(method, target, data, headers, timeout, into)
        session, root = self._session()
        import requests

        try:
            answer = session.request(
                method,
                root + target,
                data=data,
                headers=headers,
                timeout=(CONNECT_SECONDS, timeout),
                allow_redirects=False,
            )
        except requests.exceptions.Timeout as exc:
            raise ConnectionFailed(f"{self.endpoint.url} does not answer in time") from exc
        except (requests.exceptions.RequestException, OSError) as exc:
            raise self._explained(exc) from exc
        fields = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, fields, answer.content)

    def _session(self) -> tuple[requests.Session, str]:
        if getattr(self._local, "session_pid", None) != os.getpid():
            try:
                from pylxd.client import get_session_for_url
            except ImportError as exc:
                raise MissingDependency("pylxd >= 2.4", traceback.format_exc()) from exc
            endpoint = self.endpoint
            if endpoint.host:
                root = endpoint.url
                session = get_session_for_url(root)
                session.mount(root, _verified_adapter(self._tls(), endpoint))
            else:
                root = "http+unix://" + quote(endpoint.socket, safe="")
                session = get_session_for_url(root)
            # REQUESTS_CA_BUNDLE and proxies of the environment would replace what the user asked for
            session.trust_env = False
            self._local.session, self._local.root, self._local.session_pid = session, root, os.getpid()
        return self._local.session, self._local.root

    def close(self) -> None:
        """Close this thread's session."""
        if getattr(self._local, "session_pid", None) == os.getpid():
            self._local.session.close()
        super().close()


def _verified_adapter(context: ssl.SSLContext, endpoint: Endpoint) -> Any:
    """Return a requests adapter whose connections are verified as the endpoint says, and by nothing else."""
    import requests
    from urllib3.connection import HTTPSConnection

    class Connection(HTTPSConnection):
        """A connection that is compared with the pinned certificate before anything is sent."""

        def connect(self) -> None:
            super().connect()
            endpoint.verify_peer(self.sock.getpeercert(binary_form=True))  # type: ignore[union-attr]

    class Adapter(requests.adapters.HTTPAdapter):
        """An adapter with a TLS context of ours."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            kwargs["ssl_context"] = context
            kwargs["assert_hostname"] = None if context.check_hostname else False
            super().init_poolmanager(*args, **kwargs)

        def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
            pool = super().get_connection_with_tls_context(*args, **kwargs)
            pool.ConnectionCls = Connection  # type: ignore[attr-defined]  # urllib3 types its pools too widely
            return pool

        def cert_verify(self, *args: Any, **kwargs: Any) -> None:
            """Leave the context as it is: requests would load its own bundle of authorities into it."""

    return Adapter()


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Walk through what libraries wrap around the failure of a socket."""
    seen: set[int] = set()
    queue = [exc]
    while queue:
        cause = queue.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        queue += [more for more in (cause.__cause__, cause.__context__, *cause.args) if isinstance(more, BaseException)]
        reason = getattr(cause, "reason", None)
        if isinstance(reason, BaseException):
            queue.append(reason)
