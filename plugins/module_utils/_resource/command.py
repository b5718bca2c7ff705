# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A command in a sandbox, as a plan of one step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import RUNNING, ExecRequest, ExecResult
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import (
    Clock,
    utc_now,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import refuse_foreign

#: Runs what follows as a login would, with the variables that the guest gives to it.
LOGIN = ("/bin/sh", "-lc", 'exec "$@"', "sh")
#: The user that agents work as, where the sandbox has it.
AGENT = "pixel"


class CommandFailed(PixelsError):
    """The command was run, and did not end well."""

    def __init__(self, message: str, outcome: Mapping[str, object]) -> None:
        super().__init__(message)
        self.outcome = outcome

    def result(self) -> dict[str, object]:
        """Return what the command printed and how it ended."""
        return dict(self.outcome)


@dataclass(frozen=True)
class Command:
    """What a task of pixels_exec wants; creates and removes are absolute paths in the guest."""

    name: str
    request: ExecRequest
    user: str | None
    creates: str | None
    removes: str | None
    timeout: float


def command_from(params: Mapping[str, Any]) -> Command:
    """Return what the options want; ConfigError for what is illegal or contradictory."""
    if params["timeout"] <= 0:
        raise ConfigError(f"timeout {params['timeout']} is not above zero")
    if params["max_output"] < 0:
        raise ConfigError(f"max_output {params['max_output']} is below zero")
    for option in ("creates", "removes", "chdir"):
        if params[option] is not None and not params[option].startswith("/"):
            raise ConfigError(f"{option} {params[option]!r} is not an absolute path")
    if params["argv"] is not None and not params["argv"]:
        raise ConfigError("argv is empty")
    if params["cmd"] is not None and not params["cmd"].strip():
        raise ConfigError("cmd is empty")
    argv = tuple(params["argv"]) if params["argv"] else ("/bin/sh", "-c", params["cmd"])
    if params["login"]:
        argv = (*LOGIN, *argv)
    return Command(
        name=names.sandbox_name(params["name"]),
        request=ExecRequest(
            argv,
            cwd=params["chdir"],
            env=environment(params),
            stdin=(params["stdin"] or "").encode("utf-8", "surrogateescape"),
            output_limit=params["max_output"],
        ),
        user=params["user"],
        creates=params["creates"],
        removes=params["removes"],
        timeout=float(params["timeout"]),
    )


def environment(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that the options give: those of the controller that are set there, and those with a value."""
    forwarded = [names.env_name(name, "env_forward") for name in params["env_forward"] or ()]
    env = {name: os.environ[name] for name in forwarded if name in os.environ}
    return {**env, **{names.env_name(str(key)): str(value) for key, value in (params["env"] or {}).items()}}


def plan_command(backend: Backend, command: Command, clock: Clock = utc_now) -> Work:
    """Return a plan that runs the command, or one without a step where creates or removes say that it is not needed."""
    name = command.name
    instance = backend.get_instance(name)
    if instance is None:
        raise ConfigError(f"there is no sandbox {name}")
    refuse_foreign(instance)
    if instance.status != RUNNING:
        raise ConfigError(f"{name} is {instance.status}: a command needs a sandbox that runs")
    # each look at the accounts of a guest reads a file there
    if command.user:
        backend.account(name, command.user)
    user = command.user or default_user(backend, name)
    reason = _skipped(backend, command)
    if reason:
        return Work((Plan(name, {}, {}, seen={"rc": 0, "stdout": reason, "stderr": "", "user": user}),), dict)
    outcome: dict[str, object] = {"user": user}

    def run() -> None:
        start = clock()
        request = ExecRequest(**{**command.request.__dict__, "user": user})
        result = backend.execute(name, request, Deadline(command.timeout))
        outcome.update(_shown(result, start, clock()))
        if result.timed_out:
            raise CommandFailed(f"it was killed after {command.timeout:g} s", outcome)
        if result.rc:
            raise CommandFailed(f"it ended with {result.rc}", outcome)

    plan = Plan(name, {}, {}, (Step(f"run a command in {name}", run),), seen={"user": user})
    return Work((plan,), lambda: {name: outcome})


def default_user(backend: Backend, name: str) -> str:
    """Return the user of agents if the sandbox has it, else root."""
    try:
        return backend.account(name, AGENT).name
    except ConfigError:
        return "root"


def _skipped(backend: Backend, command: Command) -> str:
    if command.creates and backend.has_file(command.name, command.creates):
        return f"skipped, since {command.creates} exists"
    if command.removes and not backend.has_file(command.name, command.removes):
        return f"skipped, since {command.removes} does not exist"
    return ""


def _shown(result: ExecResult, start: datetime, end: datetime) -> dict[str, object]:
    return {
        "rc": result.rc,
        "stdout": result.stdout.decode("utf-8", "replace").removesuffix("\n"),
        "stderr": result.stderr.decode("utf-8", "replace").removesuffix("\n"),
        "stdout_truncated": result.stdout_truncated,
        "stderr_truncated": result.stderr_truncated,
        "timed_out": result.timed_out,
        "start": start.isoformat(timespec="milliseconds"),
        "end": end.isoformat(timespec="milliseconds"),
        "delta": round((end - start).total_seconds(), 3),
    }
