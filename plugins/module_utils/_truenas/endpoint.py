# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Where a TrueNAS is, how it is known to be the right one, and who asks; decided offline."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, ConnectionFailed

DEFAULT_PORT = 443
DEFAULT_USER = "root"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_API_KEY = re.compile(r"[0-9]+-[\x21-\x7e]+")


@dataclass(frozen=True)
class Endpoint:
    """A TrueNAS and the user of the API key; the key is in no representation.

    fingerprint is the SHA-256 of the one certificate that the server may show (64 lower-case hex digits); without it the
    server is verified by ca_cert, a file, or by the system's authorities. insecure leaves verification out.
    """

    host: str
    port: int = DEFAULT_PORT
    username: str = DEFAULT_USER
    api_key: str = field(default="", repr=False)
    ca_cert: str = ""
    fingerprint: str = ""
    insecure: bool = False

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The server as messages name it."""
        return f"TrueNAS {self.authority}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should be warned of."""
        if not self.insecure:
            return ()
        return (
            f"truenas_insecure_skip_verify: anybody between here and {self.url} can read the API key and act with it; "
            "give truenas_ca_cert or truenas_fingerprint instead",
        )

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that accepts this server only; ConfigError names a file that is no certificate."""
        try:
            context = ssl.create_default_context(cafile=self.ca_cert or None)
        except (ssl.SSLError, OSError) as exc:
            raise ConfigError(f"truenas_ca_cert {self.ca_cert} is no certificate: {exc}") from exc
        if self.fingerprint or self.insecure:
            # a pinned certificate is compared after the handshake and before anything is sent (verify_peer)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def verify_peer(self, certificate: bytes | None) -> None:
        """Raise ConnectionFailed unless the certificate (DER) that the server showed is the pinned one."""
        if not self.fingerprint:
            return
        seen = hashlib.sha256(certificate or b"").hexdigest()
        if not hmac.compare_digest(seen, self.fingerprint):
            raise ConnectionFailed(
                f"{self.url} does not show the certificate of truenas_fingerprint: the one it shows has {seen}"
            )

    def masked(self, text: str) -> str:
        """Return the text without the API key and without its secret half."""
        for secret in (self.api_key, self.api_key.partition("-")[2]):
            if secret:
                text = text.replace(secret, "********")
        return text


def endpoint_from(options: Mapping[str, object]) -> Endpoint:
    """Return the endpoint that the options truenas_* name.

    Those are truenas_host, _port, _username, _api_key, _ca_cert, _fingerprint and _insecure_skip_verify.
    Raises ConfigError for options that are missing, malformed or contradict each other; no message has the key.
    """
    host = str(options.get("truenas_host") or "").strip("[]")
    if not host:
        raise ConfigError("backend truenas needs truenas_host")
    if not _HOST.fullmatch(host):
        raise ConfigError(
            f"truenas_host {host!r} is no host name and no address: give it without scheme, port and path"
        )
    port = int(str(options.get("truenas_port") or DEFAULT_PORT))
    if not 0 < port < 65536:
        raise ConfigError(f"truenas_port {port} is no port")
    api_key = str(options.get("truenas_api_key") or "")
    if not api_key:
        raise ConfigError("backend truenas needs truenas_api_key")
    if not _API_KEY.fullmatch(api_key):
        raise ConfigError("truenas_api_key is no API key of TrueNAS: a number, a hyphen, and the secret")
    ca_cert = os.path.expanduser(str(options.get("truenas_ca_cert") or ""))
    if ca_cert and not os.access(ca_cert, os.R_OK):
        raise ConfigError(f"truenas_ca_cert {ca_cert} cannot be read")
    given = str(options.get("truenas_fingerprint") or "")
    fingerprint = given.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if given and not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise ConfigError(f"truenas_fingerprint {given!r} is no SHA-256 of a certificate: 64 hexadecimal digits")
    insecure = bool(options.get("truenas_insecure_skip_verify"))
    ways = {"truenas_ca_cert": ca_cert, "truenas_fingerprint": fingerprint, "truenas_insecure_skip_verify": insecure}
    chosen = [name for name, value in ways.items() if value]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} contradict each other: give one of them")
    username = str(options.get("truenas_username") or DEFAULT_USER)
    return Endpoint(host, port, username, api_key, ca_cert, fingerprint, insecure)
