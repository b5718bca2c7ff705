#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_checkpoint
short_description: Make, keep, restore and remove checkpoints of sandboxes
version_added: 1.0.0
description:
  - A checkpoint is the disk of a sandbox at one moment. A sandbox can go back to it, and others can be cloned from it.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes
  - pixels.sandbox._connection
attributes:
  idempotent:
    description: When run again with the same options, changes nothing.
    support: partial
    details:
      - O(state=restored) is an action, and restores each time. O(state=present) without O(label) makes a new checkpoint each time.
options:
  name:
    description: Name of the sandbox.
    type: str
    required: true
  label:
    description:
      - Label of the checkpoint. Letters, digits, dots, underscores and hyphens, at most 62, beginning with a letter or digit.
      - If it is not given, C(px-) and the time in UTC, as V(px-20260102-030405). O(state=absent) and O(state=restored) need it.
    type: str
  state:
    description:
      - V(present) makes the checkpoint if it is not there.
      - V(absent) removes it. One that is not there is success.
      - V(restored) puts the disk of the sandbox back. Limits, labels, hardening, network and all else that is set on the
        sandbox stay as they are now.
        A sandbox that runs is stopped for it and started again. One that is stopped stays so.
    type: str
    choices:
      - present
      - absent
      - restored
    default: present
  keep:
    description:
      - How many checkpoints of the same series are kept, this one included. The oldest others are removed.
      - A series is the labels that are equal but for the number or time at their ends, or those that begin with O(prefix).
      - Protected ones, and those that a sandbox was cloned from, are neither counted nor removed.
    type: int
  prefix:
    description: Text with which the labels that O(keep) counts begin.
    type: str
  expires:
    description:
      - Time after which the server removes the checkpoint by itself, seconds or numbers with the units C(s), C(m), C(h), C(d), C(w), as V(7d).
      - It counts from the creation, and cannot be changed later.
      - If it is not given, the checkpoint stays, whatever the key C(snapshots.expiry) of the sandbox or of its profiles says.
    type: str
  protected:
    description:
      - Whether retention passes the checkpoint by, and O(state=absent) refuses to remove it.
      - V(false) together with O(state=absent) removes a protected checkpoint.
      - The mark is kept with the sandbox, since a checkpoint itself cannot be changed.
    type: bool
  remove_newer:
    description:
      - Allows O(state=restored) to remove newer checkpoints where the storage driver cannot go back without it, as zfs.
      - Without it the task fails, and names them. In check mode too.
    type: bool
    default: false
  force:
    description: Stops the sandbox at once for O(state=restored). Without it the guest has up to 120 seconds to shut down.
    type: bool
    default: false
  timeout:
    description: Seconds that all of this may take.
    type: int
    default: 300
seealso:
  - module: pixels.sandbox.pixels_checkpoint_info
  - module: pixels.sandbox.pixels_instance
"""

EXAMPLES = r"""
- name: Take a checkpoint that clones will be made from
  pixels.sandbox.pixels_checkpoint:
    name: dev
    label: ready
    protected: true

- name: Take a checkpoint each night, and keep the last seven
  pixels.sandbox.pixels_checkpoint:
    name: dev
    label: "nightly-{{ now(utc=true, fmt='%Y%m%d') }}"
    keep: 7

- name: Go back to a checkpoint
  pixels.sandbox.pixels_checkpoint:
    name: task1
    label: before-upgrade
    state: restored

- name: Remove a checkpoint
  pixels.sandbox.pixels_checkpoint:
    name: task1
    label: before-upgrade
    state: absent
"""

RETURN = r"""
checkpoint:
  description: The checkpoint. In check mode as it would be, as far as that can be told.
  returned: always
  type: dict
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
    others:
      description: Labels of the other checkpoints of the sandbox.
      returned: when a checkpoint would be made or restored in check mode, or nothing is to be done
      type: list
      elements: str
      sample: ["before-upgrade"]
    disk:
      description: What the disk would be.
      returned: in check mode with O(state=restored)
      type: str
      sample: as of checkpoint ready
    removed:
      description: Labels of the checkpoints that were removed.
      returned: always
      type: list
      elements: str
      sample: ["nightly-20251226"]
    changed:
      description: Whether anything was changed.
      returned: always
      type: bool
      sample: true
    actions:
      description: What was done, or would be in check mode.
      returned: always
      type: list
      elements: str
      sample: ["create checkpoint ready of task1"]
checkpoints:
  description: A list of RV(checkpoint) alone.
  returned: always
  type: list
  elements: dict
  sample:
    - name: task1
      label: ready
failed_names:
  description: The name of the sandbox when the task failed on the way.
  returned: always
  type: list
  elements: str
  sample: []
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["create checkpoint ready of task1"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.checkpoint import (
    desired_checkpoint,
    plan_checkpoint,
)

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "label": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent", "restored"], "default": "present"},
    "keep": {"type": "int"},
    "prefix": {"type": "str"},
    "expires": {"type": "str"},
    "protected": {"type": "bool"},
    "remove_newer": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 300},
}


def main() -> None:
    """Run the module."""
    run_module(
        ARGUMENT_SPEC,
        lambda backend, params: plan_checkpoint(backend, desired_checkpoint(params)),
        noun="checkpoint",
    )


if __name__ == "__main__":
    main()
