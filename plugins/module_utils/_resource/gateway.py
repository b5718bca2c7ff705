# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The instance of the gateway, as a plan: made, started, removed. What runs in it is the role's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import units
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    GATEWAY_NAME,
    RUNNING,
    STOPPED,
    GatewaySite,
    GatewaySpec,
    ImageSource,
    Limits,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Phase, Plan, Step, Work
from ansible_collections.pixels.sandbox.plugins.module_utils._resource import power
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.desired import label_texts


def plan_gateway(backend: Backend, params: Mapping[str, Any]) -> Work:
    """Return what has to be done for the gateway; nothing is changed yet."""
    found = backend.gateway_site()
    deadline = Deadline(float(params["timeout"]))
    plan = (
        _absent(backend, found, deadline) if params["state"] == "absent" else _started(backend, found, params, deadline)
    )

    def observe() -> Mapping[str, Mapping[str, object]]:
        site = backend.gateway_site()
        return {GATEWAY_NAME: site_record(site)}

    return Work((plan,), observe)


def site_record(site: GatewaySite | None) -> dict[str, object]:
    """Return the gateway's place as results show it."""
    return {"status": "absent"} if site is None else {**site.__dict__, "sandboxes": list(site.sandboxes)}


def _absent(backend: Backend, found: GatewaySite | None, deadline: Deadline) -> Plan:
    steps = []
    if found is not None and found.sandboxes:
        raise ConfigError(f"the gateway has wires of sandboxes: {', '.join(found.sandboxes)}; remove them first")
    if found is not None:
        if found.status != STOPPED:
            stop = Step("stop the gateway", lambda: power.stop(backend, GATEWAY_NAME, deadline, force=True), Phase.STOP)
            steps.append(stop)
        steps.append(Step("delete the gateway", lambda: backend.delete_gateway(deadline), Phase.STOP))
    return Plan(GATEWAY_NAME, site_record(found) if found else {}, {}, tuple(steps), seen=site_record(found))


def _started(backend: Backend, found: GatewaySite | None, params: Mapping[str, Any], deadline: Deadline) -> Plan:
    spec = _spec(params)
    if found and spec.legs_range and spec.legs_range != found.legs_range:
        raise ConfigError(f"legs_range of the gateway is {found.legs_range}: remove the gateway to change it")
    steps = []
    if found is None:
        backend.check_egress_permitted(building=True)
        steps.append(Step("create the gateway", lambda: backend.make_gateway(spec, deadline), Phase.CLONE))
    if found and found.status == RUNNING and params["state"] == "restarted":
        steps.append(Step("restart the gateway", lambda: _restart(backend, deadline), Phase.BOOT))
    elif found is None or found.status != RUNNING:
        steps.append(Step("start the gateway", lambda: power.start(backend, GATEWAY_NAME, deadline), Phase.BOOT))
    steps.append(Step("wait for the gateway", lambda: _await(backend, deadline), Phase.WAIT, False))
    after = {**(site_record(found) if found else {}), "status": RUNNING}
    return Plan(GATEWAY_NAME, site_record(found) if found else {}, after, tuple(steps), seen=site_record(found))


def _restart(backend: Backend, deadline: Deadline) -> None:
    power.stop(backend, GATEWAY_NAME, deadline, force=False)
    power.start(backend, GATEWAY_NAME, deadline)


def _await(backend: Backend, deadline: Deadline) -> None:
    power.await_address(lambda: backend.get_instance(GATEWAY_NAME), "the gateway", deadline)


def _spec(params: Mapping[str, Any]) -> GatewaySpec:
    remote, colon, name = params["image"].partition(":")
    if colon and remote not in ("local", "images"):
        raise ConfigError(f"image {params['image']!r}: the remote {remote!r} is not known; local: and images: are")
    image = ImageSource(name if colon else remote, params["image_server"] if remote == "images" and colon else None)
    legs_range = params["legs_range"]
    if legs_range is not None:
        try:
            network = ipaddress.IPv4Network(legs_range)
        except ValueError as exc:
            raise ConfigError(f"legs_range {legs_range!r} is not an IPv4 network: {exc}") from exc
        if not network.is_private and not network.overlaps(ipaddress.IPv4Network("100.64.0.0/10")):
            raise ConfigError(f"legs_range {legs_range!r} has addresses of the internet")
        if network.prefixlen > 23:
            raise ConfigError(f"legs_range {legs_range!r} has room for less than two sandboxes: each has a /24")
        legs_range = str(network)
    limits = Limits(cpu=params["cpu"], memory=units.size("memory", params["memory"]), processes=params["processes"])
    return GatewaySpec(image, legs_range, params["pool"], limits, label_texts(params["labels"] or {}))
