# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""An identity of its own for a clone."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

_HOST_KEY = re.compile(r"ssh_host_(rsa|ecdsa|ed25519)_key")
_OLD_KEY = re.compile(r"ssh_host_[a-z0-9]+_key(\.pub)?")


class Files(ABC):
    """The files of one guest."""

    @abstractmethod
    def folder(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, none where there is no such folder."""

    @abstractmethod
    def has(self, path: str) -> bool:
        """Say whether there is anything at the path."""

    @abstractmethod
    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a whole file of root."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is success."""


def give_identity(files: Files, server_name: str) -> str:
    """Give a clone a machine-id, a host name and SSH host keys of its own, where it has any.

    Returns the new public key of the kind ed25519, "" where it has none.
    """
    shown = ""
    folder = files.folder("/etc/ssh")
    # an empty file makes systemd write a new one at the next start; on other systems nothing asks for it
    for path, content, mode in (
        ("/etc/machine-id", b"", 0o444),
        ("/etc/hostname", f"{server_name}\n".encode(), 0o644),
    ):
        if files.has(path):
            files.write(path, content, mode)
    for name in folder:
        if match := _HOST_KEY.fullmatch(name):
            private, public = host_key(match[1], server_name)
            files.write(f"/etc/ssh/{name}", private, 0o600)
            files.write(f"/etc/ssh/{name}.pub", public, 0o644)
            if match[1] == "ed25519":
                shown = " ".join(public.decode().split(" ")[:2])
        elif _OLD_KEY.fullmatch(name) and not _HOST_KEY.fullmatch(name.removesuffix(".pub")):
            # a kind of key that nobody makes any more: the clone must not answer with its source's
            files.delete(f"/etc/ssh/{name}")
    return shown


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
