#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_egress_verify
short_description: Attack the egress of a throw-away sandbox from inside
version_added: 1.0.0
description:
  - Runs attacks in a sandbox under a policy, and the same ones in sandboxes without one as controls. The role
    P(pixels.sandbox.verify_egress#role) makes the sandboxes, uses this module, and writes the reports.
  - The sandboxes are restarted, restored and changed by root. They are to be thrown away.
  - It sends packets to O(targets) and to the addresses of the server's own networks that are given. All of them have to belong to who runs it.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._connection
attributes:
  check_mode:
    description: Can run without changing anything.
    support: none
  diff_mode:
    description: Can show what would change.
    support: none
options:
  inside:
    description: Sandbox under the policy that is tried.
    type: str
    required: true
  sibling:
    description: A clone of it, under the same policy.
    type: str
    required: true
  control:
    description: Sandbox without a policy.
    type: str
    required: true
  other:
    description: Another one without a policy, and without hardening.
    type: str
    required: true
  wide:
    description:
      - Sandbox under a policy of the same gateway that lets through what is attacked by name - O(targets.allowed) at the ports 22, 80, 443 and 8443,
        O(targets.foreign_name), and O(targets.private_names) bound to O(targets.private).
    type: str
    required: true
  program:
    description: The program that runs the probes in the sandboxes, which have Python.
    type: str
    required: true
  users:
    description: Users as whom it is run in O(inside). Those that are not there are made.
    type: list
    elements: str
    default: [root, pixel]
  targets:
    description: What is attacked.
    type: dict
    required: true
    suboptions:
      allowed:
        description: A name that the policy lets through, with TLS and HTTP.
        type: str
        required: true
      allowed_address:
        description: Its address.
        type: str
        required: true
      foreign:
        description: An address that the policy does not let through, with HTTP, TLS, SSH, DNS and UDP echo. What it does not have is inconclusive.
        type: str
        required: true
      foreign6:
        description: An address of IPv6 with HTTP that the policy does not let through, where the server's networks have IPv6.
        type: str
      foreign_name:
        description: A name there, which the gateway can look up.
        type: str
        required: true
      mark:
        description: A text that its pages have, and no others.
        type: str
      slow:
        description: A path of O(targets.allowed) whose answer takes longer than half a minute, by HTTP.
        type: str
      dns_name:
        description: A name that O(targets.resolvers) know.
        type: str
      resolvers:
        description: Addresses of resolvers.
        type: list
        elements: str
      private:
        description: Private addresses with HTTP.
        type: list
        elements: str
      private_names:
        description: Names that the policy lets through, and that lead to those addresses, in their order.
        type: list
        elements: str
      metadata:
        description: Addresses of metadata services.
        type: list
        elements: str
      hosts:
        description: Addresses of the server.
        type: list
        elements: str
seealso:
  - module: pixels.sandbox.pixels_egress
"""

EXAMPLES = r"""
- name: Attack
  pixels.sandbox.pixels_egress_verify:
    inside: verify-inside
    sibling: verify-sibling
    control: verify-control
    other: verify-other
    wide: verify-wide
    program: "{{ lookup('ansible.builtin.file', 'attack.py') }}"
    targets:
      allowed: good.example.test
      allowed_address: 198.51.100.10
      foreign: 198.51.100.66
      foreign_name: evil.example.test
  register: verified

- name: Attack as root alone
  pixels.sandbox.pixels_egress_verify:
    inside: verify-inside
    sibling: verify-sibling
    control: verify-control
    other: verify-other
    wide: verify-wide
    users: [root]
    program: "{{ lookup('ansible.builtin.file', 'attack.py') }}"
    targets:
      allowed: good.example.test
      allowed_address: 198.51.100.10
      foreign: 198.51.100.66
      foreign_name: evil.example.test
"""

RETURN = r"""
attacks:
  description: How many there were.
  returned: success
  type: int
  sample: 240
held:
  description: How many did not get through, while their control did and the sandbox reached what its policy names.
  returned: success
  type: int
  sample: 238
leaked:
  description: How many got through.
  returned: success
  type: int
  sample: 0
inconclusive:
  description: How many proved nothing, as their control did not get through either, or the sandbox has no network.
  returned: success
  type: int
  sample: 2
not_tried:
  description: What was not tried.
  returned: success
  type: list
  elements: str
  sample: [the kernel of the server]
report:
  description: The attacks.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: What was tried, in a word.
      returned: always
      type: str
      sample: forged-sni
    name:
      description: What was tried.
      returned: always
      type: str
      sample: a forged server name
    user:
      description: As whom.
      returned: always
      type: str
      sample: root
    outcome:
      description: V(held), V(leaked) or V(inconclusive).
      returned: always
      type: str
      sample: held
    why:
      description: What the probe met.
      returned: always
      type: str
      sample: "no TLS: connection reset by peer"
    control:
      description: What the control met.
      returned: always
      type: str
      sample: "reached: page"
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_info
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.verify import verify

TARGETS_SPEC = {
    "allowed": {"type": "str", "required": True},
    "allowed_address": {"type": "str", "required": True},
    "foreign": {"type": "str", "required": True},
    "foreign6": {"type": "str"},
    "foreign_name": {"type": "str", "required": True},
    "mark": {"type": "str"},
    "slow": {"type": "str"},
    "dns_name": {"type": "str"},
    "resolvers": {"type": "list", "elements": "str"},
    "private": {"type": "list", "elements": "str"},
    "private_names": {"type": "list", "elements": "str"},
    "metadata": {"type": "list", "elements": "str"},
    "hosts": {"type": "list", "elements": "str"},
}
ARGUMENT_SPEC = {
    "inside": {"type": "str", "required": True},
    "sibling": {"type": "str", "required": True},
    "control": {"type": "str", "required": True},
    "other": {"type": "str", "required": True},
    "wide": {"type": "str", "required": True},
    "program": {"type": "str", "required": True},
    "users": {"type": "list", "elements": "str", "default": ["root", "pixel"]},
    "targets": {"type": "dict", "required": True, "options": TARGETS_SPEC},
}


def main() -> None:
    """Run the module."""
    run_info(ARGUMENT_SPEC, verify, supports_check_mode=False)


if __name__ == "__main__":
    main()
