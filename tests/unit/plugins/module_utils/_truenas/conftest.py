# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the TrueNAS client share: a simulated TrueNAS, and a client that is in a hurry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import Rpc
from support.truenas.hurry import Connect, hurried
from support.truenas.server import Simulation


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

    def connect(server: Simulation, *arguments: Any, **options: Any) -> Rpc:
        made.append(hurried(server, *arguments, **options))
        return made[-1]

    yield connect
    for rpc in made:
        rpc.close()
