# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Where an Incus server is and how it is known to be the right one; decided offline."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, ConnectionFailed

SOCKETS = ("/var/lib/incus/unix.socket", "/run/incus/unix.socket")
DEFAULT_PORT = 8443


@dataclass(frozen=True)
class Endpoint:
    """A server's socket, or its host and port with the files for TLS; and the project in it.

    server_cert pins the one certificate that the server may show; without it the server is verified by
    ca_cert, or by the system's authorities. There is no way to leave verification out.
    """

    socket: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    client_cert: str = ""
    client_key: str = ""
    server_cert: str = ""
    ca_cert: str = ""
    project: str = ""

    @property
    def url(self) -> str:
        """The server as messages name it."""
        return f"https://{_bracketed(self.host)}:{self.port}" if self.host else f"socket {self.socket}"

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that accepts this server only; ConfigError names a file that is no certificate."""
        context = ssl.create_default_context(cafile=self._authority())
        if self.server_cert:
            # The pinned certificate is trusted as it is, whoever signed it and whatever name it carries; its
            # dates still count. That it is this very one is checked after the handshake (verify_peer).
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
            context.check_hostname = False
        try:
            context.load_cert_chain(self.client_cert, self.client_key)
        except (ssl.SSLError, OSError) as exc:
            raise ConfigError(
                f"incus_client_cert {self.client_cert} and incus_client_key {self.client_key} are no pair: {exc}"
            ) from exc
        return context

    def verify_peer(self, certificate: bytes | None) -> None:
        """Raise ConnectionFailed unless the certificate (DER) that the server showed is the pinned one."""
        if self.server_cert and certificate != self._pinned():
            raise ConnectionFailed(f"{self.url} does not show the certificate of incus_server_cert {self.server_cert}")

    @property
    def pinned_pem(self) -> str:
        """The pinned certificate as PEM text, empty where none is pinned."""
        return ssl.DER_cert_to_PEM_cert(self._pinned()) if self.server_cert else ""

    def _authority(self) -> str | None:
        path = self.server_cert or self.ca_cert
        if path:
            option = "incus_server_cert" if self.server_cert else "incus_ca_cert"
            try:
                ssl.create_default_context(cafile=path)
            except (ssl.SSLError, OSError) as exc:
                raise ConfigError(f"{option} {path} is no certificate: {exc}") from exc
        return path or None

    def _pinned(self) -> bytes:
        with open(self.server_cert, encoding="ascii", errors="replace") as file:
            text = file.read()
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        first = text[text.index(begin) : text.index(end) + len(end)]
        return ssl.PEM_cert_to_DER_cert(first)


def endpoint_from(options: Mapping[str, object]) -> Endpoint:
    """Return the endpoint that the connection options name; incus_remote wins over incus_socket.

    Raises ConfigError for options that are incomplete, contradict each other, or name files that cannot be read.
    """
    given = {name: str(value) for name, value in options.items() if name.startswith("incus_") and value}
    project = given.get("incus_project", "")
    remote = given.get("incus_remote")
    if not remote:
        socket = given.get("incus_socket") or next((path for path in SOCKETS if os.path.exists(path)), SOCKETS[0])
        return Endpoint(socket=os.path.expanduser(socket), project=project)
    host, port = _split(remote)
    if "incus_server_cert" in given and "incus_ca_cert" in given:
        raise ConfigError("incus_server_cert and incus_ca_cert are two ways to verify one server: give one of them")
    files = {}
    for option in ("incus_client_cert", "incus_client_key", "incus_server_cert", "incus_ca_cert"):
        path = os.path.expanduser(given.get(option, ""))
        if not path and option in ("incus_client_cert", "incus_client_key"):
            raise ConfigError(f"incus_remote needs {option} too")
        if path and not os.access(path, os.R_OK):
            raise ConfigError(f"{option} {path} cannot be read")
        files[option.removeprefix("incus_")] = path
    return Endpoint(host=host, port=port, project=project, **files)


def _split(remote: str) -> tuple[str, int]:
    try:
        parts = urlsplit(remote)
        port = parts.port or DEFAULT_PORT
    except ValueError as exc:
        raise ConfigError(f"incus_remote {remote!r} is no address: {exc}") from exc
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.username or parts.query:
        raise ConfigError(
            f"incus_remote {remote!r} is no address of an Incus server: https://HOST or https://HOST:PORT"
        )
    return parts.hostname, port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
