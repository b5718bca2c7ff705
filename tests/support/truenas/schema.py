# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the simulated TrueNAS checks arguments: unknown fields, wrong types and lengths are refused, as by the real models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

#: Ordinary strings of the real models hold no more.
MOST_CHARACTERS = 1024
EINVAL = 22
#: Stands for a field that must be given.
NEEDED: Any = object()
Details = list[list[Any]]


@dataclass(frozen=True)
class Field:
    """What one argument, or one field of an object, must be; since and until are releases that know it."""

    kind: str
    default: Any = NEEDED
    null: bool = False
    choices: tuple[Any, ...] = ()
    least: int | None = None
    most: int | None = None
    pattern: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict)
    item: Field | None = None
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (99, 0)

    def known_to(self, release: tuple[int, int]) -> bool:
        """Say whether this release has the field."""
        return self.since <= release < self.until

    def optional(self, default: Any = None, null: bool = True) -> Field:
        """Return the same field, which may be left out."""
        return replace(self, default=default, null=null)


def text(least: int = 0, most: int = MOST_CHARACTERS, pattern: str = "", choices: Sequence[str] = ()) -> Field:
    """Return a field for a string."""
    return Field("str", least=least, most=most, pattern=pattern, choices=tuple(choices))


def integer(least: int | None = None, most: int | None = None) -> Field:
    """Return a field for a whole number."""
    return Field("int", least=least, most=most)


def flag(default: bool) -> Field:
    """Return a field for a truth that may be left out."""
    return Field("bool", default=default)


def listed(item: Field) -> Field:
    """Return a field for a list."""
    return Field("list", item=item)


def record(**fields: Field) -> Field:
    """Return a field for an object with these fields and no others."""
    return Field("object", fields=fields)


def mapping(item: Field, pattern: str = "") -> Field:
    """Return a field for an object with free keys."""
    return Field("map", item=item, pattern=pattern)


ANYTHING = Field("any")
_KINDS: Mapping[str, tuple[type, str]] = {
    "str": (str, "Input should be a valid string"),
    "int": (int, "Input should be a valid integer"),
    "bool": (bool, "Input should be a valid boolean"),
    "list": (list, "Input should be a valid list"),
    "object": (dict, "Input should be a valid dictionary"),
    "map": (dict, "Input should be a valid dictionary"),
    "any": (object, ""),
}


def checked(value: Any, rule: Field, where: str, release: tuple[int, int], wrong: Details) -> Any:
    """Return the value with its defaults filled in; what is wrong is added to the details."""
    if value is None and rule.null:
        return None
    kind, words = _KINDS[rule.kind]
    if not isinstance(value, kind) or (rule.kind == "int" and isinstance(value, bool)):
        wrong.append([where, words, EINVAL])
        return value
    if rule.choices and value not in rule.choices:
        wrong.append([where, f"Input should be {' or '.join(map(repr, rule.choices))}", EINVAL])
    if rule.kind in ("str", "int"):
        _bounds(value, rule, where, wrong)
    if rule.kind == "list" and rule.item:
        return [checked(entry, rule.item, f"{where}.{at}", release, wrong) for at, entry in enumerate(value)]
    if rule.kind == "map" and rule.item:
        for key in value:
            if rule.pattern and not re.fullmatch(rule.pattern, key):
                wrong.append([f"{where}.{key}", f"String should match pattern '{rule.pattern}'", EINVAL])
        return {key: checked(entry, rule.item, f"{where}.{key}", release, wrong) for key, entry in value.items()}
    if rule.kind == "object":
        return _object(value, rule, where, release, wrong)
    return value


def _bounds(value: Any, rule: Field, where: str, wrong: Details) -> None:
    size, unit = (len(value), " characters") if rule.kind == "str" else (value, "")
    if rule.least is not None and size < rule.least:
        wrong.append([where, f"Input should have at least {rule.least}{unit}", EINVAL])
    if rule.most is not None and size > rule.most:
        wrong.append([where, f"Input should have at most {rule.most}{unit}", EINVAL])
    if rule.kind == "str" and rule.pattern and not re.fullmatch(rule.pattern, value):
        wrong.append([where, f"String should match pattern '{rule.pattern}'", EINVAL])


def _object(value: Mapping[str, Any], rule: Field, where: str, release: tuple[int, int], wrong: Details) -> Any:
    known = {name: entry for name, entry in rule.fields.items() if entry.known_to(release)}
    found = {}
    for name in value:
        if name not in known:
            wrong.append([f"{where}.{name}", "Extra inputs are not permitted", EINVAL])
    for name, entry in known.items():
        if name in value:
            found[name] = checked(value[name], entry, f"{where}.{name}", release, wrong)
        elif entry.default is NEEDED:
            wrong.append([f"{where}.{name}", "Field required", EINVAL])
        else:
            found[name] = entry.default
    return found
