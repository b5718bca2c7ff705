# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is done inside a builder: packages and script, the traces of it removed, a test."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import OperationFailed, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.lineage import Definition
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import power

#: How much of a script's output is kept with a failed base, in bytes, and how much of it a result has.
TAIL_BYTES = 4096
_OUTPUT_BYTES = 2**20
_SCRIPT = "/root/.pixels-build"
#: Where a build says which one it is; its clones have it too.
SEAL = "/etc/pixels-base"
#: What a package manager says that another one keeps waiting, and how often and how far apart it is asked.
_BUSY = re.compile(r"Could not get lock|Unable to (?:acquire|lock)|is another process using it")
_BUSY_TRIES, _BUSY_SECONDS = 3, 10.0
#: What APT does by itself takes this lock, and what is done under it waits for that, and keeps it away.
_LOCKED = """
if command -v flock > /dev/null && [ -d /var/lib/apt ]; then exec flock -w 600 /var/lib/apt/daily_lock "$@"; fi
exec "$@"
"""
_MERGED = 'exec "$@" 2>&1'
_INSTALL = """
set -e
apt-get -q -o DPkg::Lock::Timeout=600 update
exec apt-get -q -y -o DPkg::Lock::Timeout=600 --no-install-recommends install "$@"
"""
#: Host keys are emptied and not removed: a clone gets a new one for each that it finds.
_GENERALISE = """
set -eu
rm -f /root/.pixels-build
rm -rf /var/lib/apt/lists/* /var/lib/apt/periodic/*-stamp /var/cache/apt/archives/*.deb /var/cache/apt/*.bin
# by this time who installs a package knows that there are no lists
if [ -d /var/lib/apt/lists ]; then touch -d 1970-01-02 /var/lib/apt/lists; fi
if command -v journalctl > /dev/null && [ -d /run/systemd/system ]; then journalctl --relinquish-var; fi
rm -rf /var/log/journal/*
find /var/log -xdev -type f \\( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' \\) -delete
find /var/log -xdev -type f -exec truncate -s 0 {} +
find /tmp /var/tmp -xdev -mindepth 1 -delete 2> /dev/null || true
for home in /root /home/*; do
  rm -rf "$home"/.ansible "$home"/.*_history "$home"/.lesshst "$home"/.wget-hsts
done
rm -rf /root/.cache /root/.npm/_logs
: > /etc/machine-id
if [ ! -L /var/lib/dbus/machine-id ]; then rm -f /var/lib/dbus/machine-id; fi
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/dhcp/*
for key in /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub; do
  if [ -f "$key" ]; then : > "$key"; fi
done
"""


class BuildFailed(OperationFailed):
    """What was run in a builder did not end well; log is what it printed."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log

    def result(self) -> dict[str, object]:
        """Return what it printed."""
        return {"log": self.log}


def boot(backend: Backend, name: str, deadline: Deadline) -> None:
    """Start a builder and wait until it has an address and has finished its start."""
    power.start(backend, name, deadline)
    power.await_address(lambda: backend.get_instance(name), name, deadline, lambda found: not found.network)
    power.await_ready(backend, name, deadline)


def fill(backend: Backend, name: str, definition: Definition, deadline: Deadline) -> str:
    """Install the packages and run the script of a definition, and return what they printed; BuildFailed where one fails."""
    log = ""
    env = {key: str(value) for key, value in definition.variables.items()}
    if definition.packages:
        log = _install(backend, name, definition.packages, deadline)
    if definition.script is not None:
        backend.write_file(name, _SCRIPT, io.BytesIO(definition.script.encode()), 0o700)
        argv = (_SCRIPT,) if definition.script.startswith("#!") else ("/bin/sh", "-e", _SCRIPT)
        log = _run(backend, name, "the script", argv, env, deadline, log)
    return log


def _install(backend: Backend, name: str, packages: tuple[str, ...], deadline: Deadline) -> str:
    """Install packages; where another package manager is at work, again. Nothing else is tried twice."""
    argv = ("/bin/sh", "-c", _INSTALL, "sh", *packages)
    log = ""
    for turn in range(1, _BUSY_TRIES + 1):
        try:
            return _run(backend, name, "the installation of the packages", argv, {"LC_ALL": "C"}, deadline, log)
        except BuildFailed as exc:
            if turn == _BUSY_TRIES or not _BUSY.search(exc.log.removeprefix(log)):
                raise
            log = exc.log
            deadline.pause(_BUSY_SECONDS, f"{name}: another package manager is at work")
    return log


def seal_text(lineage: str, seal: str) -> bytes:
    """Return what a build has in the file SEAL."""
    return f"{lineage} {seal}\n".encode()


def generalise(backend: Backend, name: str, smoke: str | None, deadline: Deadline, log: str = "") -> str:
    """Remove what belongs to this one machine and to its making, and test what is left; return what was printed."""
    argv = ("/bin/sh", "-c", _GENERALISE)
    log = _run(backend, name, "the generalisation", argv, {}, deadline, log)
    if smoke:
        log = _run(backend, name, "the smoke test", ("/bin/sh", "-c", smoke), {}, deadline, log)
        log = _run(backend, name, "the generalisation", argv, {}, deadline, log)
    return log


def tail(exc: PixelsError) -> str:
    """Return the end of what a failed build printed."""
    log = exc.log if isinstance(exc, BuildFailed) else ""
    return log.encode()[-TAIL_BYTES:].decode("utf-8", "ignore")


def _run(
    backend: Backend,
    name: str,
    what: str,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    deadline: Deadline,
    log: str,
) -> str:
    """Run a command with the locks of package managers held, and return the log with what it printed at its end."""
    request = ExecRequest(
        ("/bin/sh", "-c", _MERGED, "sh", "/bin/sh", "-c", _LOCKED, "sh", *argv),
        cwd="/",
        env={"DEBIAN_FRONTEND": "noninteractive", **env},
        output_limit=_OUTPUT_BYTES,
    )
    result = backend.execute(name, request, deadline)
    log += result.stdout.decode("utf-8", "replace")
    if result.timed_out:
        raise BuildFailed(f"{what} was killed after {deadline.seconds:g} s", log)
    if result.rc:
        end = " | ".join(log.strip().splitlines()[-3:])
        raise BuildFailed(f"{what} ended with {result.rc}: {end}", log)
    return log
