# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires and legs over a client in memory: numbers, orphans, batches, and what is not ours."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    ConfigError,
    Conflict,
    Foreign,
    OperationFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    ExecRequest,
    ExecResult,
    GatewaySpec,
    ImageSource,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.gateway import Gateway

RULES = policy("allowlist", allow=["a.example.test"]).rules()
NETWORKS = "/1.0/networks"


class Site:
    """A server with a gateway, as far as its client is asked; its program enforces what it is given."""

    def __init__(self, gateway: bool = True) -> None:
        self.networks: dict[str, dict[str, Any]] = {
            "pixels0": {"name": "pixels0", "managed": True, "config": {"ipv4.address": "10.1.2.1/24"}, "used_by": []},
            "eth0": {"name": "eth0", "managed": False, "config": {}},
        }
        self.instance: dict[str, Any] | None = None
        self.legs: dict[str, Any] = {}
        self.applied: list[dict[str, Any]] = []
        self.stale = 0
        self.vanished = 0
        self.passing = 0
        self.poison: set[str] = set()
        self.answer: dict[str, ExecResult] = {}
        if gateway:
            config = {"user.pixels.kind": "gateway", "user.pixels.gateway.range": "100.64.0.0/22"}
            self.instance = {"config": config, "devices": {}, "status": "Running", "profiles": []}

    def gateway(self) -> Gateway:
        return Gateway(cast(Client, self), "p", self.execute)

    def find(self, path: str, **_params: str) -> tuple[Any, str] | None:
        if path.startswith("/1.0/instances/"):
            if self.instance is None:
                return None
            return {**self.instance, "expanded_devices": self.instance["devices"]}, "etag"
        if path.endswith("eth0/state"):
            return {"addresses": [{"family": "inet", "address": "100.64.9.9", "netmask": "24"}]}, ""
        if path == "/1.0/storage-pools/pixels":
            return {}, ""
        found = self.networks.get(path.rsplit("/", 1)[1])
        return (found, "") if found else None

    def get(self, path: str, **_params: str) -> Any:
        return list(self.networks.values()) if path == NETWORKS else [{"name": "pixels"}]

    def request(self, method: str, path: str, json: Any = None) -> None:
        if method == "DELETE":
            if self.vanished:
                self.vanished -= 1
                raise ApiError("Device does not exist", 500)
            del self.networks[path.rsplit("/", 1)[1]]
        elif self.passing:
            self.passing -= 1
            raise ApiError("Failed to delete bridge children interfaces: it does not exist", 500)
        elif json["name"] in self.poison:
            self.networks[json["name"]] = {"name": json["name"], "config": {}}
            raise ApiError("taken", 400)
        else:
            self.networks[json["name"]] = {**json, "managed": True, "used_by": []}

    def run(self, method: str, path: str, body: Any, *_rest: Any) -> None:
        if self.stale:
            self.stale -= 1
            raise Conflict("stale", 412)
        if method == "DELETE":
            self.instance = None
        elif method == "POST":
            self.instance = {**body, "status": "Stopped"}
        else:
            assert self.instance
            self.instance["devices"] = body["devices"]

    def execute(self, name: str, request: ExecRequest, _deadline: Deadline) -> ExecResult:
        assert name == "gateway"
        verb = request.argv[1]
        if verb in self.answer:
            return self.answer[verb]
        if verb == "apply":
            wanted = json.loads(request.stdin)
            self.applied.append(wanted)
            if self.poison & set(wanted["set"]):
                return ExecResult(1, b"", b"px-gateway: no")
            for gone in wanted["remove"]:
                self.legs.pop(gone, None)
            self.legs.update(wanted["set"])
        if verb == "refused":
            told = {leg: [{"how": "dns", "target": "x.test", "count": 2, "last": 5}] for leg in request.argv[2:]}
            return ExecResult(0, json.dumps(told).encode())
        legs = {leg: {"digest": RULES.digest, "address": "a", "problems": []} for leg in self.legs}
        return ExecResult(0, json.dumps({"version": 1, "problems": [], "legs": legs}).encode())


def soon() -> Deadline:
    return Deadline(5)


def test_a_wire_is_the_lowest_free_number_and_the_number_is_the_subnet() -> None:
    site = Site()
    site.networks["other"] = {
        "name": "other",
        "managed": True,
        "config": {"ipv4.address": "100.64.1.1/24"},
        "used_by": [],
    }
    gateway = site.gateway()
    assert [gateway.make_wire(name, soon()) for name in ("a", "b")] == ["pxe-0000", "pxe-0002"]
    config = site.networks["pxe-0002"]["config"]
    assert (config["user.pixels.subnet"], config["ipv4.address"], config["user.pixels.sandbox"]) == (
        "100.64.2.0/24",
        "none",
        "px-b",
    )
    assert gateway.make_wire("b", soon()) == "pxe-0002"
    gateway.make_wire("c", soon())
    with pytest.raises(ConfigError, match="no subnet left"):
        gateway.make_wire("d", soon())


def test_of_two_controllers_one_takes_the_next_number() -> None:
    site = Site()
    site.poison = {"pxe-0000"}
    assert site.gateway().make_wire("a", soon()) == "pxe-0001"


def test_an_interface_that_goes_meanwhile_is_no_reason_to_fail() -> None:
    site = Site()
    site.passing = 3
    assert site.gateway().make_wire("a", soon()) == "pxe-0000"
    site.passing = 100
    with pytest.raises(ApiError, match="bridge children"):
        site.gateway().make_wire("b", soon())
    assert "pxe-0001" not in site.networks


def test_an_orphan_is_cleared_away_when_it_is_old() -> None:
    site = Site()
    gateway = site.gateway()
    gateway.make_wire("gone", soon())
    site.networks["pxe-0000"]["used_by"] = ["/1.0/instances/px-gateway?project=p"]
    assert gateway.make_wire("a", soon()) == "pxe-0001"
    old = datetime.now(timezone.utc) - timedelta(hours=1)
    site.networks["pxe-0000"]["config"]["user.pixels.made"] = old.strftime("%Y-%m-%dT%H:%M:%SZ")
    gateway.make_wire("b", soon())
    assert "pxe-0000" not in site.networks


def test_a_leg_is_connected_and_dropped_with_its_wire() -> None:
    site = Site()
    site.stale = 2
    gateway = site.gateway()
    wire = gateway.make_wire("a", soon())
    gateway.connect(wire, RULES, soon())
    assert site.instance
    assert site.instance["devices"][wire]["parent"] == wire
    state = gateway.state()
    assert state
    assert state.legs[wire].digest == RULES.digest
    assert gateway.refusals([wire, "../etc"])[wire][0].count == 2
    with pytest.raises(ConfigError, match="is not the wire of b"):
        gateway.drop_wire("b", wire, soon())
    site.networks[wire]["used_by"] = ["/1.0/instances/px-a"]
    gateway.drop_wire("a", wire, soon())
    assert wire in site.networks
    site.networks[wire]["used_by"] = []
    site.vanished = 2
    gateway.drop_wire("a", wire, soon())
    assert wire not in site.networks
    assert site.instance["devices"] == {}
    gateway.drop_wire("a", wire, soon())


def test_one_bad_leg_does_not_spoil_the_others() -> None:
    site = Site()
    gateway = site.gateway()
    wires = [gateway.make_wire(name, soon()) for name in ("a", "b", "c")]
    site.poison = {wires[1]}
    failed: dict[str, str] = {}

    def connect(wire: str) -> None:
        try:
            gateway.connect(wire, RULES, soon())
        except OperationFailed as exc:
            failed[wire] = str(exc)

    threads = [threading.Thread(target=connect, args=(wire,)) for wire in wires]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == {wires[1]: "the gateway could not apply: px-gateway: no"}
    assert set(site.legs) == {wires[0], wires[2]}


def test_what_the_gateway_does_not_enforce_is_a_failure() -> None:
    site = Site()
    gateway = site.gateway()
    wire = gateway.make_wire("a", soon())
    for answer, words in (
        (ExecResult(127), "not finished"),
        (ExecResult(0, b"no json"), "JSON"),
        (ExecResult(0, b'{"version": 2}'), "another version"),
        (
            ExecResult(0, json.dumps({"problems": ["p"], "legs": {wire: {"problems": ["q"]}}}).encode()),
            "p; pxe-0000: q",
        ),
    ):
        site.answer = {"apply": answer}
        with pytest.raises(OperationFailed, match=words):
            gateway.connect(wire, RULES, soon())
    site.answer = {"status": ExecResult(1)}
    state = gateway.state()
    assert state
    assert not state.known
    assert site.instance
    site.instance["status"] = "Stopped"
    with pytest.raises(OperationFailed, match="the gateway is stopped"):
        gateway.connect(wire, RULES, soon())
    state = gateway.state()
    assert state
    assert state.problems == ("the gateway is stopped",)


def test_without_a_gateway_its_role_is_named() -> None:
    gateway = Site(gateway=False).gateway()
    assert gateway.state() is None
    assert gateway.site() is None
    with pytest.raises(ConfigError, match=r"pixels\.sandbox\.gateway builds one"):
        gateway.make_wire("a", soon())


def test_a_gateway_is_made_beside_what_there_is_and_removed_when_nobody_needs_it() -> None:
    site = Site(gateway=False)
    gateway = site.gateway()
    gateway.make(GatewaySpec(ImageSource("x"), labels={"team": "red"}), {"type": "image"}, soon())
    gateway.make(GatewaySpec(ImageSource("x"), labels={"team": "blue"}), {"type": "image"}, soon())
    there = gateway.site()
    assert there
    assert (there.labels, there.sandboxes) == ({"team": "red"}, ())
    # an interface of the server has an address in the first part of the range
    assert there.legs_range == "100.68.0.0/14"
    assert there.resolver.endswith(".1")
    assert there.bound_source.endswith(".250")
    wire = gateway.make_wire("a", soon())
    hanging = gateway.site()
    assert hanging
    assert hanging.sandboxes == ("a",)
    with pytest.raises(ConfigError, match=wire):
        gateway.delete(soon())
    assert site.instance
    site.instance["status"] = "Running"
    gateway.drop_wire("a", wire, soon())
    gateway.delete(soon())
    assert gateway.site() is None
    assert set(site.networks) == {"pixels0", "eth0"}


def test_what_is_not_ours_is_left_alone() -> None:
    site = Site()
    assert site.instance
    site.instance["config"] = {}
    with pytest.raises(Foreign):
        site.gateway().make(GatewaySpec(ImageSource("x")), {}, soon())
    site = Site(gateway=False)
    gateway = site.gateway()
    with pytest.raises(ConfigError, match="overlaps"):
        gateway.make(GatewaySpec(ImageSource("x"), "10.1.0.0/16"), {}, soon())
    uplink = next(name for name in site.networks if name.startswith("pxu-"))
    site.networks[uplink]["config"].pop("user.pixels.kind")
    with pytest.raises(Foreign, match=uplink):
        gateway.make(GatewaySpec(ImageSource("x")), {}, soon())
