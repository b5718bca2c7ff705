# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the TrueNAS client share: a simulated TrueNAS, and a client that is in a hurry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import Pace, Rpc
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Transport
from support.truenas.server import Simulation

#: Everything that waits does so a thousand times shorter than in use.
HURRY = Pace(ping=20, pong=0.1, first_pause=0.005, last_pause=0.02, reconnect=2, look=5)

Connect = Callable[..., Rpc]


@pytest.fixture(params=["25.04", "25.10"])
def simulation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Simulation]:
    """A simulated TrueNAS of each supported release."""
    with Simulation(tmp_path, request.param, busy_seconds=0) as found:
        yield found


@pytest.fixture
def newest(tmp_path: Path) -> Iterator[Simulation]:
    """A simulated TrueNAS of the newest supported release, where the release makes no difference."""
    with Simulation(tmp_path, "25.10", busy_seconds=0) as found:
        yield found


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make clients, which are closed in the end."""
    made: list[Rpc] = []

    def connect(
        server: Simulation, user: str = "root", pace: Pace = HURRY, most: int = 1 << 20, **clocks: object
    ) -> Rpc:
        made.append(Rpc(Transport(endpoint_from(server.options(user)), most), pace, **clocks))  # type: ignore[arg-type]
        return made[-1]

    yield connect
    for rpc in made:
        rpc.close()
