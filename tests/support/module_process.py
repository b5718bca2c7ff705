# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module in a process of its own, as a task runs it: to be waited for, run beside another, or killed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any


class ModuleProcess:
    """A module that has begun to run with these options."""

    def __init__(self, module: str, check_mode: bool = False, **options: Any) -> None:
        arguments = {**options, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        with tempfile.TemporaryFile("w+") as source:
            json.dump({"ANSIBLE_MODULE_ARGS": arguments}, source)
            source.seek(0)
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"ansible_collections.pixels.sandbox.plugins.modules.{module}"],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    def result(self, timeout: float = 240) -> dict[str, Any]:
        """Wait for the end and return the result; a traceback fails the test."""
        output, errors = self.process.communicate(timeout=timeout)
        assert not errors, errors
        return dict(json.loads(output))

    def kill(self) -> None:
        """Kill it at once, as kill -9 does."""
        self.process.kill()
        self.process.communicate()


def run(module: str, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    """Run a module to its end and return its result."""
    return ModuleProcess(module, check_mode, **options).result()
