#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_exec
short_description: Run a command in a sandbox
version_added: 1.0.0
description:
  - Runs a command in a sandbox through the API of the server, without SSH and without Python in the sandbox.
  - The command, its environment and its standard input are not seen by others who list the operations of the server.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes
  - pixels.sandbox._connection
attributes:
  check_mode:
    description: Can run in check mode and say what it would change.
    support: partial
    details:
      - The command is not run. O(creates) and O(removes) are looked at.
  diff_mode:
    description: Returns what changed, or would change in check mode, when run in diff mode.
    support: none
  idempotent:
    description: When run again with the same options, changes nothing.
    support: partial
    details:
      - Only with O(creates) or O(removes), as far as the command does what they say.
options:
  name:
    description: Name of the sandbox, which must be running.
    type: str
    required: true
  argv:
    description: The command and its arguments, without a shell.
    type: list
    elements: str
  cmd:
    description: Text for C(/bin/sh). Put no text into it that somebody else has written; that is what O(argv) and O(env) are for.
    type: str
  user:
    description:
      - Name or number of the user in the sandbox. If it is not given, C(pixel) where there is such a user, else C(root).
      - The command gets the primary group of the user and no other groups, since the API of the server takes no others.
    type: str
  chdir:
    description: Folder in the sandbox where the command begins. The home of the user if it is not given.
    type: str
    aliases:
      - cwd
  env:
    description: Environment variables.
    type: dict
  env_forward:
    description:
      - Names of variables that the command gets with the values that they have where the module runs, as a secret that the controller
        has in its environment. Names that have no value there are left out. O(env) is stronger.
    type: list
    elements: str
  login:
    description:
      - Runs the command as a login of the user would, with the variables that the guest's profile sets. O(env) is stronger than those
        that the role P(pixels.sandbox.account#role) wrote, and not than C(PATH), which the profile sets always.
    type: bool
    default: false
  stdin:
    description: Standard input, sent as it is.
    type: str
  timeout:
    description:
      - Seconds that the command may take. After that it is killed in the sandbox with all that it started, and the task fails.
      - What had gone into the background with an environment of its own and without a parent is not found.
    type: int
    default: 300
  creates:
    description: Absolute path in the sandbox. If there is anything, the command is not run.
    type: str
  removes:
    description: Absolute path in the sandbox. If there is nothing, the command is not run.
    type: str
  max_output:
    description: Bytes of standard output, and of standard error, that are returned. The rest is read and thrown away.
    type: int
    default: 1048576
seealso:
  - module: pixels.sandbox.pixels_instance
  - plugin: pixels.sandbox.incus
    plugin_type: connection
"""

EXAMPLES = r"""
- name: Ask a sandbox for its kernel
  pixels.sandbox.pixels_exec:
    name: task1
    argv:
      - uname
      - -r
  register: kernel

- name: Run a script with a secret that is not seen anywhere
  pixels.sandbox.pixels_exec:
    name: task1
    cmd: ./deploy "$TARGET"
    chdir: /srv/app
    user: root
    env:
      TARGET: staging
      TOKEN: "{{ deploy_token }}"
    timeout: 60

- name: Let an agent work with a key that only the controller has
  pixels.sandbox.pixels_exec:
    name: task1
    argv:
      - claude
      - -p
      - Summarise this repository
    chdir: /srv/app
    env_forward:
      - ANTHROPIC_API_KEY
    login: true
    timeout: 600

- name: Unpack a repository once
  pixels.sandbox.pixels_exec:
    name: task1
    cmd: git clone /mnt/repository /srv/app
    creates: /srv/app
"""

RETURN = r"""
rc:
  description: Exit code of the command. V(-1) when it was killed after O(timeout).
  returned: when the command was run
  type: int
  sample: 0
stdout:
  description: What the command printed, without the last newline. What is no UTF-8 is replaced.
  returned: when the command was run
  type: str
  sample: 6.1.0-18-amd64
stderr:
  description: What the command printed as errors, without the last newline.
  returned: when the command was run
  type: str
  sample: ""
stdout_truncated:
  description: Whether there was more than O(max_output).
  returned: when the command was run
  type: bool
  sample: false
stderr_truncated:
  description: Whether there was more than O(max_output).
  returned: when the command was run
  type: bool
  sample: false
timed_out:
  description: Whether the command was killed after O(timeout).
  returned: when the command was run
  type: bool
  sample: false
start:
  description: When the command began, in UTC.
  returned: when the command was run
  type: str
  sample: "2026-01-02T03:04:05.678+00:00"
end:
  description: When the command ended, in UTC.
  returned: when the command was run
  type: str
  sample: "2026-01-02T03:04:05.721+00:00"
delta:
  description: Seconds that the command took.
  returned: when the command was run
  type: float
  sample: 0.043
user:
  description: User that the command was run as.
  returned: success
  type: str
  sample: pixel
name:
  description: Name of the sandbox.
  returned: success
  type: str
  sample: task1
actions:
  description: What was done, or would be in check mode; empty when O(creates) or O(removes) made it needless.
  returned: success
  type: list
  elements: str
  sample: ["run a command in task1"]
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_module
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.command import command_from, plan_command

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str"},
    "cmd": {"type": "str"},
    "user": {"type": "str"},
    "chdir": {"type": "str", "aliases": ["cwd"]},
    "env": {"type": "dict", "no_log": True},
    "env_forward": {"type": "list", "elements": "str"},
    "login": {"type": "bool", "default": False},
    "stdin": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 300},
    "creates": {"type": "str"},
    "removes": {"type": "str"},
    "max_output": {"type": "int", "default": 1048576},
}


def main() -> None:
    """Run the module."""
    run_module(
        ARGUMENT_SPEC,
        lambda backend, params: plan_command(backend, command_from(params)),
        noun=None,
        mutually_exclusive=[("argv", "cmd")],
        required_one_of=[("argv", "cmd")],
    )


if __name__ == "__main__":
    main()
