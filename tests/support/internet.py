# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An internet of the test's own: a network namespace that has every address that is talked to, and answers there.

Run as a program in that namespace it serves: C(internet.py serve FOLDER ADDRESS...). Each address has HTTP, TLS with HTTP inside, a banner
as of SSH on 22, an echo on TCP 7 and UDP 7 and 443, and DNS for the names of NAMES on UDP and TCP 53. What it hears it writes to
FOLDER/heard, a line each.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import os
import re
import secrets
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

#: TEST-NET-2 (RFC 5737); the last part of the net is where names lead.
NET = "198.51.100"
GOOD, EVIL, RESOLVER = f"{NET}.10", f"{NET}.66", f"{NET}.53"
#: Names and where they lead; a name below one of them leads there too.
NAMES = {
    "example.test": GOOD,
    "evil.test": EVIL,
    "private.example.test": "10.255.255.1",
    "self.example.test": "127.0.0.1",
    "metadata.example.test": "169.254.169.254",
    "bound.example.test": EVIL,
}
_READY_SECONDS = 20.0
_LOCK = Path("/run/lock/pixels-internet")

Note = Callable[..., None]


class Internet:
    """The namespace, its wire to the machine, and the program in it."""

    def __init__(self, folder: Path, extra: Sequence[str] = ()) -> None:
        self.folder = folder
        self.name = f"pxn{os.getpid()}x{secrets.token_hex(1)}"
        self.addresses = (GOOD, EVIL, RESOLVER, *extra)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def heard(self) -> list[str]:
        """What the program has heard so far."""
        path = self.folder / "heard"
        return path.read_text().splitlines() if path.exists() else []

    def up(self) -> None:
        """Black-hole every address, then make the namespace that has them, and serve there."""
        _remove_leftovers()
        for address in (f"{NET}.0/24", *(extra for extra in self.addresses if not extra.startswith(f"{NET}."))):
            # only while the wire is there does anything else lead to them; the metric lets the wire's route win
            _ip("route", "replace", "blackhole", address, "metric", "4000000")
        _ip("netns", "add", self.name)
        _ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", self.name, "up")
        _ip("addr", "add", f"{NET}.1/32", "dev", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        for address in self.addresses:
            _ip("-n", self.name, "addr", "add", f"{address}/32", "dev", "lo")
        _ip("-n", self.name, "addr", "add", f"{NET}.2/32", "dev", "eth0")
        _ip("-n", self.name, "route", "add", f"{NET}.1", "dev", "eth0")
        _ip("-n", self.name, "route", "add", "default", "via", f"{NET}.1", "dev", "eth0")
        _ip("route", "add", f"{NET}.2", "dev", self.name)
        for address in self.addresses:
            _ip("route", "add", address, "via", f"{NET}.2", "dev", self.name, "onlink")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._certificate()
        command = [
            "ip",
            "netns",
            "exec",
            self.name,
            sys.executable,
            __file__,
            "serve",
            str(self.folder),
            *self.addresses,
        ]
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        end = time.monotonic() + _READY_SECONDS
        while not (self.folder / "ready").exists():
            if time.monotonic() > end or self._server.poll() is not None:
                raise RuntimeError("the internet of the test does not answer")
            time.sleep(0.05)

    def down(self) -> None:
        """Remove all of it."""
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            self._server.wait(10)
        _ip("link", "delete", self.name, check=False)
        _ip("netns", "delete", self.name, check=False)
        for address in (f"{NET}.0/24", *(extra for extra in self.addresses if not extra.startswith(f"{NET}."))):
            _ip("route", "delete", "blackhole", address, "metric", "4000000", check=False)

    def _certificate(self) -> None:
        names = ",".join(f"DNS:{name},DNS:*.{name}" for name in NAMES)
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        command += ["-keyout", str(self.folder / "key.pem"), "-out", str(self.folder / "cert.pem")]
        command += ["-subj", "/CN=example.test", "-addext", f"subjectAltName={names}"]
        subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def internet(folder: Path, extra: Sequence[str] = ()) -> Iterator[Internet]:
    """Have an internet for a while; its addresses are there once, so whoever else wants one waits."""
    made = Internet(folder, extra)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            made.up()
            yield made
        finally:
            made.down()


def _remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed."""
    for path in Path("/run/netns").glob("pxn*x*") if Path("/run/netns").is_dir() else ():
        match = re.fullmatch(r"pxn(\d+)x[0-9a-f]{2}", path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            for pid in subprocess.run(
                ["ip", "netns", "pids", path.name], capture_output=True, text=True, check=False
            ).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("link", "delete", path.name, check=False)
            _ip("netns", "delete", path.name, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr}")


# -- the program in the namespace


class _Web(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """Say nothing of clients that go away."""

    def server_bind(self) -> None:
        """Bind without asking a DNS for a name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "internet", self.server_address[1]


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what was asked for; /bytes/N with so many of them, /slow/N with a byte each tenth of a second."""

    protocol_version = "HTTP/1.1"
    note: Note

    def do_GET(self) -> None:
        """Answer."""
        host, port = self.server.server_address[:2]
        self.note("http", host, port, self.headers.get("Host"), self.path)
        kind, _slash, number = self.path.strip("/").partition("/")
        size = int(number) if kind in ("bytes", "slow") else 0
        told = {"at": host, "port": port, "host": self.headers.get("Host"), "path": self.path}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(size or len(body)))
        self.end_headers()
        if kind == "slow":
            for _turn in range(size):
                self.wfile.write(b"x")
                time.sleep(0.1)
        elif size:
            for begin in range(0, size, 65536):
                self.wfile.write(b"x" * min(65536, size - begin))
        else:
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _serve(folder: Path, addresses: Sequence[str]) -> None:
    heard = (folder / "heard").open("a", buffering=1)

    def note(*parts: object) -> None:
        heard.write(" ".join(map(str, parts)) + "\n")

    handler = type("Handler", (_Handler,), {"note": staticmethod(note)})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    for address in addresses:
        _thread(_Web((address, 80), handler).serve_forever)
        secure = _Web((address, 443), handler)
        secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
        _thread(secure.serve_forever)
        for port in (22, 853, 8443):
            _thread(_greet, socket.create_server((address, port), reuse_port=True), note)
        for port in (7, 443, 53, 5353):
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            datagrams.bind((address, port))
            _thread(_answer if port in (53, 5353) else _echo, datagrams, note)
        _thread(_answer_streams, socket.create_server((address, 53), reuse_port=True), note)
    (folder / "ready").touch()
    signal.pause()


def _thread(work: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def _greet(server: socket.socket, note: Note) -> None:
    while True:
        stream, _peer = server.accept()
        note("tcp", *server.getsockname())
        with contextlib.suppress(OSError), stream:
            stream.sendall(b"SSH-2.0-internet\r\n")


def _echo(datagrams: socket.socket, note: Note) -> None:
    while True:
        data, peer = datagrams.recvfrom(2048)
        note("udp", *datagrams.getsockname(), ascii(data[:64].decode("ascii", "replace")))
        datagrams.sendto(data, peer)


def _answer(datagrams: socket.socket, note: Note) -> None:
    while True:
        data, peer = datagrams.recvfrom(2048)
        answer = _look_up(data, note, datagrams.getsockname()[0])
        if answer:
            datagrams.sendto(answer, peer)


def _answer_streams(server: socket.socket, note: Note) -> None:
    while True:
        stream, _peer = server.accept()
        with contextlib.suppress(OSError, struct.error), stream:
            stream.settimeout(2)
            (length,) = struct.unpack("!H", stream.recv(2))
            answer = _look_up(stream.recv(length), note, server.getsockname()[0])
            if answer:
                stream.sendall(struct.pack("!H", len(answer)) + answer)


def _look_up(query: bytes, note: Note, at: str) -> bytes | None:
    """Return the answer to a DNS query: the address of a name, or that there is none."""
    labels, place = [], 12
    try:
        while length := query[place]:
            labels.append(query[place + 1 : place + 1 + length].decode("ascii", "replace").lower())
            place += 1 + length
        kind = struct.unpack("!H", query[place + 1 : place + 3])[0]
    except (IndexError, struct.error):
        return None
    name = ".".join(labels)
    note("dns", at, name, kind)
    question = query[12 : place + 5]
    found = next(
        (NAMES[".".join(labels[start:])] for start in range(len(labels)) if ".".join(labels[start:]) in NAMES), None
    )
    if found is None:
        return query[:2] + b"\x81\x83" + query[4:6] + b"\0\0\0\0\0\0" + question
    if kind != 1:
        return query[:2] + b"\x81\x80" + query[4:6] + b"\0\0\0\0\0\0" + question
    record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04" + socket.inet_aton(found)
    return query[:2] + b"\x81\x80" + query[4:6] + b"\0\x01\0\0\0\0" + question + record


if __name__ == "__main__":
    assert sys.argv[1] == "serve"
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_arguments: os._exit(0))
    _serve(Path(sys.argv[2]), sys.argv[3:])
