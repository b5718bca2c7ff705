# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP server of a test's own, on a socket or behind TLS on the loopback interface."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, TCPServer, ThreadingMixIn, UnixStreamServer

from support.certificates import KeyPair

#: From method, target and body to status and content.
Answer = Callable[[str, str, bytes], tuple[int, bytes]]


def hello(method: str, target: str, body: bytes) -> tuple[int, bytes]:
    """Answer with what was asked."""
    return 200, json.dumps({"method": method, "target": target, "body": body.decode("latin-1")}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LocalServer

    def _any(self) -> None:
        body = self._body()
        self.server.seen.append(f"{self.command} {self.path}")
        status, content = self.server.answer(self.command, self.path, body)
        if status == 0:
            # the server goes away instead of an answer
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if self.server.breaks_off:
            # it goes away in the middle of this answer
            self.server.breaks_off -= 1
            content = content[: len(content) // 2]
            self.close_connection = True
        self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(content)
        if self.server.closes:
            self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def __getattr__(self, name: str) -> Callable[[], None]:
        # the library looks for a method of this name for each verb
        if name.startswith("do_"):
            return self._any
        raise AttributeError(name)

    def log_message(self, *_args: object) -> None:
        """Print nothing."""

    def address_string(self) -> str:
        """Name the client; on a socket it has no address."""
        return "client"


class LocalServer(ThreadingMixIn, BaseServer):
    """What both kinds of server share; seen are the requests, connections counts them."""

    daemon_threads = True
    answer: Answer
    #: Close each connection after its answer, without having said so.
    closes = False
    #: How many of the next answers end in the middle.
    breaks_off = 0

    def prepare(self, answer: Answer) -> None:
        """Set how requests are answered."""
        self.answer = answer
        self.seen: list[str] = []
        self.connections = 0

    def process_request(self, request: object, client_address: object) -> None:
        """Count a connection and serve it."""
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: clients that break a connection off are what is tested."""

    def __enter__(self) -> LocalServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_args: object) -> None:
        self.shutdown()
        self.server_close()


class _SocketServer(LocalServer, UnixStreamServer):
    pass


class _TlsServer(LocalServer, TCPServer):
    allow_reuse_address = True
    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands in the thread of the connection."""
        assert isinstance(request, socket.socket)
        with self.context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)


def on_socket(path: Path, answer: Answer = hello) -> LocalServer:
    """Return a server on a socket."""
    server = _SocketServer(str(path), _Handler)
    server.prepare(answer)
    return server


def behind_tls(pair: KeyPair, answer: Answer = hello) -> tuple[LocalServer, str]:
    """Return a server on 127.0.0.1 that shows the certificate, and its URL."""
    server = _TlsServer(("127.0.0.1", 0), _Handler)
    server.prepare(answer)
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(pair.cert_file, pair.key_file)
    return server, f"https://127.0.0.1:{server.server_address[1]}"
