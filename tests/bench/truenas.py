# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call to a TrueNAS costs: ours, and a bare exchange over the same library with the same SIMULATED server.

The server is a process of its own, so that neither side waits for the other's interpreter.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import ssl
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import websocket
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import rpc_from
from support.truenas.server import Simulation

CALLS = 200
BATCHES = 25
INSTANCES = 8


def _serve(folder: str, pipe: Connection) -> None:
    with Simulation(Path(folder)) as simulation:
        pipe.send(simulation.options())
        pipe.recv()


class Bare:
    """A websocket and json, and nothing else, at the library's quickest; it is logged in as ours is."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._socket = websocket.create_connection(
            f"wss://127.0.0.1:{options['truenas_port']}/api/current",
            timeout=10,
            skip_utf8_validation=True,
            sslopt={"context": ssl.create_default_context(cafile=options["truenas_ca_cert"])},
        )
        self._numbers = itertools.count(1)
        self.call(
            "auth.login_ex",
            [
                {
                    "mechanism": "API_KEY_PLAIN",
                    "username": options["truenas_username"],
                    "api_key": options["truenas_api_key"],
                }
            ],
        )

    def call(self, method: str, params: list[Any]) -> Any:
        """Send a request and return its result."""
        self._socket.send(json.dumps({"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}))
        return json.loads(self._socket.recv())["result"]


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    for _turn in range(CALLS):
        work()
    return (time.perf_counter() - begin) / CALLS * 1000


def measure() -> dict[str, tuple[float, float]]:
    """Return the seconds of a thousand calls, ours and bare, for a small answer and for a list; batches take turns."""
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        server = multiprocessing.get_context("fork").Process(target=_serve, args=(folder, there), daemon=True)
        server.start()
        options = here.recv()
        rpc, bare = rpc_from(options), Bare(options)
        for number in range(INSTANCES):
            new = {"name": f"px-{number}", "image": "debian/13", "autostart": False}
            rpc.job("virt.instance.create", [new], Deadline(10))
        found = {}
        for name, method, params in (
            ("truenas_1000_calls", "virt.global.config", []),
            ("truenas_1000_lists_of_8", "virt.instance.query", [[["name", "^", "px-"]]]),
        ):
            ways: tuple[Callable[[], object], ...] = (
                lambda method=method, params=params: rpc.call(method, params, Deadline(60)),  # type: ignore[misc]
                lambda method=method, params=params: bare.call(method, params),  # type: ignore[misc]
            )
            times: tuple[list[float], list[float]] = ([], [])
            for _batch in range(BATCHES):
                for way, kept in zip(ways, times, strict=True):
                    kept.append(_timed(way))
            # the quickest is what others on the machine disturbed least
            found[name] = (min(times[0]), min(times[1]))
        rpc.close()
        here.send("end")
        server.join(10)
    return found
