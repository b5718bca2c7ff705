# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the playbook verify_egress on the local Incus, against an internet of the test's own, and end with one JSON line.

Every address under attack belongs to a network namespace that this program makes, and is black-holed before the first probe.
Arguments are further words for ansible-playbook. PIXELS_VERIFY_REPORT is the path of the reports, without an ending.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ansible_collections.pixels.sandbox.plugins.module_utils._resource.attacks import ROLES
from support import live
from support.internet import EVIL, GOOD, RESOLVER, internet

PRIVATE, METADATA = "10.255.255.1", "169.254.169.254"


def main() -> int:
    """Return 0 when all held: nothing leaked, nothing proved nothing, and nothing came out that got no answer."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        report = Path(os.environ.get("PIXELS_VERIFY_REPORT", folder / "egress-report"))
        with internet(folder / "internet", (PRIVATE, METADATA)) as net, live.throw_away_project() as project:
            live.make_gateway(project, gateway_resolver=RESOLVER)
            targets = {
                "allowed": "good.example.test",
                "allowed_address": GOOD,
                "foreign": EVIL,
                "foreign_name": "evil.test",
                # what the program behind every address answers with, and no proxy
                "mark": f'"at": "{EVIL}"',
                "dns_name": "good.example.test",
                "slow": "/slow/300",
                "resolvers": [RESOLVER],
                "private": [PRIVATE],
                "private_names": ["private.example.test"],
                "metadata": [METADATA],
                "hosts": addresses_of_the_server(project),
            }
            settings = {"targets": targets, "image": f"local:{live.IMAGE}", "report": str(report)}
            command = [
                "ansible-playbook",
                "-i",
                "localhost,",
                "pixels.sandbox.verify_egress",
                "-e",
                json.dumps(settings),
            ]
            environment = {**os.environ, "PIXELS_INCUS_PROJECT": project, "ANSIBLE_LOCALHOST_WARNING": "false"}
            status = subprocess.run([*command, *sys.argv[1:]], env=environment, check=False).returncode
            heard = net.heard
        told = json.loads(report.with_suffix(".json").read_text())
        for attack in told["report"]:
            if attack["outcome"] != "held":
                print(
                    f"{attack['outcome']}: {attack['name']} as {attack['user']}: {attack['why']} (control {attack['control']})"
                )
        # what is heard without an answer is out all the same, and the controls show that it would be heard
        one_way = {role: [line for line in heard if re.search(f"(out |data-){role}\\b", line)] for role in ROLES}
        for line in one_way["inside"] + one_way["sibling"]:
            print(f"leaked: the internet heard {line}")
        print(f"queries and datagrams that the internet heard, all by the control: {len(one_way['control'])}")
        keys = ("attacks", "held", "leaked", "inconclusive", "not_tried")
        print(json.dumps({key: told[key] for key in keys}))
        deaf = not one_way["control"] or bool(one_way["inside"] + one_way["sibling"])
        return status or int(told["inconclusive"] > 0 or deaf)


def addresses_of_the_server(project: str) -> list[str]:
    """Return the addresses of the server on networks of Incus that stay while this runs."""
    networks = [network.get("config") or {} for network in live.server().get("/1.0/networks", recursion="1")]
    own = [config for config in networks if config.get("user.pixels.project", project) == project]
    texts = [config.get("ipv4.address", "") for config in own]
    return sorted(text.partition("/")[0] for text in texts if "/" in text)


if __name__ == "__main__":
    sys.exit(main())
