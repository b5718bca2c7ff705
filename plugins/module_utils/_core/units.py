# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Sizes and durations: the notations users write, and the numbers behind them."""

from __future__ import annotations

import re

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError

_SIZE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}
_SIZE = re.compile(r"([0-9]+) ?(B|kB|MB|GB|TB|PB|KiB|MiB|GiB|TiB|PiB)?")
_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:[0-9]+[smhdw])+")


def size(option: str, text: str, bare_unit: str = "MiB") -> int:
    """Return a size in bytes.

    text is an integer, counted in bare_unit, or a number with a unit as Incus writes it (V(2GiB)).
    Raises ConfigError naming the option when the text is no size, or not above zero.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ConfigError(f"{option} {text!r} is not a size: an integer ({bare_unit}) or a number with a unit, as 2GiB")
    amount = int(match[1]) * _SIZE_UNITS[match[2] or bare_unit]
    if amount <= 0:
        raise ConfigError(f"{option} {text!r} is not above zero")
    return amount


def size_text(amount: int) -> str:
    """Return bytes in the largest binary unit that divides them."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % _SIZE_UNITS[unit] == 0:
            return f"{amount // _SIZE_UNITS[unit]}{unit}"
    return f"{amount}B"


def duration(option: str, text: str) -> int:
    """Return a duration in seconds.

    text is an integer of seconds, or numbers with units s, m, h, d or w (V(1h30m)).
    Raises ConfigError naming the option when the text is no duration, or not above zero.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = int(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(int(part[:-1]) * _DURATION_UNITS[part[-1]] for part in re.findall(r"[0-9]+[smhdw]", text))
    else:
        raise ConfigError(f"{option} {text!r} is not a duration: seconds, or numbers with units as 90s, 45m, 2h30m, 7d")
    if seconds <= 0:
        raise ConfigError(f"{option} {text!r} is not above zero")
    if seconds > 100 * 365 * 86400:
        raise ConfigError(f"{option} {text!r} is more than a hundred years")
    return seconds
