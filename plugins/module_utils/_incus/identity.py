# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""An identity of its own for a clone, written into its disk before its first start."""

from __future__ import annotations

import re

from ansible_collections.pixels.sandbox.plugins.module_utils._incus import files
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client

_HOST_KEY = re.compile(r"ssh_host_(rsa|ecdsa|ed25519)_key")
_OLD_KEY = re.compile(r"ssh_host_[a-z0-9]+_key(\.pub)?")


def give_identity(client: Client, server_name: str) -> None:
    """Give a stopped clone a machine-id, a host name and SSH host keys of its own, where it has any."""
    folder = files.list_folder(client, server_name, "/etc/ssh")
    # an empty file makes systemd write a new one at the next start; on other systems nothing asks for it
    _replace(client, server_name, "/etc/machine-id", b"", 0o444)
    _replace(client, server_name, "/etc/hostname", f"{server_name}\n".encode(), 0o644)
    for name in folder:
        if match := _HOST_KEY.fullmatch(name):
            private, public = host_key(match[1], server_name)
            files.write_file(client, server_name, f"/etc/ssh/{name}", private, 0o600)
            files.write_file(client, server_name, f"/etc/ssh/{name}.pub", public, 0o644)
        elif _OLD_KEY.fullmatch(name) and not _HOST_KEY.fullmatch(name.removesuffix(".pub")):
            # a kind of key that nobody makes any more: the clone must not answer with its source's
            files.delete_file(client, server_name, f"/etc/ssh/{name}")


def _replace(client: Client, server_name: str, path: str, content: bytes, mode: int) -> None:
    if files.has_file(client, server_name, path):
        files.write_file(client, server_name, path, content, mode)


def host_key(kind: str, hostname: str) -> tuple[bytes, bytes]:
    """Return a new private and public SSH host key as the files of OpenSSH have them."""
    # pylxd brings cryptography; importing it takes a moment, and most guests have no SSH server
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ecdsa":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public + f" root@{hostname}\n".encode()
