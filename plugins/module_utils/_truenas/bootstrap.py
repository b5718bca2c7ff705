# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The one file that is ever written from the side of the NAS: it lets SSH into a sandbox that nobody has been in.

The NAS opens paths as root and follows links, so a path in a disk that a guest could have touched would lead anywhere. This one is fixed,
is written right after the first start of a fresh image, and only where every part of it was seen to be no link.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, NotFound, OperationFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._core.identity import host_key
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import Rpc

#: What this needs beside the rights of an ordinary creation; it stands for the private method that the file goes through.
NEEDS = "filesystem.put"
_POOLS = "/var/lib/incus/storage-pools"
_POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FOLDER = "etc"
_FILE = "rc.local"
_KEY = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*")
_SECONDS = 60.0
#: Runs once, as root of the sandbox, at the start after the one in which it was written. The words in capitals are keys.
_PROGRAM = """#!/bin/sh
# Lets the provisioner in, by a key of its own and to a host key that it knows. Removes itself.
umask 077
mkdir -p /root/.ssh /etc/ssh
grep -qxF 'AUTHORIZED' /root/.ssh/authorized_keys 2>/dev/null || echo 'AUTHORIZED' >> /root/.ssh/authorized_keys
base64 -d > /etc/ssh/ssh_host_ed25519_key <<'END'
PRIVATE
END
echo 'PUBLIC' > /etc/ssh/ssh_host_ed25519_key.pub
chmod 644 /etc/ssh/ssh_host_ed25519_key.pub
round=0
until [ -x /usr/sbin/sshd ] || [ "$round" -ge 60 ]; do
  round=$((round + 1))
  if command -v apt-get >/dev/null; then
    apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends openssh-server
  elif command -v dnf >/dev/null; then
    dnf -qy install openssh-server
  fi
  [ -x /usr/sbin/sshd ] || sleep 2
done
rm -f /etc/rc.local
systemctl enable ssh 2>/dev/null || systemctl enable sshd
systemctl restart ssh 2>/dev/null || systemctl restart sshd
"""


def public_key(key_file: str) -> str:
    """Return the public key beside a private one, as C(TYPE BASE64); ConfigError where there is none to use."""
    path = f"{key_file}.pub"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            match = _KEY.match(file.readline())
    except OSError as exc:
        raise ConfigError(f"truenas_ssh_key: its public key {path} cannot be read: {exc.strerror}") from exc
    if not match:
        raise ConfigError(f"truenas_ssh_key: {path} has no public key of OpenSSH")
    if not os.access(key_file, os.R_OK):
        raise ConfigError(f"truenas_ssh_key {key_file} cannot be read")
    return match[0]


def let_in(rpc: Rpc, entry: dict[str, Any], authorized: str, deadline: Deadline) -> str:
    """Write the file into a sandbox that was started for the first time, and return the public host key that it will have.

    Raises OperationFailed, with nothing written, where the path is not exactly what it has to be.
    """
    name = str(entry["name"])
    pool = str((((entry.get("raw") or {}).get("expanded_devices") or {}).get("root") or {}).get("pool") or "")
    if not _POOL.fullmatch(pool):
        raise OperationFailed(f"the server does not say in which pool of Incus {name} is")
    # what leads to the disk is the server's own, and may be a link of it; what is on the disk may not
    inner = f"/containers/{name}/rootfs"
    root = str(rpc.call("filesystem.stat", [f"{_POOLS}/{pool}{inner}"], deadline)["realpath"])
    if not root.endswith(inner):
        raise OperationFailed(f"the disk of {name} is not where it has to be, but at {root}: nothing was written")
    folder = _look(rpc, f"{root}/{_FOLDER}", deadline)
    path = f"{root}/{_FOLDER}/{_FILE}"
    if _exists(rpc, path, deadline):
        raise OperationFailed(
            f"the image of {name} has an /{_FOLDER}/{_FILE} of its own, or a link in its place: nothing was written"
        )
    private, public = host_key("ed25519", name)
    shown = " ".join(public.decode().split(" ")[:2])
    program = _PROGRAM.replace("AUTHORIZED", authorized).replace("PUBLIC", shown)
    program = program.replace("PRIVATE", base64.encodebytes(private).decode().strip())
    content = base64.b64encode(program.encode()).decode()
    # who owns the folder is root of the sandbox, by whatever number the disk has for it
    options = {"append": False, "mode": 0o700, "uid": int(folder["uid"]), "gid": int(folder["gid"])}
    rpc.call("filesystem.file_receive", [path, content, options], deadline)
    return shown


def _look(rpc: Rpc, path: str, deadline: Deadline) -> dict[str, Any]:
    """Return what is known of a directory; OperationFailed where any part of its path is a link."""
    found = dict(rpc.call("filesystem.stat", [path], deadline))
    if found.get("type") != "DIRECTORY" or found.get("realpath") != path:
        raise OperationFailed(f"{path} on the server is no directory, or a link leads to it: nothing was written")
    return found


def _exists(rpc: Rpc, path: str, deadline: Deadline) -> bool:
    try:
        rpc.call("filesystem.stat", [path], deadline)
    except NotFound:
        return False
    return True
