# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of a simulated TrueNAS that is in a hurry: whatever waits does so much shorter than in use."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import Rpc
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.session import Pace
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Transport
from support.truenas.server import Simulation

HURRY = Pace(ping=20, pong=0.1, first_pause=0.005, last_pause=0.02, reconnect=2, look=5)

#: What the fixture of this name is: it takes what hurried() takes.
Connect = Callable[..., Rpc]


def hurried(
    server: Simulation, user: str = "root", pace: Pace = HURRY, most: int = 1 << 20, **clocks: Callable[..., object]
) -> Rpc:
    """Return a client that takes in messages of at most so many bytes; clocks are clock and sleep."""
    return Rpc(Transport(endpoint_from(server.options(user)), most), pace, **clocks)  # type: ignore[arg-type]
