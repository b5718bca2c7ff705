# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three real daemons on one machine, each a host of its own with TLS, pool and bridge.

As a program: fleet.py up FOLDER, fleet.py kill FOLDER NAME, fleet.py start FOLDER NAME, fleet.py down FOLDER.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.certificates import Authority
from support.daemon import PORT, PrivateDaemon, export_image

NAMES = ("east", "north", "west")
IMAGE = os.environ.get("PIXELS_TEST_IMAGE", "pixels/debian/13")
#: Room for some bases; the file is sparse.
POOL_SIZE = "6GiB"


class Fleet:
    """Daemons in a folder, with one client that all of them trust.

    A folder holds one fleet. What a killed run left in it is removed by the next one.
    """

    def __init__(self, folder: Path, names: Sequence[str] = NAMES) -> None:
        self.folder = folder
        self.daemons = {name: PrivateDaemon(folder / name) for name in names}

    @classmethod
    def found(cls, folder: Path) -> Fleet:
        """Return the fleet that another program started in a folder, or what is left of it."""
        names = [path.parent.name for path in sorted(folder.glob("*/state.json"))]
        fleet = cls(folder, names)
        fleet.daemons = {name: PrivateDaemon.found(folder / name) for name in names}
        return fleet

    def up(self, images: Sequence[str] = NAMES, world: bool = False) -> None:
        """Start the daemons, each with a pool and a bridge, those named with the image too, and write the inventory.

        world lets their guests reach what the guests of the machine's own Incus reach, as archives of packages.
        """
        self.folder.mkdir(parents=True)
        for daemon in self.daemons.values():
            daemon.prepare()
        for daemon in self.daemons.values():
            for other in self.daemons.values():
                if other is not daemon:
                    daemon.wire.reach(other.wire)
            if world:
                daemon.wire.reach_world()
        authority = Authority(self.folder / "certificates")
        client = authority.client("client")
        exported = self.folder / "image"
        exported.mkdir()
        files = export_image(IMAGE, exported) if images else []

        def set_up(name: str) -> None:
            daemon = self.daemons[name]
            # as an Incus makes its own: nobody vouches for it, and it is known by being pinned
            daemon.use_certificate(authority.self_signed(name, daemon.wire.far))
            daemon.start()
            daemon.listen()
            daemon.trust(client)
            daemon.incus("storage", "create", "pixels", "btrfs", f"size={POOL_SIZE}")
            bridge = ("ipv4.address=10.77.0.1/24", f"ipv4.nat={'true' if world else 'false'}", "ipv6.address=none")
            daemon.incus("network", "create", "pixels0", *bridge)
            if name in images:
                daemon.incus("image", "import", *files, "--alias", IMAGE)

        with ThreadPoolExecutor() as pool:
            list(pool.map(set_up, self.daemons))
        shutil.rmtree(exported)
        inventory = {"incus": {"hosts": {name: self.variables(name) for name in self.daemons}}}
        (self.folder / "servers.yml").write_text(json.dumps(inventory))

    def up_as_cluster(self) -> None:
        """Start two daemons as the members of one cluster, which shows one certificate; pools and bridge are on both."""
        self.folder.mkdir(parents=True)
        first, second = self.daemons
        self.daemons[first].prepare()
        self.daemons[second].prepare()
        for one, other in ((first, second), (second, first)):
            self.daemons[one].wire.reach(self.daemons[other].wire)
        authority = Authority(self.folder / "certificates")
        client = authority.client("client")
        exported = self.folder / "image"
        exported.mkdir()
        files = export_image(IMAGE, exported)
        for name, daemon in self.daemons.items():
            pair = authority.self_signed(name, daemon.wire.far)
            if name == first:
                daemon.use_certificate(pair)
            daemon.start()
        lead = self.daemons[first]
        lead.listen()
        lead.incus("config", "set", f"cluster.https_address={lead.wire.far}:{PORT}")
        lead.incus("cluster", "enable", first)
        token = lead.incus("cluster", "add", second, "--quiet").strip().splitlines()[-1]
        joined = self.daemons[second]
        preseed = {
            "cluster": {
                "enabled": True,
                "server_address": f"{joined.wire.far}:{PORT}",
                "cluster_token": token,
            }
        }
        joined.incus("admin", "init", "--preseed", stdin=json.dumps(preseed))
        for name in self.daemons:
            lead.incus("storage", "create", "pixels", "btrfs", f"size={POOL_SIZE}", f"--target={name}")
            lead.incus("network", "create", "pixels0", f"--target={name}")
        lead.incus("storage", "create", "pixels", "btrfs")
        lead.incus("network", "create", "pixels0", "ipv4.address=10.77.0.1/24", "ipv6.address=none")
        lead.trust(client)
        lead.incus("image", "import", *files, "--alias", IMAGE)
        shutil.rmtree(exported)
        for name in self.daemons:
            # all members show that of the cluster
            shutil.copy(lead.home / "cluster.crt", self.folder / "certificates" / f"{name}.crt")

    def options(self, name: str) -> dict[str, str]:
        """Return the connection options of a server."""
        certificates = self.folder / "certificates"
        return {
            "incus_remote": self.daemons[name].url,
            "incus_client_cert": str(certificates / "client.crt"),
            "incus_client_key": str(certificates / "client.key"),
            "incus_server_cert": str(certificates / f"{name}.crt"),
        }

    def variables(self, name: str) -> dict[str, str]:
        """Return the variables of the host that stands for a server."""
        return {f"ansible_pixels_{option}": value for option, value in self.options(name).items()}

    def down(self) -> None:
        """End what was started, as far as it is there, and remove the folder."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(PrivateDaemon.remove, self.daemons.values()))
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_left() -> None:
    """Remove the fleets of test runs that were killed; the number in a folder's name is the process that it belongs to."""
    for folder in Path(tempfile.gettempdir()).glob("pxt-fleet-*"):
        owner = folder.name.rpartition("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            Fleet.found(folder).down()


def main(verb: str, folder: Path, name: str = "") -> None:
    """Do what the command line says."""
    if verb == "up":
        fleet = Fleet(folder)
        try:
            fleet.up()
        except BaseException:
            fleet.down()
            raise
        return
    fleet = Fleet.found(folder)
    if verb == "down":
        fleet.down()
    elif verb == "kill":
        fleet.daemons[name].kill()
    elif verb == "start":
        fleet.daemons[name].start()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
