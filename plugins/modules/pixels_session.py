#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_session
short_description: Start and end persistent sessions in a sandbox
version_added: 1.0.0
description:
  - A session is a program on a terminal that goes on when nobody looks at it, and that a person can enter and leave.
  - The sandbox needs what the role P(pixels.sandbox.session#role) brings.
  - Variables that a session is started with are seen by its processes only. They are in no argument, no log and no list of
    operations of the server.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes
  - pixels.sandbox._attributes.idempotent
  - pixels.sandbox._connection
options:
  name:
    description: Name of the sandbox, which must be running.
    type: str
    required: true
  session:
    description: Name of the session, of letters, digits, underscores and hyphens.
    type: str
    default: console
  state:
    description:
      - V(present) starts the session unless it runs. One that runs is left as it is, whatever it was started with; one that has ended
        is started again.
      - V(absent) ends it.
    type: str
    choices:
      - present
      - absent
    default: present
  argv:
    description: The program and its arguments, without a shell. A login shell if it is not given.
    type: list
    elements: str
  chdir:
    description: Folder in the sandbox where the program begins. The home of the user if it is not given.
    type: str
    aliases:
      - cwd
  env:
    description: Environment variables of this session.
    type: dict
  env_forward:
    description:
      - Names of variables that the session gets with the values that they have where the module runs. Names that have no value there
        are left out. O(env) is stronger.
    type: list
    elements: str
  user:
    description: Name of the user whose session it is. C(pixel) if it is not given.
    type: str
  timeout:
    description: Seconds that the start of the session may take.
    type: int
    default: 60
seealso:
  - module: pixels.sandbox.pixels_session_info
  - module: pixels.sandbox.pixels_exec
"""

EXAMPLES = r"""
- name: Have an agent at work that a person can look at
  pixels.sandbox.pixels_session:
    name: task1
    session: agent
    argv:
      - claude
      - -p
      - Make the tests pass
    chdir: /srv/app
    env_forward:
      - ANTHROPIC_API_KEY
  register: agent

- name: Say how to look at it
  ansible.builtin.debug:
    var: agent.console

- name: End it
  pixels.sandbox.pixels_session:
    name: task1
    session: agent
    state: absent
"""

RETURN = r"""
name:
  description: Name of the sandbox.
  returned: success
  type: str
  sample: task1
session:
  description: The session as it is now; see M(pixels.sandbox.pixels_session_info).
  returned: success
  type: dict
  sample:
    name: agent
    state: running
    exit_code: null
    attached: false
    created_at: "2026-01-02T03:04:05Z"
console:
  description: What a person types to enter the session.
  returned: success
  type: str
  sample: incus exec local:px-task1 -- /usr/local/bin/px-session attach console
console_setup:
  description: Commands that are needed once before RV(console), for a remote server; they let the C(incus) program know it.
  returned: success
  type: list
  elements: str
  sample: []
actions:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["start session agent in task1"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.session import desired_session, plan_session

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "session": {"type": "str", "default": "console"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "argv": {"type": "list", "elements": "str"},
    "chdir": {"type": "str", "aliases": ["cwd"]},
    "env": {"type": "dict", "no_log": True},
    "env_forward": {"type": "list", "elements": "str"},
    "user": {"type": "str"},
    "timeout": {"type": "int", "default": 60},
}


def main() -> None:
    """Run the module."""
    run_module(
        ARGUMENT_SPEC,
        lambda backend, params: plan_session(backend, desired_session(params)),
        noun=None,
    )


if __name__ == "__main__":
    main()
