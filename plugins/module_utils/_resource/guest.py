# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Policies that a sandbox enforces itself, by the program that the role nftables brings: told to it, and read back.

Root in a sandbox can lie about all of it. What comes from there is hostile text until it was checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    OperationFailed,
    OutcomeUnknown,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import RUNNING, ExecRequest, Instance, Refusal
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Policy, readable_name

PROGRAM = "/usr/local/sbin/px-egress"
#: What the program reads at the start of the sandbox.
POLICY_FILE = "/etc/pixels/egress-policy.json"
NO_PROGRAM = f"{PROGRAM} is not there: the role pixels.sandbox.nftables brings it"
_SECONDS = 60.0
_PARALLEL = 8
#: More than the program prints.
_MOST_BYTES = 1 << 20
Told = TypeVar("Told")
_PROTOCOLS = ("tcp", "udp", "icmp", "ipv6-icmp", "igmp", "sctp", "gre", "esp", "udplite", "dccp")


@dataclass(frozen=True)
class GuestState:
    """What a sandbox says that it enforces.

    unknown is why it cannot be asked, "" where it answered. policy and loaded are fingerprints of the policy that it keeps and of the one
    whose rules are loaded; unresolved are names without an address.
    """

    unknown: str = ""
    policy: str | None = None
    loaded: str | None = None
    problems: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()

    def drift(self, wanted: Policy) -> list[str]:
        """Return where it is not what a policy asks for."""
        if self.unknown or self.problems:
            return list(self.problems)
        if self.policy != fingerprint(wanted):
            return ["it keeps another policy than this"]
        return [] if self.loaded == self.policy else ["other rules are loaded in it than those of its policy"]


def document(wanted: Policy) -> dict[str, object]:
    """Return what the program is told of a policy."""
    return {"rules": wanted.rules().record, "behind_gateway": wanted.at_gateway}


def fingerprint(wanted: Policy) -> str:
    """Return the fingerprint by which the program knows a policy."""
    return hashlib.sha256(json.dumps(document(wanted), sort_keys=True).encode()).hexdigest()


def check_there(backend: Backend, found: Instance) -> None:
    """Raise ConfigError where a sandbox has nothing that could enforce a policy, as far as the server lets anybody look."""
    if _reachable(backend, found) and not backend.has_file(found.name, PROGRAM):
        raise ConfigError(f"egress of {found.name}: {NO_PROGRAM}")


def _reachable(backend: Backend, found: Instance) -> bool:
    """Say whether anything can be read from a sandbox or written to it in the state that it is in."""
    return found.status == RUNNING or "stopped_files" in backend.features.options


def tell(backend: Backend, found: Instance, wanted: Policy, deadline: Deadline) -> None:
    """Have a sandbox enforce a policy: at once if it runs, and from its next start on if it does not.

    One that is not reached before it runs is told right after its start, when it is asked what it enforces.
    """
    text = json.dumps(document(wanted)).encode()
    if not _reachable(backend, found):
        return
    if found.status != RUNNING:
        check_there(backend, found)
        backend.write_file(found.name, POLICY_FILE, io.BytesIO(text), 0o644)
    else:
        # the rules may end the very connection over which they came; what is in force is read back on another one
        with contextlib.suppress(OutcomeUnknown):
            _run(backend, found.name, "apply", deadline, text)


def forget(backend: Backend, found: Instance, deadline: Deadline) -> None:
    """Have a sandbox enforce nothing any more."""
    if not _reachable(backend, found):
        return
    if found.status != RUNNING:
        backend.delete_file(found.name, POLICY_FILE)
    elif backend.has_file(found.name, PROGRAM):
        _run(backend, found.name, "clear", deadline)


def state(backend: Backend, found: Instance) -> GuestState:
    """Return what a sandbox says that it enforces."""
    if found.status != RUNNING:
        return GuestState(f"it is {found.status}, and only when it runs can it be asked what it enforces")
    try:
        told = json.loads(_run(backend, found.name, "status", Deadline(_SECONDS)))
        return GuestState(
            policy=_text(told["policy"]),
            loaded=_text(told["loaded"]),
            problems=_texts(told["problems"]),
            unresolved=tuple(filter(readable_name, _texts(told["unresolved"]))),
        )
    except ConfigError as exc:
        return GuestState(problems=(str(exc),))
    except PixelsError as exc:
        return GuestState(f"it cannot be asked what it enforces: {exc}")
    except (ValueError, TypeError, KeyError) as exc:
        return GuestState(problems=(f"what it says that it enforces cannot be read: {str(exc)!a}",))


def states(backend: Backend, instances: Sequence[Instance]) -> dict[str, GuestState]:
    """Return what many sandboxes say that they enforce, by name."""
    return _of_each(instances, lambda found: state(backend, found))


def refusals(backend: Backend, instances: Sequence[Instance]) -> dict[str, tuple[Refusal, ...]]:
    """Return what many sandboxes say that they refused, by name, as far as it can be read."""
    return _of_each(instances, lambda found: _refused(backend, found))


def _of_each(instances: Sequence[Instance], ask: Callable[[Instance], Told]) -> dict[str, Told]:
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return {found.name: told for found, told in zip(instances, pool.map(ask, instances), strict=True)}


def _refused(backend: Backend, found: Instance) -> tuple[Refusal, ...]:
    if found.status != RUNNING:
        return ()
    try:
        told = json.loads(_run(backend, found.name, "refused", Deadline(_SECONDS)))
        return tuple(_refusal(entry) for entry in told)
    except (PixelsError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return ()


def _refusal(entry: Mapping[str, Any]) -> Refusal:
    """Return one refusal; ValueError for what is none."""
    port, protocol = entry["port"], entry["protocol"]
    count, last = int(entry["count"]), int(entry["last"])
    if (port is not None and not 0 < int(port) < 65536) or not 0 <= count < 1 << 63 or not 0 <= last < 1 << 33:
        raise ValueError("not a refusal")
    return Refusal(
        "guest",
        str(ipaddress.ip_address(entry["target"])),
        count,
        last,
        None if port is None else int(port),
        protocol if protocol in _PROTOCOLS or str(protocol).isdigit() else None,
    )


def _run(backend: Backend, name: str, verb: str, deadline: Deadline, stdin: bytes = b"") -> str:
    request = ExecRequest((PROGRAM, verb), cwd="/", stdin=stdin, output_limit=_MOST_BYTES)
    result = backend.execute(name, request, deadline)
    if result.timed_out:
        raise OperationFailed(f"px-egress {verb} in {name} did not end in time")
    if result.rc:
        if not backend.has_file(name, PROGRAM):
            raise ConfigError(f"egress of {name}: {NO_PROGRAM}")
        said = result.stderr.decode("utf-8", "replace").strip()[-500:]
        raise OperationFailed(f"px-egress {verb} in {name} ended with {result.rc}: {_printable(said)}")
    return result.stdout.decode("utf-8", "replace")


def _text(value: object) -> str | None:
    return None if value is None else _printable(str(value)[:200])


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(_printable(str(value)[:300]) for value in values)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
