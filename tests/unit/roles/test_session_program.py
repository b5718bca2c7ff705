# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What px-session makes of the lists of the tools that hold sessions."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/session/files/session.py"


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("px_session", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(program: ModuleType, monkeypatch: pytest.MonkeyPatch, tool: str, printed: str) -> dict[str, Any]:
    monkeypatch.setattr(program, "call", lambda command: subprocess.CompletedProcess(command, 0, printed, ""))
    return getattr(program, tool)().sessions()


ENDED = {"state": "exited", "attached": False, "created_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(("status", "exit_code"), [("3", 3), ("0", 0), ("", None)])
def test_a_session_that_has_ended_has_an_exit_code_or_none_yet(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, status: str, exit_code: int | None
) -> None:
    zmx = f"name=build\tpid=1\tclients=0\tcreated=1767225600\tstart_dir=/\tended=1\texit_code={status}\n"
    tmux = f"1|{status}|0|1767225600|build\n"
    assert listed(program, monkeypatch, "Zmx", zmx) == {"build": {**ENDED, "exit_code": exit_code}}
    assert listed(program, monkeypatch, "Tmux", tmux) == {"build": {**ENDED, "exit_code": exit_code}}


def test_a_running_session_wins_over_an_ended_pane_and_names_can_be_anything(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = listed(program, monkeypatch, "Tmux", "1|0|0|1767225600|a|b\n0||1|1767225600|a|b\n")
    assert found["a|b"]["state"] == "running"
    assert found["a|b"]["exit_code"] is None
