#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_session_info
short_description: List the sessions in a sandbox and the steps of its provisioning
version_added: 1.0.0
description:
  - Returns the persistent sessions of a user with their states, and the long steps of the sandbox's provisioning with exit code
    and log.
  - What it returns comes from inside the sandbox, and is as true as the sandbox is.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes.info
  - pixels.sandbox._connection
options:
  name:
    description: Name of the sandbox, which must be running, with what the role P(pixels.sandbox.session#role) brings.
    type: str
    required: true
  user:
    description: Name of the user whose sessions are listed. C(pixel) if it is not given.
    type: str
  log_lines:
    description: How many lines of the log of each step are returned, from its end.
    type: int
    default: 20
seealso:
  - module: pixels.sandbox.pixels_session
  - module: pixels.sandbox.pixels_instance_info
"""

EXAMPLES = r"""
- name: Look at the sessions of a sandbox
  pixels.sandbox.pixels_session_info:
    name: task1
  register: found

- name: Read the whole end of what its provisioning said
  pixels.sandbox.pixels_session_info:
    name: task1
    log_lines: 500
"""

RETURN = r"""
sessions:
  description: The sessions of the user, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the session.
      returned: always
      type: str
      sample: console
    state:
      description: V(running), or V(exited) when its program has ended.
      returned: always
      type: str
      sample: running
    exit_code:
      description: Exit code of a program that has ended; null otherwise.
      returned: always
      type: int
      sample: 0
    attached:
      description: Whether somebody looks at it.
      returned: always
      type: bool
      sample: false
    created_at:
      description: When it was started, in UTC.
      returned: always
      type: str
      sample: "2026-01-02T03:04:05Z"
steps:
  description: The long steps of provisioning, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the step.
      returned: always
      type: str
      sample: devtools
    state:
      description: V(running), V(done) or V(failed).
      returned: always
      type: str
      sample: done
    result:
      description: The word of systemd for how it ended, as V(success), V(exit-code) or V(timeout); null while it runs.
      returned: always
      type: str
      sample: success
    exit_code:
      description: Exit code of its program; null while it runs, or where a signal ended it.
      returned: always
      type: int
      sample: 0
    began_at:
      description: When it began, in UTC.
      returned: always
      type: str
      sample: "2026-01-02T03:04:05Z"
    ended_at:
      description: When it ended, in UTC; null while it runs.
      returned: always
      type: str
      sample: "2026-01-02T03:05:06Z"
    log:
      description: The last lines of what it printed.
      returned: always
      type: str
      sample: all tools are installed
console:
  description: What a person types to enter the sandbox.
  returned: success
  type: str
  sample: incus exec local:px-task1 -- /usr/local/bin/px-session attach console
console_setup:
  description: Commands that are needed once before RV(console), for a remote server; they let the C(incus) program know it.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_info
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.session import read_sessions

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "user": {"type": "str"},
    "log_lines": {"type": "int", "default": 20},
}


def main() -> None:
    """Run the module."""
    run_info(
        ARGUMENT_SPEC,
        lambda backend, params: read_sessions(backend, params["name"], params["user"], params["log_lines"]),
    )


if __name__ == "__main__":
    main()
