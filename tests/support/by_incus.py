# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stories are verified with: testinfra that enters sandboxes by the client of Incus, past the product and without an Ansible for each command.

A plug-in of pytest. C(incus://NAME) is a sandbox of the story's project, C(incus://running) each of those that run. Commands run as
root, with the environment that the server gives.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import testinfra.backend
from testinfra.backend.base import BaseBackend, CommandResult

_SECONDS = 300


def asked(path: str) -> Any:
    """Return what the server itself says of a path of its API, in the story's project."""
    query = ["incus", "query", f"local:{path}?recursion=1&project={os.environ['PIXELS_INCUS_PROJECT']}"]
    return json.loads(subprocess.run(query, check=True, capture_output=True, text=True, timeout=30).stdout)


def into(name: str, *argv: str) -> list[str]:
    """Return the command that runs argv in a sandbox of the story."""
    return ["incus", "exec", "--project", os.environ["PIXELS_INCUS_PROJECT"], f"local:px-{name}", "--", *argv]


class ByIncus(BaseBackend):
    """Runs each command by a shell of the guest; what is said and how it ends comes back as it is."""

    NAME = "incus"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        #: the name that users write, as the backend of Ansible has it
        self.host = name

    @classmethod
    def get_hosts(cls, host: str, **kwargs: Any) -> list[str]:
        """Return the names of sandboxes that a specification means."""
        if host != "running":
            return [host]
        running = [
            str(instance["name"]).removeprefix("px-")
            for instance in asked("/1.0/instances")
            if instance["status"] == "Running" and instance["config"].get("user.pixels.kind") == "sandbox"
        ]
        if not running:
            raise RuntimeError("no sandbox of the story runs")
        return sorted(running)

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Run a command with these arguments, each of which stays one."""
        line = self.get_command(command, *args)
        done = subprocess.run(
            into(self.host, "sh", "-c", line),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
        return self.result(done.returncode, line.encode(), done.stdout, done.stderr)


testinfra.backend.BACKENDS[ByIncus.NAME] = f"{__name__}.{ByIncus.__name__}"
