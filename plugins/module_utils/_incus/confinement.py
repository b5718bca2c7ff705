# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What makes an instance confined on Incus, and what in its configuration leads around it; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.pixels.sandbox.plugins.module_utils._core import paths
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import NO_WIRE
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import hardening
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import wire as codec

Device = Mapping[str, str]

#: Bridges of ours: an Incus network is called like the leg at its other end, and Linux gives an interface 15 characters.
WIRE = re.compile(r"pxe-[0-9a-f]{4,8}")
_NOTHING = {"type": "none"}
#: Devices that carry nothing out of a guest.
_HARMLESS = ("none", "tpm")
#: What the server takes for a truth.
_TRUE = ("true", "1", "yes", "on")


def nic(wire: str) -> Device:
    """Return the only NIC of a confined sandbox: macvlan has no path to the server's own stack.

    Its MAC follows from the wire and is the only one that the leg's DHCP answers: neither a restore nor another
    machine-id in the guest leaves it without its address until a lease has ended.
    """
    if wire == NO_WIRE:
        return _NOTHING
    return {
        "type": "nic",
        "nictype": "macvlan",
        "mode": "private",
        "parent": wire,
        "name": codec.NIC,
        "hwaddr": mac(wire),
    }


def mac(wire: str) -> str:
    """Return the MAC on a wire: the number of the wire, locally administered; the gateway's program makes the same of its leg."""
    number = int(wire.rpartition("-")[2], 16)
    return ":".join(("02", "70", *(f"{byte:02x}" for byte in number.to_bytes(4, "big"))))


def masks(given: Mapping[str, Device]) -> dict[str, Device]:
    """Return devices that take away the NICs that profiles give."""
    return {name: _NOTHING for name, device in given.items() if device.get("type") == "nic" and name != codec.NIC}


def wire_of(devices: Mapping[str, Device]) -> str | None:
    """Return the wire of an instance from its own devices, None where its NIC is not ours."""
    device = devices.get(codec.NIC, {})
    if device.get("type") == "none":
        return NO_WIRE
    parent = device.get("parent", "")
    return parent if device.get("type") == "nic" and WIRE.fullmatch(parent) else None


def ways_out(wire: str | None, config: Mapping[str, str], devices: Mapping[str, Device]) -> tuple[str, ...]:
    """Return in words what leads around the wire, from the expanded configuration; without a wire, around what the guest enforces."""
    if wire is None:
        # on whatever NIC, it is the guest that judges
        devices = {name: device for name, device in devices.items() if device.get("type") != "nic"}
    found = [_nic_problem(wire, devices), *(_device_problem(name, device) for name, device in sorted(devices.items()))]
    for key, value in sorted(config.items()):
        if key.startswith("raw.") and value and value != hardening.LEVELS["strict"].get(key):
            found.append(f"the key {key} can change what the guest may do")
        elif key == "security.privileged" and value.lower() in _TRUE:
            found.append("it is privileged")
    return tuple(text for text in found if text)


def _nic_problem(wire: str | None, devices: Mapping[str, Device]) -> str:
    if wire is None:
        return ""
    if codec.NIC not in devices:
        return f"its NIC {codec.NIC} does not hang on a wire of the gateway"
    if devices[codec.NIC] != nic(wire):
        return f"its NIC {codec.NIC} is not a private macvlan with the MAC of {wire} on it"
    return ""


def _device_problem(name: str, device: Device) -> str:
    kind = device.get("type", "")
    if name == codec.NIC or kind in _HARMLESS or codec.is_root(device):
        return ""
    if kind == "proxy":
        to_guest = device.get("bind", "host") == "host"
        return "" if to_guest else f"the proxy {name} leads from the guest to the server's network"
    if kind == "disk":
        source = device.get("source", "a path")
        ours = name.startswith(codec.MOUNT) and not paths.of_system(source)
        return "" if ours or "pool" in device else f"the device {name} brings {source} of the server into the guest"
    return f"the device {name} is a {kind}"
