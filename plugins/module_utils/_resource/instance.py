# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What sandboxes should be, as plans: made, converged, powered, removed."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    ConfigError,
    Conflict,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    BASE,
    FROZEN,
    KEY_BASE,
    KEY_BUILD,
    KEY_EGRESS,
    KEY_EXPIRES,
    KEY_HARDENING,
    KEY_IMAGE,
    KEY_KIND,
    KEY_LINEAGE,
    KEY_OWNER,
    KEY_PROTECTED,
    KEY_SOURCE,
    KEY_TTL,
    KEY_UNFINISHED,
    LABEL_PREFIX,
    NO_WIRE,
    RUNNING,
    SANDBOX,
    STOPPED,
    CloneSource,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Limits,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Policy
from ansible_collections.pixels.sandbox.plugins.module_utils._core.possible import check_option, check_wanted
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.base import published_build
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.desired import (
    DEFAULT_IMAGE,
    DEFAULT_LIMITS,
    Desired,
    label_texts,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import (
    Enforcer,
    enforcement_steps,
    policy_of,
    policy_or_none,
    policy_record,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import (
    owned,
    refuse_foreign,
    update,
)

#: How long an unfinished sandbox that the server does not work at is left to the run that may be making it.
GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.2
#: Keys that tell where a disk comes from: a clone has those of its source.
_OF_ORIGIN = (KEY_IMAGE, KEY_BASE, KEY_LINEAGE, KEY_BUILD)
#: What the role session puts into a guest, and the session that a person enters.
PX_SESSION = "/usr/local/bin/px-session"
SESSION_COMMAND = (PX_SESSION, "attach", "console")
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time of the controller."""
    return datetime.now(timezone.utc)


def creation_mark(now: datetime) -> str:
    """Return what an instance carries until its creation has ended: when that began, and a word that no other creation has."""
    return f"{time_text(now)}/{secrets.token_hex(8)}"


def time_text(moment: datetime | None) -> str | None:
    """Return a time as results and keys show it."""
    return None if moment is None else moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def plan_instances(backend: Backend, desired: Desired, clock: Clock = utc_now) -> Work:
    """Return what has to be done for every name; nothing is changed yet.

    Raises ConfigError for what cannot be, before anything is done for any of the names.
    """
    existing = backend.get_instances(desired.names)
    context = _Context(backend, desired, clock)
    plans = tuple(context.plan(name, existing.get(name)) for name in desired.names)

    def observe() -> Mapping[str, Mapping[str, object]]:
        there = backend.get_instances(desired.names)
        return {name: shown(backend, instance) for name, instance in there.items()}

    return Work(
        plans,
        observe,
        parallel=desired.max_parallel,
        # two to a core: more at once take longer for all of them
        boots=lambda: 2 * backend.capabilities().cores,
        many=len(plans) != 1,
    )


def instance_record(instance: Instance) -> dict[str, object]:
    """Return a sandbox as results show it; sizes are bytes."""
    return {
        "name": instance.name,
        "server_name": instance.server_name,
        "kind": instance.kind,
        "type": instance.type,
        "addresses": list(instance.addresses),
        "created_at": time_text(instance.created_at),
        "image": instance.keys.get(KEY_IMAGE),
        "image_description": instance.image,
        "clone_from": instance.keys.get(KEY_SOURCE),
        "base": instance.keys.get(KEY_BASE),
        "base_build": instance.keys.get(KEY_BUILD),
        "base_fingerprint": instance.keys.get(KEY_LINEAGE),
        "pool": instance.pool,
        "location": instance.location,
        "project": instance.project,
        "isolated_ids": instance.isolated,
        "restart_required": instance.restart_required,
        "depends_on": instance.depends_on,
        "ssh": ssh_record(instance),
        "unfinished": instance.unfinished,
        "provision": provision_record(instance),
        **managed_fields(instance),
    }


def shown(backend: Backend, instance: Instance) -> dict[str, object]:
    """Return a sandbox as results of modules show it: its record, and how a person enters it."""
    # what the role session has set up waits for whoever enters a provisioned sandbox; others have a shell of root
    command = SESSION_COMMAND if instance.provision.status == "ready" else ("su", "-l")
    console = backend.console(instance.name, command)
    return {**instance_record(instance), "console": console.command, "console_setup": list(console.setup)}


def ssh_record(instance: Instance) -> dict[str, object] | None:
    """Return how a sandbox is reached over SSH as results show it, None where it is reached through the server."""
    ssh = instance.ssh
    if ssh is None:
        return None
    return {
        "host": ssh.address,
        "user": ssh.user,
        "host_key": ssh.host_key,
        "host_key_alias": ssh.alias,
        "private_key_file": ssh.key_file,
        "common_args": shlex.join(ssh.options),
    }


def provision_record(instance: Instance) -> dict[str, object]:
    """Return how far the provisioning of a sandbox is, as results show it."""
    return {**instance.provision.__dict__}


def managed_fields(instance: Instance) -> dict[str, object]:
    """Return what a task can change on a sandbox, as diffs show it."""
    return {
        "status": instance.status,
        "cpu": instance.limits.cpu,
        "memory": instance.limits.memory,
        "disk": instance.limits.disk,
        "processes": instance.limits.processes,
        "hardening": instance.hardening,
        "nesting": instance.nesting,
        "autostart": instance.autostart,
        "mounts": [
            {"source": mount.source, "path": mount.path, "readonly": mount.readonly} for mount in instance.mounts
        ],
        "publish": [entry.text for entry in instance.published],
        "profiles": list(instance.profiles),
        "network": None if instance.wire else instance.network,
        "egress": egress_fields(instance),
        "labels": instance.labels,
        "owner": instance.keys.get(KEY_OWNER),
        "ttl": int(instance.keys[KEY_TTL]) if instance.keys.get(KEY_TTL, "").isdigit() else None,
        "expires_at": instance.keys.get(KEY_EXPIRES),
    }


def egress_fields(instance: Instance) -> dict[str, object] | None:
    """Return the wanted policy as results show it, None where it cannot be read."""
    try:
        return policy_record(policy_of(instance))
    except ConfigError:
        return None


def list_records(
    backend: Backend, wanted: Sequence[str] | None, labels: Mapping[str, object], foreign: bool
) -> list[dict[str, object]]:
    """Return the sandboxes of these bare names (None is all) that have all of the labels, sorted by name."""
    if wanted is None:
        found = list(backend.list_instances())
    else:
        there = backend.get_instances(wanted)
        found = [there[name] for name in sorted(there)]
    asked = label_texts(labels)
    return [
        shown(backend, instance)
        for instance in found
        if (foreign or instance.kind == SANDBOX) and asked.items() <= instance.labels.items()
    ]


class _Context:
    """What the plans of one task share; what they all need to know is asked once."""

    def __init__(self, backend: Backend, desired: Desired, clock: Clock) -> None:
        self.backend = backend
        self.desired = desired
        self.clock = clock
        self.enforcer = Enforcer(backend)
        self._seen_source: Instance | None = None

    def plan(self, name: str, found: Instance | None) -> Plan:
        if found:
            refuse_foreign(found)
        if self.desired.state == "absent":
            return self._absent(name, found)
        if self.desired.state == "frozen":
            check_option(self.backend.features, "freeze")
        if found is None or found.unfinished:
            return self._create(name)
        return self._converge(found)

    # -- absent

    def _absent(self, name: str, found: Instance | None) -> Plan:
        if found is None:
            return Plan(name, {}, {}, seen={"name": name, "status": "absent"})
        if found.labels.get("protected", "false") != "false" and not self.desired.force:
            raise ConfigError(f"{name} has the label protected; force: true removes it all the same")
        steps = []
        deadline = self._deadline()
        if found.status != STOPPED:
            # nothing of it is to be kept, so there is nothing that a shutdown would be good for
            steps.append(Step(f"stop {name}", lambda: self._stop(name, deadline, force=True), Phase.STOP))
        steps.append(Step(f"delete {name}", lambda: self._delete(name, deadline), Phase.STOP))
        if found.wire not in (None, NO_WIRE):
            drop = Step(
                f"remove the wire of {name}", lambda: self.enforcer.drop(name, found.wire, deadline), Phase.STOP
            )
            steps.append(drop)
        return Plan(name, managed_fields(found), {}, tuple(steps), seen={"name": name, "status": "absent"})

    def _delete(self, name: str, deadline: Deadline) -> None:
        try:
            self.backend.delete_instance(name, deadline)
        except ApiError:
            # of two deletions at once the server refuses one, in words and numbers of many kinds: what counts is
            # what is left
            if self.backend.get_instance(name) is not None:
                raise

    # -- create

    def _create(self, name: str) -> Plan:
        desired = self.desired
        self._check_possible()
        wanted = self._wanted_policy()
        spec = self._spec(name, wanted)
        check_wanted(self.backend.features, spec)
        deadline = self._deadline()
        origin = spec.keys.get(KEY_SOURCE) or spec.keys[KEY_IMAGE]
        steps = [Step(f"create {name} from {origin}", lambda: self._make(spec, wanted, deadline), Phase.CLONE)]
        inherited = self._inherited
        if wanted.confined or inherited.in_guest:
            what = f"enforce egress {wanted.mode} on {name}"
            steps.append(Step(what, lambda: self.enforcer.enforce(name, wanted, deadline, inherited)))
        steps += self._power(name, STOPPED, deadline, wanted)
        status = {"present": STOPPED, "stopped": STOPPED, "frozen": FROZEN}.get(desired.state, RUNNING)
        predicted = Instance(
            name=name,
            server_name=name,
            status=status,
            keys=spec.keys,
            limits=spec.limits,
            hardening=spec.hardening,
            nesting=bool(spec.nesting),
            autostart=spec.autostart,
            mounts=spec.mounts or (),
            published=spec.published or (),
            profiles=spec.profiles or (),
            network=spec.network,
        )
        after = {key: value for key, value in managed_fields(predicted).items() if value not in (None, [], {})}
        return Plan(name, {}, after, tuple(steps), seen={"name": name, "status": "absent"})

    def _wanted_policy(self) -> Policy:
        """Return the policy of what is made: as the task says, and a clone has that of its source where it says nothing."""
        desired = self.desired
        inherited = self._inherited
        wanted = desired.egress.policy(inherited, self.backend.features.enforcement) if desired.egress else inherited
        if wanted.at_gateway and desired.network:
            raise ConfigError(
                f"network: a sandbox with egress {wanted.mode} hangs on a wire of its own, and on no network"
            )
        self.enforcer.check_possible(wanted, self._source(desired.clone) if desired.clone else None)
        return wanted

    @property
    def _inherited(self) -> Policy:
        """The policy of what is copied, which is on its disk where that enforces it itself."""
        return policy_of(self._source(self.desired.clone)) if self.desired.clone else Policy()

    def _check_possible(self) -> None:
        """Raise Unsupported for what the server cannot make."""
        desired = self.desired
        if desired.type == "vm" or desired.target:
            capabilities = self.backend.capabilities()
            if desired.type == "vm" and not capabilities.virtual_machines:
                raise Unsupported("type: the server cannot run virtual machines")
            if desired.target and not capabilities.clustered:
                raise Unsupported("target: the server is not a member of a cluster")

    def _spec(self, name: str, wanted: Policy) -> InstanceSpec:
        desired = self.desired
        now = self.clock()
        keys = {
            KEY_KIND: SANDBOX,
            KEY_HARDENING: desired.hardening or self.backend.features.hardening[0],
            KEY_UNFINISHED: creation_mark(now),
            **{f"{LABEL_PREFIX}{key}": value for key, value in (desired.labels or {}).items()},
        }
        if wanted.confined:
            keys[KEY_EGRESS] = wanted.text
        if desired.owner:
            keys[KEY_OWNER] = desired.owner
        if desired.ttl:
            keys[KEY_TTL] = str(desired.ttl)
            keys[KEY_EXPIRES] = str(time_text(now + timedelta(seconds=desired.ttl)))
        origin: ImageSource | CloneSource
        limits, hardening, kind = desired.limits, desired.hardening, desired.type
        if desired.clone:
            source = self._source(desired.clone)
            origin = replace(desired.clone, instance=source.name)
            keys[KEY_SOURCE] = clone_text(origin)
            keys.update({key: source.keys[key] for key in _OF_ORIGIN if key in source.keys})
            inherited = source.keys.get(KEY_HARDENING, self.backend.features.hardening[0])
            hardening = keys[KEY_HARDENING] = desired.hardening or inherited
            limits = _filled(limits, source.limits)
            if kind and kind != source.type:
                raise ConfigError(f"type: {source.name} is a {source.type}, and its clones are too")
            kind = source.type
            nesting = source.nesting if desired.nesting is None else desired.nesting
        else:
            image = desired.image or DEFAULT_IMAGE
            origin = self._image
            keys[KEY_IMAGE] = image
            limits = _filled(limits, DEFAULT_LIMITS)
            nesting = bool(desired.nesting)
        return InstanceSpec(
            name=name,
            origin=origin,
            keys=keys,
            type=kind or "container",
            limits=limits,
            hardening=hardening or self.backend.features.hardening[0],
            nesting=nesting,
            autostart=desired.autostart,
            mounts=desired.mounts,
            published=desired.published,
            profiles=desired.profiles,
            pool=desired.pool,
            network=desired.network,
            target=desired.target,
        )

    def _source(self, origin: CloneSource) -> Instance:
        """Return what the clones of this task come from; it is asked for once."""
        if self._seen_source:
            return self._seen_source
        if origin.base:
            self._seen_source = published_build(self.backend, origin.base)
            return self._seen_source
        name = origin.instance
        source = self.backend.get_instance(name)
        if source is None:
            raise ConfigError(f"clone_from: there is no sandbox {name}")
        refuse_foreign(source)
        if source.unfinished:
            raise ConfigError(f"clone_from: the creation of {name} was broken off, or has not ended")
        self.backend.check_origin(origin)
        self._seen_source = source
        return source

    @cached_property
    def _image(self) -> ImageSource:
        return image_source(self.backend, self.desired.image or DEFAULT_IMAGE, self.desired.image_server)

    def _make(self, spec: InstanceSpec, wanted: Policy, deadline: Deadline) -> None:
        """Make the sandbox, or let the run finish that is making it, or clear away what a killed one left."""
        seen = ""
        since = deadline.left()
        while True:
            found = self.backend.get_instance(spec.name)
            if found is None:
                left = self._create_once(spec, wanted, deadline)
                if left is None:
                    return
                spec = left
                deadline.pause(_POLL_SECONDS, f"create {spec.name}")
                continue
            refuse_foreign(found)
            if not found.unfinished:
                return
            mark = found.keys[KEY_UNFINISHED]
            if mark != seen:
                seen, since = mark, deadline.left()
            age = max(since - deadline.left(), (self.clock() - _begun(mark)).total_seconds())
            if age > GRACE_SECONDS and not self.backend.is_busy(spec.name):
                if found.status != STOPPED:
                    self._stop(spec.name, deadline, force=True)
                self._delete(spec.name, deadline)
                self.enforcer.drop(spec.name, found.wire, deadline)
            else:
                deadline.pause(_POLL_SECONDS, f"{spec.name} is being made by another run")

    def _create_once(self, spec: InstanceSpec, wanted: Policy, deadline: Deadline) -> InstanceSpec | None:
        """Make the sandbox; return what is to be tried next where another run was faster, or the base was switched meanwhile."""
        # it is on its wire before it is there: it never boots on anything else
        wire = self.enforcer.wire_for(spec.name, wanted, deadline)
        try:
            self.backend.create_instance(replace(spec, wire=wire), deadline)
        except Conflict:
            self.enforcer.drop(spec.name, wire, deadline)
            return spec
        except PixelsError:
            if self.backend.get_instance(spec.name) is None:
                self.enforcer.drop(spec.name, wire, deadline)
            moved = self._moved(spec)
            if moved is None:
                raise
            return moved
        return None

    def _moved(self, spec: InstanceSpec) -> InstanceSpec | None:
        """Return what to make where the build of a base went between the look and the copy, since another one is published now."""
        origin = spec.origin
        if not isinstance(origin, CloneSource) or not origin.base or self.backend.get_instance(origin.instance):
            return None
        source = published_build(self.backend, origin.base)
        keys = {**spec.keys, **{key: source.keys[key] for key in _OF_ORIGIN if key in source.keys}}
        return replace(spec, origin=replace(origin, instance=source.name), keys=keys)

    # -- converge

    def _converge(self, found: Instance) -> Plan:
        self._check_fixed(found)
        change = self._change(found)
        check_wanted(self.backend.features, change)
        deadline = self._deadline()
        steps = []
        name = found.name
        leaves: str | None = None
        wanted = policy_or_none(found)
        if change:
            what = ", ".join(_changed_names(change))
            steps.append(
                Step(f"change {what} of {name}", lambda: update(self.backend, name, self._change, deadline, found))
            )
        if self.desired.egress and not self.desired.egress_on_create:
            before = policy_of(found)
            wanted = self.desired.egress.policy(before, self.backend.features.enforcement)
            self.enforcer.check_possible(wanted, found)
            steps += enforcement_steps(self.enforcer, found, before, wanted, deadline)
            change = replace(change, keys={**change.keys, KEY_EGRESS: wanted.text if wanted.confined else None})
            if found.wire and not wanted.at_gateway:
                leaves = self.desired.network or self.backend.network_off_wire(found)
        steps += self._power(name, found.status, deadline, wanted, addressed=bool(found.addresses))
        after = changed_instance(found, change)
        if leaves:
            after = replace(after, network=leaves, wire=None)
        status = {"started": RUNNING, "restarted": RUNNING, "stopped": STOPPED, "frozen": FROZEN}
        predicted = replace(after, status=status.get(self.desired.state, found.status))
        return Plan(
            name, managed_fields(found), managed_fields(predicted), tuple(steps), seen=shown(self.backend, found)
        )

    def _check_fixed(self, found: Instance) -> None:
        """Raise ConfigError for what a sandbox keeps from its creation to its end."""
        desired = self.desired
        fixed: list[tuple[str, str | None, str | None]] = [
            ("type", desired.type, found.type),
            ("pool", desired.pool, found.pool),
            ("target", desired.target, found.location),
            ("clone_from", clone_text(desired.clone) if desired.clone else None, found.keys.get(KEY_SOURCE)),
            ("image", _local(desired.image), _local(found.keys.get(KEY_IMAGE))),
        ]
        for option, wanted, there in fixed:
            if wanted is not None and wanted != there:
                raise ConfigError(
                    f"{option} of {found.name} is {there or 'not known'} and cannot be changed to {wanted} in place: "
                    "remove the sandbox and make it again"
                )

    def _change(self, found: Instance) -> InstanceChange:
        desired = self.desired
        limits = Limits(
            **{
                field.name: wanted
                for field in fields(Limits)
                if (wanted := getattr(desired.limits, field.name)) is not None
                and wanted != getattr(found.limits, field.name)
            }
        )
        # a level that is asked for and recorded, and yet does not hold, is put right
        level = desired.hardening if desired.hardening not in (None, found.hardening) else None
        return InstanceChange(
            limits=limits,
            hardening=level,
            nesting=_differs(desired.nesting, found.nesting),
            autostart=_differs(desired.autostart, found.autostart),
            mounts=_differs(desired.mounts, found.mounts),
            published=_differs(desired.published, found.published),
            profiles=_differs(desired.profiles, found.profiles),
            network=self._network_change(found),
            keys={**self._label_changes(found), **self._time_changes(found), **self._owner_changes(found)},
        )

    def _network_change(self, found: Instance) -> str | None:
        network = self.desired.network
        if network and found.wire and not (self.desired.egress and self.desired.egress.mode == "unrestricted"):
            raise ConfigError(
                f"network: {found.name} is confined and hangs on a wire of its own; its egress comes first"
            )
        return None if found.wire else _differs(network, found.network)

    def _label_changes(self, found: Instance) -> dict[str, str | None]:
        if self.desired.labels is None:
            return {}
        wanted, there = self.desired.labels, found.labels
        changes: dict[str, str | None] = {f"{LABEL_PREFIX}{key}": None for key in there if key not in wanted}
        changes.update({f"{LABEL_PREFIX}{key}": value for key, value in wanted.items() if there.get(key) != value})
        return changes

    def _owner_changes(self, found: Instance) -> dict[str, str | None]:
        owner = self.desired.owner
        if owner is None or owner == found.keys.get(KEY_OWNER, ""):
            return {}
        return {KEY_OWNER: owner or None}

    def _time_changes(self, found: Instance) -> dict[str, str | None]:
        desired = self.desired
        recorded = found.keys.get(KEY_TTL)
        ttl = desired.ttl
        if ttl == 0:
            return {key: None for key in (KEY_TTL, KEY_EXPIRES) if key in found.keys}
        if desired.renew:
            if ttl is None and not recorded:
                raise ConfigError(f"renew: {found.name} has no time to live; give it a ttl")
            ttl = ttl or int(str(recorded))
            return {KEY_TTL: str(ttl), KEY_EXPIRES: time_text(self.clock() + timedelta(seconds=ttl))}
        if ttl is None or str(ttl) == recorded:
            return {}
        begin = found.created_at or self.clock()
        return {KEY_TTL: str(ttl), KEY_EXPIRES: time_text(begin + timedelta(seconds=ttl))}

    # -- power

    def _power(self, name: str, status: str, deadline: Deadline, policy: Policy, addressed: bool = False) -> list[Step]:
        """Return the steps from one power state to the wanted one, under a policy."""
        desired = self.desired
        act = self.backend.set_power
        thaw = Step(f"unfreeze {name}", lambda: act(name, "unfreeze", deadline), Phase.STOP)
        start = Step(f"start {name}", lambda: self._start(name, policy, deadline), Phase.BOOT)
        stop = Step(f"stop {name}", lambda: self._stop(name, deadline), Phase.STOP)
        freeze = Step(f"freeze {name}", lambda: act(name, "freeze", deadline), Phase.WAIT)
        boot_wait = self._wait(name, deadline, Phase.BOOT)
        if policy.in_guest:
            # what its names lead to is looked up where there is a network
            told = Step(
                f"read back the egress of {name}",
                lambda: self.enforcer.enforce(name, policy, deadline),
                Phase.BOOT,
                changes=False,
            )
            boot_wait = [*boot_wait, told]
        steps: list[Step] = []
        if desired.state == "present":
            return steps
        if status == FROZEN and desired.state != "frozen":
            steps.append(thaw)
        if desired.state == "stopped":
            return steps if status == STOPPED else [*steps, stop]
        if desired.state == "restarted" and status != STOPPED:
            restart = Step(f"restart {name}", lambda: self._restart(name, policy, deadline), Phase.BOOT)
            return [*steps, restart, *boot_wait]
        if status == STOPPED:
            steps += [start, *boot_wait]
        elif desired.wait_for == "ready" or not addressed:
            steps += self._wait(name, deadline, Phase.WAIT)
        if desired.state == "frozen":
            return [*steps, freeze] if status != FROZEN else []
        return steps

    def _start(self, name: str, policy: Policy, deadline: Deadline) -> None:
        self.enforcer.prepare(name, policy, deadline)
        power.start(self.backend, name, deadline)

    def _restart(self, name: str, policy: Policy, deadline: Deadline) -> None:
        self._stop(name, deadline)
        self._start(name, policy, deadline)

    def _stop(self, name: str, deadline: Deadline, force: bool = False) -> None:
        power.stop(self.backend, name, deadline, force or self.desired.force)

    def _wait(self, name: str, deadline: Deadline, phase: Phase) -> list[Step]:
        """Return the wait for what the user wants to be there before the task ends."""
        wait_for = self.desired.wait_for
        if wait_for == "none":
            return []
        steps = [Step(f"wait for an address of {name}", lambda: self._await_address(name, deadline), phase, False)]
        if wait_for == "ready":
            steps.append(
                Step(
                    f"wait for {name} to be ready",
                    lambda: power.await_ready(self.backend, name, deadline),
                    phase,
                    False,
                )
            )
        return steps

    def _await_address(self, name: str, deadline: Deadline) -> None:
        power.await_address(lambda: owned(self.backend, name), name, deadline, lambda found: found.wire == NO_WIRE)

    def _deadline(self) -> Deadline:
        return Deadline(self.desired.timeout)


def image_source(backend: Backend, text: str, server: str) -> ImageSource:
    """Return where an image comes from that is written as Incus writes it; ConfigError where it is missing."""
    remote, colon, rest = text.partition(":")
    if colon and remote not in ("local", "images"):
        raise ConfigError(f"image {text!r}: the remote {remote!r} is not known; local: and images: are")
    if colon:
        origin = ImageSource(rest, server if remote == "images" else None)
    else:
        known = {alias for image in backend.list_images() for alias in (*image.aliases, image.fingerprint)}
        origin = ImageSource(text, None if text in known else server)
    if colon or origin.server:
        backend.check_origin(origin)
    return origin


def clone_text(clone: CloneSource) -> str:
    """Return the source of a clone as users write it."""
    if clone.base:
        return f"{BASE}:{clone.base}"
    return f"{clone.instance}:{clone.label}" if clone.label else clone.instance


def changed_instance(found: Instance, change: InstanceChange) -> Instance:
    """Return the instance as the change would leave it."""
    keys = {**found.keys, **change.keys}
    limits = _filled(change.limits, found.limits)
    return replace(
        found,
        keys={key: value for key, value in keys.items() if value is not None},
        limits=limits,
        hardening=found.hardening if change.hardening is None else change.hardening,
        nesting=found.nesting if change.nesting is None else change.nesting,
        autostart=found.autostart if change.autostart is None else change.autostart,
        mounts=found.mounts if change.mounts is None else change.mounts,
        published=found.published if change.published is None else change.published,
        profiles=found.profiles if change.profiles is None else change.profiles,
        network=found.network if change.network is None else change.network,
    )


def _filled(limits: Limits, defaults: Limits) -> Limits:
    wanted = {field.name: getattr(limits, field.name) for field in fields(Limits)}
    return replace(defaults, **{name: value for name, value in wanted.items() if value is not None})


def _differs(wanted: Any, there: Any) -> Any:
    return None if wanted is None or wanted == there else wanted


def _local(image: str | None) -> str | None:
    """Return an image's name without the remote that a bare name means too."""
    return None if image is None else image.removeprefix("local:")


def _begun(mark: str) -> datetime:
    """Return when an unfinished creation began; one with a mark that is not ours began long ago."""
    try:
        return datetime.strptime(mark.partition("/")[0], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime(1970, 1, 1, tzinfo=timezone.utc)


def _changed_names(change: InstanceChange) -> list[str]:
    """Return the options behind a change, for the words of its step."""
    found = [field.name for field in fields(Limits) if getattr(change.limits, field.name) is not None]
    found += [
        name
        for name in ("hardening", "nesting", "autostart", "mounts", "published", "profiles", "network")
        if getattr(change, name) is not None
    ]
    if any(key.startswith(LABEL_PREFIX) for key in change.keys):
        found.append("labels")
    words = {KEY_OWNER: "owner", KEY_TTL: "ttl", KEY_EXPIRES: "expiry", KEY_PROTECTED: "protection"}
    return found + [word for key, word in words.items() if key in change.keys]
