# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and durations as users write them."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core import units
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("512", 512 * 2**20),
        (" 512 ", 512 * 2**20),
        ("1B", 1),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("2GiB", 2 * 2**30),
        ("2 GiB", 2 * 2**30),
        ("2GB", 2 * 10**9),
        ("1PiB", 2**50),
    ],
)
def test_size_is_bytes_and_a_bare_number_counts_in_mebibytes(text: str, amount: int) -> None:
    assert units.size("memory", text) == amount


def test_bare_number_counts_in_the_unit_of_its_option() -> None:
    assert units.size("disk", "10", bare_unit="GiB") == 10 * 2**30


@pytest.mark.parametrize(
    "text", ["", "4 bananas", "1.5GiB", "-1", "0", "0GiB", "GiB", "1gib", "1G", "0x10", "٣", "1\n2"]
)
def test_what_is_no_size_names_its_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^memory "):
        units.size("memory", text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(2**31, "2GiB"), (2**30 + 2**20, "1025MiB"), (2**40, "1TiB"), (1024, "1KiB"), (1000, "1000B"), (0, "0B")],
)
def test_size_is_written_in_the_largest_unit_that_divides_it(amount: int, text: str) -> None:
    assert units.size_text(amount) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("45m", 2700), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600)]
)
def test_duration_is_seconds(text: str, seconds: int) -> None:
    assert units.duration("ttl", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "1.5h", "-1h", "1 h", "h", "1y", "1H", "soon", "٣h", "36501d", "9" * 40]
)
def test_what_is_no_duration_names_its_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^ttl "):
        units.duration("ttl", text)
