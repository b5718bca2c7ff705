# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of a guest."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.accounts import find_account

PASSWD = """root:x:0:0:root:/root:/bin/bash
broken line
number:x:1000:not-a-number::/home/number:/bin/sh
minus:x:4294967295:0::/:/bin/sh
pixel:x:1000:1001:,,,:/home/pixel:/bin/bash
bare:x:1002:1002:::
"""


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("pixel", ("pixel", 1000, 1001, "/home/pixel", "/bin/bash")),
        ("1000", ("pixel", 1000, 1001, "/home/pixel", "/bin/bash")),
        ("bare", ("bare", 1002, 1002, "/", "/bin/sh")),
    ],
)
def test_accounts_are_found_by_name_and_number(user: str, expected: tuple[object, ...]) -> None:
    account = find_account(PASSWD, user)
    assert account
    assert (account.name, account.uid, account.gid, account.home, account.shell) == expected


@pytest.mark.parametrize("user", ["nobody", "", "number", "minus", "4294967295", "x"])
def test_lines_that_are_no_accounts_are_passed_over(user: str) -> None:
    assert find_account(PASSWD, user) is None
