#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_instance_info
short_description: List sandboxes
version_added: 1.0.0
description:
  - Returns sandboxes with their addresses, limits, labels and times, sorted by name.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes.info
  - pixels.sandbox._connection
options:
  name:
    description: Names of the sandboxes to return. All of them if it is not given. Names that are not there are left out.
    type: list
    elements: str
  labels:
    description: Returns only sandboxes that have all of these labels with these values.
    type: dict
  foreign:
    description: Returns also instances whose names begin with C(px-) and that are no sandboxes of the collection.
    type: bool
    default: false
  query:
    description: A JMESPath expression over the list of sandboxes, whose outcome is RV(result).
    type: str
requirements:
  - jmespath, for O(query)
seealso:
  - module: pixels.sandbox.pixels_instance
  - plugin: pixels.sandbox.pixels
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: List all sandboxes
  pixels.sandbox.pixels_instance_info:
  register: all

- name: List the sandboxes of a team
  pixels.sandbox.pixels_instance_info:
    labels:
      team: search

- name: Find the names of those that run
  pixels.sandbox.pixels_instance_info:
    query: "[?status=='running'].name"
  register: running
"""

RETURN = r"""
instances:
  description: The sandboxes that were asked for, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the sandbox.
      returned: always
      type: str
      sample: task1
    server_name:
      description: Name of the instance on the server.
      returned: when the sandbox is there
      type: str
      sample: px-task1
    kind:
      description: What the instance is to the collection, V(sandbox) for all that this module manages.
      returned: when the sandbox is there
      type: str
      sample: sandbox
    type:
      description: V(container) or V(vm).
      returned: when the sandbox is there
      type: str
      sample: container
    status:
      description: V(running), V(stopped), V(frozen), V(absent), or another word of the server in lower case.
      returned: always
      type: str
      sample: running
    addresses:
      description: Addresses that others can reach, those of the managed NIC first, IPv4 before IPv6.
      returned: when the sandbox is there
      type: list
      elements: str
      sample: ["10.0.3.17"]
    created_at:
      description: When the sandbox was made, in UTC.
      returned: when the sandbox is there
      type: str
      sample: "2026-01-02T03:04:05Z"
    expires_at:
      description: When the sandbox may be removed by the playbook C(pixels.sandbox.reap), in UTC; null for never.
      returned: when the sandbox is there
      type: str
      sample: "2026-01-02T11:04:05Z"
    ttl:
      description: Seconds between the creation, or the last renewal, and C(expires_at); null for never.
      returned: when the sandbox is there
      type: int
      sample: 28800
    image:
      description: The image as it was given, of a clone that of its source.
      returned: when the sandbox is there
      type: str
      sample: images:debian/13
    image_description:
      description: What the image says of itself.
      returned: when the sandbox is there
      type: str
      sample: Debian trixie amd64
    clone_from:
      description: What a clone was copied from; null for others.
      returned: when the sandbox is there
      type: str
      sample: dev:ready
    base:
      description: The base that the sandbox, or what it was cloned from, was copied from; null for others.
      returned: when the sandbox is there
      type: str
      sample: python
    base_build:
      description: The build of that base; M(pixels.sandbox.pixels_base_info) tells which one is published now.
      returned: when the sandbox is there
      type: str
      sample: build-python-4d2f1c0a9b3e
    base_fingerprint:
      description: The fingerprint of that build.
      returned: when the sandbox is there
      type: str
      sample: 4d2f1c0a9b3e51b6f2d07c8ea94b1d3360f1a2c95b7e8d4410c6ab12fe95d073
    cpu:
      description: Number of processors; null without a limit.
      returned: when the sandbox is there
      type: int
      sample: 2
    memory:
      description: Memory in bytes; null without a limit.
      returned: when the sandbox is there
      type: int
      sample: 2147483648
    disk:
      description: Size of the root disk in bytes; null without a limit.
      returned: when the sandbox is there
      type: int
      sample: 10737418240
    processes:
      description: How many tasks there may be in the sandbox; null without a limit.
      returned: when the sandbox is there
      type: int
      sample: 4096
    hardening:
      description:
        - The level whose settings are all in force by the configuration as the server has it now.
        - V(custom) when somebody changed one of them.
      returned: when the sandbox is there
      type: str
      sample: standard
    isolated_ids:
      description: Whether the ids of the guest are mapped to a range that no other sandbox has.
      returned: when the sandbox is there
      type: bool
      sample: true
    nesting:
      description: Whether containers may be run in the sandbox.
      returned: when the sandbox is there
      type: bool
      sample: false
    autostart:
      description: Whether the sandbox starts with the server; null when that is left to the server.
      returned: when the sandbox is there
      type: bool
      sample: false
    mounts:
      description: Folders of the server in the sandbox.
      returned: when the sandbox is there
      type: list
      elements: dict
      sample:
        - source: /srv/data
          path: /data
          readonly: true
      contains:
        source:
          description: Folder on the server.
          returned: always
          type: str
          sample: /srv/data
        path:
          description: Folder in the sandbox.
          returned: always
          type: str
          sample: /data
        readonly:
          description: Whether the sandbox can only read it.
          returned: always
          type: bool
          sample: true
    profiles:
      description: Profiles of the server, in the order in which they are applied.
      returned: when the sandbox is there
      type: list
      elements: str
      sample: ["default"]
    pool:
      description: Storage pool of the root disk.
      returned: when the sandbox is there
      type: str
      sample: pixels
    publish:
      description: Ports of the server that lead to ports in the sandbox, as address, port and port in the sandbox.
      returned: when the sandbox is there
      type: list
      elements: str
      sample: ["127.0.0.1:8080:80"]
    egress:
      description:
        - The policy that is wanted, with C(mode) and, unless that is V(unrestricted), C(enforcement), C(presets), C(presets_version), C(allow),
          C(deny) and C(private); M(pixels.sandbox.pixels_egress_info) tells what is in force.
        - Null where it cannot be read.
      returned: when the sandbox is there
      type: dict
      sample:
        mode: unrestricted
    network:
      description: Network of the managed NIC; null for a sandbox that is confined.
      returned: when the sandbox is there
      type: str
      sample: pixels0
    location:
      description: Member of a cluster where the sandbox is.
      returned: when the sandbox is there
      type: str
      sample: none
    project:
      description: Project of the server.
      returned: when the sandbox is there
      type: str
      sample: default
    labels:
      description: Labels of the sandbox.
      returned: when the sandbox is there
      type: dict
      sample:
        team: search
    owner:
      description: Whom the sandbox belongs to.
      returned: when the sandbox is there
      type: str
      sample: ada
    restart_required:
      description: Whether a change waits for the next start of the sandbox.
      returned: when the sandbox is there
      type: bool
      sample: false
    depends_on:
      description: The sandbox, or NAME:LABEL of its checkpoint, that the disk shares blocks with and that cannot lose them. None where the
        disk has all of its own.
      returned: when the sandbox is there
      type: str
      sample: dev:ready
    ssh:
      description: How the sandbox is entered over SSH, with C(host), C(user), C(host_key), C(host_key_alias), C(private_key_file) and
        C(common_args), the options of C(ssh) that accept this host only. None where it is entered through the server.
      returned: when the sandbox is there
      type: dict
    console:
      description: What a person types to enter the sandbox, its session C(console) once it is provisioned and a shell of root before.
      returned: when the sandbox is there
      type: str
      sample: incus exec local:px-task1 -- /usr/local/bin/px-session attach console
    console_setup:
      description: Commands that are needed once before C(console), for a remote server; they let the C(incus) program know it.
      returned: when the sandbox is there
      type: list
      elements: str
      sample: []
    provision:
      description: How far its provisioning is; see M(pixels.sandbox.pixels_provision).
      returned: when the sandbox is there
      type: dict
      contains:
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
      sample:
        status: ready
        step: null
        definition: 5f2b
        since: "2026-01-02T03:04:05Z"
    unfinished:
      description: Whether its creation has not ended, or was broken off.
      returned: when the sandbox is there
      type: bool
      sample: false
result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: ["task1", "task2"]
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.names import bare
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.query import apply_query
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_info
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import list_records

ARGUMENT_SPEC = {
    "name": {"type": "list", "elements": "str"},
    "labels": {"type": "dict"},
    "foreign": {"type": "bool", "default": False},
    "query": {"type": "str"},
}


def read(backend: Backend, params: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the sandboxes that the options ask for."""
    names = None if params["name"] is None else [bare(name) for name in params["name"]]
    records = list_records(backend, names, params["labels"] or {}, params["foreign"])
    result: dict[str, object] = {"instances": records}
    if params["query"] is not None:
        result["result"] = apply_query(params["query"], records)
    return result


def main() -> None:
    """Run the module."""
    run_info(ARGUMENT_SPEC, read)


if __name__ == "__main__":
    main()
