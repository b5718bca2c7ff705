#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_base
short_description: Build, publish, roll back and remove the bases that sandboxes are cloned from
version_added: 1.0.0
description:
  - A base is a golden instance. It is built from an image or from another base, and a sandbox that is cloned from it, as
    O(pixels.sandbox.pixels_instance#module:clone_from=base:python), is there in about a second.
  - A build is made in a builder, an instance of its own. It is cleaned of what belongs to one machine, tested, and published by one switch.
    Whoever clones meanwhile gets what was published before. When a build fails, or its controller dies, that stays as it is.
  - A base is built by one controller at a time. Others wait for it, and then look again whether there is anything left to do. A controller that
    dies lets go of the builder after O(lease), and the next run removes what it left.
  - All is kept on the server. The definition of a base is kept as a fingerprint alone.
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
      - O(state=rolled_back) without O(build) is an action, and goes back one build each time. O(force) and O(mutate) make a build each time.
options:
  name:
    description: Name of the base. Lower-case letters, digits and inner hyphens, at most 36.
    type: str
    required: true
  state:
    description:
      - V(built) builds the base from O(packages) and O(script), if it is missing or stale.
      - V(open) makes a builder, if the base is missing or stale, and leaves it running for others to fill, as roles do through
        P(pixels.sandbox.incus#connection) with the host C(build-NAME).
      - V(published) cleans, tests and publishes the builder that was opened. Without one it changes nothing if the base is there.
      - V(discarded) removes the builder that was opened, and records O(reason) as the failure.
      - V(copied) copies what another server, O(from_server), has published of the base, if it is missing here or another build. It comes from there
        directly, without being built again. What arrives is published when it is the very build that was offered.
      - V(rolled_back) publishes an earlier build again. The base is then not stale for what it was rolled back from, until its definition changes.
      - V(absent) removes the base with all of its builds. Sandboxes that were cloned from it stay.
    type: str
    choices: [built, open, published, discarded, copied, rolled_back, absent]
    default: built
  from_server:
    description:
      - The server that O(state=copied) takes the base from, by the options of connections. What is not given comes from the environment, as for
        those.
      - This server fetches it at the address O(from_server.incus_remote), where the other one has to show the certificate that
        O(from_server.incus_server_cert) pins, or the one that it was seen to have when the authorities vouched for it.
      - With O(image) or O(from) the definition is compared, and a base that is stale on the other server is refused.
    type: dict
    suboptions:
      backend:
        description: As the option of the same name.
        type: str
        choices: [incus]
        default: incus
      incus_socket:
        description: As the option of the same name. Others do not reach a socket, so O(from_server.incus_remote) is needed.
        type: path
      incus_remote:
        description: As the option of the same name.
        type: str
      incus_client_cert:
        description: As the option of the same name.
        type: path
      incus_client_key:
        description: As the option of the same name.
        type: path
      incus_server_cert:
        description: As the option of the same name.
        type: path
      incus_ca_cert:
        description: As the option of the same name.
        type: path
      incus_project:
        description: As the option of the same name.
        type: str
  image:
    description:
      - What the base is made from, as O(pixels.sandbox.pixels_instance#module:image). If neither this nor O(from) is given, C(ubuntu/24.04).
    type: str
  from:
    description: The base that it is made from. It has to be built already.
    type: str
  packages:
    description: Packages that APT installs, without what they recommend.
    type: list
    elements: str
  script:
    description:
      - Path of a script on the controller that is run as root after the packages are installed. Without a C(#!) line it is run by C(sh -e).
      - It waits for what the system itself does with packages, and nothing of that begins while it runs. It is not run again when it fails.
    type: path
  variables:
    description: Variables in the environment of the script. They are part of the definition, and not kept on the server.
    type: dict
  roles:
    description: Names of the roles that fill the builder. They are part of the definition, and nothing is done with them here.
    type: list
    elements: str
  files:
    description: Paths of files and folders on the controller whose content is part of the definition, as those of the roles.
    type: list
    elements: path
  description:
    description: What is told of the base. It is no part of the definition.
    type: str
  image_server:
    description: Image server that is asked for V(images:x), an address with the simplestreams protocol.
    type: str
    default: https://images.linuxcontainers.org
  smoke:
    description:
      - A shell command that is run as root in the builder when it is filled and cleaned. When it fails the base is not published.
    type: str
  keep:
    description: How many earlier builds are kept for O(state=rolled_back).
    type: int
    default: 1
  max_age:
    description: Age from which a base is stale, seconds or numbers with the units C(s), C(m), C(h), C(d), C(w), as V(7d).
    type: str
  mutate:
    description:
      - Lets O(state=open) make a copy of what is published now, for a change by hand. What is published then counts as V(mutated).
    type: bool
    default: false
  holder:
    description:
      - What RV(base.holder) said when the builder was opened. O(state=published) and O(state=discarded) act on the builder of who opened it alone.
    type: str
  lease:
    description:
      - Time after which others may take the builder for abandoned. If it is not given, 1 minute for O(state=built), which renews it all the time,
        as O(state=copied) does, and 1 hour for O(state=open).
    type: str
  reason:
    description: Why the builder is discarded.
    type: str
  build:
    description: The build that O(state=rolled_back) publishes, one of RV(base.previous). If it is not given, the newest of them.
    type: str
  cpu:
    description: Number of processors of the builder, and of clones that are not given one. 2 if it is not given.
    type: int
  memory:
    description:
      - Memory of the builder, and of clones that are not given it, an integer of MiB or a size as Incus writes it. 2048 MiB if it is not given.
    type: str
  pool:
    description: Storage pool of the builder, and so of the clones.
    type: str
  network:
    description: Managed network of the builder, and of clones that are not given one.
    type: str
  force:
    description:
      - Builds a base that is not stale too, takes a builder from who holds it, and removes a base that has children.
    type: bool
    default: false
  timeout:
    description: Seconds that all of this may take, waiting for another controller included.
    type: int
    default: 3600
seealso:
  - module: pixels.sandbox.pixels_base_info
  - module: pixels.sandbox.pixels_instance
  - ref: ansible_collections.pixels.sandbox.docsite.bases
    description: Bases and how they are rebuilt
"""

EXAMPLES = r"""
- name: Build a base from an image
  pixels.sandbox.pixels_base:
    name: dev
    image: images:debian/13
    packages: [git, build-essential]
    smoke: git --version

- name: Build one on top of it
  pixels.sandbox.pixels_base:
    name: python
    from: dev
    packages: [python3-venv, pipx]
    script: files/python.sh
    max_age: 7d

- name: Clone a sandbox from it
  pixels.sandbox.pixels_instance:
    name: task1
    clone_from: base:python

- name: Open what is published for a change by hand
  pixels.sandbox.pixels_base:
    name: python
    state: open
    mutate: true
  register: opened

- name: Make the change
  ansible.builtin.command:
    cmd: pipx install --global poetry
  delegate_to: build-python
  vars:
    ansible_connection: pixels.sandbox.incus

- name: Publish it
  pixels.sandbox.pixels_base:
    name: python
    state: published
    holder: "{{ opened.base.holder }}"

- name: Take what another server has built
  pixels.sandbox.pixels_base:
    name: python
    state: copied
    incus_remote: https://west.example.com:8443
    incus_server_cert: west.crt
    from_server:
      incus_remote: https://east.example.com:8443
      incus_server_cert: east.crt

- name: Go back to the build before
  pixels.sandbox.pixels_base:
    name: python
    state: rolled_back
"""

RETURN = r"""
base:
  description: The base. In check mode as it would be, as far as that can be told.
  returned: always
  type: dict
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
    builder:
      description: The instance in which the base is being built, null where there is none.
      returned: always
      type: str
      sample: px-build-python
    holder:
      description: What O(holder) has to be for a builder that this task opened; null where it did not.
      returned: always
      type: str
      sample: 0b1c2d3e4f506172
    log:
      description: What packages, script and smoke test printed, empty where nothing was run.
      returned: always
      type: str
      sample: ""
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
      sample: ["build python (definition)"]
    failed:
      description: Whether it failed.
      returned: when it failed
      type: bool
      sample: true
    msg:
      description: What failed.
      returned: when it failed
      type: str
      sample: "python: could not build python: the script ended with 100"
    failed_step:
      description: The step that failed.
      returned: when it failed
      type: str
      sample: build python
    completed_steps:
      description: The steps that were done before.
      returned: when it failed
      type: list
      elements: str
      sample: []
bases:
  description: A list of RV(base) alone.
  returned: always
  type: list
  elements: dict
  sample:
    - name: python
      status: ready
failed_names:
  description: The name of the base when the task failed on the way.
  returned: always
  type: list
  elements: str
  sample: []
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["build python (definition)"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._glue.options import connection_spec
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module, server_of
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.base_plan import desired_base, plan_base

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["built", "open", "published", "discarded", "copied", "rolled_back", "absent"],
        "default": "built",
    },
    "from_server": {"type": "dict", "options": connection_spec("incus")},
    "image": {"type": "str"},
    "from": {"type": "str"},
    "packages": {"type": "list", "elements": "str"},
    "script": {"type": "path"},
    "variables": {"type": "dict"},
    "roles": {"type": "list", "elements": "str"},
    "files": {"type": "list", "elements": "path"},
    "description": {"type": "str"},
    "image_server": {"type": "str", "default": "https://images.linuxcontainers.org"},
    "smoke": {"type": "str"},
    "keep": {"type": "int", "default": 1},
    "max_age": {"type": "str"},
    "mutate": {"type": "bool", "default": False},
    "holder": {"type": "str"},
    "lease": {"type": "str"},
    "reason": {"type": "str"},
    "build": {"type": "str"},
    "cpu": {"type": "int"},
    "memory": {"type": "str"},
    "pool": {"type": "str"},
    "network": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 3600},
}


def main() -> None:
    """Run the module."""
    run_module(
        ARGUMENT_SPEC,
        lambda backend, params: plan_base(backend, desired_base(params), server_of(params["from_server"])),
        noun="base",
        mutually_exclusive=[("image", "from")],
    )


if __name__ == "__main__":
    main()
