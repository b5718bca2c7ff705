# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters and options of the query methods, as the middleware has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from support.truenas.state import Invalid, not_found

Row = Mapping[str, Any]
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda found, given: found == given,
    "!=": lambda found, given: found != given,
    ">": lambda found, given: found > given,
    ">=": lambda found, given: found >= given,
    "<": lambda found, given: found < given,
    "<=": lambda found, given: found <= given,
    "~": lambda found, given: bool(re.search(given, found)),
    "in": lambda found, given: found in given,
    "nin": lambda found, given: found not in given,
    "rin": lambda found, given: found is not None and given in found,
    "rnin": lambda found, given: found is not None and given not in found,
    "^": lambda found, given: found is not None and found.startswith(given),
    "!^": lambda found, given: found is not None and not found.startswith(given),
    "$": lambda found, given: found is not None and found.endswith(given),
    "!$": lambda found, given: found is not None and not found.endswith(given),
}


def _invalid(words: str) -> Invalid:
    return Invalid([["query-filters", words, 22]])


def value_at(row: Row, path: str) -> Any:
    """Return what is at a dotted path of a row, None where it ends early."""
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _matches(row: Row, entry: Any) -> bool:
    if not isinstance(entry, list):
        raise _invalid(f"Invalid filter {entry!r}")
    if len(entry) == 2 and entry[0] == "OR":
        return any(
            all(_matches(row, part) for part in branch)
            if branch and isinstance(branch[0], list)
            else _matches(row, branch)
            for branch in entry[1]
        )
    if len(entry) != 3 or not isinstance(entry[0], str):
        raise _invalid(f"Invalid filter {entry!r}")
    path, operator, given = entry
    if operator not in _OPERATORS:
        raise _invalid(f"Invalid operation: {operator}")
    return _OPERATORS[operator](value_at(row, path), given)


def queried(rows: Iterable[Row], filters: list[Any], options: Mapping[str, Any], noun: str = "MatchNotFound") -> Any:
    """Return what a query method answers from these rows."""
    # a filter that is none is refused even where there is no row
    for entry in filters:
        if not (isinstance(entry, list) and len(entry) in (2, 3)):
            raise _invalid(f"Invalid filter {entry!r}")
    found = [row for row in rows if all(_matches(row, entry) for entry in filters)]
    for path in reversed(options["order_by"]):
        name = path.removeprefix("-")
        found.sort(key=lambda row, name=name: value_at(row, name), reverse=path.startswith("-"))  # type: ignore[misc]
    if options["count"]:
        return len(found)
    found = found[options["offset"] :]
    if options["limit"]:
        found = found[: options["limit"]]
    if options["select"]:
        found = [{path: value_at(row, path) for path in options["select"]} for row in found]
    if options["get"]:
        if not found:
            raise not_found(f"{noun} does not exist")
        return found[0]
    return found
