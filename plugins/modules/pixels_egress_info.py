#!/usr/bin/python
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pixels_egress_info
short_description: Tell what sandboxes may reach, what is in force, and what was refused
version_added: 1.0.0
description:
  - Compares the policy that is wanted of sandboxes with what their server and its gateway really have.
  - Returns what was refused to them, by name, if that is asked for.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._attributes.info
  - pixels.sandbox._connection
options:
  name:
    description: Names of the sandboxes. All if it is not given. One that is not there is left out.
    type: list
    elements: str
  denied:
    description: Whether what was refused is returned too. It is counted once a minute and when it is asked for.
    type: bool
    default: false
  query:
    description: A JMESPath expression that is applied to RV(egresses); its result is RV(result).
    type: str
requirements:
  - jmespath, for O(query)
seealso:
  - module: pixels.sandbox.pixels_egress
"""

EXAMPLES = r"""
- name: See what was refused to a sandbox
  pixels.sandbox.pixels_egress_info:
    name: task1
    denied: true
  register: found

- name: See which sandboxes are not shut in as they should be
  pixels.sandbox.pixels_egress_info:
    query: "[?!verified].name"
"""

RETURN = r"""
egresses:
  description: The sandboxes, sorted by name.
  returned: success
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
    denied:
      description: What was refused, the newest first.
      returned: when O(denied=true)
      type: list
      elements: dict
      contains:
        how:
          description:
            - Where it was refused. V(dns) is a look-up, V(tls) and V(http) are connections to a name, V(packet) is one to an address, and
              V(stranger) a packet under an address that is not the sandbox's.
            - V(guest) is a connection to an address that the sandbox says that it refused itself. Root in it can make up what it says, and
              hide what it did.
          returned: always
          type: str
          sample: tls
        name:
          description: The name that was asked for; null where there was none, or where it was a text that is no name.
          returned: always
          type: str
          sample: example.com
        target:
          description: What was asked for; a text that is no name is shown with its odd characters escaped.
          returned: always
          type: str
          sample: example.com
        suspicious:
          description: Whether a text was sent as a name that is none.
          returned: always
          type: bool
          sample: false
        port:
          description: Port; null where there is none.
          returned: always
          type: int
          sample: 443
        protocol:
          description: Protocol of a packet as the kernel calls it; null otherwise.
          returned: always
          type: str
          sample: tcp
        count:
          description: How often.
          returned: always
          type: int
          sample: 3
        last:
          description: When it was refused last, in UTC.
          returned: always
          type: str
          sample: "2026-01-02T03:04:05Z"
result:
  description: What O(query) made of it.
  returned: when O(query) is given
  type: raw
  sample: [task1]
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.query import apply_query
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.run import run_info
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import list_egress

ARGUMENT_SPEC = {
    "name": {"type": "list", "elements": "str"},
    "denied": {"type": "bool", "default": False},
    "query": {"type": "str"},
}


def read(backend: Backend, params: Mapping[str, Any]) -> dict[str, object]:
    """Return the result of the module."""
    wanted = None if params["name"] is None else names.sandbox_names(params["name"])
    records = list_egress(backend, wanted, params["denied"])
    result: dict[str, object] = {"egresses": records}
    if params["query"] is not None:
        result["result"] = apply_query(params["query"], records)
    return result


def main() -> None:
    """Run the module."""
    run_info(ARGUMENT_SPEC, read)


if __name__ == "__main__":
    main()
