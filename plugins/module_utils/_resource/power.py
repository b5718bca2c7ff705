# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Starting and stopping a sandbox, with what can go wrong on the way."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    DeadlineExceeded,
    NotFound,
    OperationFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import RUNNING, STOPPED, ExecRequest, Instance

#: How long a guest may take to shut down; those that have just installed packages need it.
GRACEFUL_SECONDS = 120.0
_FORCED_SECONDS = 30.0
_POLL_SECONDS = 0.2
#: Waits for systemd to have started everything; a guest without it is ready when it can run a command. One that was started just now
#: answers nothing yet.
BOOTED = """\
case $(readlink -f /sbin/init) in
  */systemd)
    while
      state=$(systemctl is-system-running --wait 2> /dev/null)
      case $state in "" | offline | unknown) ;; *) false ;; esac
    do
      sleep 0.1
    done
    echo "$state"
    ;;
  *) echo running ;;
esac
"""


def start(backend: Backend, name: str, deadline: Deadline) -> None:
    """Start a sandbox; one that another run has started meanwhile is success."""
    try:
        backend.set_power(name, "start", deadline)
    except ApiError:
        found = backend.get_instance(name)
        if found is None or found.status != RUNNING:
            raise


def await_address(
    look: Callable[[], Instance | None],
    what: str,
    deadline: Deadline,
    gets_none: Callable[[Instance], bool] = lambda _found: False,
) -> None:
    """Wait until an instance that was started has an address; look reads it, and gets_none says of it that it never has one."""
    while True:
        found = look()
        if found is None or found.status == STOPPED:
            raise OperationFailed(f"{what} stopped again right after its start; the server's log of it says why")
        if found.addresses or gets_none(found):
            return
        deadline.pause(_POLL_SECONDS, f"{what} has no address")


def await_ready(backend: Backend, name: str, deadline: Deadline) -> None:
    """Wait until a running guest has finished its start."""
    result = backend.execute(name, ExecRequest(("/bin/sh", "-c", BOOTED), cwd="/", output_limit=100), deadline)
    state = result.stdout.decode("utf-8", "replace").strip()
    if result.timed_out:
        raise DeadlineExceeded(f"{name} has not finished its start after {deadline.seconds:g} s")
    if state not in ("running", "degraded"):
        raise OperationFailed(f"{name} did not become ready: it says {state or 'nothing'}")


def stop(backend: Backend, name: str, deadline: Deadline, force: bool) -> None:
    """Shut a guest down, and switch it off when it does not follow in time; force switches it off at once.

    A sandbox that is stopped or gone meanwhile is success.
    """
    try:
        if not force:
            try:
                backend.set_power(name, "stop", Deadline(deadline.slice(GRACEFUL_SECONDS)))
            except (OperationFailed, DeadlineExceeded):
                # switching off has a budget of its own: the shutdown may have used up all there was
                deadline = Deadline(_FORCED_SECONDS)
            else:
                return
        backend.set_power(name, "stop", deadline, force=True)
    except NotFound:
        return
    except ApiError:
        found = backend.get_instance(name)
        if found is not None and found.status != STOPPED:
            raise
