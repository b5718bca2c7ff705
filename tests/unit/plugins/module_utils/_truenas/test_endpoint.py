# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a TrueNAS is said to be: what is understood, what is refused, and that no message has the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import Endpoint, endpoint_from

KEY = "12-abcdefghijklmnopqrstuvwxyz"
GIVEN: dict[str, object] = {"truenas_host": "nas.example", "truenas_api_key": KEY}


def test_host_and_key_are_enough() -> None:
    found = endpoint_from(GIVEN)
    assert found == Endpoint("nas.example", 443, "root", KEY)
    assert (found.authority, found.url, found.warnings) == ("nas.example:443", "TrueNAS nas.example:443", ())


def test_the_key_is_in_no_representation() -> None:
    assert "abcdef" not in repr(endpoint_from(GIVEN))


@pytest.mark.parametrize(("host", "authority"), [("::1", "[::1]:443"), ("[fe80::1]", "[fe80::1]:443")])
def test_an_address_of_ipv6_is_bracketed(host: str, authority: str) -> None:
    assert endpoint_from({**GIVEN, "truenas_host": host}).authority == authority


@pytest.mark.parametrize("given", [":".join(["AB", "CD"] * 16), "sha256:" + "abcd" * 16, "abcd" * 16])
def test_a_fingerprint_is_taken_as_tools_print_it(given: str) -> None:
    assert endpoint_from({**GIVEN, "truenas_fingerprint": given}).fingerprint == "abcd" * 16


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("truenas_host", "", "needs truenas_host"),
        ("truenas_host", "https://nas", "without scheme"),
        ("truenas_host", "nas/x", "without scheme"),
        ("truenas_host", "nas\nx", "without scheme"),
        ("truenas_port", 70000, "is no port"),
        ("truenas_api_key", "", "needs truenas_api_key"),
        ("truenas_api_key", "hushhush", "is no API key"),
        ("truenas_api_key", "1-hush word", "is no API key"),
        ("truenas_ca_cert", "/no/such/file", "cannot be read"),
        ("truenas_fingerprint", "abcd", "64 hexadecimal digits"),
    ],
)
def test_what_is_wrong_is_named(option: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        endpoint_from({**GIVEN, option: value})
    assert "hush" not in str(caught.value)


def test_two_ways_to_verify_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="truenas_fingerprint and truenas_insecure_skip_verify contradict"):
        endpoint_from({**GIVEN, "truenas_fingerprint": "ab" * 32, "truenas_insecure_skip_verify": True})


def test_leaving_verification_out_is_warned_of() -> None:
    found = endpoint_from({**GIVEN, "truenas_insecure_skip_verify": True})
    assert found.insecure
    assert "anybody between" in found.warnings[0]


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca"
    path.write_text("no certificate")
    with pytest.raises(ConfigError, match=f"truenas_ca_cert {path} is no certificate"):
        endpoint_from({**GIVEN, "truenas_ca_cert": str(path)}).tls_context()


def test_the_key_and_its_secret_half_are_masked() -> None:
    assert endpoint_from(GIVEN).masked(f"a {KEY} b {KEY[3:]} c") == "a ******** b ******** c"
