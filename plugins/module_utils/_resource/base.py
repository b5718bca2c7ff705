# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Bases as a server has them: which build is published, what is stale and why, what was cloned from it.

A base is an anchor, an instance without content that names the published build. A build is an instance that is stopped for ever. While it
is being made it has one fixed name, so that there is one at a time, and a time at which others may take it for abandoned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, Foreign
from ansible_collections.pixels.sandbox.plugins.module_utils._core.lineage import Definition, ordered
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    BASE,
    BUILD,
    KEY_BASE,
    KEY_BUILD,
    KEY_IMAGE,
    KEY_LINEAGE,
    SANDBOX,
    STOPPED,
    Image,
    Instance,
)

#: Keys of an anchor. The failure is a record as JSON; refused is the fingerprint that was rolled back from.
KEY_PUBLISHED = "base.published"
KEY_PREVIOUS = "base.previous"
KEY_FAILURE = "base.failure"
KEY_REFUSED = "base.refused"
KEY_DESCRIPTION = "base.description"
#: Keys of a build. The parent is the name of its parent's build, or the fingerprint of its image. Only a builder has the last two.
KEY_DEFINITION = "build.definition"
KEY_FROM = "build.from"
KEY_PARENT = "build.parent"
KEY_BUILT = "build.built"
KEY_USED = "build.used"
KEY_MUTATED = "build.mutated"
#: A random word that the build has on its disk too, so that it is known wherever it is copied to.
KEY_SEAL = "build.seal"
#: Only a copy from another server has it: the name of the build there.
KEY_COPIED = "build.copied"
KEY_LEASE = "build.lease"
KEY_HOLDER = "build.holder"

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def moment(text: str) -> datetime:
    """Return a time from a key; one that is not ours was long ago."""
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class BaseState:
    """What there is of one base: its anchor, its builder, and its finished builds by name."""

    name: str
    anchor: Instance | None = None
    builder: Instance | None = None
    builds: Mapping[str, Instance] | None = None

    @property
    def published(self) -> Instance | None:
        """The build that clones come from."""
        return self._build(self._key(KEY_PUBLISHED))

    @property
    def previous(self) -> tuple[str, ...]:
        """The builds that are kept for a rollback, the newest first."""
        return tuple(name for name in self._key(KEY_PREVIOUS).split(",") if self._build(name))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the published build, empty where there is none."""
        return self.published.keys.get(KEY_LINEAGE, "") if self.published else ""

    @property
    def parent(self) -> str | None:
        """The base that the published build was made from."""
        return (self.published.keys.get(KEY_FROM) if self.published else None) or None

    @property
    def refused(self) -> str:
        """The fingerprint that was rolled back from."""
        return self._key(KEY_REFUSED)

    @property
    def description(self) -> str:
        """What the definition says of the base."""
        return self._key(KEY_DESCRIPTION)

    @property
    def failure(self) -> dict[str, str] | None:
        """When the last build failed, why, and the end of what it printed; None where it did not."""
        text = self._key(KEY_FAILURE)
        return dict(json.loads(text)) if text else None

    def held(self, now: datetime) -> Instance | None:
        """Return the build that somebody works at: the builder, or one that has its last name and is about to be published."""
        candidates = [*([self.builder] if self.builder else []), *self._unneeded()]
        return next((found for found in candidates if not lapsed(found, now)), None)

    def surplus(self, now: datetime) -> tuple[Instance, ...]:
        """Return the builds that nobody needs: neither published nor kept, nor just about to be published."""
        return tuple(found for found in self._unneeded() if lapsed(found, now))

    def _unneeded(self) -> list[Instance]:
        needed = {self._key(KEY_PUBLISHED), *self._key(KEY_PREVIOUS).split(",")}
        return [found for name, found in (self.builds or {}).items() if name not in needed]

    def _key(self, key: str) -> str:
        return self.anchor.keys.get(key, "") if self.anchor else ""

    def _build(self, name: str) -> Instance | None:
        return (self.builds or {}).get(name)


def lapsed(build: Instance, now: datetime) -> bool:
    """Say whether the lease of a build is over; a finished one has none."""
    return moment(build.keys.get(KEY_LEASE, "")) <= now


def published_build(backend: Backend, name: str) -> Instance:
    """Return the build that clones of a base come from; ConfigError where there is none."""
    seen = ""
    while (anchor := backend.get_instance(names.anchor_name(name))) is not None and anchor.kind == BASE:
        published = anchor.keys.get(KEY_PUBLISHED, "")
        if published == seen:
            break
        found = backend.get_instance(published)
        if found is not None and found.kind == BUILD:
            return found
        # it may have been switched since, and the build removed: then another one is published
        seen = published
    states = states_of(backend.list_instances(addresses=False))
    there = ", ".join(state.name for state in states.values() if state.published) or "none"
    raise ConfigError(f"clone_from: there is no base {name}; there are: {there}")


def states_of(instances: Iterable[Instance], wanted: Sequence[str] = ()) -> dict[str, BaseState]:
    """Return what there is of each base, and of those that are wanted; Foreign where one of its names is somebody else's."""
    anchors: dict[str, Instance] = {}
    builders: dict[str, Instance] = {}
    builds: dict[str, dict[str, Instance]] = {}
    for found in instances:
        owner = found.keys.get(KEY_BASE, "")
        if found.kind == BASE:
            anchors[found.name.removeprefix(names.ANCHOR)] = found
        elif found.kind == BUILD and found.name == names.builder_name(owner):
            builders[owner] = found
        elif found.kind == BUILD:
            builds.setdefault(owner, {})[found.name] = found
        else:
            for base in wanted:
                if found.name in (names.anchor_name(base), names.builder_name(base)):
                    raise Foreign(
                        f"{base}: the instance {found.server_name} was not made by this collection; it is left alone"
                    )
    return {
        name: BaseState(name, anchors.get(name), builders.get(name), builds.get(name, {}))
        for name in sorted({*anchors, *builders, *builds, *wanted})
    }


@dataclass(frozen=True)
class Judge:
    """Says why bases are stale: over what a server has, the definitions that are wanted, and the time."""

    states: Mapping[str, BaseState]
    images: Sequence[Image]
    now: datetime
    #: seconds; None is any age
    max_age: int | None = None

    def fingerprint(self, definition: Definition) -> str:
        """Return the fingerprint that the base would have; ConfigError where its parent is not there."""
        parent = self.parent_build(definition).keys.get(KEY_LINEAGE, "") if definition.parent else ""
        return definition.fingerprint(parent)

    def parent_build(self, definition: Definition) -> Instance:
        """Return the published build of the parent; ConfigError where there is none."""
        parent = self.states.get(str(definition.parent))
        if parent is None or parent.published is None:
            raise ConfigError(f"base {definition.name}: from: its parent {definition.parent} is not built yet")
        return parent.published

    def reasons(self, name: str, wanted: Definition | None) -> list[str]:
        """Return why a base is stale: definition, parent, image, mutated, age; nothing for one without a published build."""
        state = self.states[name]
        published = state.published
        if published is None:
            return []
        keys = published.keys
        found = []
        if wanted is not None and wanted.digest != keys.get(KEY_DEFINITION):
            found.append("definition")
        if self._parent_moved(published, wanted):
            found.append("parent")
        if self._image_moved(published):
            found.append("image")
        if KEY_MUTATED in keys or changed_since(published):
            found.append("mutated")
        if self.max_age is not None and self.now - moment(keys.get(KEY_BUILT, "")) > timedelta(seconds=self.max_age):
            found.append("age")
        return [] if found and self._is_refused(state, wanted) else found

    def _is_refused(self, state: BaseState, wanted: Definition | None) -> bool:
        """Say whether what would be built is what somebody has rolled back from."""
        if not state.refused or wanted is None:
            return bool(state.refused)
        try:
            return self.fingerprint(wanted) == state.refused
        except ConfigError:
            return False

    def _parent_moved(self, published: Instance, wanted: Definition | None) -> bool:
        parent = wanted.parent if wanted else published.keys.get(KEY_FROM)
        if not parent:
            return False
        state = self.states.get(parent)
        return state is None or state.published is None or state.published.name != published.keys.get(KEY_PARENT)

    def _image_moved(self, published: Instance) -> bool:
        """Say whether the server's own store has another image under that name now; what came from elsewhere had another store."""
        if published.keys.get(KEY_FROM) or KEY_COPIED in published.keys:
            return False
        alias = published.keys.get(KEY_IMAGE, "").removeprefix("local:")
        there = [image.fingerprint for image in self.images if alias in image.aliases]
        return bool(there) and published.keys.get(KEY_PARENT) not in there


def changed_since(build: Instance) -> bool:
    """Say whether somebody has started a finished build since it was made."""
    used = build.used_at.strftime(_TIME) if build.used_at else ""
    return build.status != STOPPED or build.keys.get(KEY_USED, used) != used


def same_build(one: Instance, other: Instance) -> bool:
    """Say whether two builds, of two servers perhaps, are one."""
    return bool(one.keys.get(KEY_SEAL)) and all(
        one.keys.get(key) == other.keys.get(key) for key in (KEY_SEAL, KEY_LINEAGE)
    )


def offered_build(
    source: Backend, name: str, wanted: Definition | None, now: datetime, max_age: int | None
) -> tuple[Instance, str]:
    """Return what another server has published of a base, and the fingerprint of its parent there.

    Raises ConfigError where it has none, or one that is stale by the definition; without one, it may be changed by hand and old.
    """
    judge = Judge(states_of(source.list_instances(addresses=False), (name,)), source.list_images(), now, max_age)
    published = judge.states[name].published
    if published is None:
        raise ConfigError(f"from_server: it has no base {name}")
    reasons = judge.reasons(name, wanted) if wanted else ["mutated"] if changed_since(published) else []
    if reasons:
        raise ConfigError(f"from_server: its base {name} is stale itself ({', '.join(reasons)})")
    parent = judge.states.get(published.keys.get(KEY_FROM, ""))
    return published, parent.fingerprint if parent else ""


def status_of(state: BaseState, reasons: Sequence[str], wanted: Definition | None, now: datetime) -> str:
    """Return how a base is: building, failed, missing, stale or ready."""
    if state.held(now):
        return "building"
    # a failure is over when what is wanted is there all the same
    if state.failure and (wanted is None or state.published is None or reasons):
        return "failed"
    if state.published is None:
        return "missing"
    return "stale" if reasons else "ready"


def base_record(judge: Judge, name: str, wanted: Definition | None, instances: Sequence[Instance]) -> dict[str, object]:
    """Return a base as results show it."""
    state = judge.states[name]
    published = state.published
    keys: Mapping[str, str] = published.keys if published else {}
    reasons = judge.reasons(name, wanted)
    clones = [found for found in instances if found.kind == SANDBOX and found.keys.get(KEY_BASE) == name]
    held = state.held(judge.now)
    return {
        "name": name,
        "status": status_of(state, reasons, wanted, judge.now),
        "reasons": reasons,
        "published": published.name if published else None,
        "previous": list(state.previous),
        "fingerprint": state.fingerprint or None,
        "definition": keys.get(KEY_DEFINITION),
        "image": None if keys.get(KEY_FROM) else keys.get(KEY_IMAGE),
        "from": keys.get(KEY_FROM) or None,
        "built_at": keys.get(KEY_BUILT),
        "seal": keys.get(KEY_SEAL),
        "copied": KEY_COPIED in keys,
        "refused": state.refused or None,
        "description": state.description or None,
        "children": sorted(child.name for child in judge.states.values() if child.parent == name),
        "clones": sorted(found.name for found in clones),
        "behind": sorted(found.name for found in clones if published and found.keys.get(KEY_BUILD) != published.name),
        "failure": state.failure,
        "building_until": held.keys.get(KEY_LEASE) if held else None,
    }


def list_base_records(
    backend: Backend,
    wanted: Sequence[str] | None,
    definitions: Sequence[Definition],
    max_age: int | None,
    now: datetime,
    skip: Sequence[str] = (),
) -> list[dict[str, object]]:
    """Return bases, those with definitions first and parents in front of children, the others by name.

    A base whose parent is not ready is stale too, since it will be when its parent is built, but for one that is to be skipped.
    """
    instances = backend.list_instances(addresses=False)
    states = states_of(instances, [definition.name for definition in definitions])
    there = [name for name, state in states.items() if state.anchor]
    placed = ordered(definitions, there)
    by_name = {entry.definition.name: entry for entry in placed}
    judge = Judge(states, backend.list_images(), now, max_age)
    unready: set[str] = set()
    records = []
    for name in [*by_name, *(name for name in there if name not in by_name)]:
        entry = by_name.get(name)
        definition = entry.definition if entry else None
        record = base_record(judge, name, definition, instances)
        parent = definition.parent if definition else record["from"]
        if parent in unready and record["status"] == "ready" and not states[name].refused:
            record.update(status="stale", reasons=["parent"])
        if record["status"] != "ready" and name not in skip:
            unready.add(name)
        if entry:
            record["depth"] = entry.depth
        if wanted is None or name in wanted:
            records.append(record)
    return records
