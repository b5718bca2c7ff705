# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server is meant and how it is verified, decided offline."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, ConnectionFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import Endpoint, endpoint_from
from support.certificates import Authority


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Return options with files that can be read, whatever is in them."""
    options = {"incus_remote": "https://server.example:9443"}
    for option in ("incus_client_cert", "incus_client_key"):
        path = tmp_path / option
        path.write_text("not looked at yet")
        options[option] = str(path)
    return options


def test_without_options_the_socket_of_the_machine_is_meant() -> None:
    assert endpoint_from({}).socket in {"/var/lib/incus/unix.socket", "/run/incus/unix.socket"}


def test_a_remote_is_stronger_than_a_socket(files: dict[str, str]) -> None:
    endpoint = endpoint_from({**files, "incus_socket": "/some/socket", "incus_project": "p"})
    assert (endpoint.socket, endpoint.host, endpoint.port, endpoint.project) == ("", "server.example", 9443, "p")


def test_the_port_of_incus_is_the_default(files: dict[str, str]) -> None:
    assert endpoint_from({**files, "incus_remote": "https://[2001:db8::1]"}).url == "https://[2001:db8::1]:8443"


@pytest.mark.parametrize(
    "remote",
    [
        "server:8443",
        "http://server",
        "https://",
        "https://server/path",
        "https://user@server",
        "https://server:99999",
        "https://a?b=c",
    ],
)
def test_what_is_no_address_is_refused(remote: str, files: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="incus_remote"):
        endpoint_from({**files, "incus_remote": remote})


@pytest.mark.parametrize("option", ["incus_client_cert", "incus_client_key"])
def test_a_remote_needs_a_client_certificate(option: str, files: dict[str, str]) -> None:
    del files[option]
    with pytest.raises(ConfigError, match=option):
        endpoint_from(files)


@pytest.mark.parametrize("option", ["incus_client_cert", "incus_client_key", "incus_server_cert", "incus_ca_cert"])
def test_a_file_that_cannot_be_read_is_named(option: str, files: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"{option} /no/such/file"):
        endpoint_from({**files, option: "/no/such/file"})


def test_two_ways_to_verify_contradict_each_other(files: dict[str, str]) -> None:
    certificate = files["incus_client_cert"]
    with pytest.raises(ConfigError, match="two ways"):
        endpoint_from({**files, "incus_server_cert": certificate, "incus_ca_cert": certificate})


@pytest.mark.parametrize("option", ["incus_server_cert", "incus_ca_cert"])
def test_a_file_that_is_no_certificate_is_named(option: str, files: dict[str, str]) -> None:
    endpoint = endpoint_from({**files, option: files["incus_client_cert"]})
    with pytest.raises(ConfigError, match=option):
        endpoint.tls_context()


def test_client_files_that_are_no_pair_are_named(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"incus_client_cert .* are no pair"):
        endpoint_from(files).tls_context()


def test_a_server_without_a_pin_is_left_to_the_authorities() -> None:
    Endpoint(host="server").verify_peer(b"anything")


def test_a_server_that_shows_another_certificate_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    endpoint = Endpoint(host="server", server_cert=str(pin))
    endpoint.verify_peer(b"\0\0\0")
    for shown in (b"\0\0\1", b"", None):
        with pytest.raises(ConnectionFailed, match="does not show"):
            endpoint.verify_peer(shown)


def test_a_pinned_certificate_is_told_to_others_as_it_is(tmp_path: Path) -> None:
    pair = Authority(tmp_path).self_signed("server", "192.0.2.1")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"first comes\n{pair.pem}and more\n")
    assert Endpoint(server_cert=str(bundle)).pinned_pem.split() == pair.pem.split()
    assert Endpoint().pinned_pem == ""
