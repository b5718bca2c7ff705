# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles as definitions of bases: their dependencies are the graph, their files the content."""

from __future__ import annotations

DOCUMENTATION = r"""
name: base_graph
short_description: Definitions of bases from roles and their dependencies
version_added: 1.0.0
author: The pixels.sandbox authors (@pixels-sandbox)
description:
  - Makes of roles the definitions that M(pixels.sandbox.pixels_base) takes. A role whose name begins with C(base_) is a base that is called as
    the rest of it, and the base on top of which it is made is the role of that kind among its dependencies (C(meta/main.yml)). Without one it is made
    from O(image).
  - The bases below are returned too, and parents come first.
  - All files of a role, and of its other dependencies, are part of the definition, and so are the variables that are set for them, those whose
    names begin with that of the role and an underscore. Their values are there as fingerprints.
options:
  _terms:
    description: Names of roles, as a play would write them, and definitions, as dictionaries of options of M(pixels.sandbox.pixels_base).
    type: list
    elements: raw
    required: true
  image:
    description: What roles without a parent are made from.
    type: str
    default: ubuntu/24.04
"""

EXAMPLES = r"""
- name: Show the bases of a role, those below it first
  ansible.builtin.debug:
    msg: "{{ query('pixels.sandbox.base_graph', 'pixels.sandbox.base_python', image='images:debian/13') }}"
"""

RETURN = r"""
_raw:
  description: The definitions, with C(depth), how many bases are below.
  type: list
  elements: dict
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from ansible.errors import AnsibleError
from ansible.playbook.role.definition import RoleDefinition
from ansible.plugins.lookup import LookupBase
from ansible_collections.pixels.sandbox.plugins.module_utils._core.lineage import Definition, ordered
from ansible_collections.pixels.sandbox.plugins.plugin_utils._session import translated

PREFIX = "base_"


class LookupModule(LookupBase):
    """Definitions of bases."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the definitions of the terms and of what is below them."""
        self.set_options(var_options=variables, direct=kwargs)
        self._settings = variables or {}
        found: dict[str, dict[str, Any]] = {}
        for term in self._flatten(terms):
            if isinstance(term, dict):
                self._add(found, {**term, "files": [*term.get("files", ()), *self._contents(term.get("roles", ()))]})
            else:
                self._add_role(found, Role(self, str(term)), ())
        with translated(AnsibleError):
            placed = ordered([Definition(one["name"], one.get("image"), one.get("from")) for one in found.values()])
        return [{**found[entry.definition.name], "depth": entry.depth} for entry in placed]

    @staticmethod
    def _add(found: dict[str, dict[str, Any]], definition: dict[str, Any]) -> None:
        name = definition["name"]
        if found.setdefault(name, definition) != definition:
            raise AnsibleError(f"bases: {name} is defined more than once")

    def _add_role(self, found: dict[str, dict[str, Any]], role: Role, path: tuple[str, ...]) -> None:
        if role.base in path:
            raise AnsibleError(f"bases: a cycle: {' from '.join([*path, role.base])}")
        parents = [other for other in role.dependencies() if other.is_base]
        if len(parents) > 1:
            raise AnsibleError(
                f"role {role.name}: a base has one parent, and this one has {', '.join(one.base for one in parents)}"
            )
        for parent in parents:
            self._add_role(found, parent, (*path, role.base))
        origin = {"from": parents[0].base} if parents else {"image": self.get_option("image")}
        content = list(role.content())
        definition = {
            "name": role.base,
            **origin,
            "roles": [role.full_name],
            "files": [other.path for other in content],
            "variables": self._variables(content),
            "description": role.description,
        }
        self._add(found, definition)

    def _contents(self, names: Any) -> list[str]:
        return [other.path for name in names for other in Role(self, name).content()]

    def _variables(self, content: list[Role]) -> dict[str, str]:
        """Return fingerprints of the settings of roles: they may hold what nobody is to see."""
        templar = cast(Any, self._templar)
        stems = tuple(f"{other.short_name}_" for other in content)
        return {
            name: hashlib.sha256(
                json.dumps(templar.template(self._settings[name]), sort_keys=True, default=str).encode()
            ).hexdigest()
            for name in sorted(self._settings)
            if name.startswith(stems)
        }

    def role_path(self, name: str, collection: str) -> str:
        """Return the folder of a role, found as a play finds it."""
        definition = RoleDefinition(loader=self._loader, collection_list=[collection] if collection else None)
        definition.preprocess_data(name)
        return str(definition.get_role_path())

    def load(self, path: Path) -> dict[str, Any]:
        """Return what a file of YAML has, nothing for one that is not there."""
        return dict(cast(Any, self._loader).load_from_file(str(path)) or {}) if path.exists() else {}


class Role:
    """A role on the controller."""

    def __init__(self, lookup: LookupModule, name: str, collection: str = "") -> None:
        self._lookup = lookup
        self.name = name
        self.path = lookup.role_path(name, collection)
        namespace, _dot, self.short_name = name.rpartition(".")
        self._collection = namespace or collection

    @property
    def full_name(self) -> str:
        """The name by which any play finds it."""
        return f"{self._collection}.{self.short_name}" if self._collection else self.short_name

    @property
    def is_base(self) -> bool:
        """Whether it makes a base."""
        return self.short_name.startswith(PREFIX)

    @property
    def base(self) -> str:
        """The name of its base."""
        return self.short_name.removeprefix(PREFIX).replace("_", "-")

    @property
    def description(self) -> str:
        """What it says of itself."""
        return str((self._meta().get("galaxy_info") or {}).get("description", ""))

    def dependencies(self) -> list[Role]:
        """Return the roles that it depends on."""
        names = [
            str(entry.get("role", entry.get("name"))) if isinstance(entry, dict) else str(entry)
            for entry in self._meta().get("dependencies") or ()
        ]
        return [Role(self._lookup, name, self._collection) for name in names]

    def content(self) -> Iterator[Role]:
        """Yield the role and all below it that are no bases of their own."""
        yield self
        for other in self.dependencies():
            if not other.is_base:
                yield from other.content()

    def _meta(self) -> dict[str, Any]:
        return self._lookup.load(Path(self.path, "meta", "main.yml"))
