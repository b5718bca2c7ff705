# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a simulated TrueNAS over the real Incus until it is told to end: C(python -m support.truenas FOLDER PROJECT PORT).

FOLDER gets the certificate of its authority (ca.crt), a pair of keys for SSH (id_ed25519) and its process id (pid), once it answers. A
file faults there, with lines of a kind and a method, makes it fail in that way once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from support.truenas.fake_guests import key_pair
from support.truenas.incus_engine import IncusEngine
from support.truenas.server import Simulation

_POLL_SECONDS = 0.2


def main(folder: Path, project: str, port: int) -> None:
    """Serve until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_args: ended.set())
    version = os.environ.get("PIXELS_TRUENAS_VERSION", "25.10")
    transcript = os.environ.get("PIXELS_TRUENAS_TRANSCRIPT")
    simulation = Simulation(folder, version, IncusEngine(project), transcript=transcript)
    simulation.port = port
    key_pair(folder)
    faults = folder / "faults"
    with simulation:
        shutil.copyfile(simulation.ca_file, folder / "ca.crt")
        (folder / "pid").write_text(str(os.getpid()))
        while not ended.wait(_POLL_SECONDS):
            if faults.exists():
                for line in faults.read_text().splitlines():
                    kind, _space, method = line.partition(" ")
                    simulation.faults.add(kind, method)
                faults.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
