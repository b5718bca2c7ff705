# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The only place that knows how sandboxes, checkpoints and keys are called."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError

PREFIX = "px-"
#: Names that other parts of the collection give to their own instances.
RESERVED = ("gateway",)
ANCHOR, BUILD = "base-", "build-"
RESERVED_PREFIXES = (ANCHOR, BUILD)
#: Incus allows 63 characters for an instance, and three of them are the prefix.
NAME_LENGTH = 63 - len(PREFIX)
#: Leaves room for what builds have in front and behind.
BASE_LENGTH = 36

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
#: How the name of a finished build ends.
_BUILT = re.compile(r"-[0-9a-f]{12}(-[0-9]+)?$")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,61}")
_KEY = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What both tmux and zmx take, and no shell or option parser reads as something else.
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,61}")


def bare(name: str) -> str:
    """Return the name as users write it: one px- in front is understood, never doubled."""
    return name.removeprefix(PREFIX)


def sandbox_name(name: str) -> str:
    """Return the bare name of a sandbox, or raise ConfigError when it is illegal or reserved."""
    short = bare(name)
    if not _NAME.fullmatch(short) or len(short) > NAME_LENGTH:
        raise ConfigError(
            f"name {name!r} is not legal: up to {NAME_LENGTH} lower-case letters, digits and inner hyphens"
        )
    if short in RESERVED or short.startswith(RESERVED_PREFIXES):
        raise ConfigError(
            f"name {name!r} is reserved: gateway, base-* and build-* belong to the collection's own instances"
        )
    return short


def sandbox_names(given: Sequence[str]) -> tuple[str, ...]:
    """Return the bare names of a list of sandboxes; ConfigError too for one that is there twice."""
    wanted = tuple(sandbox_name(name) for name in given)
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise ConfigError(f"name has {', '.join(twice)} more than once")
    return wanted


def base_name(name: str) -> str:
    """Return the name of a base, or raise ConfigError when it is illegal."""
    short = bare(name).removeprefix(ANCHOR)
    if not _NAME.fullmatch(short) or len(short) > BASE_LENGTH or _BUILT.search(short):
        raise ConfigError(
            f"base {name!r} is not legal: up to {BASE_LENGTH} lower-case letters, digits and inner hyphens, and no end like that of a build"
        )
    return short


def guest_name(name: str) -> str:
    """Return the bare name of what can be entered: a sandbox, a gateway, or a builder of a base. Raises ConfigError for others."""
    short = bare(name)
    if short in RESERVED:
        return short
    if short.startswith(BUILD):
        return builder_name(base_name(short.removeprefix(BUILD)))
    return sandbox_name(name)


def anchor_name(base: str) -> str:
    """Return the name of the instance that says which build of a base is the published one."""
    return ANCHOR + base


def builder_name(base: str) -> str:
    """Return the name of the instance in which a base is being built: there is one at a time."""
    return BUILD + base


def build_name(base: str, fingerprint: str, taken: Collection[str]) -> str:
    """Return the name of a finished build that is not taken: one with the same fingerprint may be there from before."""
    stem = f"{BUILD}{base}-{fingerprint[:12]}"
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name


def session_name(name: str) -> str:
    """Return the name of a session, or raise ConfigError when it is illegal."""
    if not _SESSION.fullmatch(name):
        raise ConfigError(
            f"session {name!r} is not legal: up to 62 letters, digits, underscores and hyphens, "
            "beginning with a letter or digit"
        )
    return name


def server_name(name: str) -> str:
    """Return what the instance is called on the server."""
    return PREFIX + bare(name)


def checkpoint_label(label: str, option: str = "label") -> str:
    """Return the label, or raise ConfigError naming the option when it is illegal."""
    if not _LABEL.fullmatch(label):
        raise ConfigError(
            f"{option} {label!r} is not legal: up to 62 letters, digits, dots, underscores and hyphens, "
            "beginning with a letter or digit"
        )
    return label


def label_key(key: str) -> str:
    """Return the key of a sandbox label, or raise ConfigError when it is illegal."""
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"labels: key {key!r} is not legal: up to 63 lower-case letters, digits and inner '_', '.', '-'"
        )
    return key


def object_name(option: str, name: str) -> str:
    """Return the name of a pool, a network and the like, or raise ConfigError for what would be a path in the API."""
    if not name.strip() or "/" in name or name in (".", ".."):
        raise ConfigError(f"{option} {name!r} is no name")
    return printable(option, name)


def env_name(name: str, option: str = "env") -> str:
    """Return the name of an environment variable, or raise ConfigError naming the option when it is illegal."""
    if not _ENV.fullmatch(name):
        raise ConfigError(f"{option}: {name!r} is not the name of an environment variable")
    return name


def printable(option: str, text: str) -> str:
    """Return the text, or raise ConfigError naming the option when it has control characters."""
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ConfigError(f"{option} {text!r} has control characters")
    return text
