# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires and legs over a client in memory: numbers, orphans, batches, and what is not ours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    ConfigError,
    Conflict,
    Foreign,
    NotFound,
    OperationFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    ExecRequest,
    ExecResult,
    GatewaySpec,
    ImageSource,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import policy
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import hardening
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.gateway import Gateway, _Batch

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
        self.meanwhile: Callable[[str], object] = lambda name: None
        if gateway:
            config = {
                **hardening.LEVELS["strict"],
                "user.pixels.kind": "gateway",
                "user.pixels.gateway.range": "100.64.0.0/22",
            }
            devices = {
                "root": {"type": "disk", "path": "/", "pool": "pixels"},
                "eth0": {"type": "nic", "network": "pxu-148de9c5", "name": "eth0"},
            }
            self.instance = {"config": config, "devices": devices, "status": "Running", "profiles": []}

    def gateway(self) -> Gateway:
        return Gateway(cast(Client, self), "p", self.execute)

    def find(self, path: str, **_params: str) -> tuple[Any, str] | None:
        if path.startswith("/1.0/instances/"):
            if self.instance is None:
                return None
            expanded = {f"expanded_{field}": self.instance[field] for field in ("config", "devices")}
            return {**self.instance, **expanded}, "etag"
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
            gone = path.rsplit("/", 1)[1]
            self.meanwhile(gone)
            legs = self.instance["devices"] if self.instance else {}
            if gone in legs or any("px-gateway" not in user for user in self.networks[gone]["used_by"]):
                raise ApiError("The network is currently in use", 400)
            del self.networks[gone]
        elif method == "PATCH":
            there = path.rsplit("/", 1)[1]
            self.meanwhile(there)
            if there not in self.networks:
                raise NotFound("Network not found", 404)
            self.networks[there]["config"].update(json["config"])
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
        legs = {
            name: {"digest": RULES.digest, "subnet": leg["subnet"], "address": "a", "problems": []}
            for name, leg in self.legs.items()
        }
        return ExecResult(0, json.dumps({"version": 2, "problems": [], "legs": legs}).encode())


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
    assert state.legs[wire].sandbox == "a"
    gateway.drop_wire("b", wire, soon())
    assert wire in site.networks
    site.networks[wire]["used_by"] = ["/1.0/instances/px-a?project=p"]
    gateway.drop_wire("a", wire, soon())
    assert wire in site.networks
    site.networks[wire]["used_by"] = []
    site.vanished = 2
    gateway.drop_wire("a", wire, soon())
    assert wire not in site.networks
    assert set(site.instance["devices"]) == {"root", "eth0"}
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


def connected(site: Site, name: str = "a") -> tuple[Gateway, str]:
    """Return the gateway, and the wire of a sandbox that hangs on it with a leg at its other end."""
    gateway = site.gateway()
    made = gateway.make_wire(name, soon())
    gateway.connect(made, RULES, soon())
    users = [f"/1.0/instances/{user}?project=p" for user in ("px-gateway", f"px-{name}")]
    site.networks[made]["used_by"] = users
    return gateway, made


@pytest.mark.parametrize(
    ("addition", "words"),
    [
        ({"ipv4.address": "10.3.3.1/24"}, "has the key ipv4.address, which it was not made with"),
        ({"security.acls": "open"}, "has the key security.acls"),
        ({"bridge.external_interfaces": "eth0"}, "has the key bridge.external_interfaces"),
        ({"ipv6.address": ""}, "has the key ipv6.address"),
        ("/1.0/instances/px-b?project=p", "px-b hangs on the wire pxe-0000 too"),
        ("/1.0/instances/px-gateway", "/1.0/instances/px-gateway hangs on"),
        ("/1.0/instances/px-a?project=other", "px-a?project=other hangs on"),
        ("/1.0/profiles/default?project=p", "/1.0/profiles/default?project=p hangs on"),
    ],
)
def test_what_is_added_to_a_wire_is_told_and_left_behind(addition: dict[str, str] | str, words: str) -> None:
    site = Site()
    gateway, wire = connected(site)
    state = gateway.state()
    assert state
    assert (state.problems, state.legs[wire].problems) == ((), ())
    assert gateway.make_wire("a", soon(), wire) == wire
    if isinstance(addition, str):
        site.networks[wire]["used_by"].append(addition)
    else:
        site.networks[wire]["config"].update(addition)
    state = gateway.state()
    assert state
    assert words in state.legs[wire].problems[0]
    # the sandbox moves to a wire that nobody has touched, and the other one has no leg any more
    assert gateway.make_wire("a", soon(), wire) == "pxe-0001"
    site.networks[wire]["used_by"].remove("/1.0/instances/px-a?project=p")
    gateway.drop_wire("a", wire, soon())
    assert wire not in site.legs
    assert (wire in site.networks) == isinstance(addition, str)


def test_an_old_wire_that_is_taken_again_is_no_orphan_for_another_controller() -> None:
    site = Site()
    gateway = site.gateway()
    wire = gateway.make_wire("a", soon())
    old = (datetime.now(timezone.utc) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    site.networks[wire]["config"]["user.pixels.made"] = old
    assert gateway.make_wire("a", soon()) == wire
    assert site.gateway().make_wire("b", soon()) == "pxe-0001"
    assert wire in site.networks
    # and where the other one was faster, there is a new one
    site.networks[wire]["config"]["user.pixels.made"] = old
    site.meanwhile = lambda name: site.networks.pop(name, None)
    assert site.gateway().make_wire("a", soon()) != wire


def test_a_wire_that_is_taken_again_while_it_is_removed_is_left_to_who_takes_it() -> None:
    site = Site()
    gateway, wire = connected(site)
    site.networks[wire]["used_by"] = []
    site.meanwhile = lambda name: site.networks[name].update(used_by=["/1.0/instances/px-a?project=p"])
    gateway.drop_wire("a", wire, soon())
    assert wire in site.networks
    site.networks[wire]["used_by"] = []
    site.meanwhile = lambda name: site.networks[name].update(used_by=["/1.0/profiles/x"])
    with pytest.raises(ApiError, match="in use"):
        gateway.drop_wire("a", wire, soon())


def test_a_leg_whose_subnet_is_not_that_of_its_wire_is_told() -> None:
    site = Site()
    gateway, wire = connected(site)
    site.networks[wire]["config"]["user.pixels.subnet"] = "100.64.3.0/24"
    state = gateway.state()
    assert state
    assert state.legs[wire].problems == ("its subnet 100.64.0.0/24 is not that of its wire",)


def test_a_wire_of_another_sandbox_is_not_taken_for_its_own() -> None:
    site = Site()
    gateway, wire = connected(site)
    assert gateway.make_wire("b", soon(), wire) == "pxe-0001"
    site.networks["pxe-0009"] = {"name": "pxe-0009", "managed": True, "config": {}, "used_by": []}
    assert gateway.make_wire("b", soon(), "pxe-0009") == "pxe-0001"


@pytest.mark.parametrize(
    ("config", "devices", "words"),
    [
        ({}, {"eth9": {"type": "nic", "network": "pixels0"}}, "has the device eth9"),
        ({}, {"pxe-0005": {"type": "nic", "network": "pixels0"}}, "has the device pxe-0005"),
        ({}, {"out": {"type": "proxy", "bind": "instance"}}, "has the device out"),
        ({}, {"etc": {"type": "disk", "source": "/etc", "path": "/x"}}, "has the device etc"),
        ({}, {"eth0": {"type": "nic", "network": "pixels0", "name": "eth0"}}, "does not hang on pxu-"),
        ({"security.privileged": "true"}, {}, "key security.privileged was changed"),
        ({"security.nesting": "true"}, {}, "has the key security.nesting"),
        ({"raw.idmap": "both 0 0"}, {}, "has the key raw.idmap"),
        ({"raw.lxc": "lxc.net.0.type = none"}, {}, "key raw.lxc was changed"),
    ],
)
def test_what_the_gateway_was_not_made_with_is_told(
    config: dict[str, str], devices: dict[str, dict[str, str]], words: str
) -> None:
    site = Site()
    gateway, _wire = connected(site)
    assert site.instance
    site.instance["config"].update({"limits.memory": "1GiB", "user.x": "y", "security.nesting": "false"})
    state = gateway.state()
    assert state
    assert state.problems == ()
    site.instance["config"].update(config)
    site.instance["devices"].update(devices)
    state = gateway.state()
    assert state
    assert words in "; ".join(state.problems)


def test_a_leg_that_cannot_be_brought_leaves_nothing_and_the_others_alone() -> None:
    site = Site()
    gateway, there = connected(site)
    wire = gateway.make_wire("b", soon())
    site.poison = {wire, there}
    with pytest.raises(OperationFailed):
        gateway.connect(wire, RULES, soon())
    assert site.instance
    assert set(site.instance["devices"]) == {"root", "eth0", there}
    assert site.applied[-1] == {"set": {}, "remove": [wire]}
    # one that was there keeps what it had
    with pytest.raises(OperationFailed):
        gateway.connect(there, RULES, soon())
    assert there in site.instance["devices"]
    assert set(site.legs) == {there}


def test_who_waits_for_a_batch_that_breaks_does_not_take_it_for_done() -> None:
    begun, go_on = threading.Event(), threading.Event()
    committed: list[list[str]] = []

    def commit(changes: Any, _deadline: Deadline) -> None:
        committed.append(sorted(changes))
        if "first" in changes:
            begun.set()
            go_on.wait(5)
        elif len(committed) == 2:
            raise KeyError("legs")

    batch = _Batch(commit)
    outcomes: dict[str, str] = {}

    def submit(name: str) -> None:
        try:
            batch.submit(name, {}, soon())
        except (KeyError, OperationFailed) as exc:
            outcomes[name] = type(exc).__name__

    threads = [threading.Thread(target=submit, args=(name,)) for name in ("first", "a", "b")]
    threads[0].start()
    begun.wait(5)
    for thread in threads[1:]:
        thread.start()
    end = time.monotonic() + 5
    while len(batch._waiting) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join()
    assert committed == [["first"], ["a", "b"]]
    assert sorted(outcomes.values()) == ["KeyError", "OperationFailed"]
    # and is not told of it later, when it tries again
    outcomes.clear()
    for name in ("a", "b"):
        submit(name)
    assert outcomes == {}


def test_what_the_gateway_does_not_enforce_is_a_failure() -> None:
    site = Site()
    gateway = site.gateway()
    wire = gateway.make_wire("a", soon())
    for answer, words in (
        (ExecResult(127), "not finished"),
        (ExecResult(0, b"no json"), "JSON"),
        (ExecResult(0, b'{"version": 1}'), "another version"),
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
