# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry for people and for continuous integration: what it says, and what it counts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = """
STAGES=(good bad)
now() { date +%s.%N; }
stage_one() { now > "$PIXELS_CACHE/one.begin"; sleep 1; now > "$PIXELS_CACHE/one.end"; }
stage_two() { now > "$PIXELS_CACHE/two.begin"; sleep 1; now > "$PIXELS_CACHE/two.end"; }
stage_later() { now > "$PIXELS_CACHE/later.begin"; sleep 1; now > "$PIXELS_CACHE/later.end"; }
stage_limit() { echo 1; }
stage_beside() { case $1 in later) echo 0 ;; *) echo 1 ;; esac; }
stage_good() { echo all is well; cp "$repo/good.xml" "$junit/good.xml"; }
stage_bad() { false; echo never reached; }
stage_hangs() { sleep 8614; }
"""
JUNIT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/><testcase name="c"><skipped/></testcase>
<testcase name="d"><failure message="x"/></testcase><testcase name="e"><error/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the runner with stages of the test's own."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "tests/tools", tree / "tests/tools")
    shutil.copy(ROOT / "run", tree / "run")
    (tree / "tests/tools/stages.sh").write_text(STAGES)
    (tree / "good.xml").write_text(JUNIT)
    return tree


def run(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the runner with a cache of its own."""
    environment = {**os.environ, "PIXELS_CACHE": str(tree / "cache")}
    return subprocess.run(
        ["bash", tree / "run", *words], capture_output=True, text=True, check=False, env=environment, timeout=100
    )


def test_all_stages_run_and_the_last_line_counts(tree: Path) -> None:
    result = run(tree, "test")
    assert result.returncode == 1
    assert "ok      good" in result.stdout
    assert "FAILED  bad" in result.stdout
    assert "never reached" not in result.stdout
    # one stage and two tests passed; one stage and two tests failed
    assert result.stdout.splitlines()[-1] == "3 passed, 3 failed"


def test_a_stage_can_be_run_alone(tree: Path) -> None:
    (tree / "good.xml").write_text('<testsuite><testcase name="a"/></testsuite>')
    result = run(tree, "test", "good")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "2 passed, 0 failed")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (("one", "two", "later"), {("one", "two")}),
        (("one", "later", "two"), {("later", "two")}),
    ],
)
def test_stages_run_side_by_side_but_for_those_that_need_all_before(
    tree: Path, order: tuple[str, ...], expected: set[tuple[str, str]]
) -> None:
    assert run(tree, "test", *order).returncode == 0
    begin = {name: float((tree / f"cache/{name}.begin").read_text()) for name in order}
    end = {name: float((tree / f"cache/{name}.end").read_text()) for name in order}
    together = {(a, b) for a in order for b in order if a < b and begin[a] < end[b] and begin[b] < end[a]}
    assert together == expected


def test_a_stage_that_is_not_there_is_named_before_anything_runs(tree: Path) -> None:
    result = run(tree, "test", "good", "nonsense")
    assert result.returncode == 2
    assert "nonsense" in result.stderr
    assert "good (" not in result.stdout


@pytest.mark.parametrize("words", [("nonsense",), ("scenario",), ("scenario", "nonsense")])
def test_a_word_that_is_not_there_shows_those_there_are(words: tuple[str, ...], tree: Path) -> None:
    result = run(tree, *words)
    assert result.returncode == 2
    assert "./run WORD" in result.stderr


def test_help_names_every_word_every_stage_and_every_story() -> None:
    result = subprocess.run(["bash", ROOT / "run", "help"], capture_output=True, text=True, check=True)
    stories = [f"story-{path.parent.name}" for path in ROOT.glob("molecule/*/molecule.yml")]
    words = ("demo", "demo-clean", "setup", "test", "scenario", "bench", "dev", "sanity-oldest", "live", *stories)
    assert len(stories) > 5
    assert not [word for word in words if word not in result.stdout.split()]


def test_a_story_is_a_stage(tree: Path) -> None:
    with (tree / "tests/tools/stages.sh").open("a") as stages:
        stages.write('run_scenario() { echo "told $1"; }\n')
    (tree / "molecule/tale").mkdir(parents=True)
    (tree / "molecule/tale/molecule.yml").touch()
    result = run(tree, "test", "story-tale", "story-other")
    assert result.returncode == 2
    assert "there is no stage story-other" in result.stderr
    assert run(tree, "test", "story-tale").stdout.splitlines()[-1] == "1 passed, 0 failed"
    assert (tree / "cache/log/story-tale.log").read_text() == "told tale\n"


@pytest.mark.parametrize(("changed", "passes"), [("5 0", True), ("0 0", True), ("5 1", False)])
def test_a_second_set_up_that_changes_something_fails(changed: str, passes: bool, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(
        f'. "{ROOT}/tests/tools/stages.sh"\n'
        f'setup() {{ read -r now rest < "{tmp_path}/changed"; echo "$rest" > "{tmp_path}/changed"; '
        'echo "localhost                  : ok=7    changed=$now    unreachable=0    failed=0"; }\n'
        "stage_incus\n"
    )
    (tmp_path / "changed").write_text(f"{changed}\n")
    result = subprocess.run(["bash", "-euo", "pipefail", script], capture_output=True, text=True, check=False)
    assert (result.returncode == 0) is passes
    # it ran twice
    assert (tmp_path / "changed").read_text() == "\n"
    assert ("the second set-up has changed something" in result.stderr) is not passes


def test_counting_needs_nothing_but_python(tree: Path) -> None:
    script = tree / "tests/tools/count.py"
    result = subprocess.run([sys.executable, "-I", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0", "0"]
