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
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import live
from support.internet import EVIL, GOOD, RESOLVER, internet

#: Kernels without VLANs have no control for this.
MAY_PROVE_NOTHING = {"colluding sibling, vlan NIC"}
PRIVATE, METADATA = "10.255.255.1", "169.254.169.254"


def main() -> int:
    """Return 0 when all held: nothing leaked, and nothing but what this kernel cannot do proved nothing."""
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
                "resolvers": [RESOLVER],
                "private": [PRIVATE],
                "private_names": ["private.example.test"],
                "metadata": [METADATA],
                "hosts": addresses_of_the_server(),
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
            asked = [line for line in net.heard if line.startswith("dns") and "data." in line]
        told = json.loads(report.with_suffix(".json").read_text())
        for attack in told["report"]:
            if attack["outcome"] != "held":
                print(
                    f"{attack['outcome']}: {attack['name']} as {attack['user']}: {attack['why']} (control {attack['control']})"
                )
        print(f"queries of tunnels that a resolver heard, all by controls: {len(asked)}")
        keys = ("attacks", "held", "leaked", "inconclusive", "not_tried")
        print(json.dumps({key: told[key] for key in keys}))
        unproved = {attack["name"] for attack in told["report"] if attack["outcome"] == "inconclusive"}
        return status or int(bool(unproved - MAY_PROVE_NOTHING))


def addresses_of_the_server() -> list[str]:
    """Return the addresses of the server on networks of Incus."""
    networks = live.server().get("/1.0/networks", recursion="1")
    texts = [(network.get("config") or {}).get("ipv4.address", "") for network in networks]
    return sorted(text.partition("/")[0] for text in texts if "/" in text)


if __name__ == "__main__":
    sys.exit(main())
