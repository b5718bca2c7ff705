# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared settings of the unit tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep PIXELS_* variables of the environment out of the options of modules; those for tests stay."""
    for name in os.environ:
        if name.startswith("PIXELS_") and not name.startswith(("PIXELS_TEST_", "PIXELS_TRUENAS_TRANSCRIPT")):
            monkeypatch.delenv(name)
