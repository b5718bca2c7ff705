# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Levels of hardening: each stands on the one below, and what is in force is read, never believed."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import hardening

HARDENED = ("standard", "strict")


def test_each_level_has_all_of_the_one_below_it() -> None:
    none, standard, strict = (hardening.LEVELS[level] for level in ("none", "standard", "strict"))
    assert none == {}
    assert standard.items() <= strict.items()


@pytest.mark.parametrize("level", HARDENED)
def test_no_hardened_level_is_privileged_or_shows_its_configuration_to_the_guest(level: str) -> None:
    table = hardening.LEVELS[level]
    assert table["security.privileged"] == "false"
    assert table["security.guestapi"] == "false"
    assert table[hardening.ISOLATED] == "true"


@pytest.mark.parametrize("call", ["io_uring_setup", "bpf", "userfaultfd", "keyctl", "add_key", "unshare", "clone3"])
def test_strict_denies_what_kernels_were_broken_by(call: str) -> None:
    denied = [line.split()[0] for line in hardening.LEVELS["strict"]["security.syscalls.deny"].splitlines()]
    assert call in denied


@pytest.mark.parametrize(
    "capability", ["net_admin", "net_raw", "setuid", "setgid", "chown", "kill", "net_bind_service"]
)
def test_strict_leaves_what_a_guest_needs_to_boot_and_install(capability: str) -> None:
    (line,) = [line for line in hardening.LEVELS["strict"]["raw.lxc"].splitlines() if "lxc.cap.drop" in line]
    assert capability not in line.split()


@pytest.mark.parametrize("level", hardening.LEVELS)
def test_a_level_is_in_force_when_all_of_its_keys_are(level: str) -> None:
    assert hardening.in_force(level, hardening.LEVELS[level]) == level


@pytest.mark.parametrize(("level", "key"), [(level, key) for level in HARDENED for key in hardening.LEVELS[level]])
def test_a_key_that_is_missing_makes_a_level_custom(level: str, key: str) -> None:
    config = {name: value for name, value in hardening.LEVELS[level].items() if name != key}
    assert hardening.in_force(level, config) == (level if key == hardening.ISOLATED else "custom")


def test_a_key_with_another_value_makes_a_level_custom() -> None:
    config = {**hardening.LEVELS["standard"], "security.privileged": "true"}
    assert hardening.in_force("standard", config) == "custom"


@pytest.mark.parametrize("key", ["raw.idmap", "raw.apparmor", "raw.seccomp"])
def test_a_raw_key_that_opens_a_way_makes_a_level_custom(key: str) -> None:
    assert hardening.in_force("standard", {**hardening.LEVELS["standard"], key: "x"}) == "custom"


def test_raw_settings_of_somebody_else_make_standard_custom() -> None:
    """They can take away everything that the level gives."""
    config = {**hardening.LEVELS["standard"], "raw.lxc": "lxc.apparmor.profile = unconfined"}
    assert hardening.in_force("standard", config) == "custom"


def test_a_level_that_nobody_knows_is_custom() -> None:
    assert hardening.in_force("paranoid", {}) == "custom"


def test_managed_keys_are_those_of_all_levels() -> None:
    assert {key for table in hardening.LEVELS.values() for key in table} == hardening.MANAGED
