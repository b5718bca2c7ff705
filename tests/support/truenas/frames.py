# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's side of HTTP and of websockets (RFC 6455), as far as the simulation needs them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


class Closed(Exception):
    """The connection is to be closed with this number and these words."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Request:
    """The head of a GET; key is that of a websocket, empty for another request."""

    target: str
    key: bytes


class Stream:
    """One connection; sent is when something was last sent, by the monotonic clock."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.sent = time.monotonic()

    async def request(self) -> Request:
        """Return the head of the request; ValueError for what is no GET."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, _version = first.split(" ")
        if method != "GET":
            raise ValueError(method)
        fields = {
            name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)
        }
        wanted = fields.get("upgrade", "").lower() == "websocket" and fields.get("sec-websocket-version") == "13"
        return Request(target, fields.get("sec-websocket-key", "").encode() if wanted else b"")

    async def respond(self, status: int, content: bytes, server: str) -> None:
        """Answer a request that is no websocket."""
        head = f"HTTP/1.1 {status} -\r\nServer: {server}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        self._writer.write(head.encode() + content)
        await self._writer.drain()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def upgrade(self, key: bytes, server: str) -> None:
        """Accept a websocket."""
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()  # noqa: S324  # as the protocol has it
        self._writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nServer: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await self._writer.drain()

    async def receive(self, most: int, pinged: Callable[[], bool]) -> bytes:
        """Return the next text message; Closed for what ends the connection. pinged says whether a ping is answered."""
        parts: list[bytes] = []
        while True:
            opcode, last, data = await self._frame(most - sum(map(len, parts)))
            if opcode == _PING:
                if pinged():
                    self._send(_PONG, data)
            elif opcode == _CLOSE:
                raise Closed(1000)
            elif opcode == _BINARY:
                raise Closed(1003, "Only text frames are allowed")
            elif opcode in (_TEXT, _CONT):
                parts.append(data)
                if last:
                    return b"".join(parts)

    async def _frame(self, most: int) -> tuple[int, bool, bytes]:
        first, second = await self._reader.readexactly(2)
        length = second & 0x7F
        if first & 0x70 or not second & 0x80:
            raise Closed(1002, "a frame with reserved bits, or without a mask")
        if length == 126:
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
        if length > most:
            raise Closed(1009, "Max message length is 2 MB")
        mask = await self._reader.readexactly(4)
        return first & 0x0F, bool(first & 0x80), _unmasked(await self._reader.readexactly(length), mask)

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self._send(_TEXT, text.encode())

    def send_pieces(self, text: str, size: int) -> None:
        """Send a text message in pieces of so many bytes, with a ping after each."""
        data = text.encode()
        for begin in range(0, len(data), size):
            self._send(_CONT if begin else _TEXT, data[begin : begin + size], last=begin + size >= len(data))
            self._send(_PING, b"piece")

    def _send(self, opcode: int, data: bytes, last: bool = True) -> None:
        size, first = len(data), (0x80 if last else 0) | opcode
        if size < 126:
            head = struct.pack("!BB", first, size)
        elif size < 65536:
            head = struct.pack("!BBH", first, 126, size)
        else:
            head = struct.pack("!BBQ", first, 127, size)
        if not self._writer.is_closing():
            self._writer.write(head + data)
            self.sent = time.monotonic()

    async def close(self, code: int, reason: str) -> None:
        """Say why, and end the connection."""
        self._send(_CLOSE, struct.pack("!H", code) + reason.encode())
        with contextlib.suppress(OSError):
            await self._writer.drain()
            self._writer.close()
            await asyncio.wait_for(self._writer.wait_closed(), 1)

    def abort(self) -> None:
        """End the connection without a word."""
        transport = self._writer.transport
        if not transport.is_closing():
            transport.abort()


def _unmasked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
