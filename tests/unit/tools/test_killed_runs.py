# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of the checks that was killed or interrupted leaves nothing that disturbs the next one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STAGES = """
STAGES=(quick)
stage_limit() { echo 1; }
stage_beside() { echo 1; }
stage_quick() { true; }
stage_hangs() { echo $$ > "$PIXELS_CACHE/hangs"; sleep 300; }
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the runner with stages of the test's own."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "tests/tools", tree / "tests/tools")
    shutil.copy(ROOT / "run", tree / "run")
    (tree / "tests/tools/stages.sh").write_text(STAGES)
    return tree


@pytest.fixture
def hanging(tree: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield a run whose stage hangs, and the process of the stage."""
    mark = tree / "cache/hangs"
    run = subprocess.Popen(
        ["bash", tree / "run", "test", "hangs"], env=environment(tree), stdout=subprocess.DEVNULL, text=True
    )
    try:
        stage = int(wait_for(lambda: mark.exists() and mark.read_text().strip()))
        yield run, stage
    finally:
        run.kill()
        run.wait()
        if mark.exists():
            end(int(mark.read_text()))


def environment(tree: Path) -> dict[str, str]:
    """Return an environment with a cache of the test's own."""
    return {**os.environ, "PIXELS_CACHE": str(tree / "cache")}


def wait_for(condition: object, limit: float = 20) -> str:
    """Return what a condition gives once it gives something."""
    assert callable(condition)
    over = time.monotonic() + limit
    while time.monotonic() < over:
        found = condition()
        if found:
            return str(found)
        time.sleep(0.02)
    pytest.fail("it did not come to pass in time")


def end(process: int) -> None:
    """End the group of a stage, if it is still there."""
    try:
        os.killpg(os.getpgid(process), signal.SIGKILL)
    except ProcessLookupError:
        return


def is_gone(process: int) -> bool:
    """Return whether a process has ended."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_stage_of_a_killed_run_is_ended_by_the_next(tree: Path, hanging: tuple[subprocess.Popen[str], int]) -> None:
    run, stage = hanging
    run.kill()
    run.wait()
    assert not is_gone(stage)
    after = subprocess.run(
        ["bash", tree / "run", "test"], env=environment(tree), capture_output=True, text=True, check=False, timeout=60
    )
    assert (after.returncode, after.stdout.splitlines()[-1]) == (0, "1 passed, 0 failed")
    wait_for(lambda: is_gone(stage))


def test_an_interrupt_ends_the_stage_too(hanging: tuple[subprocess.Popen[str], int]) -> None:
    run, stage = hanging
    run.terminate()
    assert run.wait(20) == 130
    wait_for(lambda: is_gone(stage))


def test_a_foreign_process_under_the_old_number_is_left_alone(tree: Path) -> None:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as foreign:
        try:
            (tree / "cache").mkdir()
            (tree / "cache/stages.pid").write_text(f"{foreign.pid}\n")
            subprocess.run(
                ["bash", tree / "run", "test"], env=environment(tree), check=True, capture_output=True, timeout=60
            )
            assert foreign.poll() is None
        finally:
            foreign.kill()


def test_two_runs_do_not_mix(tree: Path, hanging: tuple[subprocess.Popen[str], int]) -> None:
    run, _stage = hanging
    second = subprocess.Popen(
        ["bash", tree / "run", "test"], env=environment(tree), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert second.stderr is not None
    assert "waiting for another run" in second.stderr.readline()
    run.terminate()
    out = second.communicate(timeout=60)[0]
    assert out.splitlines()[-1] == "1 passed, 0 failed"


@pytest.mark.parametrize("words", [("scenario", "tale"), ("verify",), ("bench",)])
def test_what_works_on_the_same_server_waits_for_the_checks(
    words: tuple[str, ...], tree: Path, hanging: tuple[subprocess.Popen[str], int]
) -> None:
    (tree / "molecule/tale").mkdir(parents=True)
    (tree / "molecule/tale/molecule.yml").touch()
    _run, stage = hanging
    second = subprocess.Popen(
        ["bash", tree / "run", *words], env=environment(tree), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert second.stderr is not None
        assert "waiting for another run" in second.stderr.readline()
        assert not is_gone(stage)
    finally:
        os.killpg(second.pid, signal.SIGKILL)
        second.communicate(timeout=60)
