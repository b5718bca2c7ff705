# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The egress of sandboxes: what is wanted, what is in force, and the one way from the second to the first."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    Conflict,
    NotFound,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    NO_GATEWAY,
    NO_WIRE,
    RUNNING,
    GatewayState,
    Instance,
    InstanceChange,
    Refusal,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import (
    Policy,
    canonical,
    policy,
    readable_name,
    stored_policy,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import guest, power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.guest import GuestState
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import owned, refuse_foreign

_TRIES = 5
_POLL_SECONDS = 0.2
#: How long a sandbox that has just been started may take to have its rules.
_BOOT_SECONDS = 5.0
#: Where a sandbox finds what its policy is.
NOTICE = "/etc/pixels-egress.txt"


@dataclass(frozen=True)
class Wish:
    """What a task wants of a sandbox's egress; None leaves what there is."""

    mode: str | None = None
    allow: tuple[str, ...] | None = None
    allow_add: tuple[str, ...] = ()
    allow_remove: tuple[str, ...] = ()
    deny: tuple[str, ...] | None = None
    presets: tuple[str, ...] | None = None
    enforcement: str | None = None
    private: bool | None = None

    def __bool__(self) -> bool:
        """Whether anything is wanted at all."""
        return self != Wish()

    def policy(self, there: Policy, enforcement: str = "gateway") -> Policy:
        """Return the policy that comes of this and of the one that there is; the mode is never changed by anything else.

        enforcement is where it is enforced if nobody has said so.
        """
        mode = self.mode or there.mode
        if mode == "unrestricted" and not self.mode:
            raise ConfigError(
                "egress: its mode is unrestricted; give a mode with the lists, which are of no use without"
            )
        kept = there if there.mode == mode or (there.confined and mode in ("agent", "allowlist")) else Policy(mode)
        private = kept.private if self.private is None else self.private
        allow = set(kept.allow if self.allow is None else canonical(self.allow, private, "allow"))
        allow |= set(canonical(self.allow_add, private, "allow_add"))
        allow -= set(canonical(self.allow_remove, True, "allow_remove"))
        presets = self.presets if self.presets is not None or there.mode != mode else kept.presets
        return policy(
            mode,
            allow=sorted(allow),
            deny=kept.deny if self.deny is None else self.deny,
            presets=presets,
            enforcement=self.enforcement or kept.enforcement or (None if mode == "unrestricted" else enforcement),
            private=private,
        )


def wish_from(params: Mapping[str, Any], prefix: str = "") -> Wish:
    """Return what the options of a module want; prefix is what they have in front there."""

    def texts(name: str) -> tuple[str, ...] | None:
        given = params.get(prefix + name)
        return None if given is None else tuple(map(str, given))

    if params.get(f"{prefix}allow") is not None and (
        params.get(f"{prefix}allow_add") or params.get(f"{prefix}allow_remove")
    ):
        raise ConfigError(f"{prefix}allow is the whole list: it contradicts {prefix}allow_add and {prefix}allow_remove")
    return Wish(
        mode=params.get("egress" if prefix else "mode"),
        allow=texts("allow"),
        allow_add=texts("allow_add") or (),
        allow_remove=texts("allow_remove") or (),
        deny=texts("deny"),
        presets=texts("presets"),
        enforcement=params.get(f"{prefix}enforcement"),
        private=params.get(f"{prefix}private"),
    )


def policy_of(instance: Instance) -> Policy:
    """Return the policy that a sandbox carries; ConfigError where it cannot be read."""
    text = instance.keys.get(KEY_EGRESS)
    return stored_policy(text) if text else Policy()


def policy_or_none(instance: Instance) -> Policy:
    """Return the policy that a sandbox carries; one that cannot be read counts as none, and is told as drift elsewhere."""
    try:
        return policy_of(instance)
    except ConfigError:
        return Policy()


def policy_record(wanted: Policy) -> dict[str, object]:
    """Return a policy as results and diffs show it."""
    if not wanted.confined:
        return {"mode": wanted.mode}
    return {
        "mode": wanted.mode,
        "enforcement": wanted.enforcement,
        "presets": list(wanted.presets),
        "presets_version": wanted.presets_version,
        "allow": list(wanted.allow),
        "deny": list(wanted.deny),
        "private": wanted.private,
    }


class Enforcer:
    """Brings policies into force for the sandboxes of one task; what is in force is asked once."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._said: dict[str, GuestState] = {}

    @cached_property
    def state(self) -> GatewayState | None:
        """What the gateway enforced when the task began."""
        return self.backend.gateway_state()

    @cached_property
    def _hindrance(self) -> str:
        """Why the gateway cannot confine anything, empty where it can; asked once, for however many sandboxes."""
        self.backend.check_egress_permitted()
        if self.state is None:
            return NO_GATEWAY
        if not self.state.known or self.state.problems:
            return f"{'; '.join(self.state.problems)}: run the role pixels.sandbox.gateway"
        return ""

    def said(self, found: Instance) -> GuestState:
        """Return what a sandbox said that it enforces when the task began."""
        if found.name not in self._said:
            self._said[found.name] = guest.state(self.backend, found)
        return self._said[found.name]

    def check_possible(self, wanted: Policy, found: Instance | None = None) -> None:
        """Raise ConfigError, before anything is changed, where server or sandbox have no way to enforce this.

        found is the sandbox, or the one that it will be a copy of; what an image has in it is not known.
        """
        if wanted.in_guest and found is not None:
            guest.check_there(self.backend, found)
        if not wanted.at_gateway or (wanted.mode == "none" and "gateway" in self.backend.features.options):
            return
        if self._hindrance:
            raise ConfigError(f"egress {wanted.mode}: {self._hindrance}")

    def drift(self, found: Instance, wanted: Policy) -> list[str]:
        """Return in words where what is in force is not what is wanted."""
        state = self.state if wanted.at_gateway and wanted.mode != "none" else None
        return drift(found, wanted, state, self.said(found) if wanted.in_guest else None)

    def wire_for(self, name: str, wanted: Policy, deadline: Deadline) -> str | None:
        """Return a new wire for a sandbox that is made under this policy, None where it needs none."""
        if not wanted.at_gateway:
            return None
        return NO_WIRE if wanted.mode == "none" else self.backend.make_wire(name, deadline)

    def drop(self, name: str, wire: str | None, deadline: Deadline) -> None:
        """Remove a wire that nothing hangs on any more."""
        if wire and wire != NO_WIRE:
            self.backend.drop_wire(name, wire, deadline)

    def enforce(self, name: str, wanted: Policy, deadline: Deadline, before: Policy | None = None) -> None:
        """Bring a policy into force and read it back; a sandbox for which that fails is left stopped.

        before is what the sandbox was told last, where it may still enforce that itself.
        """
        try:
            self._enforce(name, wanted, deadline)
            if wanted.confined:
                self._read_back(name, wanted, deadline)
            if before and before.in_guest and not wanted.in_guest:
                guest.forget(self.backend, owned(self.backend, name), deadline)
            self._tell(name, wanted)
        except PixelsError:
            if wanted.confined:
                with contextlib.suppress(PixelsError):
                    power.stop(self.backend, name, Deadline(60), force=True)
            raise

    def prepare(self, name: str, wanted: Policy, deadline: Deadline) -> None:
        """Have a sandbox that is about to start load its own rules before there is a network, whatever its disk had."""
        if wanted.in_guest:
            guest.tell(self.backend, owned(self.backend, name), wanted, deadline)

    def _read_back(self, name: str, wanted: Policy, deadline: Deadline) -> None:
        patience = Deadline(deadline.slice(_BOOT_SECONDS if wanted.in_guest else 0))
        while True:
            found = owned(self.backend, name)
            said = guest.state(self.backend, found) if wanted.in_guest else None
            wrong = drift(found, wanted, None, said)
            if said and said.unknown and found.status == RUNNING:
                wrong.append(said.unknown)
            if not wrong:
                return
            if patience.left() <= 0:
                raise OperationFailed(f"{name} is not confined: {'; '.join(wrong)}")
            deadline.pause(patience.slice(_POLL_SECONDS), f"read back the egress of {name}")

    def _enforce(self, name: str, wanted: Policy, deadline: Deadline) -> None:
        for _turn in range(_TRIES):
            found = owned(self.backend, name)
            wire = found.wire
            made = None
            if wanted.in_guest:
                # what the sandbox itself enforces comes before what may lead it out of its wire
                guest.tell(self.backend, found, wanted, deadline)
            if wanted.at_gateway and wanted.mode != "none":
                if wire in (None, NO_WIRE):
                    wire = made = self.backend.make_wire(name, deadline)
                self.backend.connect_wire(str(wire), wanted.rules(), deadline)
            else:
                wire = NO_WIRE if wanted.at_gateway else None
            text = wanted.text if wanted.confined else None
            moves = wire != found.wire or (wanted.at_gateway and bool(found.ways_out))
            change = InstanceChange(
                wire=(wire or "") if moves else None,
                keys={} if found.keys.get(KEY_EGRESS) == text else {KEY_EGRESS: text},
            )
            try:
                if change:
                    self.backend.update_instance(found, change, deadline)
            except Conflict:
                self.drop(name, made, deadline)
                deadline.pause(_POLL_SECONDS, f"change the egress of {name}")
                continue
            if found.wire != wire:
                self.drop(name, found.wire, deadline)
            return
        raise Conflict(f"{name} keeps being changed by somebody else", 412)

    def _tell(self, name: str, wanted: Policy) -> None:
        """Leave word in the sandbox, for whoever works there: what it says enforces nothing."""
        # a guest that does not take the file is confined all the same
        with contextlib.suppress(PixelsError):
            if wanted.confined:
                self.backend.write_file(name, NOTICE, io.BytesIO(notice(wanted).encode()), 0o644)
            else:
                self.backend.delete_file(name, NOTICE)


def notice(wanted: Policy) -> str:
    """Return what a sandbox is told of its policy."""
    if wanted.at_gateway:
        lines = [
            f"This machine is confined: egress {wanted.mode}. It is enforced outside of it, and nothing in it changes that.",
            "What is not named here is refused: a look-up says that there is no such name, a connection is reset or not answered,",
            "plain HTTP answers 403 with a line that begins with egress:. Ask who gave you this machine to allow a name, with",
            "pixels.sandbox.pixels_egress and allow_add; what was refused is recorded for them by name.",
        ]
    else:
        lines = [
            f"This machine is confined: egress {wanted.mode}. Its own firewall enforces it, the table inet px_egress of nftables.",
            "What is not named here is refused: a connection is reset at once. Ask who gave you this machine to allow a name, with",
            "pixels.sandbox.pixels_egress and allow_add; what was refused is recorded for them by address.",
        ]
    lines += [
        "",
        "presets: " + (", ".join(wanted.presets) or "none"),
        "allow: " + (", ".join(wanted.allow) or "none"),
        "deny: " + (", ".join(wanted.deny) or "none"),
    ]
    return "\n".join(lines) + "\n"


def drift(found: Instance, wanted: Policy, state: GatewayState | None, said: GuestState | None = None) -> list[str]:
    """Return where a sandbox is not what the policy asks for, nor the gateway and the sandbox's own rules where their state is given."""
    if not wanted.confined:
        return [f"it hangs on the wire {found.wire}"] if found.wire else []
    problems = [*found.ways_out, *(said.drift(wanted) if said else ())]
    if not wanted.at_gateway:
        return [*problems, *([f"it hangs on the wire {found.wire}"] if found.wire else [])]
    if wanted.mode == "none":
        return problems if found.wire == NO_WIRE else [*problems, "it has a network"]
    if found.wire in (None, NO_WIRE):
        return [*problems, "it hangs on no wire"]
    if state is not None and state.known:
        leg = state.legs.get(str(found.wire))
        problems += state.problems
        if leg is None:
            problems.append(f"the gateway has no leg on {found.wire}")
        else:
            problems += leg.problems
            if leg.digest != wanted.rules().digest:
                problems.append("the gateway enforces other rules than these")
    return problems


def plan_egress(backend: Backend, params: Mapping[str, Any]) -> Work:
    """Return what has to be done for the egress of every name; nothing is changed yet."""
    wanted_names = names.sandbox_names(params["name"])
    wish = wish_from(params)
    there = backend.get_instances(wanted_names, addresses=False)
    enforcer = Enforcer(backend)
    plans = []
    for name in wanted_names:
        found = there.get(name)
        if found is None:
            raise NotFound(f"{name} is not there", 404)
        refuse_foreign(found)
        plans.append(_plan(enforcer, found, wish, float(params["timeout"])))

    def observe() -> Mapping[str, Mapping[str, object]]:
        state = backend.gateway_state()
        now = backend.get_instances(wanted_names, addresses=False)
        said = _said(backend, list(now.values()))
        return {name: egress_record(instance, state, said.get(name)) for name, instance in now.items()}

    return Work(tuple(plans), observe, parallel=params["max_parallel"], many=len(plans) != 1)


def _plan(enforcer: Enforcer, found: Instance, wish: Wish, seconds: float) -> Plan:
    before = policy_of(found)
    after = wish.policy(before, enforcer.backend.features.enforcement)
    enforcer.check_possible(after, found)
    steps = enforcement_steps(enforcer, found, before, after, Deadline(seconds))
    seen = egress_record(
        found, enforcer.state if before.confined else None, enforcer.said(found) if before.in_guest else None
    )
    return Plan(
        found.name, {"egress": policy_record(before)}, {"egress": policy_record(after)}, tuple(steps), seen=seen
    )


def enforcement_steps(
    enforcer: Enforcer, found: Instance, before: Policy, after: Policy, deadline: Deadline
) -> list[Step]:
    """Return the step that brings a policy into force, none where it is."""
    wrong = enforcer.drift(found, after)
    if before == after and not wrong:
        return []
    why = f" ({'; '.join(wrong)})" if before == after else ""
    summary = f"enforce egress {after.mode} on {found.name}{why}"
    return [Step(summary, lambda: enforcer.enforce(found.name, after, deadline, before), Phase.CONFIGURE)]


def egress_record(found: Instance, state: GatewayState | None, said: GuestState | None = None) -> dict[str, object]:
    """Return the egress of a sandbox as results show it; said is what it says that it enforces, where it enforces anything itself."""
    record: dict[str, object] = {"name": found.name, "status": found.status, "wire": found.wire, "unresolved": []}
    try:
        wanted = policy_of(found)
    except ConfigError as exc:
        return {**record, "egress": None, "in_force": "unknown", "drift": [str(exc)], "policy_outdated": False}
    wrong = drift(found, wanted, state, said)
    unknown: list[str] = []
    if wanted.at_gateway and wanted.mode != "none":
        if state is None:
            wrong.append(NO_GATEWAY)
        elif not state.known:
            unknown += state.problems
    if said and said.unknown:
        unknown.append(said.unknown)
    return {
        **record,
        "egress": policy_record(wanted),
        "policy_hash": wanted.digest,
        "policy_outdated": wanted.outdated,
        "in_force": "no" if wrong else ("unknown" if unknown else "yes"),
        "verified": not wrong and not unknown,
        "drift": wrong + unknown,
        "unresolved": list(said.unresolved) if said else [],
    }


def _said(backend: Backend, instances: Sequence[Instance]) -> dict[str, GuestState]:
    """Return what those of the sandboxes say that have to enforce their policies themselves, by name."""
    return guest.states(backend, [found for found in instances if policy_or_none(found).in_guest])


def list_egress(backend: Backend, wanted: Sequence[str] | None, denied: bool) -> list[dict[str, object]]:
    """Return the egress of sandboxes (None is all), with what was refused if that is asked for."""
    if wanted is None:
        found = [instance for instance in backend.list_instances(addresses=False) if instance.kind == "sandbox"]
    else:
        there = backend.get_instances(wanted, addresses=False)
        found = [there[name] for name in sorted(there) if there[name].kind == "sandbox"]
    confined = any(KEY_EGRESS in instance.keys or instance.wire for instance in found)
    state = backend.gateway_state() if confined else None
    said = _said(backend, found)
    records = [egress_record(instance, state, said.get(instance.name)) for instance in found]
    if denied:
        wires = [str(instance.wire) for instance in found if instance.wire not in (None, NO_WIRE)]
        told = backend.refusals(wires) if wires and state and state.known else {}
        own = guest.refusals(backend, [instance for instance in found if instance.name in said])
        for record in records:
            entries = (*told.get(str(record["wire"]), ()), *own.get(str(record["name"]), ()))
            record["denied"] = [refusal_record(entry) for entry in entries]
    return records


def refusal_record(entry: Refusal) -> dict[str, object]:
    """Return what was refused as results show it; a text that is no name or address is shown as such, and never suggested."""
    name = readable_name(entry.target) if entry.how in ("dns", "tls", "http") else None
    return {
        "how": entry.how,
        "name": name,
        "target": entry.target if name or entry.how in ("packet", "stranger", "guest") else ascii(entry.target),
        "suspicious": name is None and entry.how in ("dns", "tls", "http"),
        "port": entry.port,
        "protocol": entry.protocol,
        "count": entry.count,
        "last": datetime.fromtimestamp(entry.last, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
