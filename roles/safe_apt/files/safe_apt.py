# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages for a user who may not be root: what is not allowed here is refused.

safe-apt update
safe-apt upgrade [-y] [-q] [--dry-run]
safe-apt install [-y] [-q] [--no-install-recommends] [--dry-run] NAME[:ARCHITECTURE][=VERSION]...
safe-apt remove  [-y] [-q] [--dry-run] NAME[:ARCHITECTURE]...

Names are those of packages of the archives; no files, no patterns. Nothing is removed that the system or its confinement needs.
Questions of packages are answered with what is there: changed configuration files are kept. There is no terminal to ask or to page on, and
what has begun is ended when its user goes. What packages do while they are installed they do as root, which is why the archives that can be
reached are chosen outside this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
from typing import NoReturn

SETTINGS = "/etc/pixels/safe-apt.json"
LOCK = "/run/pixels-safe-apt.lock"
FLAGS = {
    "update": (),
    "upgrade": ("-y", "-q", "--dry-run"),
    "install": ("-y", "-q", "--no-install-recommends", "--dry-run"),
    "remove": ("-y", "-q", "--dry-run"),
}
#: A hyphen at the end would mean removal to APT.
PACKAGE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]*[a-z0-9+])(?P<architecture>:[a-z0-9]+)?(?P<version>=[A-Za-z0-9.+:~-]+)?"
)
FILES = (".deb", ".ddeb", ".udeb", ".dsc", ".changes")
#: All that APT and the scripts of packages get.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "NEEDRESTART_SUSPEND": "1",
    "PAGER": "cat",
}
LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)
OPTIONS = (
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
    # else APT would make a terminal of its own for them, on which nobody ever answers
    "--option=Dpkg::Use-Pty=false",
    "--option=DPkg::Lock::Timeout=300",
    "--option=APT::Get::AllowUnauthenticated=false",
    "--option=Acquire::AllowInsecureRepositories=false",
    "--option=Acquire::AllowDowngradeToInsecureRepositories=false",
)


def fail(text: str) -> NoReturn:
    """End with a message and nothing done."""
    sys.exit(f"safe-apt: {text}")


def forget_caller() -> None:
    """Undo what a process leaves to its children and no environment shows: how signals are taken, and limits.

    With signals of children ignored nobody learns how APT ended, and below a limit it writes half of a file.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for limit in LIMITS:
        hard = resource.getrlimit(limit)[1]
        if hard != resource.RLIM_INFINITY:
            fail("it does nothing below limits (ulimit): begin a new session")
        resource.setrlimit(limit, (hard, hard))


def call(program: str, *arguments: str) -> str:
    """Run a program of APT and return what it prints."""
    done = subprocess.run(
        [f"/usr/bin/{program}", *arguments],
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stdout.write(done.stdout)
        fail(f"{program} refuses it")
    return done.stdout


def carry_out(command: list[str]) -> int:
    """Run a command to its end, away from the terminal of the user, pass on what it prints, and return its exit code."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGQUIT, signal.SIGTERM):
        # a function, since what is ignored is ignored by the command too
        signal.signal(number, lambda *_: None)
    output, theirs = os.pipe()
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        while True:
            ended = process.poll() is not None
            if select.select([output], [], [], 0 if ended else 0.2)[0]:
                chunk = os.read(output, 1 << 16)
                if not chunk:
                    break
                pass_on(chunk)
            elif ended:
                # a daemon that was started may keep it open
                break
    return process.returncode


def pass_on(chunk: bytes) -> None:
    """Print bytes, if there is somebody left to read them."""
    with contextlib.suppress(OSError):
        while chunk:
            chunk = chunk[os.write(sys.stdout.fileno(), chunk) :]


def parsed(arguments: list[str]) -> tuple[str, list[str], list[str]]:
    """Return verb, flags and names, or end with what is wrong."""
    if not arguments or arguments[0] not in FLAGS:
        fail(f"the first word is one of {', '.join(FLAGS)}")
    verb, rest = arguments[0], arguments[1:]
    flags = [word for word in rest if word.startswith("-") and word != "--"]
    names = [word for word in rest if not word.startswith("-")]
    for flag in flags:
        if flag not in FLAGS[verb]:
            fail(f"{verb} does not take {flag!r}; it takes {', '.join(FLAGS[verb]) or 'no options'}")
    if bool(names) != (verb in ("install", "remove")):
        fail(f"{verb} needs names of packages" if not names else f"{verb} takes no names")
    for name in names:
        found = PACKAGE.fullmatch(name)
        if not found or name.endswith(FILES) or (found["version"] and verb == "remove"):
            fail(f"{name!r} is not the name of a package")
    return verb, flags, names


def check_known(names: list[str]) -> None:
    """End unless each is the very name of a package: APT takes others for patterns, or for a name with a command at its end."""
    for name in names:
        # nothing in front of these begins one
        word = re.split("[:=]", name)[0]
        if word not in call("apt-cache", "pkgnames", "--all-names", word).split():
            fail(f"no package is called {word!r}; is the list of packages up to date?")


def check_removals(arguments: list[str]) -> None:
    """End when it would remove what must stay."""
    with open(SETTINGS, encoding="utf-8") as file:
        protected = set(json.load(file)["protected"])
    plan = call("apt-get", "--simulate", *OPTIONS, *arguments)
    gone = {line.split()[1].split(":")[0] for line in plan.splitlines() if line.startswith(("Remv ", "Purg "))}
    if gone & protected:
        fail(f"it would remove {', '.join(sorted(gone & protected))}, which must stay")
    if gone and arguments[0] != "remove":
        fail(f"it would remove {', '.join(sorted(gone))}: remove that first")


def main() -> None:
    """Check everything, then let APT do it."""
    verb, flags, names = parsed(sys.argv[1:])
    if os.geteuid() != 0:
        fail("it needs sudo: sudo safe-apt ...")
    forget_caller()
    os.umask(0o022)
    # one at a time: what was simulated is what is done
    lock = os.open(LOCK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    check_known(names)
    arguments = [verb, "--yes", *(flag for flag in flags if flag != "-y"), "--", *names]
    if verb == "update":
        arguments = ["update"]
    else:
        check_removals(arguments)
        if verb != "remove":
            arguments.insert(1, "--no-remove")
    os.chdir("/")
    sys.exit(carry_out(["/usr/bin/apt-get", *OPTIONS, *arguments]))


if __name__ == "__main__":
    main()
