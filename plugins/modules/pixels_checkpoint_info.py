#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_checkpoint_info
short_description: List checkpoints of sandboxes
version_added: 1.0.0
description:
  - Returns checkpoints with their sizes, times and clones, by sandbox, oldest first.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes.info
  - pixels.sandbox._connection
options:
  name:
    description: Names of the sandboxes. All of them if it is not given. Names that are not there are left out.
    type: list
    elements: str
  query:
    description: A JMESPath expression over the list of checkpoints, whose outcome is RV(result).
    type: str
requirements:
  - jmespath, for O(query)
seealso:
  - module: pixels.sandbox.pixels_checkpoint
"""

EXAMPLES = r"""
- name: List the checkpoints of all sandboxes
  pixels.sandbox.pixels_checkpoint_info:
  register: all

- name: List those of one sandbox
  pixels.sandbox.pixels_checkpoint_info:
    name: dev

- name: Find the labels that nothing was cloned from
  pixels.sandbox.pixels_checkpoint_info:
    name: dev
    query: "[?length(clones)==`0`].label"
  register: unused
"""

RETURN = r"""
checkpoints:
  description: The checkpoints that were asked for.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the sandbox.
      returned: always
      type: str
      sample: task1
    label:
      description: Label of the checkpoint.
      returned: always
      type: str
      sample: ready
    created_at:
      description: When the checkpoint was made, in UTC.
      returned: when the checkpoint is there
      type: str
      sample: "2026-01-02T03:04:05Z"
    expires_at:
      description: When the server removes the checkpoint by itself, in UTC; null for never.
      returned: when the checkpoint is there
      type: str
      sample: "2026-01-09T03:04:05Z"
    size:
      description: Bytes that the checkpoint alone takes up; null where the storage driver cannot tell.
      returned: when the checkpoint is there
      type: int
      sample: 16384
    protected:
      description: Whether the checkpoint is kept by retention and is not removed by mistake.
      returned: when the checkpoint is there
      type: bool
      sample: false
    clones:
      description: Names of the sandboxes that were cloned from the checkpoint.
      returned: always
      type: list
      elements: str
      sample: ["task1", "task2"]
result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: ["nightly-20260101"]
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.names import bare
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.query import apply_query
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_info
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import list_checkpoint_records

ARGUMENT_SPEC = {"name": {"type": "list", "elements": "str"}, "query": {"type": "str"}}


def read(backend: Backend, params: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the checkpoints that the options ask for."""
    names = None if params["name"] is None else [bare(name) for name in params["name"]]
    records = list_checkpoint_records(backend, names)
    result: dict[str, object] = {"checkpoints": records}
    if params["query"] is not None:
        result["result"] = apply_query(params["query"], records)
    return result


def main() -> None:
    """Run the module."""
    run_info(ARGUMENT_SPEC, read)


if __name__ == "__main__":
    main()
