# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Persistent sessions in a sandbox, and the steps of its provisioning, by the programs that the role session brings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    DeadlineExceeded,
    OperationFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import RUNNING, ExecRequest, ExecResult
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.command import AGENT, environment
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import PX_SESSION
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import refuse_foreign

PX_STEP = "/usr/local/sbin/px-step"
#: What a guest may answer; it belongs to the agent and can say anything.
_ANSWER_BYTES = 1 << 20
_STATES = ("running", "exited")
_STEP_STATES = ("running", "done", "failed")


@dataclass(frozen=True)
class DesiredSession:
    """What a task of pixels_session wants; env is secret."""

    name: str
    session: str
    state: str
    argv: tuple[str, ...]
    chdir: str | None
    user: str
    timeout: float
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


def desired_session(params: Mapping[str, Any]) -> DesiredSession:
    """Return what the options want; ConfigError for what is illegal or contradictory."""
    if params["timeout"] <= 0:
        raise ConfigError(f"timeout {params['timeout']} is not above zero")
    if params["argv"] is not None and not params["argv"]:
        raise ConfigError("argv is empty")
    if params["state"] == "absent":
        for option in ("argv", "chdir", "env", "env_forward"):
            if params[option] is not None:
                raise ConfigError(f"{option} is for state present")
    if params["chdir"] is not None and not params["chdir"].startswith("/"):
        raise ConfigError(f"chdir {params['chdir']!r} is not an absolute path")
    return DesiredSession(
        name=names.sandbox_name(params["name"]),
        session=names.session_name(params["session"]),
        state=params["state"],
        argv=tuple(params["argv"] or ()),
        chdir=params["chdir"],
        user=params["user"] or AGENT,
        timeout=float(params["timeout"]),
        env=environment(params),
    )


def plan_session(backend: Backend, desired: DesiredSession) -> Work:
    """Return what has to be done for a session; nothing is changed yet.

    A session that runs is left as it is, whatever it was started with.
    """
    _check_running(backend, desired.name)
    found = _found(backend, desired)
    console = backend.console(desired.name, (PX_SESSION, "attach", desired.session))
    hints = {"console": console.command, "console_setup": list(console.setup)}
    before = {"session": desired.session, "state": found["state"]} if found else {}
    after: dict[str, object] = {}
    steps: tuple[Step, ...] = ()
    if desired.state == "present":
        after = {"session": desired.session, "state": "running"}
        if before != after:
            text = f"start session {desired.session} in {desired.name}"
            steps = (Step(text, lambda: _start(backend, desired)),)
    elif found:
        text = f"end session {desired.session} in {desired.name}"
        steps = (Step(text, lambda: _ask(backend, desired.name, desired.user, (PX_SESSION, "stop", desired.session))),)

    def seen() -> dict[str, object]:
        record = _found(backend, desired) or {"name": desired.session, "state": "absent"}
        return {**hints, "session": record}

    plan = Plan(desired.name, before, after, steps, seen={**hints, "session": found or {"name": desired.session}})
    return Work((plan,), lambda: {desired.name: seen()})


def read_sessions(backend: Backend, name: str, user: str | None, log_lines: int) -> dict[str, object]:
    """Return the sessions of a user, and the steps of provisioning with the ends of their logs, of a running sandbox."""
    if log_lines < 0:
        raise ConfigError(f"log_lines {log_lines} is below zero")
    name = names.sandbox_name(name)
    _check_running(backend, name)
    steps = _ask(backend, name, "root", (PX_STEP, "list", str(log_lines)))
    console = backend.console(name, (PX_SESSION, "attach", "console"))
    return {
        "sessions": _sessions(backend, name, user or AGENT),
        "steps": [_step(entry) for entry in _entries(name, PX_STEP, steps)],
        "console": console.command,
        "console_setup": list(console.setup),
    }


def _check_running(backend: Backend, name: str) -> None:
    instance = backend.get_instance(name)
    if instance is None:
        raise ConfigError(f"there is no sandbox {name}")
    refuse_foreign(instance)
    if instance.status != RUNNING:
        raise ConfigError(f"{name} is {instance.status}: sessions need a sandbox that runs")


def _start(backend: Backend, desired: DesiredSession) -> None:
    folder = ("--chdir", desired.chdir) if desired.chdir else ()
    command = (PX_SESSION, "start", *folder, desired.session, "--", *desired.argv)
    request = ExecRequest(command, user=desired.user, env=desired.env, output_limit=_ANSWER_BYTES)
    _checked(backend.execute(desired.name, request, Deadline(desired.timeout)), desired.name, PX_SESSION)


def _found(backend: Backend, desired: DesiredSession) -> dict[str, object] | None:
    sessions = _sessions(backend, desired.name, desired.user)
    return next((session for session in sessions if session["name"] == desired.session), None)


def _sessions(backend: Backend, name: str, user: str) -> list[dict[str, object]]:
    answer = _ask(backend, name, user, (PX_SESSION, "list"))
    return [_session(entry) for entry in _entries(name, PX_SESSION, answer)]


def _ask(backend: Backend, name: str, user: str, command: tuple[str, ...]) -> bytes:
    if not backend.has_file(name, command[0]):
        raise ConfigError(f"{name} has no {command[0]}: the role session brings it")
    request = ExecRequest(command, user=user, cwd="/", output_limit=_ANSWER_BYTES)
    return _checked(backend.execute(name, request, Deadline(60)), name, command[0])


def _checked(result: ExecResult, name: str, program: str) -> bytes:
    if result.timed_out:
        raise DeadlineExceeded(f"{program} in {name} does not end")
    if result.rc:
        said = result.stderr.decode("utf-8", "replace").strip()
        raise OperationFailed(f"{program} in {name} ended with {result.rc}: {said or 'it said nothing'}")
    return result.stdout


def _entries(name: str, program: str, answer: bytes) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(answer)
    except (ValueError, RecursionError) as exc:
        raise OperationFailed(f"{program} in {name} does not answer as it should") from exc
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise OperationFailed(f"{program} in {name} does not answer as it should")
    return entries


def _session(entry: Mapping[str, Any]) -> dict[str, object]:
    return {
        "name": str(entry.get("name")),
        "state": entry.get("state") if entry.get("state") in _STATES else "unknown",
        "exit_code": _number(entry.get("exit_code")),
        "attached": bool(entry.get("attached")),
        "created_at": _text(entry.get("created_at")),
    }


def _step(entry: Mapping[str, Any]) -> dict[str, object]:
    return {
        "name": str(entry.get("name")),
        "state": entry.get("state") if entry.get("state") in _STEP_STATES else "unknown",
        "result": _text(entry.get("result")),
        "exit_code": _number(entry.get("exit_code")),
        "began_at": _text(entry.get("began_at")),
        "ended_at": _text(entry.get("ended_at")),
        "log": str(entry.get("log") or ""),
    }


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
