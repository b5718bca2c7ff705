# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The internet of the tests itself: it answers, leaves nothing behind, and comes up after a run that was killed."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

from support import live
from support.internet import EVIL, NET, internet

pytestmark = live.needs_incus

KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from support.internet import Internet
Internet(Path(sys.argv[1]), ("169.254.169.254",)).up()
os.kill(os.getpid(), 9)
"""


def _routes() -> list[str]:
    told = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    return [line for line in told.splitlines() if NET in line or "169.254.169.254" in line]


def test_it_comes_up_after_a_run_that_was_killed_and_leaves_nothing(tmp_path: Path) -> None:
    tests = str(Path(__file__).resolve().parents[1])
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), tests], check=False)
    with internet(tmp_path / "whole", ("169.254.169.254",)) as net:
        for address in (EVIL, "169.254.169.254"):
            assert urllib.request.urlopen(f"http://{address}/", timeout=5).status == 200
        assert any(line.startswith("http 169.254.169.254") for line in net.heard)
    assert _routes() == []
    assert not list(Path("/run/netns").glob("pxn*"))
