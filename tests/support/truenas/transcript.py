# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests that a simulated TrueNAS got, as JSON lines, so that they can be held against the real schemas elsewhere."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

VARIABLE = "PIXELS_TRUENAS_TRANSCRIPT"
MASK = "********"
_SECRETS = ("api_key", "password", "token")


class Transcript:
    """Writes C({"method": …, "params": …}) a line to the file that the environment names, if it does."""

    def __init__(self, path: str | None = None) -> None:
        found = os.environ.get(VARIABLE, "") if path is None else path
        self._path = Path(found) if found else None
        self._lock = threading.Lock()

    def note(self, version: str, method: str, params: Any) -> None:
        """Add a request, its secrets masked."""
        if self._path is None:
            return
        line = json.dumps({"method": method, "params": masked(params), "version": version})
        with self._lock, self._path.open("a") as file:
            file.write(line + "\n")


def masked(value: Any) -> Any:
    """Return a value without its secrets."""
    if isinstance(value, dict):
        return {name: MASK if name in _SECRETS else masked(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [masked(entry) for entry in value]
    return value
