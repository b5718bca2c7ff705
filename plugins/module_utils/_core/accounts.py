# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of a guest, from the text of its /etc/passwd."""

from __future__ import annotations

from dataclasses import dataclass

PASSWD = "/etc/passwd"


@dataclass(frozen=True)
class Account:
    """An account as the guest knows it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str

    @property
    def environment(self) -> dict[str, str]:
        """What a login would set."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}


ROOT = Account("root", 0, 0, "/root", "/bin/sh")


def find_account(passwd: str, user: str) -> Account | None:
    """Return the account of this name or number, None when the guest has none.

    Lines that are no accounts are passed over: the file belongs to the guest.
    """
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and all(_is_id(field) for field in fields[2:4]) and user in (fields[0], fields[2]):
            return Account(fields[0], int(fields[2]), int(fields[3]), fields[5] or "/", fields[6] or "/bin/sh")
    return None


def _is_id(text: str) -> bool:
    # -1, as 2**32 - 1, means "unchanged" to the kernel
    return text.isascii() and text.isdigit() and int(text) < 2**32 - 1
