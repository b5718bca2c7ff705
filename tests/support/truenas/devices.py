# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of instances: what may be given, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from support.truenas.dialects import DEVICES
from support.truenas.schema import EINVAL, Details, checked
from support.truenas.state import Instance, Invalid, State

Device = dict[str, Any]


def nics(kind: str) -> dict[str, str]:
    """Return the interfaces of the NAS that a NIC may hang on."""
    return {"BRIDGED": {"br0": "br0"}, "MACVLAN": {"eno1": "eno1"}}[kind]


def of_profile() -> list[Device]:
    """Return what every instance has without asking for it."""
    common = {"readonly": True, "description": None}
    return [
        {"dev_type": "NIC", "name": "eth0", "network": "incusbr0", "nic_type": None, "parent": None, **common},
        {"dev_type": "DISK", "name": "root", "source": None, "destination": "/", **common},
    ]


def checked_device(state: State, instance: Instance, where: str, device: Any, others: list[Device]) -> Device:
    """Return a device as it is kept beside these others; Invalid for what is refused."""
    kind = device.get("dev_type") if isinstance(device, dict) else None
    if kind not in DEVICES:
        raise Invalid([[f"{where}.dev_type", f"Input tag {kind!r} does not match any of the expected tags", EINVAL]])
    wrong: Details = []
    found = checked(device, DEVICES[kind], where, state.dialect.release, wrong)
    if wrong:
        raise Invalid(wrong)
    _CHECKS[kind](state, instance, where, found, others)
    if found["name"] is None:
        stem = {"NIC": "eth", "PROXY": "proxy", "DISK": "disk"}[kind]
        names = {other["name"] for other in others}
        found["name"] = next(f"{stem}{number}" for number in range(100) if f"{stem}{number}" not in names)
    return dict(found)


def _nic(state: State, instance: Instance, where: str, found: Device, others: list[Device]) -> None:
    if found["network"] and not found["nic_type"]:
        # this is how the real one fails
        raise AttributeError("'NoneType' object has no attribute 'lower'")
    if found["nic_type"] and found["parent"] not in nics(found["nic_type"]):
        raise Invalid([[f"{where}.parent", "Parent interface is not available", EINVAL]])


def _proxy(state: State, instance: Instance, where: str, found: Device, others: list[Device]) -> None:
    kept = [other for each in state.instances.values() if each is not instance for other in each.devices]
    taken = [
        (other["source_proto"], other["source_port"]) for other in (*kept, *others) if other["dev_type"] == "PROXY"
    ]
    if (found["source_proto"], found["source_port"]) in taken:
        raise Invalid([[f"{where}.source_port", "Source port is already in use", EINVAL]])


def _disk(state: State, instance: Instance, where: str, found: Device, others: list[Device]) -> None:
    places = [dataset.mountpoint for dataset in state.datasets.values()]
    if not str(found["source"]).startswith("/mnt/") or found["source"] not in places:
        raise Invalid([[f"{where}.source", "Source must be the mountpoint of a dataset under /mnt", EINVAL]])
    if not str(found["destination"]).startswith("/") or found["destination"] == "/":
        raise Invalid([[f"{where}.destination", "Destination must be an absolute path", EINVAL]])


_CHECKS: Mapping[str, Callable[[State, Instance, str, Device, list[Device]], None]] = {
    "NIC": _nic,
    "PROXY": _proxy,
    "DISK": _disk,
}
