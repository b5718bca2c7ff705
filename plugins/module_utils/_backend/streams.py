# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What goes into a command and what comes out of it, whichever way the bytes take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest

#: Sends what is known at once, and what the call returns when that may be sent, and then the end of the input.
Feed = Callable[[Callable[[], bytes]], None]


class Stream:
    """One output of a command, read to its end and kept up to a limit."""

    def __init__(self, limit: int | None) -> None:
        self.kept = bytearray()
        self.limit = limit
        self.truncated = False

    def add(self, data: bytes) -> None:
        """Keep what still fits."""
        room = len(data) if self.limit is None else max(0, self.limit - len(self.kept))
        self.kept += data[:room]
        self.truncated = self.truncated or room < len(data)


class Streams:
    """The threads that feed a command and read from it.

    out and err yield what comes in until the other side has no more; neither they nor feed raise for a connection that has ended.
    """

    def __init__(self, request: ExecRequest, out: Iterable[bytes], err: Iterable[bytes], feed: Feed) -> None:
        self.out, self.err = Stream(request.output_limit), Stream(request.output_limit)
        self._request = request
        self._news = threading.Condition()
        self._open = 2
        self._readers = [
            threading.Thread(target=self._read, args=(out, self.out), daemon=True),
            threading.Thread(target=self._read, args=(err, self.err), daemon=True),
        ]
        self._threads = [*self._readers, threading.Thread(target=feed, args=(self._input,), daemon=True)]
        for thread in self._threads:
            thread.start()

    def drain(self, seconds: float) -> None:
        """Wait until both outputs have ended; a child left in the background may hold them open for ever."""
        deadline = Deadline(seconds)
        for thread in self._readers:
            thread.join(deadline.left())

    def join(self, seconds: float) -> None:
        """Wait for each thread, at most so long; what it works on has been closed."""
        for thread in self._threads:
            thread.join(seconds)

    def _read(self, chunks: Iterable[bytes], sink: Stream) -> None:
        for data in chunks:
            with self._news:
                sink.add(data)
                self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def _input(self) -> bytes:
        """Wait for the gate to open and return standard input, after what it answers."""
        return self._answer() + self._request.stdin

    def _answer(self) -> bytes:
        gate = self._request.gate
        if gate is None:
            return b""
        with self._news:
            while (answer := gate(bytes(self.out.kept + self.err.kept))) is None:
                if not self._open:
                    return b""
                self._news.wait()
        return answer
