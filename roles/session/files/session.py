# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named sessions that outlive the one who looks at them: one interface over tmux and zmx.

px-session list                                      the sessions, as JSON
px-session attach [NAME]                             enter a session; a login shell is started where there is none
px-session start [--chdir DIR] NAME [-- COMMAND...]  start a session without entering it
px-session stop NAME                                 end a session

A session gets the environment of what starts it. Run by root, all of it happens as the user of the settings.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NoReturn

SETTINGS = "/etc/pixels/session.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,61}")
#: What belongs to the one who starts a session, and not to the session.
OURS = ("PIXELS_EXEC_ID", "PWD", "OLDPWD", "SHLVL", "_", "TMUX", "TMUX_PANE", "ZMX_SESSION", "XDG_RUNTIME_DIR", "TERM")


def fail(text: str) -> NoReturn:
    """End with a message."""
    sys.exit(f"px-session: {text}")


def moment(seconds: str) -> str:
    """Return seconds of the epoch as a time in UTC."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program that holds sessions.

    What it has in its environment may come to all of them: it gets nothing that is secret.
    """
    keep = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG")
    env = {"LANG": "C.UTF-8", **{key: os.environ[key] for key in keep if key in os.environ}}
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


class Tmux:
    """Sessions of tmux, on a server of their own. A program that has ended stays listed with its exit code."""

    #: The name comes last: it can have anything that a user thinks of.
    FORMAT = "#{pane_dead}|#{pane_dead_status}|#{session_attached}|#{session_created}|#{session_name}"

    def command(self, *arguments: str) -> list[str]:
        """Return a command line for our server."""
        return ["tmux", "-L", "pixels", "-f", "/etc/pixels/tmux.conf", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of tmux."""
        return call(self.command(*arguments))

    def sessions(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each session."""
        found: dict[str, dict[str, Any]] = {}
        for line in self.run("list-panes", "-a", "-F", self.FORMAT).stdout.splitlines():
            dead, status, attached, created, name = line.split("|", 4)
            entry = found.setdefault(name, {"attached": attached != "0", "created_at": moment(created)})
            if dead != "1":
                entry.update(state="running", exit_code=None)
            elif entry.get("state") != "running":
                entry.update(state="exited", exit_code=int(status) if status else None)
        return found

    def start(self, name: str, folder: str, command: Sequence[str]) -> str:
        """Start a session; return what went wrong."""
        done = self.run("new-session", "-d", "-s", name, "-c", folder, "-x", "200", "-y", "50", "--", *command)
        return done.stderr.strip() if done.returncode else ""

    def stop(self, name: str) -> None:
        """End a session."""
        self.run("kill-session", "-t", f"={name}")

    def attach(self, name: str) -> None:
        """Become the program that shows a session."""
        command = self.command("attach-session", "-t", f"={name}")
        os.execvp(command[0], command)


class Zmx:
    """Sessions of zmx 0.5. It must not see XDG_RUNTIME_DIR: root and users would look in different places."""

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of zmx."""
        return call(["zmx", *arguments])

    def sessions(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each session."""
        found: dict[str, dict[str, Any]] = {}
        for line in self.run("list").stdout.splitlines():
            told = dict(field.split("=", 1) for field in line.split("\t") if "=" in field)
            ended, status = "ended" in told, told.get("exit_code", "")
            found[told["name"]] = {
                "state": "exited" if ended else "running",
                # a program that has just ended may have none yet
                "exit_code": int(status) if ended and status else None,
                "attached": told.get("clients", "0") != "0",
                "created_at": moment(told["created"]) if told.get("created", "").isdigit() else None,
            }
        return found

    def start(self, name: str, folder: str, command: Sequence[str]) -> str:
        """Start a session; return what went wrong."""
        os.chdir(folder)
        done = self.run("run", name, *command)
        return (done.stderr.strip() or f"zmx ended with {done.returncode}") if done.returncode else ""

    def stop(self, name: str) -> None:
        """End a session."""
        self.run("kill", name)

    def attach(self, name: str) -> None:
        """Become the program that shows a session."""
        os.environ.pop("XDG_RUNTIME_DIR", None)
        os.execvp("zmx", ["zmx", "attach", name])


def start(tool: Tmux | Zmx, name: str, folder: str, command: Sequence[str]) -> None:
    """Start a session unless it runs; one that has ended makes room."""
    there = tool.sessions().get(name)
    if there and there["state"] == "running":
        return
    if there:
        tool.stop(name)
    # the environment goes by a file that the session removes: arguments can be read by everybody
    env = {key: value for key, value in os.environ.items() if key not in OURS}
    handle, path = tempfile.mkstemp(prefix=".px-session-", dir=os.environ["HOME"])
    with open(handle, "w", encoding="utf-8") as file:
        json.dump({"env": env, "command": command}, file)
    problem = tool.start(name, folder, ["/usr/local/bin/px-session", "_run", path])
    if problem:
        os.unlink(path)
        if tool.sessions().get(name, {}).get("state") != "running":
            fail(f"session {name} cannot be started: {problem}")


def run(path: str) -> None:
    """Be the program of a session."""
    with open(path, encoding="utf-8") as file:
        told = json.load(file)
    os.unlink(path)
    os.environ.update(told["env"])
    # a login shell in front gives the variables of the profile
    login = ["bash", "-l", "-c", 'exec "$@"', "bash", *told["command"]] if told["command"] else ["bash", "-l"]
    os.execvp("bash", login)


def become(user: str) -> None:
    """Go on as the user, when run by root, on the same terminal."""
    account = pwd.getpwnam(user)
    if os.getuid() != 0 or account.pw_uid == 0:
        return
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name, SHELL=account.pw_shell)
    os.environ.pop("XDG_RUNTIME_DIR", None)
    os.chdir(account.pw_dir)


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb == "_run":
        run(*rest)
    with open(SETTINGS, encoding="utf-8") as file:
        settings = json.load(file)
    become(settings["user"])
    tool: Tmux | Zmx = Zmx() if settings["tool"] == "zmx" else Tmux()
    folder = os.environ["HOME"]
    if verb == "start" and rest[:1] == ["--chdir"]:
        folder, rest = rest[1], rest[2:]
    name = rest[0] if rest else "console"
    if verb == "list" and not rest:
        print(json.dumps([{"name": key, **entry} for key, entry in sorted(tool.sessions().items())]))
    elif not NAME.fullmatch(name) or rest[1:2] not in ([], ["--"]):
        fail("the name of a session has letters, digits, underscores and hyphens; a command comes after --")
    elif verb == "attach" and not rest[1:]:
        start(tool, name, folder, [])
        tool.attach(name)
    elif verb == "start" and rest:
        start(tool, name, folder, rest[2:])
    elif verb == "stop" and rest and not rest[1:]:
        tool.stop(name)
    else:
        fail(__doc__.split("\n", 2)[2])


if __name__ == "__main__":
    main(sys.argv[1:])
