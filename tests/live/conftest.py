# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the live tests share: one project, and one sandbox that they may run commands in."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live, quotas


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep PIXELS_* variables of the environment out of the options of modules; those for tests stay."""
    for name in os.environ:
        if name.startswith("PIXELS_") and not name.startswith(("PIXELS_TEST_", "PIXELS_TRUENAS_TRANSCRIPT")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _quotas_as_before() -> Iterator[None]:
    """Leave the pool as quick as it was."""
    with quotas.as_before():
        yield


@pytest.fixture(scope="session")
def project() -> Iterator[str]:
    """Return the name of a throw-away project."""
    if not live.ENABLED:
        pytest.skip("needs the real Incus: PIXELS_TEST_INCUS=1")
    with live.throw_away_project() as name:
        yield name


@pytest.fixture(scope="session")
def backend(project: str) -> IncusBackend:
    """Return the backend of the project."""
    return live.backend(project)


@pytest.fixture(scope="session")
def sandbox(project: str) -> str:
    """Return the name of a running sandbox with the user pixel, which no test changes for the others."""
    backend = live.backend(project)
    live.make(backend, "shared", wait_for="ready")
    from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
    from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest

    for argv in (("useradd", "-m", "-s", "/bin/bash", "pixel"), ("chpasswd",)):
        result = backend.execute("shared", ExecRequest(argv, stdin=b"pixel:open sesame\n"), Deadline(30))
        assert result.rc == 0, result.stderr
    sudoers = io.BytesIO(b"pixel ALL=(ALL) ALL\n")
    backend.write_file("shared", "/etc/sudoers.d/pixel", sudoers, 0o440)
    return "shared"
