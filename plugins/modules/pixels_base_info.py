#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_base_info
short_description: List bases, what is stale and why, and what was cloned from them
version_added: 1.0.0
description:
  - Returns bases with their published builds, their children and the sandboxes that were cloned from them.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes.info
  - pixels.sandbox._connection
options:
  name:
    description: Names of the bases to return. All of them if it is not given. Names that are neither there nor defined are left out.
    type: list
    elements: str
  definitions:
    description:
      - Definitions that bases are compared with. Those that are not there yet are returned too, as V(missing).
      - They are returned first, each parent before its children, and C(depth) tells how many bases are below it. A base whose parent is not
        ready is stale too.
      - A base that is defined twice, a parent that nobody knows and a cycle are errors.
    type: list
    elements: dict
    suboptions:
      name:
        description: See O(pixels.sandbox.pixels_base#module:name).
        type: str
        required: true
      image:
        description: See O(pixels.sandbox.pixels_base#module:image).
        type: str
      from:
        description: See O(pixels.sandbox.pixels_base#module:from).
        type: str
      packages:
        description: See O(pixels.sandbox.pixels_base#module:packages).
        type: list
        elements: str
      script:
        description: See O(pixels.sandbox.pixels_base#module:script).
        type: path
      variables:
        description: See O(pixels.sandbox.pixels_base#module:variables).
        type: dict
      roles:
        description: See O(pixels.sandbox.pixels_base#module:roles).
        type: list
        elements: str
      files:
        description: See O(pixels.sandbox.pixels_base#module:files).
        type: list
        elements: path
      description:
        description: See O(pixels.sandbox.pixels_base#module:description).
        type: str
      smoke:
        description: See O(pixels.sandbox.pixels_base#module:smoke). It is no part of the definition.
        type: str
  max_age:
    description: Age from which a base is stale, seconds or numbers with the units C(s), C(m), C(h), C(d), C(w), as V(7d).
    type: str
  skip:
    description:
      - Names of bases that are to be left as they are. Those on top of them are not stale for what such a base would become.
    type: list
    elements: str
  query:
    description: A JMESPath expression over the list of bases, whose outcome is RV(result).
    type: str
requirements:
  - jmespath, for O(query)
seealso:
  - module: pixels.sandbox.pixels_base
"""

EXAMPLES = r"""
- name: List all bases
  pixels.sandbox.pixels_base_info:
  register: all

- name: Find the sandboxes that are behind their bases
  pixels.sandbox.pixels_base_info:
    query: "[].behind[]"
  register: behind

- name: Tell what would be rebuilt
  pixels.sandbox.pixels_base_info:
    max_age: 7d
    definitions:
      - name: dev
        image: images:debian/13
        packages: [git]
      - name: python
        from: dev
        packages: [python3-venv]
"""

RETURN = r"""
bases:
  description: The bases that were asked for.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the base.
      returned: always
      type: str
      sample: python
    status:
      description:
        - V(missing) where there is no published build, V(ready), V(stale) for the reasons in C(reasons), V(building) while somebody builds it, or
          V(failed) when the last build failed. What is published stays as it is while it is built, and when that fails.
      returned: always
      type: str
      sample: stale
    reasons:
      description:
        - Why the published build is stale. V(definition) is another definition than the wanted one, V(parent) a parent that was built again,
          V(image) another image of the server's own store under the same name, V(mutated) a change by hand, V(age) one that is too old.
        - Empty for a base that somebody has rolled back from just what would be built.
      returned: always
      type: list
      elements: str
      sample: ["parent"]
    published:
      description: The build that clones come from, null where there is none.
      returned: always
      type: str
      sample: build-python-4d2f1c0a9b3e
    previous:
      description: Earlier builds that are kept, the newest first.
      returned: always
      type: list
      elements: str
      sample: ["build-python-92c0a1b2c3d4"]
    fingerprint:
      description: Fingerprint of the published build, of its definition and of that of its parent.
      returned: always
      type: str
      sample: 4d2f1c0a9b3e51b6f2d07c8ea94b1d3360f1a2c95b7e8d4410c6ab12fe95d073
    definition:
      description: Fingerprint of the definition alone that the published build was made by.
      returned: always
      type: str
      sample: 5b7e8d4410c6ab12fe95d0734d2f1c0a9b3e51b6f2d07c8ea94b1d3360f1a2c9
    image:
      description: The image that the published build was made from, null for one with a parent.
      returned: always
      type: str
      sample: local:pixels/debian/13
    from:
      description: The base that the published build was made from, null for one that was made from an image.
      returned: always
      type: str
      sample: dev
    built_at:
      description: When the published build was made, in UTC.
      returned: always
      type: str
      sample: "2026-01-02T03:04:05Z"
    seal:
      description: A random word that tells this build from all others. A copy on another server has the same.
      returned: always
      type: str
      sample: 5a0c1d2e3f4051627384a5b6c7d8e9f0
    copied:
      description: Whether the published build was copied from another server.
      returned: always
      type: bool
      sample: false
    refused:
      description: The fingerprint that somebody has rolled back from, null where nobody did. It is not built or copied again.
      returned: always
      type: str
      sample: null
    description:
      description: What the definition says of the base.
      returned: always
      type: str
      sample: Python with venv and pipx
    children:
      description: Bases that were made from this one.
      returned: always
      type: list
      elements: str
      sample: []
    clones:
      description: Sandboxes that were cloned from this base, or from such a clone.
      returned: always
      type: list
      elements: str
      sample: ["task1", "task2"]
    behind:
      description: Those of the clones that come from another build than the published one.
      returned: always
      type: list
      elements: str
      sample: ["task1"]
    failure:
      description: How the last build failed, null where it did not.
      returned: always
      type: dict
      contains:
        at:
          description: When it failed, in UTC.
          returned: always
          type: str
          sample: "2026-01-02T03:04:05Z"
        message:
          description: What failed.
          returned: always
          type: str
          sample: the script ended with 100
        log:
          description: The end of what was printed, at most 4096 bytes.
          returned: always
          type: str
          sample: "E: Unable to locate package pytohn3"
      sample: null
    building_until:
      description: Until when the builder belongs to who builds the base, in UTC; null while nobody does. It is renewed while a build goes on.
      returned: always
      type: str
      sample: null
    depth:
      description: How many bases are below it by the definitions.
      returned: when it is one of O(definitions)
      type: int
      sample: 1
result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: ["task1"]
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.query import apply_query
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_info
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.base_plan import list_bases

DEFINITION = {
    "name": {"type": "str", "required": True},
    "image": {"type": "str"},
    "from": {"type": "str"},
    "packages": {"type": "list", "elements": "str"},
    "script": {"type": "path"},
    "variables": {"type": "dict"},
    "roles": {"type": "list", "elements": "str"},
    "files": {"type": "list", "elements": "path"},
    "description": {"type": "str"},
    "smoke": {"type": "str"},
}
ARGUMENT_SPEC = {
    "name": {"type": "list", "elements": "str"},
    "definitions": {"type": "list", "elements": "dict", "options": DEFINITION},
    "max_age": {"type": "str"},
    "skip": {"type": "list", "elements": "str"},
    "query": {"type": "str"},
}


def read(backend: Backend, params: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the bases that the options ask for."""
    records = list_bases(backend, params)
    result: dict[str, object] = {"bases": records}
    if params["query"] is not None:
        result["result"] = apply_query(params["query"], records)
    return result


def main() -> None:
    """Run the module."""
    run_info(ARGUMENT_SPEC, read)


if __name__ == "__main__":
    main()
