# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Between the JSON of Incus and our model; pure."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core import names, units
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_HARDENING,
    KEY_KIND,
    KEY_PROTECTED,
    RUNNING,
    Checkpoint,
    FileInfo,
    Image,
    Instance,
    Limits,
    Mount,
    Published,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import hardening

KEYS = "user.pixels."
#: The time of the last start when a change was made that only the next start brings.
RESTART_AFTER = "user.pixels.restart_after"
SHARED_IDS = "user.pixels.shared_ids"
#: The API's time of what never comes.
NEVER = "0001-01-01T00:00:00Z"
VIRTUAL_MACHINE = "virtual-machine"
NIC = "eth0"
ROOT = "root"
MOUNT = "mount-"
PUBLISHED = "publish-"

_FRACTION = re.compile(r"\.\d+")


def time_from_wire(text: str | None) -> datetime | None:
    """Return a time of the API to the second, None for its word for never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(_FRACTION.sub("", text).replace("Z", "+00:00")).astimezone(timezone.utc)


def time_to_wire(moment: datetime) -> str:
    """Return a time as the API and our keys write it."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def instance_from_wire(record: Mapping[str, Any], project: str) -> Instance:
    """Return an instance from its record, with addresses where the record has its state."""
    config: Mapping[str, str] = record["config"]
    expanded: Mapping[str, str] = record.get("expanded_config") or config
    devices: Mapping[str, Mapping[str, str]] = record.get("expanded_devices") or record["devices"]
    keys = {key.removeprefix(KEYS): value for key, value in config.items() if key.startswith(KEYS)}
    root = next((device for device in devices.values() if is_root(device)), {})
    nic_name, nic = managed_nic(devices)
    autostart = expanded.get("boot.autostart")
    virtual = record["type"] == VIRTUAL_MACHINE
    level = keys.get(KEY_HARDENING, "")
    status = str(record["status"]).lower()
    return Instance(
        name=names.bare(record["name"]),
        server_name=record["name"],
        status=status,
        kind=keys.get(KEY_KIND),
        type="vm" if virtual else "container",
        keys=keys,
        limits=Limits(
            cpu=_number(expanded.get("limits.cpu")),
            memory=_size(expanded.get("limits.memory")),
            disk=_size(root.get("size")),
            processes=_number(expanded.get("limits.processes")),
        ),
        hardening=hardening.in_force(level, expanded, virtual),
        isolated=expanded.get(hardening.ISOLATED) == "true",
        nesting=expanded.get(hardening.NESTING) == "true",
        autostart=None if autostart is None else autostart == "true",
        mounts=mounts_from_wire(record["devices"]),
        published=published_from_wire(record["devices"]),
        profiles=tuple(record["profiles"]),
        pool=root.get("pool"),
        network=nic.get("network") or nic.get("parent"),
        location=record.get("location") or None,
        project=project,
        image=config.get("image.description") or config.get("volatile.base_image"),
        image_fingerprint=config.get("volatile.base_image"),
        addresses=addresses_from_wire(record.get("state"), nic_name),
        created_at=time_from_wire(record.get("created_at")),
        used_at=time_from_wire(record.get("last_used_at")),
        restart_required=status == RUNNING and config.get(RESTART_AFTER) == record.get("last_used_at", ""),
        revision=revision(record),
    )


def revision(record: Mapping[str, Any]) -> str:
    """Return a fingerprint of what somebody may have changed; a restart does not change it, unlike the ETag."""
    config = {key: value for key, value in record["config"].items() if not key.startswith("volatile.")}
    text = json.dumps([config, record["devices"], record["profiles"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def managed_nic(devices: Mapping[str, Mapping[str, str]]) -> tuple[str, Mapping[str, str]]:
    """Return name and device of the NIC that is ours to manage: eth0, else the first one."""
    nics = {name: device for name, device in sorted(devices.items()) if device.get("type") == "nic"}
    name = NIC if NIC in nics else next(iter(nics), "")
    return name, nics.get(name, {})


def addresses_from_wire(state: Mapping[str, Any] | None, nic: str) -> tuple[str, ...]:
    """Return the addresses that others can reach: those of the managed NIC first, IPv4 before IPv6, sorted."""
    found = []
    for interface, entry in ((state or {}).get("network") or {}).items():
        for address in entry["addresses"]:
            if address["scope"] == "global":
                value = ipaddress.ip_address(address["address"])
                found.append((interface != nic, interface, value.version, int(value), str(value)))
    return tuple(row[-1] for row in sorted(found))


def mounts_from_wire(devices: Mapping[str, Mapping[str, str]]) -> tuple[Mount, ...]:
    """Return the mounts that we made, in the order in which they were given."""
    ours = sorted((name for name in devices if name.startswith(MOUNT)), key=lambda name: (len(name), name))
    return tuple(
        Mount(devices[name]["source"], devices[name]["path"], devices[name].get("readonly") == "true") for name in ours
    )


def mounts_to_wire(mounts: tuple[Mount, ...], virtual: bool = False) -> dict[str, dict[str, str]]:
    """Return mounts as devices of a container, or of a virtual machine."""
    # without it the files of the server's users would belong to nobody in the guest
    shift = {} if virtual else {"shift": "true"}
    return {
        f"{MOUNT}{number}": {
            "type": "disk",
            "source": mount.source,
            "path": mount.path,
            "readonly": "true" if mount.readonly else "false",
            **shift,
        }
        for number, mount in enumerate(mounts)
    }


def published_from_wire(devices: Mapping[str, Mapping[str, str]]) -> tuple[Published, ...]:
    """Return the ports that we published, sorted; one that somebody changed is not ours any more."""
    found = []
    for name, device in devices.items():
        if name.startswith(PUBLISHED):
            protocol, _colon, rest = device.get("listen", "").partition(":")
            address, _colon, port = rest.rpartition(":")
            guest_port = device.get("connect", "").rpartition(":")[2]
            if port.isdigit() and guest_port.isdigit():
                found.append(Published(address.strip("[]"), int(port), int(guest_port), protocol))
    return tuple(sorted(found, key=lambda entry: entry.text))


def published_to_wire(published: tuple[Published, ...]) -> dict[str, dict[str, str]]:
    """Return published ports as devices."""
    return {
        f"{PUBLISHED}{entry.protocol}-{entry.port}": {
            "type": "proxy",
            "listen": f"{entry.protocol}:{entry.place}",
            "connect": f"{entry.protocol}:127.0.0.1:{entry.guest_port}",
            "bind": "host",
        }
        for entry in published
    }


def limits_to_wire(limits: Limits) -> dict[str, str]:
    """Return the limits that are configuration keys; the disk's is a device's."""
    wanted = {
        "limits.cpu": limits.cpu,
        "limits.memory": None if limits.memory is None else units.size_text(limits.memory),
        "limits.processes": limits.processes,
    }
    return {key: str(value) for key, value in wanted.items() if value is not None}


def checkpoint_from_wire(record: Mapping[str, Any], protected: frozenset[str]) -> Checkpoint:
    """Return a checkpoint from a snapshot's record."""
    label = str(record["name"]).rsplit("/", 1)[-1]
    size = record.get("size")
    return Checkpoint(
        label=label,
        created_at=time_from_wire(record.get("created_at")),
        expires_at=time_from_wire(record.get("expires_at")),
        # -1 is a driver's word for unknown
        size=size if isinstance(size, int) and size >= 0 else None,
        protected=label in protected,
    )


def protected_labels(keys: Mapping[str, str]) -> frozenset[str]:
    """Return the labels of the protected checkpoints from an instance's keys."""
    return frozenset(label for label in keys.get(KEY_PROTECTED, "").split(",") if label)


def image_from_wire(record: Mapping[str, Any]) -> Image:
    """Return an image of the server's store."""
    return Image(
        fingerprint=record["fingerprint"],
        aliases=tuple(sorted(alias["name"] for alias in record["aliases"])),
        type="vm" if record["type"] == VIRTUAL_MACHINE else "container",
        description=record["properties"].get("description", ""),
    )


def file_from_wire(headers: Mapping[str, str]) -> FileInfo:
    """Return what the headers of the files API say of a file."""
    return FileInfo(
        type=headers.get("x-incus-type", "file"),
        mode=int(headers.get("x-incus-mode", "0644"), 8),
        uid=int(headers.get("x-incus-uid", "0")),
        gid=int(headers.get("x-incus-gid", "0")),
    )


def is_root(device: Mapping[str, str]) -> bool:
    """Say whether a device is the root disk."""
    return device.get("type") == "disk" and device.get("path") == "/"


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def _size(text: str | None) -> int | None:
    """Return bytes; None for none, and for what is no absolute size, as a percentage."""
    try:
        return units.size("size", text, bare_unit="B") if text else None
    except ConfigError:
        return None
