# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What safe-apt lets through, what it makes of it for APT, and what of its caller it forgets; the attacks in a guest are a story."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/safe_apt/files/safe_apt.py"
KNOWN = ("jq", "g++", "sudo", "python3.13-venv", "libc6")


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("safe_apt", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Apt:
    """An APT that knows a few packages, and says of each command what it would remove."""

    def __init__(self, removed: str = "") -> None:
        self.removed = removed
        self.commands: list[list[str]] = []
        self.environments: list[object] = []

    def run(self, command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        """Do what the programs of APT would do."""
        self.commands.append(command)
        self.environments.append(how["env"])
        assert how["stdin"] == subprocess.DEVNULL
        text = ""
        if command[0] == "/usr/bin/apt-cache":
            # as APT does: all that begin with it
            text = "".join(f"{name}\n" for name in KNOWN if name.startswith(command[-1]))
        elif "--simulate" in command:
            text = "".join(f"Remv {name} [1]\n" for name in self.removed.split())
        return subprocess.CompletedProcess(command, 0, text, "")

    def carry_out(self, command: list[str]) -> int:
        """Do what would be done in earnest."""
        self.commands.append(command)
        return 0


Try = Callable[..., Apt]


@pytest.fixture
def attempt(program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Try:
    """Return a function that runs the program as root would, and returns what APT was told."""
    (tmp_path / "settings").write_text(json.dumps({"protected": ["sudo", "nftables"]}))
    monkeypatch.setattr(program, "SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setattr(program, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(program, "forget_caller", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chdir", lambda _folder: None)

    def run(*words: str, removed: str = "") -> Apt:
        apt = Apt(removed)
        monkeypatch.setattr(program.subprocess, "run", apt.run)
        monkeypatch.setattr(program, "carry_out", apt.carry_out)
        monkeypatch.setattr(sys, "argv", ["safe-apt", *words])
        with contextlib.suppress(SystemExit):
            program.main()
            raise AssertionError("it has to end itself")
        return apt

    return run


def done(apt: Apt) -> list[list[str]]:
    """Return the commands that would change something."""
    return [command for command in apt.commands if command[0] == "/usr/bin/apt-get" and "--simulate" not in command]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("",),
        ("--",),
        ("-y", "install", "jq"),
        ("INSTALL", "jq"),
        ("Install", "jq"),
        ("inst", "jq"),
        ("purge", "jq"),
        ("autoremove",),
        ("dist-upgrade",),
        ("full-upgrade",),
        ("reinstall", "jq"),
        ("satisfy", "jq"),
        ("install",),
        ("install", "--"),
        ("install", ""),
        ("install", "-"),
        ("install", "-y"),
        ("install", "--", "-y"),
        ("install", "--", "-oAPT::Update::Pre-Invoke::=id", "jq"),
        ("install", "jq", "-oDPkg::Pre-Invoke::=id"),
        ("install", "jq", "-o", "DPkg::Pre-Invoke::=id"),
        ("install", "jq", "-qoDPkg::Pre-Invoke::=id"),
        ("install", "jq", "--opt=DPkg::Pre-Invoke::=id"),
        ("install", "jq", "--OPTION=DPkg::Pre-Invoke::=id"),
        ("install", "jq", "-c/tmp/x"),
        ("install", "jq", "--config=/tmp/x"),
        ("install", "jq", "--config-file", "/tmp/x"),
        ("install", "-yq", "jq"),
        ("install", "-y=false", "jq"),
        ("install", "-Y", "jq"),
        ("install", "--yes", "jq"),
        ("install", "--dry", "jq"),
        ("install", "--Dry-Run", "jq"),
        ("install", "--dry-run=no", "jq"),
        ("install", "--allow-unauthenticated", "jq"),
        ("install", "-t", "testing", "jq"),
        ("install", "-tjq"),
        ("install", "\N{EN DASH}y", "jq"),
        ("install", "\N{MINUS SIGN}o", "jq"),
        ("update", "jq"),
        ("update", "-y"),
        ("upgrade", "jq"),
        ("upgrade", "--no-install-recommends"),
        ("remove", "--purge", "jq"),
        ("remove", "--auto-remove", "jq"),
        *(
            ("install", name)
            for name in (
                "./jq",
                "/jq",
                "../jq",
                "jq/stable",
                "jq/",
                "a.deb",
                "a.ddeb",
                "a.udeb",
                "a.dsc",
                "a.changes",
                "./a.deb",
                "/tmp/a.deb",
                "jq.deb=1",
                "jq.deb:amd64",
                "http://192.0.2.1/a.deb",
                "file:/tmp/a.deb",
                "jq-",
                "jq+",
                "g+",
                "sudo-",
                "sudo:amd64-",
                "jq:",
                "jq:amd64:amd64",
                "jq:AMD64",
                "jq=",
                "jq==1",
                "jq=1=2",
                "jq=1 -oX=y",
                "jq=$(id)",
                "jq=1/x",
                "j*",
                "j?",
                "^jq$",
                "j.",
                ".q",
                ".*",
                "jq|sudo",
                "jq,sudo",
                "jq sudo",
                "jq;id",
                "jq\n",
                "\njq",
                "jq\tx",
                "jq ",
                " jq",
                "JQ",
                "Jq",
                "~njq",
                "?name(jq)",
                "task^",
                "@/etc/passwd",
                "%jq",
                "j\N{COMBINING ACUTE ACCENT}q",
                "\N{FULLWIDTH LATIN SMALL LETTER J}q",
                "jq\N{ZERO WIDTH SPACE}",
                "jq\N{NO-BREAK SPACE}",
                "\N{ARABIC-INDIC DIGIT ONE}q",
                "jq\udcff",
                "unheard-of",
                "python3.13",
                "a" * 100_000,
            )
        ),
        ("install", "jq", "./jq"),
        ("remove", "jq=1"),
        ("remove", "jq+"),
        ("remove", "sudo-"),
    ],
    ids=ascii,
)
def test_what_is_not_known_is_refused(attempt: Try, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    apt = attempt(*words)
    assert done(apt) == []
    assert not [command for command in apt.commands if "--simulate" in command]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("update",), ["update"]),
        (("upgrade",), ["upgrade", "--no-remove", "--yes", "--"]),
        (("upgrade", "-y", "-q"), ["upgrade", "--no-remove", "--yes", "-q", "--"]),
        (("install", "jq"), ["install", "--no-remove", "--yes", "--", "jq"]),
        (("install", "jq", "-y", "--", "g++"), ["install", "--no-remove", "--yes", "--", "jq", "g++"]),
        (
            ("install", "--no-install-recommends", "jq:amd64=1.7-1~deb13u1", "python3.13-venv"),
            [
                "install",
                "--no-remove",
                "--yes",
                "--no-install-recommends",
                "--",
                "jq:amd64=1.7-1~deb13u1",
                "python3.13-venv",
            ],
        ),
        (("remove", "jq"), ["remove", "--yes", "--", "jq"]),
    ],
)
def test_what_apt_is_told(program: ModuleType, attempt: Try, words: tuple[str, ...], told: list[str]) -> None:
    (command,) = done(attempt(*words))
    assert command == ["/usr/bin/apt-get", *program.OPTIONS, *told]


@pytest.mark.parametrize(
    ("words", "removed", "done_all_the_same"),
    [
        (("remove", "jq"), "jq", True),
        (("remove", "jq"), "jq sudo", False),
        (("remove", "libc6"), "sudo:amd64 libc6", False),
        (("install", "jq"), "exim4", False),
        # a version with a hyphen at its end is a removal to APT
        (("install", "sudo=1-"), "sudo", False),
        (("install", "jq=1-"), "jq", False),
        (("upgrade",), "jq", False),
    ],
)
def test_nothing_goes_that_must_stay_or_was_not_named(
    attempt: Try, words: tuple[str, ...], removed: str, done_all_the_same: bool
) -> None:
    assert bool(done(attempt(*words, removed=removed))) == done_all_the_same


def test_apt_gets_an_environment_of_ours(program: ModuleType, attempt: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "APT_CONFIG",
        "DPKG_ROOT",
        "LD_PRELOAD",
        "DEBIAN_FRONTEND",
        "PAGER",
        "http_proxy",
        "TMPDIR",
        "PERL5OPT",
    ):
        monkeypatch.setenv(name, "/tmp/evil")
    apt = attempt("install", "jq")
    assert apt.environments == [program.ENVIRONMENT] * (len(apt.commands) - 1)
    assert "/tmp/evil" not in program.ENVIRONMENT.values()


def run_below(prepare: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    """Have the program forget its caller, who has prepared something, and say what is left of that."""
    script = f"""
import importlib.util, resource, signal
spec = importlib.util.spec_from_file_location("safe_apt", {str(PROGRAM)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.forget_caller()
print(signal.getsignal(signal.SIGCHLD).name, len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), resource.getrlimit(resource.RLIMIT_FSIZE))
"""
    return subprocess.run(
        [sys.executable, "-IB", "-c", script],
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_how_the_caller_takes_signals_and_what_it_limits_is_forgotten() -> None:
    def prepare() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    said = run_below(prepare)
    assert (said.stdout, said.stderr) == ("SIG_DFL 0 (-1, -1)\n", "")


@pytest.mark.parametrize("limit", ["CPU", "FSIZE"])
def test_nothing_is_done_below_a_limit_that_cannot_be_lifted(limit: str) -> None:
    said = run_below(lambda: resource.setrlimit(getattr(resource, f"RLIMIT_{limit}"), (60, 60)))
    assert said.returncode != 0
    assert "it does nothing below limits" in said.stderr


LOADED = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("safe_apt", {str(PROGRAM)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.exit(module.carry_out(["/bin/sh", "-c", sys.argv[1]]))
"""


def on_terminal(script: str, *, hang_up: str = "") -> tuple[int, str]:
    """Have the program carry a script out, below somebody with a terminal, who hangs up when the text is seen."""
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-IB", "-c", LOADED, script])  # noqa: S606
    seen = b""
    with contextlib.suppress(OSError):
        while not hang_up or hang_up.encode() not in seen:
            chunk = os.read(terminal, 4096)
            if not chunk:
                break
            seen += chunk
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen.decode()


def test_what_is_done_has_no_terminal_and_an_environment_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIL", "evil")
    script = 'for fd in 0 1 2; do [ ! -t $fd ] || echo terminal; done; (: < /dev/tty) 2> /dev/null && echo terminal; echo "$EVIL$HOME" >&2; exit 3'
    assert on_terminal(script) == (3, "/root\r\n")


def test_what_has_begun_is_ended_when_its_user_goes(tmp_path: Path) -> None:
    rc, _seen = on_terminal(f"echo begun; sleep 1; echo more; echo > {tmp_path}/ended", hang_up="begun")
    assert rc == 0
    assert (tmp_path / "ended").exists()


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for() -> None:
    began = time.monotonic()
    rc, seen = on_terminal("sleep 60 & echo $!")
    assert rc == 0
    assert time.monotonic() - began < 30
    os.kill(int(seen), signal.SIGKILL)
