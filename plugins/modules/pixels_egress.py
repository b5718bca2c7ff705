#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_egress
short_description: Give sandboxes a policy for what they may reach
version_added: 1.0.0
description:
  - Says what sandboxes may reach, by name, and has that enforced, by the gateway of their server whatever root in them does, or by themselves.
  - What is in force is read back. A sandbox for which that fails is left stopped, and the task fails.
  - A tightened policy ends the connections of the sandbox. Those of other sandboxes are left alone.
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
  mode:
    description:
      - V(unrestricted) lets everything through. V(agent) lets the presets through and O(allow), V(allowlist) only O(allow) and the
        presets that are given, V(none) nothing, not even DNS.
      - The mode is never changed by another option.
      - If it is not given, the mode that there is.
    type: str
    choices: [unrestricted, agent, allowlist, none]
  allow:
    description:
      - What the sandbox may reach beside the presets, the whole list. An empty list removes what there is.
      - A name, as V(example.com); all names below one, as V(*.example.com); a name and the address that it is reached at, as
        V(git.example.com=192.0.2.7); or an address or network. Ports follow after a colon, as V(example.com:22,443); without them 80
        and 443.
    type: list
    elements: str
  allow_add:
    description: Entries that are added to the list that there is.
    type: list
    elements: str
  allow_remove:
    description: Entries that are taken off the list that there is. One that is not on it is success.
    type: list
    elements: str
  deny:
    description:
      - What the sandbox may not reach although a preset or a wildcard has it, the whole list. Without ports, all ports.
      - An address or network is denied inside of the networks that are allowed. The gateway judges a name and not the addresses that it has, so
        it refuses a policy that denies an address to which only names could lead; O(enforcement=both) takes it.
    type: list
    elements: str
  presets:
    description:
      - Lists of public services, as V(ai), V(registries), V(containers), V(git), V(os) and V(toolchains). V(agent) is all of them.
      - The mode V(agent) has V(agent) if they are not given, and V(allowlist) none.
    type: list
    elements: str
  enforcement:
    description:
      - Where it is enforced. V(gateway) is outside of the sandbox, by the gateway of the server. V(guest) is inside, by rules of nftables
        that the role P(pixels.sandbox.nftables#role) has brought there; it needs no gateway, and root in the sandbox can undo it. V(both) is both.
      - If it is not given, where the policy that there is is enforced, V(gateway) for a first one.
      - V(guest) and V(both) know names by their addresses, and so refuse wildcards in O(allow) and in presets.
    type: str
    choices: [gateway, guest, both]
  private:
    description: Whether O(allow) may have private addresses. Nobody reaches the gateway itself, its links and its own network.
    type: bool
  timeout:
    description: Seconds that it may take for each sandbox.
    type: int
    default: 120
  max_parallel:
    description: How many sandboxes are worked on at a time.
    type: int
    default: 8
seealso:
  - module: pixels.sandbox.pixels_egress_info
  - module: pixels.sandbox.pixels_instance
"""

EXAMPLES = r"""
- name: Let an agent reach what agents need, and one more name
  pixels.sandbox.pixels_egress:
    name: task1
    mode: agent
    allow:
      - docs.example.com

- name: Let it reach one more
  pixels.sandbox.pixels_egress:
    name: task1
    allow_add:
      - git.example.com:22

- name: Shut it off
  pixels.sandbox.pixels_egress:
    name: task1
    mode: none
"""

RETURN = r"""
egresses:
  description: What is wanted and in force now, in the order of O(name).
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
      description: Its power state.
      returned: always
      type: str
      sample: running
    egress:
      description: The policy that is wanted, with C(mode), C(enforcement), C(presets), C(presets_version), C(allow), C(deny) and C(private).
      returned: always
      type: dict
      sample:
        mode: allowlist
        allow: ["example.com:443"]
    policy_hash:
      description: Fingerprint of that policy.
      returned: always
      type: str
      sample: 9f86d081884c7d65
    policy_outdated:
      description: Whether the presets have changed since the policy was given. The same task again brings the new ones.
      returned: always
      type: bool
      sample: false
    in_force:
      description:
        - V(yes) or V(no), compared with what server and gateway really have, and with what a sandbox that enforces its policy itself says
          that it has loaded; V(unknown) where one of them cannot be asked, as a sandbox that is stopped.
      returned: always
      type: str
      sample: "yes"
    verified:
      description: Whether all of it is in force.
      returned: always
      type: bool
      sample: true
    drift:
      description: Where it is not.
      returned: always
      type: list
      elements: str
      sample: []
    unresolved:
      description: Names of the policy that a sandbox which enforces it itself has no address for, and so does not reach.
      returned: always
      type: list
      elements: str
      sample: []
    wire:
      description: The link to the gateway on which the sandbox hangs; null without one.
      returned: always
      type: str
      sample: pxe-0007
    changed:
      description: Whether this one was changed.
      returned: always
      type: bool
      sample: true
    actions:
      description: What was done, or would be in check mode.
      returned: always
      type: list
      elements: str
      sample: ["enforce egress allowlist on task1"]
    failed:
      description: Whether this one failed.
      returned: when it failed
      type: bool
      sample: true
    msg:
      description: What failed, and what the server said.
      returned: when it failed
      type: str
      sample: "task1: could not enforce egress allowlist on task1: the gateway is stopped"
    failed_step:
      description: The step that failed.
      returned: when it failed
      type: str
      sample: enforce egress allowlist on task1
    completed_steps:
      description: The steps that were done before.
      returned: when it failed
      type: list
      elements: str
      sample: []
egress:
  description: The same as the only element of RV(egresses).
  returned: when O(name) is a single name
  type: dict
  sample:
    name: task1
    verified: true
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
  sample: ["enforce egress allowlist on task1"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import ENFORCEMENTS, MODES
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import plan_egress

ARGUMENT_SPEC = {
    "name": {"type": "list", "elements": "str", "required": True},
    "mode": {"type": "str", "choices": list(MODES)},
    "allow": {"type": "list", "elements": "str"},
    "allow_add": {"type": "list", "elements": "str"},
    "allow_remove": {"type": "list", "elements": "str"},
    "deny": {"type": "list", "elements": "str"},
    "presets": {"type": "list", "elements": "str"},
    "enforcement": {"type": "str", "choices": list(ENFORCEMENTS)},
    "private": {"type": "bool"},
    "timeout": {"type": "int", "default": 120},
    "max_parallel": {"type": "int", "default": 8},
}


def main() -> None:
    """Run the module."""
    run_module(
        ARGUMENT_SPEC,
        plan_egress,
        noun="egress",
        mutually_exclusive=[("allow", "allow_add"), ("allow", "allow_remove")],
    )


if __name__ == "__main__":
    main()
