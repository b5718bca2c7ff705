# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role guest_image: an image that boots, built again only when its definition changes."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support import live

pytestmark = live.needs_incus


@pytest.fixture
def alias() -> Iterator[str]:
    """Return a name that no image has, and remove the image that gets it."""
    name = f"pxt-{secrets.token_hex(4)}"
    yield name
    for image in live.server().get("/1.0/images", recursion="1"):
        if image["properties"].get("pixels_alias") == name or name in [entry["name"] for entry in image["aliases"]]:
            subprocess.run(["incus", "image", "delete", image["fingerprint"]], check=True)


def fingerprint(alias: str) -> str:
    """Return which image has the name."""
    return str(live.server().get(f"/1.0/images/aliases/{alias}")["target"])


def build(folder: Path, alias: str, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role on this machine."""
    role = {"role": "pixels.sandbox.guest_image", "vars": {"guest_image_alias": alias, **variables}}
    play = {"hosts": "all", "gather_facts": False, "roles": [role]}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    return live.play(folder, [play], {"here": here}, *options, seconds=1000)


def changed(done: subprocess.CompletedProcess[str]) -> int:
    """Return how much a run has changed; fail if it failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    (count,) = re.findall(r"changed=(\d+)", done.stdout)
    return int(count)


def import_other(folder: Path, alias: str, **properties: str) -> str:
    """Give the name to an image with nothing in it; return its fingerprint."""
    # Incus 6.0.4 was seen to die of properties that are given beside a description without any
    described = {"architecture": "x86_64", "creation_date": 1, "properties": {"os": "nothing", **properties}}
    (folder / "metadata.yaml").write_text(json.dumps(described))
    (folder / "rootfs").mkdir()
    with tarfile.open(folder / "other.tar", "w") as archive:
        for part in ("metadata.yaml", "rootfs"):
            archive.add(folder / part, part)
    subprocess.run(["incus", "image", "import", folder / "other.tar", "local:", "--alias", alias], check=True)
    return fingerprint(alias)


def test_an_image_is_built_again_only_when_its_definition_changes(
    alias: str, tmp_path: Path, backend: IncusBackend
) -> None:
    old = import_other(tmp_path, alias, pixels_definition="of-long-ago", pixels_alias=alias)
    small: dict[str, Any] = {"guest_image_packages": ["iproute2"]}
    assert changed(build(tmp_path, alias, "--check", **small)) > 0
    assert fingerprint(alias) == old

    assert changed(build(tmp_path, alias, **small)) > 0
    new = fingerprint(alias)
    # the one that had the name before is of no use any more
    there = [image["fingerprint"] for image in live.server().get("/1.0/images", recursion="1")]
    assert new in there
    assert old not in there
    for options in ((), ("--check",)):
        assert changed(build(tmp_path, alias, *options, **small)) == 0
    assert fingerprint(alias) == new
    live.make(backend, "of-new-image", image=f"local:{alias}")
    assert backend.get_instances(["of-new-image"])["of-new-image"].addresses
    live.ensure(backend, "of-new-image", state="absent")

    assert changed(build(tmp_path, alias, "--check", guest_image_packages=["iproute2", "procps"])) > 0


def test_an_image_of_somebody_else_keeps_its_name(alias: str, tmp_path: Path) -> None:
    before = import_other(tmp_path, alias)
    refused = build(tmp_path, alias)
    assert refused.returncode != 0
    assert f"The name {alias} belongs to an image that this role did not build" in refused.stdout + refused.stderr
    assert fingerprint(alias) == before
