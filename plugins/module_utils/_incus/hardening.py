# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The levels of hardening as tables of Incus keys, in one place."""

from __future__ import annotations

from collections.abc import Mapping

#: Tasks of a sandbox that was not given another number: enough for a build, too few for a fork bomb.
DEFAULT_PROCESSES = 4096
#: Root disk of a strict sandbox that was not given another size, in bytes.
STRICT_DISK = 10 * 2**30

ISOLATED = "security.idmap.isolated"
NESTING = "security.nesting"

_STANDARD = {
    # root in the guest could read the configuration of the sandbox through it
    "security.guestapi": "false",
    "security.privileged": "false",
    ISOLATED: "true",
}

_CLONE_NEWUSER = 0x10000000
_DENIED = "\n".join(
    (
        # user namespaces give an agent capabilities over much of the kernel that it does not need
        f"clone errno 1 [0,{_CLONE_NEWUSER},SCMP_CMP_MASKED_EQ,{_CLONE_NEWUSER}]",
        f"unshare errno 1 [0,{_CLONE_NEWUSER},SCMP_CMP_MASKED_EQ,{_CLONE_NEWUSER}]",
        # its flags lie in memory where a filter cannot look: C libraries fall back to clone
        "clone3 errno 38",
        *(
            f"{call} errno 38"
            for call in (
                "io_uring_setup",
                "io_uring_enter",
                "io_uring_register",
                "bpf",
                "userfaultfd",
                "keyctl",
                "add_key",
                "request_key",
                "perf_event_open",
            )
        ),
    )
)
# DHCP in the guest needs net_admin and net_raw, package installs need the file capabilities
_DROPPED = (
    "audit_control audit_read block_suspend bpf checkpoint_restore ipc_lock lease linux_immutable perfmon sys_pacct "
    "sys_tty_config syslog wake_alarm"
)
_STRICT_LXC = f"""lxc.cap.drop = {_DROPPED}
lxc.mount.entry = /dev/null dev/zfs none bind,optional,create=file 0 0"""
_STRICT = {
    **_STANDARD,
    "security.syscalls.deny_default": "true",
    "security.syscalls.deny": _DENIED,
    "raw.lxc": _STRICT_LXC,
}

LEVELS: Mapping[str, Mapping[str, str]] = {"none": {}, "standard": _STANDARD, "strict": _STRICT}
#: What only containers know: a virtual machine has a kernel of its own, and the server refuses these for it.
_OF_CONTAINERS = (
    "limits.processes",
    "raw.idmap",
    "raw.lxc",
    "raw.seccomp",
    "security.idmap.",
    "security.nesting",
    "security.privileged",
    "security.syscalls.",
)
#: Every key that a level sets, so that a change of level takes away what the other one had.
MANAGED = frozenset(key for table in LEVELS.values() for key in table)


def known_to(virtual: bool, config: Mapping[str, str]) -> dict[str, str]:
    """Return what of a configuration a container, or a virtual machine, can have."""
    return {key: value for key, value in config.items() if not (virtual and key.startswith(_OF_CONTAINERS))}


def in_force(level: str, config: Mapping[str, str], virtual: bool = False) -> str:
    """Return the level if the expanded configuration has all of its keys, else V(custom).

    Shared ids, where the server had no room for isolated ones, do not make a level custom.
    """
    if level not in LEVELS:
        return "custom"
    table, config = known_to(virtual, LEVELS[level]), known_to(virtual, config)
    for key, value in table.items():
        if key != ISOLATED and config.get(key, "") != value:
            return "custom"
    foreign = (
        key
        for key, value in config.items()
        if value and key not in table and key.startswith(("raw.", "security.syscalls."))
    )
    # a profile or a user can take away with these everything that a level gives
    return level if level == "none" or not any(foreign) else "custom"
