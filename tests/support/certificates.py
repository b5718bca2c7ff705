# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that a test makes for itself: authorities, servers, clients, expired ones."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, as objects and as the two files that the servers and clients want."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: Path
    key_file: Path

    @property
    def pem(self) -> str:
        """The certificate as PEM text."""
        return self.cert_file.read_text()


class Authority:
    """Makes certificates in a folder; its own is C(cert_file)."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._own = self._make(name, [], issuer=None, authority=True)
        self.cert_file = self._own.cert_file

    def server(self, name: str, *addresses: str, expired: bool = False, not_yet: bool = False) -> KeyPair:
        """Return the pair of a server that is reached at the addresses given."""
        return self._make(name, list(addresses), issuer=self._own, expired=expired, not_yet=not_yet)

    def client(self, name: str) -> KeyPair:
        """Return the pair of a client."""
        return self._make(name, [], issuer=self._own, usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    def self_signed(self, name: str, *addresses: str, expired: bool = False) -> KeyPair:
        """Return the pair of a server that nobody vouches for, as an Incus makes its own."""
        return self._make(name, list(addresses), issuer=None, expired=expired)

    def _make(
        self,
        name: str,
        addresses: list[str],
        issuer: KeyPair | None,
        *,
        authority: bool = False,
        expired: bool = False,
        not_yet: bool = False,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(timezone.utc)
        begin = now + DAY if not_yet else now - 10 * DAY
        end = now - DAY if expired else now + 30 * DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.cert.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        signer = issuer.key if issuer else key
        # strict verification (the default of Python 3.13) wants the identifiers and the usages to be there
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        if not authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if addresses:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(address) for address in addresses]), critical=False
            )
        cert = builder.sign(signer, hashes.SHA256())
        stem = name.replace(" ", "-")
        cert_file, key_file = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return KeyPair(cert, key, cert_file, key_file)


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)
