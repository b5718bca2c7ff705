# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What bases are made of, in which order they are built, and by which fingerprints they are known."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.:~-]*")


@dataclass(frozen=True)
class Definition:
    """What a base is made of: an image or another base, and what is put on top.

    script is a text. content is a fingerprint of files that belong to it, as those of roles. variables are in the environment of the script.
    """

    name: str
    image: str | None = None
    parent: str | None = None
    script: str | None = None
    packages: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    variables: Mapping[str, object] = field(default_factory=dict)
    description: str = ""
    content: str = ""

    @property
    def digest(self) -> str:
        """Fingerprint of the definition alone. The description is left out: other words make no other base."""
        parts = [
            self.name,
            self.image,
            self.parent,
            self.script,
            sorted(self.packages),
            self.roles,
            dict(self.variables),
            self.content,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def fingerprint(self, parent: str = "") -> str:
        """Fingerprint of the base: of its definition and of that of its parent."""
        return hashlib.sha256(f"{self.digest}/{parent}".encode()).hexdigest()


@dataclass(frozen=True)
class Placed:
    """A definition and how many bases are below it."""

    definition: Definition
    depth: int


def checked(definition: Definition) -> Definition:
    """Return the definition, or raise ConfigError for what no base can be."""
    subject = f"base {definition.name}"
    names.base_name(definition.name)
    if (definition.image is None) == (definition.parent is None):
        raise ConfigError(f"{subject}: give either image or from")
    for option, value in (("image", definition.image), ("from", definition.parent)):
        if value is not None and not value.strip():
            raise ConfigError(f"{subject}: {option} is empty")
    for package in definition.packages:
        if not _PACKAGE.fullmatch(package):
            raise ConfigError(f"{subject}: {package!r} is not the name of a package")
    for key in definition.variables:
        names.env_name(str(key), f"{subject}: variables")
    names.printable(f"{subject}: description", definition.description)
    return definition


def ordered(definitions: Sequence[Definition], known: Collection[str] = ()) -> tuple[Placed, ...]:
    """Return the definitions with each parent in front of its children, those of one depth by name.

    known are bases that are there without a definition. Raises ConfigError for a base that is defined twice, a parent that nobody knows and
    a cycle, naming the path.
    """
    by_name = {definition.name: definition for definition in definitions}
    twice = sorted({one.name for one in definitions if by_name[one.name] is not one})
    if twice:
        raise ConfigError(f"bases: {', '.join(twice)} is defined more than once")
    placed = [Placed(definition, len(_path(definition, by_name, known)) - 1) for definition in by_name.values()]
    return tuple(sorted(placed, key=lambda entry: (entry.depth, entry.definition.name)))


def _path(definition: Definition, by_name: Mapping[str, Definition], known: Collection[str]) -> list[str]:
    """Return the names from a base down to its root."""
    path = [definition.name]
    current: Definition | None = definition
    while current is not None and current.parent is not None:
        parent = current.parent
        if parent in path:
            raise ConfigError(f"bases: a cycle: {' from '.join([*path, parent])}")
        path.append(parent)
        current = by_name.get(parent)
        if current is None and parent not in known:
            there = ", ".join(sorted({*by_name, *known}))
            raise ConfigError(f"bases: {' from '.join(path)}: there is no base {parent}; there are: {there}")
    return path
