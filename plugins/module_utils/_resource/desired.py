# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""From the options of pixels_instance to what is wanted: normalised, checked, nothing asked of a server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core import names, paths, units
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    BASE,
    CloneSource,
    Limits,
    Mount,
    Published,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.egress import Wish, wish_from

DEFAULT_IMAGE = "ubuntu/24.04"
#: What a sandbox gets that is made from an image and was not given a number.
DEFAULT_LIMITS = Limits(cpu=2, memory=2048 * 2**20)
NEVER = "never"
_PUBLISHED = re.compile(
    r"(?:(?P<address>[0-9.]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>[0-9]{1,5}):(?P<guest>[0-9]{1,5})(?:/(?P<protocol>tcp|udp))?"
)

#: Places in the guest where a mount would replace the system.
_GUEST_TREES = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")
_GUEST_FOLDERS = ("/", "/home", "/root", "/var")


@dataclass(frozen=True)
class Desired:
    """What a task of pixels_instance wants of each of its names; None is not given, and leaves things alone."""

    names: tuple[str, ...]
    state: str
    image: str | None
    clone: CloneSource | None
    image_server: str
    limits: Limits
    type: str | None
    pool: str | None
    network: str | None
    profiles: tuple[str, ...] | None
    target: str | None
    hardening: str | None
    nesting: bool | None
    mounts: tuple[Mount, ...] | None
    published: tuple[Published, ...] | None
    labels: Mapping[str, str] | None
    owner: str | None
    #: seconds; 0 is never
    ttl: int | None
    renew: bool
    expired: bool
    autostart: bool | None
    egress: Wish
    egress_on_create: bool
    wait_for: str
    timeout: float
    force: bool
    max_parallel: int


def desired_from(params: Mapping[str, Any]) -> Desired:
    """Return what the options want; ConfigError for what is illegal or contradictory."""
    if params["timeout"] <= 0:
        raise ConfigError(f"timeout {params['timeout']} is not above zero")
    if not 1 <= params["max_parallel"] <= 64:
        raise ConfigError(f"max_parallel {params['max_parallel']} is not between 1 and 64")
    if params["renew"] and params["ttl"] == NEVER:
        raise ConfigError("renew extends the time to live, and ttl says that there is none")
    if params.get("expired") and params["state"] != "absent":
        raise ConfigError("expired says which sandboxes state absent removes")
    for option in ("image", "clone_from"):
        if params[option] is not None and not params[option].strip():
            raise ConfigError(f"{option} is empty")
        names.printable(option, params[option] or "")
    for option in ("pool", "network", "target", "profiles"):
        given = params[option]
        for name in [given] if isinstance(given, str) else given or ():
            names.object_name(option, name)
    return Desired(
        names=names.sandbox_names(params["name"]),
        state=params["state"],
        image=params["image"],
        clone=clone_source(params["clone_from"]),
        image_server=params["image_server"],
        limits=_limits(params),
        type=params["type"],
        pool=params["pool"],
        network=params["network"],
        profiles=None if params["profiles"] is None else tuple(params["profiles"]),
        target=params["target"],
        hardening=params["hardening"],
        nesting=params["nesting"],
        mounts=None if params["mounts"] is None else _mounts(params["mounts"]),
        published=None if params.get("publish") is None else published_ports(params["publish"]),
        labels=None if params["labels"] is None else label_texts(params["labels"]),
        owner=None if params["owner"] is None else names.printable("owner", params["owner"]),
        ttl=None if params["ttl"] is None else _ttl(params["ttl"]),
        renew=params["renew"],
        expired=bool(params.get("expired")),
        autostart=params["autostart"],
        egress=wish_from(params, "egress_"),
        egress_on_create=bool(params.get("egress_on_create")),
        wait_for=params["wait_for"],
        timeout=float(params["timeout"]),
        force=params["force"],
        max_parallel=params["max_parallel"],
    )


def clone_source(text: str | None) -> CloneSource | None:
    """Return what C(clone_from) names: an instance, one of its checkpoints after a colon, or a base."""
    if text is None:
        return None
    instance, colon, label = text.partition(":")
    if instance == BASE and colon:
        return CloneSource(base=names.base_name(label))
    if colon:
        names.checkpoint_label(label, "clone_from: checkpoint")
    return CloneSource(names.sandbox_name(instance), label if colon else None)


def _limits(params: Mapping[str, Any]) -> Limits:
    for option in ("cpu", "processes"):
        if params[option] is not None and params[option] < 1:
            raise ConfigError(f"{option} {params[option]} is not above zero")
    return Limits(
        cpu=params["cpu"],
        memory=None if params["memory"] is None else units.size("memory", params["memory"]),
        disk=None if params["disk"] is None else units.size("disk", params["disk"], bare_unit="GiB"),
        processes=params["processes"],
    )


def _ttl(text: str) -> int:
    return 0 if text == NEVER else units.duration("ttl", text)


def label_texts(given: Mapping[str, Any]) -> dict[str, str]:
    """Return labels with their values as text; ConfigError for what no label can be."""
    labels = {}
    for key, value in given.items():
        if value is None or isinstance(value, (dict, list)):
            raise ConfigError(f"labels: {key} has no text as its value")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        labels[names.label_key(str(key))] = names.printable(f"labels: {key}", text)
    return labels


def _mounts(given: Sequence[Mapping[str, Any]]) -> tuple[Mount, ...]:
    mounts = tuple(
        Mount(
            _path("mounts: source", entry["source"], paths.of_system),
            _path("mounts: path", entry["path"], _of_guest),
            entry["readonly"],
        )
        for entry in given
    )
    places = [mount.path for mount in mounts]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise ConfigError(f"mounts: {', '.join(twice)} is the path of more than one")
    return mounts


def published_ports(given: Sequence[str]) -> tuple[Published, ...]:
    """Return published ports from how users write them, sorted; ConfigError for what is none."""
    found = tuple(sorted((_published(str(text)) for text in given), key=lambda entry: entry.text))
    places = [(entry.protocol, entry.port) for entry in found]
    twice = sorted({port for protocol, port in places if places.count((protocol, port)) > 1})
    if twice:
        raise ConfigError(f"publish: the port {', '.join(map(str, twice))} is there more than once")
    return found


def _published(text: str) -> Published:
    match = _PUBLISHED.fullmatch(text)
    if not match:
        raise ConfigError(f"publish: {text!r} is not [address:]port:guest port[/udp]")
    try:
        address = str(ipaddress.ip_address((match["address"] or "127.0.0.1").strip("[]")))
    except ValueError as exc:
        raise ConfigError(f"publish: {text!r}: {exc}") from exc
    ports = int(match["port"]), int(match["guest"])
    if not all(0 < port < 65536 for port in ports):
        raise ConfigError(f"publish: {text!r}: ports are from 1 to 65535")
    return Published(address, *ports, match["protocol"] or "tcp")


def _of_guest(path: str) -> bool:
    return path in _GUEST_FOLDERS or paths.is_within(path, _GUEST_TREES)


def _path(option: str, text: str, of_system: Callable[[str], bool]) -> str:
    """Return an absolute path without detours that is not one of the system's."""
    names.printable(option, text)
    if not text.startswith("/") or ".." in text.split("/"):
        raise ConfigError(f"{option} {text!r} is not an absolute path without '..'")
    path = paths.normal(text)
    if of_system(path):
        raise ConfigError(f"{option} {text!r} belongs to the system and is never mounted")
    return path
