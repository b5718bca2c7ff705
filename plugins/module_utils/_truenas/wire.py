# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Between the JSON of TrueNAS and our model; pure."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core import names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_KIND,
    KEY_PROTECTED,
    KEY_UNFINISHED,
    STOPPED,
    Checkpoint,
    Features,
    Instance,
    InstanceSpec,
    Limits,
    Mount,
    Published,
    Ssh,
)

FEATURES = Features("TrueNAS", frozenset(), ("none",), memory_step=2**20, memory_least=32 * 2**20)
#: What the names of our snapshots begin with. Incus and periodic tasks have other words for theirs.
CHECKPOINT = "pixels."
CLONE = "pixels-clone."
#: In front of the properties of our datasets.
_PROPERTIES = "pixels:"
#: Stands in front of every value, since a property may not be empty.
_FILLED = "="
#: A string of the API has no more than 1024 characters, and a property no more than 8191 bytes.
_PART = 1000
NIC = "eth0"
_MARK = "PIXELS_ID"
#: Begins the mark of an instance of which there is nothing but a record: its creation began long ago.
_BROKEN_OFF = "1970-01-01T00:00:00Z/broken-off"
_FRACTION = re.compile(r"\.\d+")
Record = Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """What we keep of a sandbox, in the properties of a dataset of its own.

    keys are those of the model. number grows with each change, mark is the word that the very instance carries, image what its disk
    began as, host_key its public SSH key, depends_on what its disk shares blocks with, snapshot the one that was made for it alone, and
    restoring the label of a restore that has not ended. disks has, by label of a checkpoint, the keys that describe the disk as it was
    then.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    number: int = 1
    mark: str = ""
    image: str = ""
    host_key: str = ""
    depends_on: str = ""
    snapshot: str = ""
    restoring: str = ""
    disks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_OWN = ("mark", "image", "host_key", "depends_on", "snapshot", "restoring")


def state_to_wire(state: State) -> dict[str, str]:
    """Return a state as properties by their names; a long value is in several."""
    values = {f"own:{name}": getattr(state, name) for name in _OWN}
    values = {name: value for name, value in values.items() if value}
    values["own:number"] = str(state.number)
    values.update({f"key:{key}": value for key, value in state.keys.items()})
    for label, keys in state.disks.items():
        # labels have capitals, which names of properties have not
        values[f"disk:{label.encode().hex()}"] = json.dumps(dict(keys), sort_keys=True)
    found = {}
    for name, value in values.items():
        parts = [value[start : start + _PART] for start in range(0, len(value), _PART)] or [""]
        for number, part in enumerate(parts):
            found[f"{_PROPERTIES}{name}:{number}"] = _FILLED + part
    return found


def state_from_wire(record: Record) -> State:
    """Return the state that the properties of a dataset hold; what it inherits from others does not count."""
    parts: dict[str, dict[int, str]] = {}
    for name, prop in (record.get("user_properties") or {}).items():
        stem, _colon, number = name.removeprefix(_PROPERTIES).rpartition(":")
        value = str(prop.get("value") or prop.get("rawvalue") or "")
        inherited = str(prop.get("source") or "LOCAL").upper() not in ("LOCAL", "RECEIVED")
        if name.startswith(_PROPERTIES) and number.isdigit() and value.startswith(_FILLED) and not inherited:
            parts.setdefault(stem, {})[int(number)] = value.removeprefix(_FILLED)
    values = {stem: "".join(found[number] for number in sorted(found)) for stem, found in parts.items()}
    own = {name: values.get(f"own:{name}", "") for name in _OWN}
    number = values.get("own:number", "")
    return State(
        keys={stem.removeprefix("key:"): value for stem, value in values.items() if stem.startswith("key:")},
        number=int(number) if number.isdigit() else 0,
        disks=dict(_disk(stem, value) for stem, value in values.items() if stem.startswith("disk:")),
        **own,
    )


def _disk(stem: str, value: str) -> tuple[str, dict[str, str]]:
    try:
        label = bytes.fromhex(stem.removeprefix("disk:")).decode()
        return label, {str(key): str(text) for key, text in json.loads(value).items()}
    except (ValueError, AttributeError):
        return "", {}


def properties_to_wire(before: State | None, after: State) -> list[dict[str, object]]:
    """Return the changes that make one state of another, as the API takes them; None is nothing at all."""
    old = state_to_wire(before) if before else {}
    new = state_to_wire(after)
    changes: list[dict[str, object]] = [
        {"key": name, "value": value} for name, value in sorted(new.items()) if old.get(name) != value
    ]
    return changes + [{"key": name, "remove": True} for name in sorted(set(old) - set(new))]


def time_from_wire(value: object) -> datetime | None:
    """Return a time to the second: one of the API, or one of Incus (a text); None for never."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).replace(microsecond=0)
    text = str(value or "")
    if not text or text.startswith(("0001-", "1970-01-01")):
        return None
    try:
        return datetime.fromisoformat(_FRACTION.sub("", text).replace("Z", "+00:00")).astimezone(timezone.utc)
    except ValueError:
        return None


def mark_of(entry: Record) -> str:
    """Return the random word that an instance of ours has from its creation to its end, "" for one of others.

    The environment of its init is the one place that the API has for it.
    """
    return str((entry.get("environment") or {}).get(_MARK) or "")


def is_ours(entry: Record, state: State | None) -> bool:
    """Say whether a state belongs to an instance, and not to one of the same name before it."""
    return state is not None and bool(state.mark) and state.mark == mark_of(entry)


def instance_from_wire(entry: Record, state: State | None, key_file: str) -> Instance:
    """Return an instance from its entry and from what we keep of it."""
    raw = entry.get("raw") or {}
    devices: Mapping[str, Mapping[str, str]] = raw.get("expanded_devices") or {}
    nic_name, nic = managed_nic(devices)
    addresses = addresses_from_wire(entry, nic_name)
    ours = state if is_ours(entry, state) else None
    image = entry.get("image") or {}
    server_name, status = str(entry["name"]), str(entry["status"]).lower()
    if status == "error" and ours and KEY_UNFINISHED in ours.keys:
        # a clone that was broken off before it had its disk
        status = STOPPED
    return Instance(
        name=names.bare(server_name),
        server_name=server_name,
        status=status,
        kind=ours.keys.get(KEY_KIND) if ours else None,
        keys=ours.keys if ours else {},
        limits=Limits(cpu=_number(entry.get("cpu")), memory=entry.get("memory") or None),
        autostart=entry.get("autostart"),
        mounts=mounts_from_wire(devices),
        published=published_from_wire(devices),
        pool=entry.get("storage_pool"),
        network=nic.get("parent") or nic.get("network"),
        image=image.get("description") or None,
        image_fingerprint=_config(entry).get("volatile.base_image"),
        addresses=addresses,
        created_at=time_from_wire(raw.get("created_at")),
        used_at=time_from_wire(raw.get("last_used_at")),
        depends_on=(ours.depends_on or None) if ours else None,
        ssh=_ssh(server_name, addresses, ours, key_file),
        revision=revision(entry, ours),
    )


def leftover(name: str, state: State) -> Instance:
    """Return what there is of a sandbox whose instance is gone or was never made: nothing but its record."""
    keys = {KEY_UNFINISHED: _BROKEN_OFF, **state.keys}
    return Instance(name, names.server_name(name), STOPPED, keys.get(KEY_KIND), keys=keys, revision=str(state.number))


def _ssh(server_name: str, addresses: Sequence[str], state: State | None, key_file: str) -> Ssh | None:
    if not addresses or state is None or not state.host_key or not key_file:
        return None
    return Ssh(addresses[0], server_name, state.host_key, key_file)


def revision(entry: Record, state: State | None) -> str:
    """Return a fingerprint of what somebody may have changed; a start does not change it, nor a checkpoint."""
    raw = entry.get("raw") or {}
    fields = [entry.get(name) for name in ("cpu", "memory", "autostart", "environment")]
    text = json.dumps([fields, raw.get("devices"), dict(state.keys) if state else None, mark_of(entry)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def managed_nic(devices: Mapping[str, Mapping[str, str]]) -> tuple[str, Mapping[str, str]]:
    """Return name and device of the NIC that is ours to manage: eth0, else the first one."""
    nics = {
        str(device.get("name") or name): device
        for name, device in sorted(devices.items())
        if device.get("type") == "nic"
    }
    name = NIC if NIC in nics else next(iter(nics), NIC)
    return name, nics.get(name, {})


def addresses_from_wire(entry: Record, nic: str) -> tuple[str, ...]:
    """Return the addresses of the managed NIC, IPv4 before IPv6, sorted.

    What else the guest has, as the bridge of a Docker in it, is no way in. Without the state of the interfaces nobody can tell
    them apart, and an address counts only when it is the only one of its kind.
    """
    state = (entry.get("raw") or {}).get("state") or {}
    network = state.get("network")
    if network is not None:
        told = [item for item in (network.get(nic) or {}).get("addresses") or () if item.get("scope") == "global"]
        found = [str(item["address"]) for item in told]
    else:
        aliases = entry.get("aliases") or ()
        by_type: dict[str, list[str]] = {}
        for alias in aliases:
            by_type.setdefault(str(alias["type"]), []).append(str(alias["address"]))
        found = [addresses[0] for addresses in by_type.values() if len(addresses) == 1]
    parsed = []
    for text in found:
        try:
            parsed.append(ipaddress.ip_address(text))
        except ValueError:
            continue
    return tuple(str(address) for address in sorted(parsed, key=lambda address: (address.version, int(address))))


def mounts_from_wire(devices: Mapping[str, Mapping[str, str]]) -> tuple[Mount, ...]:
    """Return the folders of the server that an instance sees; the API makes none of them read-only."""
    return tuple(
        Mount(str(device.get("source")), str(device.get("path")), device.get("readonly") == "true")
        for _name, device in sorted(devices.items())
        if device.get("type") == "disk" and device.get("path") not in (None, "/") and device.get("source")
    )


def published_from_wire(devices: Mapping[str, Mapping[str, str]]) -> tuple[Published, ...]:
    """Return the ports of the server that lead into an instance, sorted."""
    found = []
    for device in devices.values():
        protocol, _colon, rest = str(device.get("listen") or "").partition(":")
        address, _colon, port = rest.rpartition(":")
        guest_port = str(device.get("connect") or "").rpartition(":")[2]
        if device.get("type") == "proxy" and port.isdigit() and guest_port.isdigit():
            found.append(Published(address.strip("[]"), int(port), int(guest_port), protocol))
    return tuple(sorted(found, key=lambda entry: entry.text))


def create_to_wire(spec: InstanceSpec, image: str, limits: Limits, pool: str, mark: str) -> dict[str, Any]:
    """Return the arguments of a creation that both releases take; it is made stopped, and starts with nothing but what we start."""
    body: dict[str, Any] = {
        "name": names.server_name(spec.name),
        "image": image,
        "autostart": False,
        "storage_pool": pool,
        "environment": {_MARK: mark},
        **limits_to_wire(limits),
    }
    if spec.network:
        body["devices"] = [nic_to_wire(spec.network)]
    return body


def limits_to_wire(limits: Limits) -> dict[str, Any]:
    """Return the limits that are given, as fields of the API: processors as text, and bytes."""
    found: dict[str, Any] = {}
    if limits.cpu is not None:
        found["cpu"] = str(limits.cpu)
    if limits.memory is not None:
        found["memory"] = limits.memory
    return found


def nic_to_wire(bridge: str) -> dict[str, Any]:
    """Return the NIC of a sandbox, on a bridge of the server."""
    return {"dev_type": "NIC", "name": NIC, "nic_type": "BRIDGED", "parent": bridge}


def checkpoint_from_wire(record: Record, protected: frozenset[str]) -> Checkpoint:
    """Return a checkpoint from the record of its snapshot; its time is that of ZFS itself."""
    properties = record.get("properties") or {}
    label = str(record["snapshot_name"]).removeprefix(CHECKPOINT)
    return Checkpoint(
        label=label,
        created_at=_creation(properties.get("creation") or {}),
        size=_number((properties.get("used") or {}).get("rawvalue")),
        protected=label in protected,
    )


def _creation(prop: Record) -> datetime | None:
    seconds = _number(prop.get("rawvalue"))
    if seconds is not None:
        return datetime.fromtimestamp(seconds, timezone.utc)
    return time_from_wire(prop.get("parsed"))


def clones_of(record: Record) -> tuple[str, ...]:
    """Return the datasets that depend on a snapshot."""
    value = str(((record.get("properties") or {}).get("clones") or {}).get("value") or "")
    return tuple(sorted(name for name in value.split(",") if name))


def protected_labels(keys: Mapping[str, str]) -> frozenset[str]:
    """Return the labels of the protected checkpoints from the keys of a sandbox."""
    return frozenset(label for label in keys.get(KEY_PROTECTED, "").split(",") if label)


def _config(entry: Record) -> Mapping[str, str]:
    raw = entry.get("raw") or {}
    return raw.get("config") or {}


def _number(text: object) -> int | None:
    value = str(text) if text is not None else ""
    return int(value) if value.isascii() and value.isdigit() else None
