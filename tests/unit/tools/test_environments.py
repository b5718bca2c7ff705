# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner makes environments whole or not at all, and copies what would be committed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: An interpreter whose environments have a pip that installs nothing, and says what it was asked for.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "-VV ") echo Python of the test ;;
  "-m venv")
    echo made >> "$MADE"
    mkdir -p "$3/bin"
    ln -s /bin/true "$3/bin/python"
    printf '#!%s/bin/python\\n' "$3" > "$3/bin/tool"
    printf '#!/bin/sh\\necho "$@"\\n%s\\n' "$PIP" > "$3/bin/pip"
    chmod +x "$3/bin/pip" ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a repository with the tools of the runner and nothing else."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "tests/tools", tree / "tests/tools")
    (tree / "tests/requirements").mkdir()
    (tree / "tests/requirements/few.txt").write_text("one\n")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tree


def call(tree: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run shell text that has the functions of environments.sh, as the runner has them."""
    setting = 'set -euo pipefail; shopt -s inherit_errexit; repo=$PWD; say() { echo "$*" >&2; }; . tests/tools/environments.sh; '
    cache = tree.parent / "cache"
    known = {"PIXELS_CACHE": str(cache), "MADE": str(tree.parent / "made"), "PIP": "exit 0"}
    return subprocess.run(
        ["bash", "-c", setting + script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tree,
        env={**os.environ, **known, **variables},
        timeout=60,
    )


def made(tree: Path) -> int:
    """Return how often an environment was made."""
    record = tree.parent / "made"
    return len(record.read_text().splitlines()) if record.exists() else 0


def test_an_environment_is_made_once_and_again_when_its_list_changes(tree: Path) -> None:
    make = "environment few ../python few.txt"
    first = call(tree, make)
    folder = Path(first.stdout.strip())
    assert (first.returncode, call(tree, make).stdout, made(tree)) == (0, first.stdout, 1)
    assert (folder / "bin/tool").read_text() == f"#!{folder}/bin/python\n"
    (tree / "tests/requirements/few.txt").write_text("two\n")
    assert (call(tree, make).stdout, made(tree)) == (first.stdout, 2)


def test_two_runs_at_once_make_one_environment(tree: Path) -> None:
    make = "environment few ../python few.txt"
    result = call(tree, f"{make} & {make} & wait", PIP="sleep 0.1")
    assert (len(set(result.stdout.splitlines())), made(tree)) == (1, 1)


def test_what_cannot_be_installed_is_no_environment_and_is_said(tree: Path) -> None:
    result = call(tree, "environment few ../python few.txt; echo never", PIP="echo no such package; exit 1")
    assert result.returncode == 1
    assert "no such package" in result.stderr
    assert "never" not in result.stdout
    assert not (tree.parent / "cache/venv/few").exists()


def test_half_an_environment_of_a_killed_run_is_made_again(tree: Path) -> None:
    half = tree.parent / "cache/venv/few"
    (half / "bin").mkdir(parents=True)
    (tree.parent / "cache/venv/few.new.4711").mkdir()
    result = call(tree, "environment few ../python few.txt")
    assert (result.stdout.strip(), made(tree)) == (str(half), 1)
    assert not list(half.parent.glob("*.new.*"))


def test_a_copy_has_what_would_be_committed(tree: Path) -> None:
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    (tree / ".gitignore").write_text("*.log\n")
    (tree / "made.log").write_text("")
    (tree / "a name\nof two lines").write_text("")
    # the last file of the list is the one that is gone
    (tree / "tests/tools/zz").write_text("")
    subprocess.run(["git", "add", "tests/tools/zz"], cwd=tree, check=True)
    (tree / "tests/tools/zz").unlink()
    result = call(tree, "use_checkout; copy_tree x")
    assert result.returncode == 0, result.stderr
    copy = Path(result.stdout.strip())
    assert copy.parts[-3:] == ("ansible_collections", "pixels", "sandbox")
    assert (copy / "a name\nof two lines").exists()
    assert (copy / "tests/tools/stages.sh").exists()
    assert not (copy / "made.log").exists()


def test_a_stage_does_not_go_on_without_a_copy(tree: Path) -> None:
    shutil.copy(ROOT / "run", tree / "run")
    stages = "stage_limit() { echo 1; }\nstage_beside() { echo 0; }\nstage_copies() { local copy; copy=$(copy_tree x); echo never; }\n"
    (tree / "tests/tools/stages.sh").write_text(stages)
    result = call(tree, "./run test copies", GIT_CEILING_DIRECTORIES=str(tree.parent))
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == "0 passed, 1 failed"
    assert "never" not in result.stdout


def test_the_repository_of_a_hook_of_git_is_left_alone(tree: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tree, check=True)
    other = tree.parent / "other"
    subprocess.run(["git", "init", "--quiet", other], check=True)
    before = sorted(path.name for path in (other / ".git").iterdir())
    result = call(
        tree, "use_checkout; copy_tree x", GIT_DIR=str(other / ".git"), GIT_INDEX_FILE=str(other / ".git/index")
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (other / ".git").iterdir()) == before


def test_the_interpreter_of_a_version_is_a_real_one(tree: Path) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = call(tree, f"first_python 2.7 {version} 3.10 3.11 3.12 3.13")
    assert found.returncode == 0
    assert "shims" not in found.stdout
    assert call(tree, "first_python 2.7").returncode == 1


@pytest.mark.parametrize(
    ("there", "oldest", "newest"),
    [
        ("3.10 3.11 3.12 3.13", "2.17 3.10", "2.21 3.13"),
        ("3.11", "2.17 3.11", "2.19 3.11"),
        ("3.12", "2.17 3.12", "2.21 3.12"),
        ("3.13", "2.18 3.13", "2.21 3.13"),
    ],
)
def test_the_cores_that_are_checked_are_those_that_the_pythons_carry(
    tree: Path, there: str, oldest: str, newest: str
) -> None:
    pretend = f'find_python() {{ case " {there} " in *" $1 "*) echo /python$1 ;; *) return 1 ;; esac; }}; '
    result = call(tree, f"{pretend} oldest_core; newest_core")
    assert result.stdout.splitlines() == [oldest, newest]
    assert ("checking with" in result.stderr) == (oldest[:4] != "2.17" or newest[:4] != "2.21")


def test_a_machine_without_a_python_that_carries_a_core_says_so(tree: Path) -> None:
    result = call(tree, "find_python() { return 1; }; oldest_core")
    assert result.returncode == 1
    assert "no Python here" in result.stderr
