# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What bases should be, as plans: built, opened for others to fill, published by one switch, rolled back, removed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import lineage, names, units
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    ConfigError,
    Conflict,
    NotFound,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.lineage import Definition
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    BASE,
    BUILD,
    KEY_BASE,
    KEY_BUILD,
    KEY_HARDENING,
    KEY_IMAGE,
    KEY_KIND,
    KEY_LINEAGE,
    KEY_UNFINISHED,
    CloneSource,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Limits,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._core.possible import check_option
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import build, power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.base import (
    KEY_BUILT,
    KEY_DEFINITION,
    KEY_DESCRIPTION,
    KEY_FAILURE,
    KEY_FROM,
    KEY_HOLDER,
    KEY_LEASE,
    KEY_MUTATED,
    KEY_PARENT,
    KEY_PREVIOUS,
    KEY_PUBLISHED,
    KEY_REFUSED,
    KEY_USED,
    BaseState,
    Judge,
    base_record,
    lapsed,
    list_base_records,
    states_of,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.desired import DEFAULT_IMAGE, DEFAULT_LIMITS
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import (
    Clock,
    creation_mark,
    image_source,
    time_text,
    utc_now,
)

#: A build renews its lease three times in the time of one, so that a crashed one is told soon; an open builder is left to others for longer.
BUILD_LEASE, OPEN_LEASE = 60, 3600
_POLL_SECONDS = 0.5
_TRIES = 5
#: What a shutdown and the rest of a publication take at most.
_STOP_SECONDS = power.GRACEFUL_SECONDS + 60
_END_SECONDS = 60.0
#: What a task can change on a base, as diffs show it.
_MANAGED = ("published", "previous", "fingerprint", "definition", "builder")


@dataclass(frozen=True)
class DesiredBase:
    """What a task of pixels_base wants; None is not given. Times are in seconds."""

    name: str
    state: str
    definition: Definition | None
    image_server: str
    limits: Limits
    pool: str | None
    network: str | None
    smoke: str | None
    keep: int
    max_age: int | None
    mutate: bool
    holder: str | None
    reason: str
    build: str | None
    lease: int
    force: bool
    timeout: float


def definition_from(given: Mapping[str, Any]) -> Definition:
    """Return a definition from the options that describe one, with the content of the files that they name."""
    script = given.get("script")
    definition = Definition(
        name=names.base_name(given["name"]),
        image=given.get("image"),
        parent=None if given.get("from") is None else names.base_name(given["from"]),
        script=None if script is None else _text(f"base {given['name']}: script", script),
        packages=tuple(given.get("packages") or ()),
        roles=tuple(given.get("roles") or ()),
        variables=dict(given.get("variables") or {}),
        description=given.get("description") or "",
        content=_content(given.get("files") or ()),
    )
    return lineage.checked(definition)


def _text(option: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{option}: {path} cannot be read: {exc}") from exc


def _content(paths: Any) -> str:
    """Return a fingerprint of files and folders: of what is in them and how they are called in there."""
    if not paths:
        return ""
    digest = hashlib.sha256()
    for top in paths:
        try:
            found = (
                [Path(top)] if os.path.isfile(top) else sorted(path for path in Path(top).rglob("*") if path.is_file())
            )
            for path in found:
                # what an interpreter leaves behind is no content
                if "__pycache__" not in path.parts:
                    digest.update(f"{path.relative_to(top)}\0".encode())
                    digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as exc:
            raise ConfigError(f"files: {top} cannot be read: {exc}") from exc
        if not found:
            raise ConfigError(f"files: there is nothing at {top}")
    return digest.hexdigest()


def desired_base(params: Mapping[str, Any]) -> DesiredBase:
    """Return what the options want; ConfigError for what is illegal or contradictory."""
    state = params["state"]
    if params["timeout"] <= 0:
        raise ConfigError(f"timeout {params['timeout']} is not above zero")
    if params["keep"] < 0:
        raise ConfigError(f"keep {params['keep']} is below zero")
    if params["mutate"] and state != "open":
        raise ConfigError("mutate is for state open")
    definition = None
    if state in ("built", "open") and not params["mutate"]:
        given = dict(params)
        if given["image"] is None and given["from"] is None:
            given["image"] = DEFAULT_IMAGE
        definition = definition_from(given)
    lease = BUILD_LEASE if state == "built" else OPEN_LEASE
    if params["lease"] is not None:
        lease = units.duration("lease", params["lease"])
    return DesiredBase(
        name=names.base_name(params["name"]),
        state=state,
        definition=definition,
        image_server=params["image_server"],
        limits=Limits(
            cpu=params["cpu"],
            memory=None if params["memory"] is None else units.size("memory", params["memory"]),
        ),
        pool=params["pool"],
        network=params["network"],
        smoke=params["smoke"] or None,
        keep=params["keep"],
        max_age=None if params["max_age"] is None else units.duration("max_age", params["max_age"]),
        mutate=params["mutate"],
        holder=params["holder"],
        reason=params["reason"] or "it was discarded",
        build=params["build"],
        lease=lease,
        force=params["force"],
        timeout=float(params["timeout"]),
    )


def list_bases(backend: Backend, params: Mapping[str, Any], clock: Clock = utc_now) -> list[dict[str, object]]:
    """Return the bases that the options of pixels_base_info ask for, compared with the definitions that they give."""
    wanted = None if params["name"] is None else [names.base_name(name) for name in params["name"]]
    definitions = [definition_from(given) for given in params["definitions"] or ()]
    max_age = None if params["max_age"] is None else units.duration("max_age", params["max_age"])
    return list_base_records(backend, wanted, definitions, max_age, clock())


def plan_base(backend: Backend, desired: DesiredBase, clock: Clock = utc_now) -> Work:
    """Return what has to be done for a base; nothing is changed yet."""
    planner = _Planner(backend, desired, clock)
    return Work((planner.plan(),), planner.observe)


class _Planner:
    """The plan of one task, over what there is."""

    def __init__(self, backend: Backend, desired: DesiredBase, clock: Clock) -> None:
        self.backend = backend
        self.desired = desired
        self.clock = clock
        self.name = desired.name
        self.definition = desired.definition
        self.anchor = names.anchor_name(self.name)
        self.builder = names.builder_name(self.name)
        self.holder = desired.holder or secrets.token_hex(8)
        self.deadline = Deadline(desired.timeout)
        self.log = ""
        check_option(backend.features, "base")
        self.images = backend.list_images() if desired.state in ("built", "open") else ()
        self.judge = self._look()

    def plan(self) -> Plan:
        """Return the plan for the wanted state."""
        plan_of: Mapping[str, Callable[[], Plan]] = {
            "built": self._built,
            "open": self._open,
            "published": self._published,
            "discarded": self._discarded,
            "absent": self._absent,
            "rolled_back": self._rolled_back,
        }
        return plan_of[self.desired.state]()

    def observe(self) -> Mapping[str, Mapping[str, object]]:
        """Return the base as it is now."""
        self.judge = self._look()
        return {self.name: {**self._record(), "log": self.log}}

    # -- looking

    @property
    def state(self) -> BaseState:
        """The base as it was read last."""
        return self.judge.states[self.name]

    def _look(self) -> Judge:
        self.instances = self.backend.list_instances(addresses=False)
        states = states_of(self.instances, (self.name,))
        return Judge(states, self.images, self.clock(), self.desired.max_age)

    def _record(self) -> dict[str, object]:
        record = base_record(self.judge, self.name, self.definition, self.instances)
        builder = self.state.builder
        mine = builder is not None and builder.keys.get(KEY_HOLDER) == self.holder
        return {**record, "holder": self.holder if mine else None, "builder": builder.server_name if builder else None}

    def _plan(self, after: Mapping[str, object], *steps: Step) -> Plan:
        record = self._record()
        there = self.state.anchor is not None
        shown = {key: record[key] for key in _MANAGED}
        return Plan(
            self.name,
            shown if there else {},
            {**shown, **after} if there or after else {},
            steps,
            seen={**record, "log": ""},
        )

    def _is_fresh(self) -> bool:
        """Say whether there is nothing to build."""
        return (
            not self.desired.force
            and self.state.published is not None
            and not self.judge.reasons(self.name, self.definition)
        )

    # -- built and open

    def _built(self) -> Plan:
        if self._is_fresh():
            return self._tidied()
        digest = self.definition.digest if self.definition else None
        return self._plan(
            self._predicted(self._fingerprint(), digest),
            Step(f"build {self.name}{self._why()}", self._build, Phase.CLONE),
        )

    def _open(self) -> Plan:
        builder = self.state.builder
        if builder and builder.keys.get(KEY_HOLDER) == self.holder and not builder.unfinished:
            # it is open already for who asks: the lease begins again
            return self._plan({}, Step(f"keep {self.name} open", self._renew, Phase.CLONE, changes=False))
        if self.desired.mutate:
            if self.state.published is None:
                raise ConfigError(f"mutate: base {self.name} has no published build")
        elif self._is_fresh():
            return self._tidied()
        else:
            self._fingerprint()
        step = Step(f"open a builder of {self.name}{self._why()}", self._open_builder, Phase.CLONE)
        return self._plan({"builder": names.server_name(self.builder)}, step)

    def _tidied(self) -> Plan:
        """Return the plan for a base with nothing to build: what a killed run left is removed."""
        surplus = self.state.surplus(self.judge.now)
        builder = self.state.builder
        left = [*surplus, *([builder] if builder and lapsed(builder, self.judge.now) else [])]
        return self._plan({}, *(self._removal(found) for found in left))

    def _removal(self, found: Instance) -> Step:
        return Step(f"remove {found.name}, which was left behind", lambda: self._delete(found.name))

    def _why(self) -> str:
        if self.desired.mutate:
            return " from what is published"
        reasons = self.judge.reasons(self.name, self.definition)
        return f" ({', '.join(reasons)})" if reasons else ""

    def _fingerprint(self) -> str:
        """Return the fingerprint of what is built; a change by hand has that of what it began as."""
        if self.definition is None:
            return self.state.fingerprint
        return self.judge.fingerprint(self.definition)

    def _predicted(self, fingerprint: str, definition: str | None) -> dict[str, object]:
        """Return what there will be when a build is published."""
        published = self.state.published
        return {
            "published": names.build_name(self.name, fingerprint, self.state.builds or {}),
            "previous": self._kept([published.name] if published else []),
            "fingerprint": fingerprint,
            "definition": definition,
            "builder": None,
        }

    def _kept(self, newest: list[str]) -> list[str]:
        return [*newest, *self.state.previous][: self.desired.keep]

    def _build(self) -> None:
        if not self._lease():
            # another run has just built what is wanted
            return
        with self._recording():
            with self._beating():
                build.boot(self.backend, self.builder, self.deadline)
                self.log = build.fill(self.backend, self.builder, cast(Definition, self.definition), self.deadline)
                self._clean()
            self._publish()

    def _open_builder(self) -> None:
        if self._lease():
            with self._recording():
                build.boot(self.backend, self.builder, self.deadline)

    @contextlib.contextmanager
    def _recording(self) -> Iterator[None]:
        """Record a failure on the anchor, and remove the builder; what is published stays as it is."""
        try:
            yield
        except PixelsError as exc:
            self.deadline = Deadline(_END_SECONDS)
            self.log = getattr(exc, "log", self.log)
            with contextlib.suppress(PixelsError):
                self._record_failure(str(exc), build.tail(exc))
            with contextlib.suppress(PixelsError):
                if self._is_ours():
                    self._delete(self.builder)
            raise

    def _record_failure(self, message: str, log: str) -> None:
        failure = {"at": time_text(self.clock()), "message": message, "log": log}
        self._change_anchor(lambda _state: {KEY_FAILURE: json.dumps(failure)})

    # -- the lease

    def _lease(self) -> bool:
        """Make the builder, which only one run at a time can; False where another one has built what is wanted meanwhile."""
        self._make_anchor()
        while True:
            if self._is_done():
                return False
            held, builder = self.state.held(self.clock()), self.state.builder
            if held and not self.desired.force:
                until = held.keys.get(KEY_LEASE)
                self.deadline.pause(
                    _POLL_SECONDS, f"{self.name} is being built by another run, which has until {until}"
                )
            elif builder:
                self._clear_away(builder)
            elif self._make_builder():
                return True
            self.judge = self._look()

    def _is_done(self) -> bool:
        return self._is_fresh() and not self.desired.mutate

    def _make_builder(self) -> bool:
        """Make the builder. Its name is free as soon as another run has given the last name to its own: so look again when it is there."""
        try:
            self.backend.create_instance(self._spec(), self.deadline)
        except Conflict:
            self.deadline.pause(_POLL_SECONDS, f"open a builder of {self.name}")
            return False
        self.judge = self._look()
        others = replace(self.state, builder=None).held(self.clock())
        if not self._is_done() and (others is None or self.desired.force):
            return True
        self._delete(self.builder)
        return False

    def _clear_away(self, found: Instance) -> None:
        """Remove a builder that nobody works at. Of many runs that want to, one can: it makes the lease its own first."""
        change = InstanceChange(keys=self._lease_keys())
        with contextlib.suppress(Conflict, NotFound):
            self.backend.update_instance(found, change, self.deadline)
            self._delete(found.name)

    def _lease_keys(self, least: float = 0) -> dict[str, str | None]:
        until = self.clock() + timedelta(seconds=max(self.desired.lease, least))
        return {KEY_LEASE: str(time_text(until)), KEY_HOLDER: self.holder}

    def _renew(self, least: float = 0) -> None:
        """Let the lease begin again, for so many seconds at least, if it still is ours."""
        found = self.backend.get_instance(self.builder)
        if found and found.keys.get(KEY_HOLDER) == self.holder:
            with contextlib.suppress(Conflict):
                self.backend.update_instance(found, InstanceChange(keys=self._lease_keys(least)), self.deadline)

    def _is_ours(self) -> bool:
        found = self.backend.get_instance(self.builder)
        return found is not None and found.keys.get(KEY_HOLDER) == self.holder

    def _make_anchor(self) -> None:
        if self.state.anchor is None:
            keys = {KEY_KIND: BASE, KEY_UNFINISHED: creation_mark(self.clock())}
            with contextlib.suppress(Conflict):
                self.backend.create_instance(
                    InstanceSpec(self.anchor, None, keys, pool=self.desired.pool), self.deadline
                )
            self.judge = self._look()

    def _spec(self) -> InstanceSpec:
        """Return the builder: a copy of what is published of the parent, or of the base itself, or made from an image."""
        origin, keys = self._origin()
        return InstanceSpec(
            name=self.builder,
            origin=origin,
            keys={
                KEY_KIND: BUILD,
                KEY_BASE: self.name,
                KEY_HARDENING: "standard",
                KEY_UNFINISHED: creation_mark(self.clock()),
                KEY_LINEAGE: self._fingerprint(),
                **keys,
                **{key: str(value) for key, value in self._lease_keys().items()},
            },
            limits=Limits(
                cpu=self.desired.limits.cpu or DEFAULT_LIMITS.cpu,
                memory=self.desired.limits.memory or DEFAULT_LIMITS.memory,
            ),
            autostart=False,
            pool=self.desired.pool,
            network=self.desired.network,
        )

    def _origin(self) -> tuple[ImageSource | CloneSource, dict[str, str]]:
        definition = self.definition
        if definition is None:
            published = cast(Instance, self.state.published)
            kept = (KEY_DEFINITION, KEY_FROM, KEY_PARENT, KEY_IMAGE)
            keys = {key: value for key, value in published.keys.items() if key in kept}
            return CloneSource(published.name), {**keys, KEY_MUTATED: "true"}
        if definition.parent is None:
            image = str(definition.image)
            return image_source(self.backend, image, self.desired.image_server), {
                KEY_DEFINITION: definition.digest,
                KEY_IMAGE: image,
            }
        parent = self.judge.parent_build(definition)
        return CloneSource(parent.name), {
            KEY_DEFINITION: definition.digest,
            KEY_FROM: definition.parent,
            KEY_PARENT: parent.name,
            KEY_IMAGE: parent.keys.get(KEY_IMAGE, ""),
        }

    # -- published

    def _published(self) -> Plan:
        builder = self.state.builder
        if builder is None:
            if self.state.published is None:
                raise ConfigError(f"base {self.name}: there is no builder to publish; state open makes one")
            return self._plan({})
        self._check_holder(builder)
        after = self._predicted(builder.keys.get(KEY_LINEAGE, ""), builder.keys.get(KEY_DEFINITION))
        return self._plan(after, Step(f"publish {self.name}", self._publish_open, Phase.CLONE))

    def _check_holder(self, builder: Instance) -> None:
        if builder.keys.get(KEY_HOLDER) != self.desired.holder and not self.desired.force:
            raise ConfigError(
                f"base {self.name}: the builder was opened by another run, which has until {builder.keys.get(KEY_LEASE)}; "
                "holder says that it is yours, and force: true takes it"
            )

    def _publish_open(self) -> None:
        if self.desired.force:
            found = self.backend.get_instance(self.builder)
            if found:
                self.backend.update_instance(found, InstanceChange(keys=self._lease_keys()), self.deadline)
        with self._recording():
            with self._beating():
                self._clean()
            self._publish()

    def _beating(self) -> _Heartbeat:
        return _Heartbeat(self._renew, min(self.desired.lease, BUILD_LEASE) / 3)

    def _clean(self) -> None:
        self.log = build.generalise(self.backend, self.builder, self.desired.smoke, self.deadline, self.log)

    def _publish(self) -> None:
        """Stop the builder, give it its last name and switch the anchor to it."""
        # a renewal may not come in between: a guest that is changed cannot be stopped
        self._renew(_STOP_SECONDS)
        power.stop(self.backend, self.builder, self.deadline, force=False)
        self.judge = self._look()
        found = self.state.builder
        if found is None or found.keys.get(KEY_HOLDER) != self.holder:
            raise Conflict(f"{self.name}: another run has taken the builder over", 409)
        name = names.build_name(self.name, found.keys[KEY_LINEAGE], self.state.builds or {})
        self.backend.rename_instance(self.builder, name, self.deadline)
        self._switch(name)

    def _switch(self, name: str) -> None:
        """Publish a build under its last name: complete its keys, move the anchor, remove what is too many."""
        made = self.backend.get_instance(name)
        if made is None:
            raise NotFound(f"{name} was removed meanwhile", 404)
        keys: dict[str, str | None] = {
            KEY_BUILD: name,
            KEY_BUILT: time_text(self.clock()),
            KEY_USED: time_text(made.used_at) or "",
        }
        if KEY_PARENT not in made.keys:
            keys[KEY_PARENT] = made.image_fingerprint or ""
        self.backend.update_instance(made, InstanceChange(keys=keys), self.deadline)
        self._change_anchor(lambda state: self._published_keys(state, name))
        made = self.backend.get_instance(name)
        if made is not None:
            change = InstanceChange(keys={KEY_LEASE: None, KEY_HOLDER: None})
            self.backend.update_instance(made, change, self.deadline)
        self._prune()

    def _published_keys(self, state: BaseState, name: str) -> dict[str, str | None]:
        before = [state.published.name] if state.published and state.published.name != name else []
        previous = [kept for kept in [*before, *state.previous] if kept != name][: self.desired.keep]
        description = self.definition.description if self.definition else state.description
        return {
            KEY_PUBLISHED: name,
            KEY_PREVIOUS: ",".join(previous) or None,
            KEY_FAILURE: None,
            KEY_REFUSED: None,
            KEY_DESCRIPTION: description or None,
        }

    def _change_anchor(self, change_of: Callable[[BaseState], dict[str, str | None]]) -> None:
        """Change keys of the anchor if it still is what was read; look again where it is not."""
        for _turn in range(_TRIES):
            self.judge = self._look()
            anchor = self.state.anchor
            if anchor is None:
                raise NotFound(f"the base {self.name} was removed meanwhile", 404)
            try:
                self.backend.update_instance(anchor, InstanceChange(keys=change_of(self.state)), self.deadline)
                return
            except Conflict:
                self.deadline.pause(_POLL_SECONDS, f"switch {self.name}")
        raise Conflict(f"{self.anchor} keeps being changed by somebody else", 412)

    def _prune(self) -> None:
        """Remove builds that nobody needs, but for one that is just being cloned: the next run removes that."""
        self.judge = self._look()
        for found in self.state.surplus(self.clock()):
            with contextlib.suppress(ApiError):
                if not self.backend.is_busy(found.name):
                    self._delete(found.name)

    def _delete(self, name: str) -> None:
        try:
            power.stop(self.backend, name, self.deadline, force=True)
            self.backend.delete_instance(name, self.deadline)
        except NotFound:
            return
        except ApiError:
            # of two deletions at once the server refuses one: what counts is what is left
            if self.backend.get_instance(name) is not None:
                raise

    # -- discarded, rolled back and absent

    def _discarded(self) -> Plan:
        builder = self.state.builder
        if builder is None:
            return self._plan({})
        self._check_holder(builder)

        def discard() -> None:
            self._record_failure(self.desired.reason, self.desired.reason[-build.TAIL_BYTES :])
            self._delete(self.builder)

        return self._plan({"builder": None}, Step(f"discard the builder of {self.name}", discard))

    def _rolled_back(self) -> Plan:
        published, previous = self.state.published, self.state.previous
        if published is None:
            raise ConfigError(f"base {self.name} has no published build")
        if self.desired.build == published.name:
            return self._plan({})
        there = ", ".join(previous) or "none"
        if self.desired.build is not None and self.desired.build not in previous:
            raise ConfigError(f"base {self.name}: build {self.desired.build} is not kept; there are: {there}")
        if not previous:
            raise ConfigError(f"base {self.name}: no earlier build is kept")
        name = self.desired.build or previous[0]
        target = (self.state.builds or {})[name]
        kept = [published.name, *(other for other in previous if other != name)]
        keys: dict[str, str | None] = {
            KEY_PUBLISHED: name,
            KEY_PREVIOUS: ",".join(kept),
            KEY_REFUSED: self.state.fingerprint,
        }

        def roll_back() -> None:
            self._change_anchor(lambda _state: keys)

        after = {
            "published": name,
            "previous": kept,
            "fingerprint": target.keys.get(KEY_LINEAGE),
            "definition": target.keys.get(KEY_DEFINITION),
        }
        return self._plan(after, Step(f"roll {self.name} back to {name}", roll_back))

    def _absent(self) -> Plan:
        state = self.state
        children = sorted(child.name for child in self.judge.states.values() if child.parent == self.name)
        if children and not self.desired.force:
            raise ConfigError(
                f"base {self.name} has children: {', '.join(children)}; force: true removes it all the same"
            )
        if state.held(self.judge.now) and not self.desired.force:
            raise ConfigError(f"base {self.name} is being built; force: true removes it all the same")
        # the anchor goes first: nobody clones from a base that is half gone
        left = [state.anchor, state.builder, *(state.builds or {}).values()]
        steps = [
            Step(f"delete {found.name}", lambda name=found.name: self._delete(name), Phase.STOP)  # type: ignore[misc]
            for found in left
            if found
        ]
        record = self._record()
        before = {key: record[key] for key in _MANAGED} if steps else {}
        return Plan(self.name, before, {}, tuple(steps), seen={**record, "log": ""})


class _Heartbeat:
    """Renews a lease while a build goes on; what fails is tried again at the next beat."""

    def __init__(self, beat: Callable[[], None], seconds: float) -> None:
        self._beat = beat
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            with contextlib.suppress(PixelsError):
                self._beat()
