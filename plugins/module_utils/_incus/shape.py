# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The shape of an instance on the server: configuration, devices and profiles, of a new one and of a changed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    KEY_HARDENING,
    RUNNING,
    CloneSource,
    InstanceChange,
    InstanceSpec,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.names import bare, server_name
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import confinement, hardening, wire
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client

Record = dict[str, Any]
Device = Mapping[str, str]

POOLS, NETWORKS = "/1.0/storage-pools", "/1.0/networks"
#: Pool and bridge that the role incus_host makes.
OUR_POOL, OUR_NETWORK = "pixels", "pixels0"
#: Keys of a NIC that belong to one instance and not to its clones.
_PERSONAL = ("hwaddr", "ipv4.address", "ipv6.address", "host_name")
#: What only the next start of a guest brings, of the keys that we set.
_AT_START = frozenset({"raw.lxc", hardening.NESTING, "security.privileged"}) | {
    key for key in hardening.MANAGED if key.startswith(("security.syscalls.", "security.idmap."))
}


def new_shape(client: Client, spec: InstanceSpec) -> Record:
    """Return what a new sandbox gets, all in full, so that a copy brings nothing along that was not meant.

    Raises ConfigError, naming what there is, for a source, profile, pool or network that is not there.
    """
    if spec.origin is None:
        keys = {f"{wire.KEYS}{key}": value for key, value in spec.keys.items()}
        given_pool = _root(_given(client, ["default"])[1]).get("pool")
        root = {"type": "disk", "path": "/", "pool": pool_for(client, spec.pool or given_pool)}
        return {"config": keys, "devices": {wire.ROOT: root}, "profiles": []}
    source: Record = {"config": {}, "devices": {}, "profiles": ["default"]}
    if isinstance(spec.origin, CloneSource):
        found = client.find(f"/1.0/instances/{server_name(spec.origin.instance)}")
        if found is None:
            raise ConfigError(f"clone_from: there is no sandbox {spec.origin.instance}")
        source = found[0]
    profiles = list(source["profiles"] if spec.profiles is None else spec.profiles)
    expanded, given = _given(client, profiles)
    devices = _devices(client, spec, given, source["devices"])
    if spec.wire or KEY_EGRESS in spec.keys:
        _refuse_ways_out(spec.name, confinement.ways_out(spec.wire, expanded, {**given, **devices}))
    shape = {"config": _config(spec, source["config"]), "devices": devices, "profiles": profiles}
    # a copy to another member of a cluster is refused that does not say what it runs on
    return {**shape, "architecture": source["architecture"]} if "architecture" in source else shape


def _config(spec: InstanceSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    config = {key: value for key, value in inherited.items() if key.startswith(("image.", "limits."))}
    config.update(hardening.LEVELS[spec.hardening])
    config.update(wire.limits_to_wire(spec.limits))
    if spec.hardening != "none":
        config.setdefault("limits.processes", str(hardening.DEFAULT_PROCESSES))
    nesting = inherited.get(hardening.NESTING) == "true" if spec.nesting is None else spec.nesting
    config[hardening.NESTING] = _flag(nesting)
    if spec.autostart is not None:
        config["boot.autostart"] = _flag(spec.autostart)
    config.update({f"{wire.KEYS}{key}": value for key, value in spec.keys.items()})
    return hardening.known_to(spec.type == "vm", config)


def _given(client: Client, profiles: Sequence[str]) -> tuple[dict[str, str], dict[str, Device]]:
    """Return configuration and devices that profiles give."""
    config: dict[str, str] = {}
    devices: dict[str, Device] = {}
    for profile in profiles:
        found = client.find(f"/1.0/profiles/{profile}")
        if found is None:
            there = ", ".join(sorted(entry["name"] for entry in client.get("/1.0/profiles", recursion="1")))
            raise ConfigError(f"profiles: there is no profile {profile}; there are: {there}")
        config.update(found[0]["config"])
        devices.update(found[0]["devices"])
    return config, devices


def _devices(
    client: Client, spec: InstanceSpec, given: Mapping[str, Device], inherited: Mapping[str, Device]
) -> dict[str, Device]:
    """Return root disk, NIC and mounts: as asked for, else as the source has them, else as the profiles, else ours."""
    devices: dict[str, Device] = {}
    root = _root_disk(client, spec, _root(given), _root(inherited))
    if root:
        devices[wire.ROOT] = root
        _check_there(client, "pool", POOLS, root["pool"])
    name, nic = wire.managed_nic(inherited)
    if spec.wire:
        devices[wire.NIC] = confinement.nic(spec.wire)
        devices.update(confinement.masks(given))
    elif spec.network:
        devices[wire.NIC] = _nic(spec.network)
    elif nic and confinement.wire_of(inherited) is None:
        devices[name] = {key: value for key, value in nic.items() if key not in _PERSONAL}
    elif not wire.managed_nic(given)[0]:
        devices[wire.NIC] = _nic(_only(client, "network", NETWORKS, OUR_NETWORK))
    if spec.network and not spec.wire:
        _check_there(client, "network", NETWORKS, spec.network)
    mounts = wire.mounts_to_wire(spec.mounts or (), spec.type == "vm")
    return {**devices, **mounts, **wire.published_to_wire(spec.published or ())}


def pool_for(client: Client, asked: str | None) -> str:
    """Return the pool to use; ConfigError for one that is not there."""
    pool = asked or _only(client, "pool", POOLS, OUR_POOL)
    _check_there(client, "pool", POOLS, pool)
    return pool


def _root_disk(client: Client, spec: InstanceSpec, given: Device, inherited: Device) -> Device | None:
    """Return the root disk that the sandbox needs of its own, None where that of the profiles does."""
    size = spec.limits.disk
    if size is None and spec.hardening == "strict" and "size" not in inherited:
        size = hardening.STRICT_DISK
    if given and not inherited and not spec.pool and size is None:
        return None
    root = {"type": "disk", "path": "/", **given, **inherited}
    if spec.pool:
        root["pool"] = spec.pool
    if "pool" not in root:
        root["pool"] = _only(client, "pool", POOLS, OUR_POOL)
    if size is not None:
        root["size"] = str(size)
    return root


def _root(devices: Mapping[str, Device]) -> Device:
    return next((device for device in devices.values() if wire.is_root(device)), {})


def _nic(network: str) -> Device:
    return {"type": "nic", "name": wire.NIC, "network": network}


def _names(client: Client, option: str, path: str) -> list[str]:
    entries = client.get(path, recursion="1")
    # networks that the server only knows of, as the machine's own interfaces, are no choice
    return sorted(entry["name"] for entry in entries if option == "pool" or entry.get("managed"))


def _only(client: Client, option: str, path: str, ours: str) -> str:
    """Return the pool or network to use where nobody named one."""
    there = _names(client, option, path)
    if ours in there:
        return ours
    if len(there) == 1:
        return there[0]
    if not there:
        raise ConfigError(f"{option}: the server has none; the role incus_host makes one")
    raise ConfigError(f"{option} is not given, and the server has several: {', '.join(there)}")


def _check_there(client: Client, option: str, path: str, name: str) -> None:
    if client.find(f"{path}/{name}") is None:
        there = ", ".join(_names(client, option, path)) or "none"
        raise ConfigError(f"{option}: there is no {option} {name}; there are: {there}")


def network_off_wire(client: Client, profiles: Sequence[str]) -> tuple[bool, str | None]:
    """Return the network of a sandbox that leaves its wire, and whether its profiles give it that."""
    _name, nic = wire.managed_nic(_given(client, profiles)[1])
    if nic:
        return True, nic.get("network") or nic.get("parent")
    return False, _only(client, "network", NETWORKS, OUR_NETWORK)


def changed_shape(record: Record, change: InstanceChange) -> Record:
    """Return the record of an instance as the change would have it."""
    before: dict[str, str] = record["config"]
    virtual = record["type"] == wire.VIRTUAL_MACHINE
    config = hardening.known_to(virtual, _changed_config(before, change))
    if record["status"].lower() == RUNNING and any(before.get(key) != config.get(key) for key in _AT_START):
        config[wire.RESTART_AFTER] = record["last_used_at"]
    profiles = record["profiles"] if change.profiles is None else list(change.profiles)
    return {**record, "config": config, "devices": _changed_devices(record, change), "profiles": profiles}


def confined_shape(client: Client, record: Record, changed: Record) -> Record:
    """Return the changed record of an instance without the NICs that its profiles newly bring to a confined one.

    ConfigError for a change that opens another way out; those that are there already are told elsewhere, and stay.
    """
    hangs_on = confinement.wire_of(changed["devices"])
    moved = any(record[field] != changed[field] for field in ("devices", "profiles"))
    if not moved or (hangs_on is None and wire.KEYS + KEY_EGRESS not in changed["config"]):
        return changed
    expanded, given = _given(client, changed["profiles"])
    masks = confinement.masks(given) if hangs_on else {}
    devices = {**masks, **changed["devices"]}
    there = confinement.ways_out(
        confinement.wire_of(record["devices"]), record["expanded_config"], record["expanded_devices"]
    )
    opened = confinement.ways_out(hangs_on, {**expanded, **changed["config"]}, {**given, **devices})
    _refuse_ways_out(bare(record["name"]), [text for text in opened if text not in there])
    return {**changed, "devices": devices}


def _refuse_ways_out(name: str, found: Sequence[str]) -> None:
    if found:
        raise ConfigError(f"egress: {name} is confined, which this would lead around: {'; '.join(found)}")


def _changed_config(before: Mapping[str, str], change: InstanceChange) -> dict[str, str]:
    config = dict(before)
    if change.hardening is not None:
        for key in hardening.MANAGED:
            config.pop(key, None)
        config.update(hardening.LEVELS[change.hardening])
        config[wire.KEYS + KEY_HARDENING] = change.hardening
        if change.hardening != "none":
            config.setdefault("limits.processes", str(hardening.DEFAULT_PROCESSES))
    config.update(wire.limits_to_wire(change.limits))
    if change.nesting is not None:
        config[hardening.NESTING] = _flag(change.nesting)
    if change.autostart is not None:
        config["boot.autostart"] = _flag(change.autostart)
    keys = {wire.KEYS + key: value for key, value in change.keys.items()}
    removed = {key for key, value in keys.items() if value is None}
    config.update({key: value for key, value in keys.items() if value is not None})
    return {key: value for key, value in config.items() if key not in removed}


def _changed_devices(record: Record, change: InstanceChange) -> dict[str, Device]:
    devices: dict[str, Device] = dict(record["devices"])
    if change.limits.disk is not None:
        name = next((name for name, device in devices.items() if wire.is_root(device)), wire.ROOT)
        devices[name] = {**_root(record["expanded_devices"]), "size": str(change.limits.disk)}
    if change.wire == "":
        # what was masked for its sake is seen again
        devices = {name: device for name, device in devices.items() if device.get("type") not in ("nic", "none")}
    elif change.wire:
        devices = {name: device for name, device in devices.items() if device.get("type") != "nic"}
        devices.update(confinement.masks(record["expanded_devices"]))
        devices[wire.NIC] = confinement.nic(change.wire)
    if change.network is not None:
        devices[wire.NIC] = _nic(change.network)
    if change.mounts is not None:
        devices = {name: device for name, device in devices.items() if not name.startswith(wire.MOUNT)}
        devices.update(wire.mounts_to_wire(change.mounts, record["type"] == wire.VIRTUAL_MACHINE))
    if change.published is not None:
        devices = {name: device for name, device in devices.items() if not name.startswith(wire.PUBLISHED)}
        devices.update(wire.published_to_wire(change.published))
    return devices


def _flag(value: bool) -> str:
    return "true" if value else "false"
