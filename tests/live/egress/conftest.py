# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of confined sandboxes share: an internet of their own, and a project whose gateway is built once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from support import live
from support.internet import RESOLVER, Internet, internet


@pytest.fixture(autouse=True)
def _quotas_as_before() -> None:
    """Leave quotas alone: no disk here has a size, and tests that run at the same time may need them."""


@pytest.fixture(scope="package")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    """The internet around the sandboxes and behind the gateway."""
    with internet(tmp_path_factory.mktemp("internet")) as made:
        yield made


@pytest.fixture(scope="package")
def project(net: Internet) -> Iterator[str]:
    """A project that each file begins and leaves without sandboxes."""
    with live.throw_away_project() as name:
        yield name


@pytest.fixture(scope="package")
def built(project: str) -> Iterator[Future[None]]:
    """The gateway of the project, which is being built while tests run that need none; a test that changes it puts it right."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit(live.make_gateway, project, gateway_resolver=RESOLVER)
