#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_gateway
short_description: Make the instance through which confined sandboxes reach what they may
version_added: 1.0.0
description:
  - Makes the instance of the gateway of a server, or of one project of it, and its uplink network, and removes them.
  - The instance alone does nothing. The role P(pixels.sandbox.gateway#role) uses this module and makes a gateway of it.
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
      - O(state=restarted) is an action, and changes something each time.
options:
  state:
    description:
      - V(started) makes the gateway if it is not there, and starts it. V(restarted) restarts one that runs as well.
      - V(absent) removes it with its network. While there are confined sandboxes that is an error.
    type: str
    choices: [started, restarted, absent]
    default: started
  image:
    description: Image of the gateway, a Debian 12 or newer. V(images:x) is one of O(image_server), all else of the server's own store.
    type: str
    default: local:pixels/debian/13
  image_server:
    description: Image server that is asked for V(images:x), an address with the simplestreams protocol.
    type: str
    default: https://images.linuxcontainers.org
  legs_range:
    description:
      - IPv4 network from which each confined sandbox gets a /24 of its own. No network of the server may be in it.
      - If it is not given, a part of 100.64.0.0/10 that no network of the server is in. Cannot be changed in place.
    type: str
  pool:
    description: Storage pool of the gateway. If it is not given, the one called C(pixels), else the only one there is.
    type: str
  cpu:
    description: Number of processors.
    type: int
    default: 2
  memory:
    description: Memory, an integer of MiB or a size as Incus writes it.
    type: str
    default: 1GiB
  processes:
    description: How many tasks there may be in the gateway. Each confined sandbox needs one.
    type: int
    default: 4096
  labels:
    description: Labels that the gateway gets when it is made. One that is there keeps what it has.
    type: dict
  timeout:
    description: Seconds that it may take.
    type: int
    default: 300
seealso:
  - module: pixels.sandbox.pixels_egress
"""

EXAMPLES = r"""
- name: Make the instance of a gateway
  pixels.sandbox.pixels_gateway:
    image: local:pixels/debian/13

- name: Remove it, with its network
  pixels.sandbox.pixels_gateway:
    state: absent
"""

RETURN = r"""
name:
  description: Always V(gateway).
  returned: always
  type: str
  sample: gateway
status:
  description: Power state of the gateway, V(absent) when it is not there.
  returned: always
  type: str
  sample: running
legs_range:
  description: Network from which subnets of legs are taken.
  returned: when it is there
  type: str
  sample: 100.64.0.0/14
uplink:
  description: Name of the gateway's own network.
  returned: when it is there
  type: str
  sample: pxu-37a8eec1
uplink_network:
  description: That network in addresses.
  returned: when it is there
  type: str
  sample: 10.93.7.0/24
resolver:
  description: Address of the server's DNS on that network.
  returned: when it is there
  type: str
  sample: 10.93.7.1
bound_source:
  description: The address that connections of the gateway have which go to an address that a policy names.
  returned: when it is there
  type: str
  sample: 10.93.7.250
labels:
  description: Labels of the gateway.
  returned: when it is there
  type: dict
  sample: {"team": "red"}
sandboxes:
  description: Names of the sandboxes that hang on it.
  returned: when it is there
  type: list
  elements: str
  sample: ["task1", "task2"]
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["create the gateway", "start the gateway"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.gateway import plan_gateway

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["started", "restarted", "absent"], "default": "started"},
    "image": {"type": "str", "default": "local:pixels/debian/13"},
    "image_server": {"type": "str", "default": "https://images.linuxcontainers.org"},
    "legs_range": {"type": "str"},
    "pool": {"type": "str"},
    "cpu": {"type": "int", "default": 2},
    "memory": {"type": "str", "default": "1GiB"},
    "processes": {"type": "int", "default": 4096},
    "labels": {"type": "dict"},
    "timeout": {"type": "int", "default": 300},
}


def main() -> None:
    """Run the module."""
    run_module(ARGUMENT_SPEC, plan_gateway, noun=None)


if __name__ == "__main__":
    main()
