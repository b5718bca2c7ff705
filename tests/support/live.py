# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away project on the real Incus, and what tests on it need."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ApiError, NotFound, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Work, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend, incus_backend
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import DirectTransport
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.desired import desired_from
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import plan_instances

IMAGE = os.environ.get("PIXELS_TEST_IMAGE", "pixels/debian/13")
ENABLED = bool(os.environ.get("PIXELS_TEST_INCUS"))
needs_incus = pytest.mark.skipif(not ENABLED, reason="needs the real Incus: PIXELS_TEST_INCUS=1")

#: The number is the process that the project belongs to.
_PROJECT = re.compile(r"pxt-live-(\d+)-[0-9a-f]+")
_OPTIONS: dict[str, Any] = {
    "state": "started",
    "image": None,
    "clone_from": None,
    "image_server": "https://images.invalid",
    "cpu": None,
    "memory": None,
    "disk": None,
    "processes": None,
    "type": None,
    "pool": None,
    "network": None,
    "profiles": None,
    "target": None,
    "hardening": None,
    "nesting": None,
    "mounts": None,
    "labels": None,
    "owner": None,
    "ttl": None,
    "renew": False,
    "autostart": None,
    "wait_for": "address",
    "timeout": 120,
    "force": True,
    "max_parallel": 8,
}


def server() -> Client:
    """Return a client of the whole server."""
    return Client(DirectTransport(endpoint_from({})))


@contextlib.contextmanager
def throw_away_project() -> Iterator[str]:
    """Make a project that shares images and networks with the default one, and remove it with all in it.

    Projects of runs that were killed are removed first.
    """
    client = server()
    for found in client.get("/1.0/projects", recursion="1"):
        match = _PROJECT.fullmatch(found["name"])
        if match and not Path(f"/proc/{match[1]}").exists():
            remove_project(found["name"])
    name = f"pxt-live-{os.getpid()}-{secrets.token_hex(3)}"
    config = {"features.images": "false", "features.profiles": "true", "features.storage.volumes": "true"}
    client.request("POST", "/1.0/projects", json={"name": name, "config": config})
    try:
        yield name
    finally:
        remove_project(name)


def remove_project(name: str) -> None:
    """Remove a project with its instances and profiles."""
    command = ["incus", "delete", "--project", name, "--force"]
    instances = json.loads(_output(["incus", "list", "--project", name, "--format", "json"]))
    if instances:
        subprocess.run([*command, *(instance["name"] for instance in instances)], check=True)
    _remove_networks(name)
    for profile in json.loads(_output(["incus", "profile", "list", "--project", name, "--format", "json"])):
        if profile["name"] != "default":
            subprocess.run(["incus", "profile", "delete", "--project", name, profile["name"]], check=True)
    subprocess.run(["incus", "project", "delete", name], check=True, stdout=subprocess.DEVNULL)


def _remove_networks(project: str) -> None:
    """Remove wires and uplink of a project's gateway: networks are the whole server's."""
    client = server()
    for network in client.get("/1.0/networks", recursion="1"):
        if (network.get("config") or {}).get("user.pixels.project") == project:
            _remove_network(client, network["name"])


def _remove_network(client: Client, name: str) -> None:
    """Remove a network, again where one that somebody else removes at the same time gets in the way."""
    deadline = Deadline(30)
    while True:
        try:
            client.request("DELETE", f"/1.0/networks/{name}")
        except NotFound:
            return
        except ApiError:
            deadline.pause(0.2, f"remove the network {name}")
        else:
            return


def make_gateway(project: str, **settings: str) -> None:
    """Build the gateway of a project as a user does."""
    command = [
        "ansible-playbook",
        "-i",
        "localhost,",
        "pixels.sandbox.gateway",
        "-e",
        json.dumps({"gateway_image": f"local:{IMAGE}", **settings}),
    ]
    environment = {
        **os.environ,
        "PIXELS_INCUS_PROJECT": project,
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def backend(project: str) -> IncusBackend:
    """Return the product's backend for a project."""
    return incus_backend({"incus_project": project})


def work_for(there: IncusBackend, name: str | list[str], **options: Any) -> Work:
    """Return what pixels_instance would do with these options."""
    given = [name] if isinstance(name, str) else name
    return plan_instances(there, desired_from({**_OPTIONS, "name": given, **options}))


def ensure(there: IncusBackend, name: str | list[str], **options: Any) -> Mapping[str, PixelsError]:
    """Do what pixels_instance would do with these options, and return the failures."""
    return apply(work_for(there, name, **options))


def make(there: IncusBackend, name: str | list[str], **options: Any) -> None:
    """Make sandboxes from the test's image unless told otherwise; fail if one fails."""
    if "clone_from" not in options:
        options.setdefault("image", f"local:{IMAGE}")
    failed = ensure(there, name, **options)
    assert not failed, failed


def play(
    folder: Path,
    plays: list[dict[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    *options: str,
    seconds: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run plays with ansible-playbook over hosts with these variables."""
    book, inventory = folder / "play.yml", folder / "hosts.json"
    book.write_text(json.dumps(plays))
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    environment = {
        **os.environ,
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_INVENTORY_ENABLED": "yaml",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    }
    inventory = inventory.rename(inventory.with_suffix(".yml"))
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, book, *options],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=seconds,
    )
