#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_provision
short_description: Record how far the provisioning of sandboxes is
version_added: 1.0.0
description:
  - Keeps on the instances themselves how far their provisioning is, so that any controller can see it. The role
    P(pixels.sandbox.sandbox#role) uses it; M(pixels.sandbox.pixels_instance_info) shows it.
  - The record describes the disk. A clone has that of what it was cloned from, and a restore brings back that of the checkpoint.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes
  - pixels.sandbox._attributes.idempotent
  - pixels.sandbox._connection
options:
  name:
    description: Names of the sandboxes.
    type: list
    elements: str
    required: true
  status:
    description: How far it is. V(none) forgets what was recorded.
    type: str
    required: true
    choices:
      - none
      - provisioning
      - ready
      - failed
  step:
    description: What is being done, or what failed.
    type: str
  definition:
    description: A fingerprint of what was asked for, by which a later run knows whether there is anything to do.
    type: str
seealso:
  - module: pixels.sandbox.pixels_instance_info
"""

EXAMPLES = r"""
- name: Say that the tools are being installed
  pixels.sandbox.pixels_provision:
    name: task1
    status: provisioning
    step: devtools

- name: Say that it is ready
  pixels.sandbox.pixels_provision:
    name:
      - task1
      - task2
    status: ready
    definition: 5f2b

- name: Let the next run provision it again
  pixels.sandbox.pixels_provision:
    name: task1
    status: none
"""

RETURN = r"""
provisions:
  description: What is recorded now, in the order of O(name).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the sandbox.
      returned: always
      type: str
      sample: task1
    status:
      description: V(none), V(provisioning), V(ready) or V(failed).
      returned: always
      type: str
      sample: ready
    step:
      description: What is being done, or what failed; null when there is nothing to say.
      returned: always
      type: str
      sample: devtools
    definition:
      description: Fingerprint of what was asked for; null when none was given.
      returned: always
      type: str
      sample: 5f2b
    since:
      description: When the rest was recorded, in UTC.
      returned: always
      type: str
      sample: "2026-01-02T03:04:05Z"
    changed:
      description: Whether this record was changed.
      returned: always
      type: bool
      sample: true
    actions:
      description: What was done, or would be in check mode.
      returned: always
      type: list
      elements: str
      sample: ["record ready for task1"]
    failed:
      description: Whether this one failed.
      returned: when it failed
      type: bool
      sample: true
    msg:
      description: What failed, and what the server said.
      returned: when it failed
      type: str
      sample: "task1: could not record ready for task1: task1 was removed meanwhile"
    failed_step:
      description: The step that failed.
      returned: when it failed
      type: str
      sample: record ready for task1
    completed_steps:
      description: The steps that were done before.
      returned: when it failed
      type: list
      elements: str
      sample: []
provision:
  description: The same as the only element of RV(provisions).
  returned: when O(name) is a single name
  type: dict
  sample:
    name: task1
    status: ready
failed_names:
  description: Names of the sandboxes for which it failed.
  returned: always
  type: list
  elements: str
  sample: []
actions:
  description: What was done to all of them, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["record ready for task1"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import PROVISION_STATUSES
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.provision import (
    desired_provision,
    plan_provision,
)

ARGUMENT_SPEC = {
    "name": {"type": "list", "elements": "str", "required": True},
    "status": {"type": "str", "required": True, "choices": list(PROVISION_STATUSES)},
    "step": {"type": "str"},
    "definition": {"type": "str"},
}


def main() -> None:
    """Run the module."""
    run_module(
        ARGUMENT_SPEC,
        lambda backend, params: plan_provision(backend, desired_provision(params)),
        noun="provision",
    )


if __name__ == "__main__":
    main()
