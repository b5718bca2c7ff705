# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules, whole, over a simulated TrueNAS: the same words and results as with Incus, and what it cannot do said beforehand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.select import backend_from
from ansible_collections.pixels.sandbox.plugins.module_utils._glue import run as glue
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas import backend, ssh
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import Pace, Rpc
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Transport
from ansible_collections.pixels.sandbox.plugins.modules import (
    pixels_base,
    pixels_checkpoint,
    pixels_checkpoint_info,
    pixels_egress,
    pixels_exec,
    pixels_gateway,
    pixels_instance,
    pixels_instance_info,
)
from support.truenas.fake_guests import BootingEngine, FakeGuests, fake_ssh, key_pair
from support.truenas.server import API_KEY, Simulation

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BootingEngine:
    """Containers whose insides are reached as if by SSH."""
    monkeypatch.setenv("PATH", str(fake_ssh(tmp_path / "bin")), prepend=os.pathsep)
    found = BootingEngine()
    monkeypatch.setattr(ssh, "Guests", lambda: FakeGuests(found))
    # each run of a module is a login, and there are more of them than a server takes in a minute
    monkeypatch.setattr(backend, "rpc_from", lambda options: Rpc(Transport(endpoint_from(options)), Pace(logins=10**6)))
    return found


@pytest.fixture(params=["25.04", "25.10"])
def simulation(request: pytest.FixtureRequest, tmp_path: Path, engine: BootingEngine) -> Iterator[Simulation]:
    """A simulated TrueNAS of each release."""
    with Simulation(tmp_path, request.param, engine, busy_seconds=0, clock=lambda: time.monotonic() * 1000) as found:
        yield found
        assert not found.unknown


@pytest.fixture
def options(simulation: Simulation, tmp_path: Path) -> dict[str, Any]:
    """The connection options of the server."""
    return simulation.options(truenas_ssh_key=key_pair(tmp_path))


@pytest.fixture
def run(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a module with these options and returns its result."""
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)

    def run_module(module: ModuleType, check_mode: bool = False, **given: Any) -> dict[str, Any]:
        arguments = {**options, **given, "_ansible_check_mode": check_mode}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        with pytest.raises(SystemExit):
            module.main()
        text = capsys.readouterr().out
        assert API_KEY not in text
        return dict(json.loads(text))

    return run_module


def climbed(run: Run, module: ModuleType, **given: Any) -> dict[str, Any]:
    """Climb the ladder: check, apply, apply again, check again; return what the apply said."""
    before = run(pixels_instance_info)["instances"]
    predicted = run(module, check_mode=True, **given)
    assert predicted["changed"] is True, predicted
    assert run(pixels_instance_info)["instances"] == before
    result = run(module, **given)
    assert result["changed"] is True, result
    assert not result.get("failed")
    assert result["diff"] == predicted["diff"]
    assert result["actions"] == predicted["actions"]
    for check_mode in (False, True):
        again = run(module, check_mode=check_mode, **given)
        assert (again["changed"], again.get("failed", False)) == (False, False), again
    return result


def test_a_life(run: Run, simulation: Simulation) -> None:
    made = climbed(run, pixels_instance, name="box", image="debian/13", labels={"a": "1"})["instance"]
    assert (made["status"], made["hardening"], made["memory"]) == ("running", "none", 2048 * 2**20)
    assert made["ssh"]["host_key_alias"] == "px-box"
    assert made["console"].startswith("ssh -t ")
    changed = climbed(run, pixels_instance, name="box", memory="1GiB", autostart=True, labels={}, owner="ada")
    assert (changed["instance"]["memory"], changed["instance"]["autostart"]) == (2**30, True)
    climbed(run, pixels_instance, name="box", network="br0")
    climbed(run, pixels_checkpoint, name="box", label="ready")
    twin = climbed(run, pixels_instance, name="twin", clone_from="box:ready")["instance"]
    assert (twin["depends_on"], twin["clone_from"]) == ("box:ready", "box:ready")
    assert run(pixels_checkpoint_info)["checkpoints"][0]["clones"] == ["twin"]
    assert "twin" in run(pixels_checkpoint, name="box", label="ready", state="absent")["msg"]
    climbed(run, pixels_instance, name="twin", state="stopped")
    climbed(run, pixels_instance, name="twin", state="absent")
    climbed(run, pixels_checkpoint, name="box", label="ready", state="absent")
    climbed(run, pixels_instance, name="box", state="absent")
    assert not [name for name in simulation.state.datasets if "box" in name or "twin" in name]


def test_many_at_once_over_one_login(run: Run, simulation: Simulation) -> None:
    before = simulation.logins
    result = run(pixels_instance, name=["a", "b", "c", "d"], image="debian/13")
    assert [found["status"] for found in result["instances"]] == ["running"] * 4
    assert simulation.logins == before + 1


def test_a_restore_names_what_is_newer_and_takes_it_when_told_to(run: Run) -> None:
    run(pixels_instance, name="box", image="debian/13")
    for label in ("a", "b"):
        run(pixels_checkpoint, name="box", label=label)
    refused = run(pixels_checkpoint, name="box", label="a", state="restored")
    assert "b; remove_newer: true" in refused["msg"]
    done = run(pixels_checkpoint, name="box", label="a", state="restored", remove_newer=True)
    assert (done["changed"], done["checkpoint"]["removed"]) == (True, ["b"])
    assert run(pixels_instance_info)["instances"][0]["status"] == "running"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"disk": "5GiB"}, "disk"),
        ({"processes": 100}, "processes"),
        ({"hardening": "standard"}, "hardening standard"),
        ({"nesting": True}, "nesting"),
        ({"profiles": ["default"]}, "profiles"),
        ({"mounts": [{"source": "/srv/data", "path": "/srv/data"}]}, "mounts"),
        ({"publish": ["8080:80"]}, "publish"),
        ({"state": "frozen"}, "freeze"),
        ({"egress": "agent", "egress_enforcement": "gateway"}, "filters no traffic"),
        ({"egress": "none", "egress_enforcement": "both"}, "filters no traffic"),
        ({"type": "vm"}, "virtual machines"),
        ({"memory": "100kB"}, "memory"),
        ({"image_server": "https://images.example.com"}, "image_server"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_what_it_cannot_do_is_said_before_anything_is_made(
    run: Run, simulation: Simulation, given: dict[str, Any], words: str, check_mode: bool
) -> None:
    result = run(pixels_instance, check_mode=check_mode, name="box", **{"image": "ubuntu/22.04", **given})
    assert result["failed"] is True, result
    assert words in result["msg"]
    assert not simulation.state.instances
    assert "tank/pixels/box" not in simulation.state.datasets


def test_checkpoints_that_expire_bases_and_gateways_are_refused(run: Run) -> None:
    run(pixels_instance, name="box", image="debian/13")
    assert "expires" in run(pixels_checkpoint, name="box", label="a", expires="1h")["msg"]
    assert "base" in run(pixels_base, name="dev", roles=["pixels.sandbox.base"], state="built")["msg"]
    assert "filters no traffic" in run(pixels_gateway, image="debian/13")["msg"]
    assert "filters no traffic" in run(pixels_egress, name="box", mode="agent", enforcement="gateway")["msg"]
    assert run(pixels_checkpoint_info)["checkpoints"] == []


def test_a_policy_that_the_sandbox_cannot_enforce_is_refused_with_the_role_that_would_help(run: Run) -> None:
    run(pixels_instance, name="box", image="debian/13")
    result = run(pixels_egress, name="box", mode="agent")
    assert "role pixels.sandbox.nftables" in result["msg"]


def test_a_new_sandbox_that_does_not_confine_itself_is_left_stopped(run: Run) -> None:
    result = run(pixels_instance, name="box", image="debian/13", egress="agent")
    assert result["failed"] is True
    assert "role pixels.sandbox.nftables" in result["msg"]
    assert run(pixels_instance_info)["instances"][0]["status"] == "stopped"


def test_a_command_keeps_its_words(run: Run) -> None:
    run(pixels_instance, name="box", image="debian/13")
    result = run(pixels_exec, name="box", argv=["printf", "%s|", "two words", "$HOME;id", ""])
    assert result["stdout"] == "two words|$HOME;id||"


def test_what_is_said_of_a_sandbox_has_the_way_in_and_no_secret(run: Run) -> None:
    run(pixels_instance, name="box", image="debian/13")
    (found,) = run(pixels_instance_info)["instances"]
    assert found["ssh"]["host"].startswith("10.66.0.")
    assert "KnownHostsCommand=/bin/echo px-box ssh-ed25519 " in found["ssh"]["common_args"]
    assert API_KEY not in json.dumps(found)


def test_a_stopped_sandbox_has_no_way_in(run: Run) -> None:
    run(pixels_instance, name="box", image="debian/13", state="stopped")
    (found,) = run(pixels_instance_info)["instances"]
    assert not found["ssh"]


def test_a_server_that_is_not_verified_is_warned_of(
    run: Run, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del options["truenas_ca_cert"]
    options["truenas_insecure_skip_verify"] = True
    told: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, text: told.append(text))
    run(pixels_instance_info)
    (warning,) = told
    assert "truenas_insecure_skip_verify" in warning


def test_options_name_the_backend(options: dict[str, Any]) -> None:
    found = backend_from(options)
    assert found.features.server == "TrueNAS"
    found.close()
    assert glue.backend_from is backend_from
