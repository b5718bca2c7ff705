# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What checkpoints there should be, and which one a sandbox goes back to, as plans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names, units
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    ConfigError,
    Conflict,
    NotFound,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    FROZEN,
    KEY_PROTECTED,
    KEY_SOURCE,
    RUNNING,
    SANDBOX,
    STOPPED,
    Checkpoint,
    Instance,
    InstanceChange,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._core.possible import check_option
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import guest, power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import Enforcer, check_start, policy_of
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import (
    Clock,
    time_text,
    utc_now,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import (
    owned,
    refuse_foreign,
    update,
)

#: How far the server's clock and ours may be apart when an expiry is compared with the one asked for.
_CLOCKS_APART = timedelta(minutes=2)


@dataclass(frozen=True)
class DesiredCheckpoint:
    """What a task of pixels_checkpoint wants; None is not given. expires is in seconds."""

    name: str
    label: str | None
    state: str
    keep: int | None
    prefix: str | None
    expires: int | None
    protected: bool | None
    remove_newer: bool
    force: bool
    timeout: float


def desired_checkpoint(params: Mapping[str, Any]) -> DesiredCheckpoint:
    """Return what the options want; ConfigError for what is illegal or contradictory."""
    state, label = params["state"], params["label"]
    if params["timeout"] <= 0:
        raise ConfigError(f"timeout {params['timeout']} is not above zero")
    if state != "present":
        if label is None:
            raise ConfigError(f"state {state} needs a label")
        for option in ("keep", "prefix", "expires"):
            if params[option] is not None:
                raise ConfigError(f"{option} is for state present")
    if params["keep"] is not None and params["keep"] < 1:
        raise ConfigError(f"keep {params['keep']} is not above zero")
    if params["prefix"] is not None and params["keep"] is None:
        raise ConfigError("prefix says which checkpoints keep counts: give keep too")
    if params["protected"] and params["expires"] is not None:
        raise ConfigError("a protected checkpoint does not expire: give protected or expires")
    return DesiredCheckpoint(
        name=names.sandbox_name(params["name"]),
        label=None if label is None else names.checkpoint_label(label),
        state=state,
        keep=params["keep"],
        prefix=params["prefix"],
        expires=None if params["expires"] is None else units.duration("expires", params["expires"]),
        protected=params["protected"],
        remove_newer=params["remove_newer"],
        force=params["force"],
        timeout=float(params["timeout"]),
    )


def checkpoint_record(checkpoint: Checkpoint) -> dict[str, object]:
    """Return a checkpoint as results show it; size is in bytes."""
    return {
        "label": checkpoint.label,
        "created_at": time_text(checkpoint.created_at),
        "expires_at": time_text(checkpoint.expires_at),
        "size": checkpoint.size,
        "protected": checkpoint.protected,
    }


def stem(label: str) -> str:
    """Return what the labels of one series share: all before the number or time at the end."""
    return re.sub(r"[0-9][0-9._-]*$", "", label)


def plan_checkpoint(backend: Backend, desired: DesiredCheckpoint, clock: Clock = utc_now) -> Work:
    """Return what has to be done for a checkpoint; nothing is changed yet."""
    instance = backend.get_instance(desired.name)
    if instance is None:
        if desired.state == "absent":
            label = str(desired.label)
            plan = Plan(desired.name, {}, {}, seen={"label": label, "removed": []})
            return Work((plan,), dict)
        there = [found.name for found in backend.list_instances(addresses=False) if found.kind == SANDBOX]
        raise ConfigError(f"there is no sandbox {desired.name}; there are: {', '.join(there) or 'none'}")
    refuse_foreign(instance)
    if instance.unfinished:
        raise ConfigError(f"the creation of {desired.name} was broken off, or has not ended")
    if desired.expires is not None:
        check_option(backend.features, "expires")
    planner = _Planner(backend, desired, instance, clock)
    return Work((planner.plan(),), planner.observe)


class _Planner:
    """The plan of one task, over what there is."""

    def __init__(self, backend: Backend, desired: DesiredCheckpoint, instance: Instance, clock: Clock) -> None:
        self.backend = backend
        self.desired = desired
        self.instance = instance
        self.clock = clock
        self.name = desired.name
        self.there = {checkpoint.label: checkpoint for checkpoint in backend.list_checkpoints(desired.name)}
        self.label = desired.label or self._new_label()
        self.deadline = Deadline(desired.timeout)
        self.removed: list[str] = []

    def plan(self) -> Plan:
        """Return the plan for the wanted state."""
        return {"present": self._present, "absent": self._absent, "restored": self._restored}[self.desired.state]()

    def observe(self) -> Mapping[str, Mapping[str, object]]:
        """Return the checkpoint as it is now."""
        for checkpoint in self.backend.list_checkpoints(self.name):
            if checkpoint.label == self.label:
                return {self.name: {**checkpoint_record(checkpoint), "removed": self.removed}}
        return {self.name: {"label": self.label, "removed": self.removed}}

    # -- present

    def _new_label(self) -> str:
        """Return a label of the time that is not taken: two may be made within one second."""
        moment = self.clock()
        while True:
            label = moment.strftime("px-%Y%m%d-%H%M%S")
            if label not in self.there:
                return label
            moment += timedelta(seconds=1)

    def _present(self) -> Plan:
        found = self.there.get(self.label)
        hollow = found is not None and not self.backend.is_whole(self.instance, self.label)
        steps: list[Step] = []
        # a mark can outlive its checkpoint, when that was removed by other hands
        marked = self.label in _marks(self.instance)
        protected = self.desired.protected
        if protected is None:
            protected = marked and found is not None
        if found is None or hollow:
            if hollow:
                text = f"delete checkpoint {self.label} of {self.name}, which has no disk"
                steps.append(Step(text, lambda: self._delete(self.label)))
            expires = self._expires()
            text = f"create checkpoint {self.label} of {self.name}"
            steps.append(Step(text, lambda: self._create(expires)))
            before: dict[str, object] = {}
            after = {"label": self.label, "protected": protected, "expires_at": time_text(expires)}
        else:
            self._check_expiry(found)
            before = {"label": found.label, "protected": found.protected, "expires_at": time_text(found.expires_at)}
            after = {**before, "protected": protected}
        if protected != marked:
            verb = "protect" if protected else "unprotect"
            steps.append(Step(f"{verb} checkpoint {self.label} of {self.name}", lambda: self._protect(protected)))
        self.removed = self._surplus(protected)
        for label in self.removed:
            steps.append(self._delete_step(label, spared=True))
        before["others"] = sorted(set(self.there) - {self.label})
        after["others"] = sorted(set(self.there) - {self.label, *self.removed})
        seen = checkpoint_record(found) if found else {}
        return Plan(self.name, before, after, tuple(steps), seen={**seen, "removed": self.removed})

    def _expires(self) -> Any:
        seconds = self.desired.expires
        return None if seconds is None else self.clock() + timedelta(seconds=seconds)

    def _check_expiry(self, found: Checkpoint) -> None:
        """Raise ConfigError for a change of the expiry, and for protection of what the server would prune."""
        way_out = "remove it, or take another label"
        if self.desired.expires is not None:
            wanted = (found.created_at or self.clock()) + timedelta(seconds=self.desired.expires)
            if found.expires_at is None or abs(found.expires_at - wanted) > _CLOCKS_APART:
                there = time_text(found.expires_at) or "never"
                raise ConfigError(
                    f"expires of checkpoint {self.label} of {self.name} is {there} and stays so: {way_out}"
                )
        if self.desired.protected and found.expires_at is not None:
            raise ConfigError(
                f"checkpoint {self.label} of {self.name} expires at {time_text(found.expires_at)}, "
                f"and the server would remove it all the same: {way_out}"
            )

    def _surplus(self, protected: bool) -> list[str]:
        """Return the labels that are too many for C(keep), oldest first."""
        keep = self.desired.keep
        if keep is None:
            return []
        prefix = self.desired.prefix
        sources = self._clone_sources()
        counted = [
            checkpoint.label
            for checkpoint in self.there.values()
            if not checkpoint.protected
            and checkpoint.label not in sources
            and checkpoint.label != self.label
            and (
                checkpoint.label.startswith(prefix)
                if prefix is not None
                else stem(checkpoint.label) == stem(self.label)
            )
        ]
        # the one that the task is about is never one of those that go, and counts like any other
        own = 0 if protected or self.label in sources else 1
        return counted[: max(0, len(counted) + own - keep)]

    def _clone_sources(self) -> set[str]:
        """Return the labels that instances were copied from."""
        sources = {instance.keys.get(KEY_SOURCE, "") for instance in self.backend.list_instances(addresses=False)}
        return {source.partition(":")[2] for source in sources if source.partition(":")[0] == self.name}

    def _create(self, expires: Any) -> None:
        try:
            self.backend.create_checkpoint(self.name, self.label, expires, self.deadline)
        except Conflict:
            # another run of the same task was faster; without a label each run wants one of its own
            if self.desired.label is None or self.label not in self._labels():
                raise
            if not self.backend.is_whole(self.instance, self.label):
                raise

    def _protect(self, protected: bool) -> None:
        """Put the label into the list of protected ones, or take it out."""

        def change_of(instance: Instance) -> InstanceChange:
            labels = _marks(instance)
            wanted = labels | {self.label} if protected else labels - {self.label}
            return (
                InstanceChange()
                if wanted == labels
                else InstanceChange(keys={KEY_PROTECTED: ",".join(sorted(wanted)) or None})
            )

        update(self.backend, self.name, change_of, self.deadline)

    # -- absent

    def _absent(self) -> Plan:
        found = self.there.get(self.label)
        if found is None:
            return Plan(self.name, {}, {}, seen={"label": self.label, "removed": []})
        steps = []
        if found.protected:
            if self.desired.protected is not False:
                raise ConfigError(
                    f"checkpoint {self.label} of {self.name} is protected: protected: false removes it all the same"
                )
            text = f"unprotect checkpoint {self.label} of {self.name}"
            steps.append(Step(text, lambda: self._protect(False)))
        steps.append(self._delete_step(self.label))
        self.removed = [self.label]
        before = {"label": found.label, "protected": found.protected, "expires_at": time_text(found.expires_at)}
        return Plan(self.name, before, {}, tuple(steps), seen={"label": self.label, "removed": self.removed})

    def _delete_step(self, label: str, spared: bool = False) -> Step:
        delete = self._delete_unless_protected if spared else self._delete
        return Step(f"delete checkpoint {label} of {self.name}", lambda: delete(label))

    def _delete_unless_protected(self, label: str) -> None:
        """Delete what is too many, but for what somebody has protected since it was counted."""
        if label in _marks(owned(self.backend, self.name)):
            self.removed = [other for other in self.removed if other != label]
        else:
            self._delete(label)

    def _delete(self, label: str) -> None:
        try:
            self.backend.delete_checkpoint(self.name, label, self.deadline)
        except NotFound:
            # another run, or the expiry, was faster
            return
        except ApiError:
            # of two deletions at once the server refuses one: what counts is what is left
            if label in self._labels():
                raise

    def _labels(self) -> set[str]:
        """Return the labels that there are now."""
        return {checkpoint.label for checkpoint in self.backend.list_checkpoints(self.name)}

    # -- restored

    def _restored(self) -> Plan:
        found = self.there.get(self.label)
        if found is None:
            raise ConfigError(f"{self.name} has no checkpoint {self.label}; it has: {', '.join(self.there) or 'none'}")
        if not self.backend.is_whole(self.instance, self.label):
            raise ConfigError(f"checkpoint {self.label} of {self.name} has no disk: its creation was broken off")
        lost = self.backend.lost_by_restore(self.instance, self.label)
        self._check_lost(lost)
        self.removed = list(lost)
        status = self.instance.status
        policy = policy_of(self.instance)
        if status != STOPPED:
            check_start(self.instance)
        steps = []
        if status != STOPPED:
            steps.append(Step(f"stop {self.name}", self._stop, Phase.STOP))
        steps += [self._delete_step(label, spared=True) for label in reversed(lost)]
        steps.append(Step(f"restore checkpoint {self.label} of {self.name}", self._restore))
        if status in (RUNNING, FROZEN):
            steps.append(Step(f"start {self.name}", self._start, Phase.BOOT))
            if policy.in_guest:
                back = Step(
                    f"read back the egress of {self.name}",
                    lambda: Enforcer(self.backend).enforce(self.name, policy, self.deadline),
                    Phase.BOOT,
                    changes=False,
                )
                steps.append(back)
        if status == FROZEN:
            steps.append(Step(f"freeze {self.name}", self._freeze, Phase.WAIT))
        before: dict[str, object] = {"disk": "as it is now", "others": sorted(set(self.there) - {self.label})}
        after: dict[str, object] = {
            "disk": f"as of checkpoint {self.label}",
            "others": sorted(set(self.there) - {self.label, *lost}),
        }
        seen = {**checkpoint_record(found), "removed": self.removed}
        return Plan(self.name, before, after, tuple(steps), seen=seen)

    def _check_lost(self, lost: tuple[str, ...]) -> None:
        if not lost:
            return
        text = f"the storage pool cannot go back to {self.label} without removing what is newer: {', '.join(lost)}"
        if not self.desired.remove_newer:
            raise ConfigError(f"{text}; remove_newer: true does so")
        kept = [label for label in lost if self.there[label].protected]
        if kept:
            raise ConfigError(f"{text}; of these {', '.join(kept)} is protected")

    def _stop(self) -> None:
        power.stop(self.backend, self.name, self.deadline, self.desired.force)

    def _start(self) -> None:
        check_start(owned(self.backend, self.name))
        power.start(self.backend, self.name, self.deadline)

    def _freeze(self) -> None:
        self.backend.set_power(self.name, "freeze", self.deadline)

    def _restore(self) -> None:
        self.backend.restore_checkpoint(owned(self.backend, self.name), self.label, self.deadline)
        found = owned(self.backend, self.name)
        # the disk may have another policy on it, or none
        policy = policy_of(found)
        if policy.in_guest:
            guest.tell(self.backend, found, policy, self.deadline)
        else:
            guest.forget(self.backend, found, self.deadline)


def _marks(instance: Instance) -> set[str]:
    """Return the labels that are marked as protected."""
    return {label for label in instance.keys.get(KEY_PROTECTED, "").split(",") if label}


def list_checkpoint_records(backend: Backend, wanted: list[str] | None) -> list[dict[str, object]]:
    """Return the checkpoints of sandboxes (None is all of them), by sandbox and age, with what was cloned from each."""
    instances = backend.list_instances(addresses=False)
    clones: dict[str, list[str]] = {}
    for instance in instances:
        clones.setdefault(instance.keys.get(KEY_SOURCE, ""), []).append(instance.name)
    return [
        {
            "name": instance.name,
            **checkpoint_record(checkpoint),
            "clones": sorted(clones.get(f"{instance.name}:{checkpoint.label}", [])),
        }
        for instance in instances
        if instance.kind == SANDBOX and (wanted is None or instance.name in wanted)
        for checkpoint in _checkpoints_of(backend, instance.name)
    ]


def _checkpoints_of(backend: Backend, name: str) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of a sandbox, none of one that was removed since it was listed."""
    try:
        return backend.list_checkpoints(name)
    except NotFound:
        return ()
