#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_instance
short_description: Make, change, start, stop and remove sandboxes
version_added: 1.0.0
description:
  - Makes disposable Linux machines on Incus from an image, from another sandbox or from a checkpoint of one, and removes them.
  - Acts on sandboxes that this collection made, and on nothing else. An instance of the same name that it did not make is left alone.
  - Many sandboxes in one task are worked on side by side. When one of them fails the others are finished, and the task fails
    at the end with the results of all.
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
      - O(state=restarted) and O(renew=true) are actions, and change something each time.
options:
  name:
    description:
      - Name of the sandbox, or a list of names. Lower-case letters, digits and inner hyphens, at most 60.
      - On the server the instance is called C(px-) and the name. A C(px-) in front of the name is understood.
      - V(gateway) and names that begin with V(base-) or V(build-) are reserved.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(started), V(stopped) and V(frozen) make the sandbox if it is not there.
      - V(present) makes it if it is not there, and leaves its power alone. A new one is stopped.
      - V(restarted) starts a sandbox that is stopped, and restarts one that runs.
      - V(absent) removes the sandbox with its checkpoints, without a shutdown of the guest. One that is not there is success.
    type: str
    choices:
      - started
      - stopped
      - frozen
      - restarted
      - present
      - absent
    default: started
  image:
    description:
      - What a new sandbox is made from, as Incus writes it. V(images:x) is an image of O(image_server), V(local:x) one of the server's own store.
      - A bare name is an alias of the server's own store if there is such an alias, else an image of O(image_server).
      - If neither this nor O(clone_from) is given, C(ubuntu/24.04).
      - Cannot be changed in place. A value that differs from the one that the sandbox was made with is an error.
    type: str
  clone_from:
    description:
      - What a new sandbox is copied from. A sandbox in its current state, as V(dev), one of its checkpoints, as V(dev:ready), or the
        published build of a base, as V(base:python); see M(pixels.sandbox.pixels_base).
      - A clone gets a MAC address, a machine-id, a host name and SSH host keys of its own. It takes limits, hardening, nesting, profiles and network
        of its source as they are now where this task does not give them, and never labels, owner, time to live, mounts or published ports.
      - Cannot be changed in place.
    type: str
  image_server:
    description: Image server that is asked for V(images:x), an address with the simplestreams protocol.
    type: str
    default: https://images.linuxcontainers.org
  cpu:
    description: Number of processors. A sandbox that is made from an image and is not given one gets 2.
    type: int
  memory:
    description:
      - Memory, an integer of MiB or a size as Incus writes it, as V(4GiB).
      - A sandbox that is made from an image and is not given it gets 2048 MiB.
    type: str
  disk:
    description:
      - Size of the root disk, an integer of GiB or a size as Incus writes it.
      - Not all storage drivers keep to it. A new strict sandbox that is not given it gets 10 GiB.
    type: str
  processes:
    description: How many tasks there may be in the sandbox. Hardened ones that are not given it get 4096.
    type: int
  type:
    description: Whether the sandbox is a container or a virtual machine. Cannot be changed in place.
    type: str
    choices:
      - container
      - vm
  pool:
    description:
      - Storage pool of the root disk. Cannot be changed in place.
      - If it is not given, the pool that the profiles name, else the one called C(pixels), else the only one there is.
    type: str
  network:
    description:
      - Managed network of the sandbox.
      - If it is not given, the network that the profiles name, else the one called C(pixels0), else the only one there is.
    type: str
  profiles:
    description: Profiles of the server, in the order in which they are applied. A new sandbox that is not given any gets C(default).
    type: list
    elements: str
  target:
    description: Member of a cluster on which a new sandbox is made. Cannot be changed in place.
    type: str
  hardening:
    description:
      - How far the sandbox is shut in. One that is made from an image and is not given it gets V(standard), and V(none) on TrueNAS, which has
        no other.
      - V(standard) means no guest API, ids that are mapped to a range of their own, not privileged, a limit of tasks.
      - V(strict) adds fewer capabilities, no user namespaces, io_uring, bpf, userfaultfd, keyrings and performance events, and a limited root disk.
    type: str
    choices:
      - none
      - standard
      - strict
  nesting:
    description: Whether containers may be run in the sandbox. It weakens what parts the sandbox from the server.
    type: bool
  mounts:
    description:
      - Folders of the server that are seen in the sandbox, all of them. An empty list removes those that there are.
      - Folders of the system are refused.
    type: list
    elements: dict
    suboptions:
      source:
        description: Absolute path of the folder on the server.
        type: path
        required: true
      path:
        description: Absolute path in the sandbox.
        type: path
        required: true
      readonly:
        description: Whether the sandbox can only read it.
        type: bool
        default: true
  publish:
    description:
      - Ports of the server that lead to ports in the sandbox, all of them, as V(8080:80), V(0.0.0.0:8080:80) or V(5353:53/udp). An empty list
        removes those that there are. Without an address it is 127.0.0.1 of the server.
      - They work for confined sandboxes too. A port of the server can be published once.
    type: list
    elements: str
  labels:
    description:
      - Labels of the sandbox, all of them. Those that it has and that are not named here are removed.
      - A sandbox with the label C(protected) is removed with O(force=true) only.
    type: dict
  owner:
    description: Whom the sandbox belongs to. An empty string removes it.
    type: str
  ttl:
    description:
      - Time to live, seconds or numbers with the units C(s), C(m), C(h), C(d), C(w), as V(8h). V(never) removes it.
      - It counts from the creation. The same value again changes nothing.
      - The sandbox is removed when the playbook C(pixels.sandbox.reap) is run after that time.
    type: str
  renew:
    description: Lets the time to live begin again now.
    type: bool
    default: false
  autostart:
    description: Whether the sandbox starts with the server. If it never was given, the server starts what ran before.
    type: bool
  egress:
    description:
      - V(unrestricted) lets everything through. V(agent) lets the presets through and O(egress_allow), V(allowlist) only O(egress_allow) and the
        presets that are given, V(none) nothing, not even DNS.
      - The mode is never changed by another option.
      - A sandbox that is made by this task is on its wire to the gateway before its first start. A clone that is not given a mode has
        the policy of its source, other new sandboxes are V(unrestricted).
      - All but V(unrestricted) and V(none) need the gateway that the role P(pixels.sandbox.gateway#role) builds.
    type: str
    choices: [unrestricted, agent, allowlist, none]
  egress_allow:
    description:
      - What the sandbox may reach beside the presets, the whole list. An empty list removes what there is.
      - A name, as V(example.com); all names below one, as V(*.example.com); a name and the address that it is reached at, as
        V(git.example.com=192.0.2.7); or an address or network. Ports follow after a colon, as V(example.com:22,443); without them 80
        and 443.
    type: list
    elements: str
  egress_allow_add:
    description: Entries that are added to the list that there is.
    type: list
    elements: str
  egress_allow_remove:
    description: Entries that are taken off the list that there is. One that is not on it is success.
    type: list
    elements: str
  egress_deny:
    description:
      - What the sandbox may not reach although a preset or a wildcard has it, the whole list. Without ports, all ports.
    type: list
    elements: str
  egress_presets:
    description:
      - Lists of public services, as V(ai), V(registries), V(containers), V(git), V(os) and V(toolchains). V(agent) is all of them.
      - The mode V(agent) has V(agent) if they are not given, and V(allowlist) none.
    type: list
    elements: str
  egress_enforcement:
    description:
      - Where it is enforced. V(gateway) is outside of the sandbox, by the gateway of the server. V(guest) is inside, by rules of nftables
        that the role P(pixels.sandbox.nftables#role) has brought there; it needs no gateway, and root in the sandbox can undo it. V(both) is both.
      - If it is not given, where the policy that there is is enforced, V(gateway) for a first one.
      - V(guest) and V(both) know names by their addresses, and so refuse wildcards in O(egress_allow) and in presets.
    type: str
    choices: [gateway, guest, both]
  egress_private:
    description: Whether O(egress_allow) may have private addresses. Nobody reaches the gateway itself, its links and its own network.
    type: bool
  egress_on_create:
    description: Whether O(egress) and its lists count only for sandboxes that this task makes. Those that are there keep their policy then.
    type: bool
    default: false
  wait_for:
    description:
      - What a started sandbox must have before the task goes on.
      - V(address) is an address on a network. V(ready) is that and a guest whose start has ended.
    type: str
    choices:
      - none
      - address
      - ready
    default: address
  timeout:
    description: Seconds that all of this may take for each sandbox, counted from the begin of the task.
    type: int
    default: 300
  force:
    description:
      - Stops a guest at once. Without it a guest has up to 120 seconds to shut down, and is then switched off.
      - Removes a sandbox with the label C(protected).
    type: bool
    default: false
  max_parallel:
    description:
      - How many sandboxes are worked on at a time, from 1 to 64. Booting is limited to two for each processor of the server all the same.
    type: int
    default: 8
seealso:
  - module: pixels.sandbox.pixels_instance_info
  - module: pixels.sandbox.pixels_checkpoint
  - plugin: pixels.sandbox.incus
    plugin_type: connection
"""

EXAMPLES = r"""
- name: Make a sandbox from an image of the image server
  pixels.sandbox.pixels_instance:
    name: dev
    image: images:debian/13
    memory: 4GiB
    ttl: 8h

- name: Make four clones of a checkpoint at once
  pixels.sandbox.pixels_instance:
    name:
      - task1
      - task2
      - task3
      - task4
    clone_from: dev:ready
    labels:
      team: search
  register: clones

- name: Show what a stricter sandbox would change
  pixels.sandbox.pixels_instance:
    name: task1
    hardening: strict
  check_mode: true
  diff: true

- name: Give all tasks of a play the same server
  module_defaults:
    group/pixels.sandbox.pixels:
      incus_remote: https://incus.example.com:8443
      incus_client_cert: /etc/pixels/client.crt
      incus_client_key: /etc/pixels/client.key
      incus_server_cert: /etc/pixels/server.crt
  block:
    - name: Remove sandboxes
      pixels.sandbox.pixels_instance:
        name:
          - task1
          - task2
        state: absent
"""

RETURN = r"""
instances:
  description: The sandboxes, in the order of O(name). In check mode as they would be, as far as that can be told.
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
    changed:
      description: Whether this sandbox was changed.
      returned: always
      type: bool
      sample: true
    actions:
      description: What was done to this sandbox, or would be in check mode.
      returned: always
      type: list
      elements: str
      sample: ["create task1 from dev:ready", "start task1"]
    failed:
      description: Whether this sandbox failed.
      returned: when it failed
      type: bool
      sample: true
    msg:
      description: What failed, and what the server said.
      returned: when it failed
      type: str
      sample: "task3: could not start task3: not enough memory"
    failed_step:
      description: The step that failed.
      returned: when it failed
      type: str
      sample: start task3
    completed_steps:
      description: The steps that were done before.
      returned: when it failed
      type: list
      elements: str
      sample: ["create task3 from dev:ready"]
instance:
  description: The same as the only element of RV(instances).
  returned: when O(name) is a single name
  type: dict
  sample:
    name: task1
    status: running
failed_names:
  description: Names of the sandboxes that failed.
  returned: always
  type: list
  elements: str
  sample: []
actions:
  description: What was done to all of them, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["create task1 from dev:ready", "start task1"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import ENFORCEMENTS, MODES
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.desired import desired_from
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import plan_instances

MOUNT_SPEC = {
    "source": {"type": "path", "required": True},
    "path": {"type": "path", "required": True},
    "readonly": {"type": "bool", "default": True},
}
ARGUMENT_SPEC = {
    "name": {"type": "list", "elements": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["started", "stopped", "frozen", "restarted", "present", "absent"],
        "default": "started",
    },
    "image": {"type": "str"},
    "clone_from": {"type": "str"},
    "image_server": {"type": "str", "default": "https://images.linuxcontainers.org"},
    "cpu": {"type": "int"},
    "memory": {"type": "str"},
    "disk": {"type": "str"},
    "processes": {"type": "int"},
    "type": {"type": "str", "choices": ["container", "vm"]},
    "pool": {"type": "str"},
    "network": {"type": "str"},
    "profiles": {"type": "list", "elements": "str"},
    "target": {"type": "str"},
    "hardening": {"type": "str", "choices": ["none", "standard", "strict"]},
    "nesting": {"type": "bool"},
    "mounts": {"type": "list", "elements": "dict", "options": MOUNT_SPEC},
    "publish": {"type": "list", "elements": "str"},
    "labels": {"type": "dict"},
    "owner": {"type": "str"},
    "ttl": {"type": "str"},
    "renew": {"type": "bool", "default": False},
    "autostart": {"type": "bool"},
    "egress": {"type": "str", "choices": list(MODES)},
    "egress_allow": {"type": "list", "elements": "str"},
    "egress_allow_add": {"type": "list", "elements": "str"},
    "egress_allow_remove": {"type": "list", "elements": "str"},
    "egress_deny": {"type": "list", "elements": "str"},
    "egress_presets": {"type": "list", "elements": "str"},
    "egress_enforcement": {"type": "str", "choices": list(ENFORCEMENTS)},
    "egress_private": {"type": "bool"},
    "egress_on_create": {"type": "bool", "default": False},
    "wait_for": {"type": "str", "choices": ["none", "address", "ready"], "default": "address"},
    "timeout": {"type": "int", "default": 300},
    "force": {"type": "bool", "default": False},
    "max_parallel": {"type": "int", "default": 8},
}


def main() -> None:
    """Run the module."""
    run_module(
        ARGUMENT_SPEC,
        lambda backend, params: plan_instances(backend, desired_from(params)),
        noun="instance",
        mutually_exclusive=[
            ("image", "clone_from"),
            ("egress_allow", "egress_allow_add"),
            ("egress_allow", "egress_allow_remove"),
        ],
    )


if __name__ == "__main__":
    main()
