# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transport over real TLS on loopback: who is trusted, what is taken in, and how a connection ends."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConnectionFailed,
    MissingDependency,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import Endpoint, endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Link, Transport
from support.certificates import Authority
from support.local_server import behind_tls
from support.truenas.server import API_KEY, Simulation

PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "core.ping"})


def transport(newest: Simulation, most: int = 1 << 20, **changes: object) -> Transport:
    """Return a transport to the simulation, verified by its authority unless told otherwise."""
    return Transport(endpoint_from(newest.options(**changes)), most)  # type: ignore[arg-type]


def answer(link: Link) -> bytes:
    """Return the next message, however many frames come before it."""
    for _turn in range(1000):
        message = link.receive(0.1)
        if message is not None:
            return message
    raise AssertionError("there is no answer")


@pytest.fixture
def link(newest: Simulation) -> Iterator[Link]:
    """An open websocket, without a login."""
    found = transport(newest).connect(5)
    yield found
    found.close()


# -- who is trusted


@pytest.mark.parametrize("way", ["ca", "fingerprint", "insecure"])
def test_a_server_is_reached_in_each_way(newest: Simulation, way: str) -> None:
    changes: dict[str, object] = {
        "ca": {},
        "fingerprint": {"truenas_ca_cert": "", "truenas_fingerprint": newest.fingerprint},
        "insecure": {"truenas_ca_cert": "", "truenas_insecure_skip_verify": True},
    }[way]
    found = transport(newest, **changes).connect(5)
    found.send(PING)
    assert json.loads(answer(found))["result"] == "pong"
    found.close()


def test_a_stranger_is_refused_before_anything_is_sent(newest: Simulation, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "another authority")
    for changes, words in (
        ({"truenas_ca_cert": ""}, "its certificate is refused: .*; truenas_ca_cert and truenas_fingerprint"),
        ({"truenas_ca_cert": str(other.cert_file)}, "its certificate is refused"),
        ({"truenas_ca_cert": "", "truenas_fingerprint": "ab" * 32}, f"the one it shows has {newest.fingerprint}"),
    ):
        with pytest.raises(ConnectionFailed, match=words):
            transport(newest, **changes).connect(5)
        with pytest.raises(ConnectionFailed, match=words):
            transport(newest, **changes).download("/_download/1", 10, 5)
    assert (newest.opened, newest.seen) == (0, [])


@pytest.mark.parametrize(
    ("name", "addresses", "expired", "words"),
    [
        ("old", ("127.0.0.1",), True, "certificate has expired"),
        ("elsewhere", ("192.0.2.1",), False, "IP address mismatch"),
    ],
)
def test_a_certificate_must_be_valid_and_of_this_host(
    tmp_path: Path, name: str, addresses: tuple[str, ...], expired: bool, words: str
) -> None:
    authority = Authority(tmp_path)
    server, url = behind_tls(authority.server(name, *addresses, expired=expired))
    endpoint = Endpoint("127.0.0.1", int(url.rpartition(":")[2]), api_key=API_KEY, ca_cert=str(authority.cert_file))
    with server, pytest.raises(ConnectionFailed, match=words):
        Transport(endpoint).connect(5)


# -- what is no TrueNAS


def test_nothing_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectionFailed, match="nothing listens there"):
        Transport(Endpoint("127.0.0.1", port)).connect(5)


def test_a_server_without_tls_gets_no_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.settimeout(5)
        endpoint = Endpoint("127.0.0.1", plain.getsockname()[1], insecure=True)
        with pytest.raises(ConnectionFailed, match="does not answer in time"):
            Transport(endpoint).connect(0.1)
        accepted, _address = plain.accept()
        with accepted:
            first = accepted.recv(1)
    # the record of a handshake
    assert first == b"\x16"


@pytest.mark.parametrize(("status", "kind"), [(404, Unsupported), (200, Unsupported), (502, ConnectionFailed)])
def test_a_refused_websocket_is_explained(tmp_path: Path, status: int, kind: type[Exception]) -> None:
    authority = Authority(tmp_path)
    server, url = behind_tls(authority.server("web", "127.0.0.1"), lambda *_args: (status, b""))
    endpoint = Endpoint("127.0.0.1", int(url.rpartition(":")[2]), ca_cert=str(authority.cert_file))
    with server, pytest.raises(kind, match="24.10 or older" if kind is Unsupported else f"HTTP status {status}"):
        Transport(endpoint).connect(5)


def test_a_missing_library_is_named(newest: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websocket", None)
    with pytest.raises(MissingDependency, match="websocket-client") as caught:
        transport(newest).connect(5)
    assert "ModuleNotFoundError" in caught.value.traceback or "ImportError" in caught.value.traceback


# -- messages


def test_messages_come_whole_however_they_are_cut(link: Link, newest: Simulation) -> None:
    newest.faults.add("pieces", "core.ping", size=3)
    link.send(PING)
    assert json.loads(answer(link)) == {"jsonrpc": "2.0", "id": 1, "result": "pong"}
    # what was cut has no part in the next
    link.send(PING)
    assert json.loads(answer(link))["result"] == "pong"


def test_nothing_comes_in_the_time_given(link: Link) -> None:
    assert link.receive(0.01) is None
    assert link.heard == 0


def test_a_ping_is_answered_and_heard(link: Link) -> None:
    link.ping()
    assert link.receive(5) is None
    assert link.heard == 1


@pytest.mark.parametrize("pieces", [0, 4096])
def test_too_large_a_message_is_not_taken_in(newest: Simulation, pieces: int) -> None:
    found = transport(newest, most=20_000).connect(5)
    newest.faults.add("oversize", "core.ping", size=20_001)
    if pieces:
        newest.faults.add("pieces", "core.ping", size=pieces)
    found.send(PING)
    with pytest.raises(ConnectionFailed, match="more than 20000 bytes"):
        answer(found)
    found.close()


def test_the_reason_of_an_end_is_told(link: Link) -> None:
    link.send("x" * 8193)
    with pytest.raises(ConnectionFailed, match=r"closed the connection: Max message length is 8 kB \(1007\)"):
        answer(link)


def test_a_connection_that_breaks_is_found_in_both_directions(link: Link, newest: Simulation) -> None:
    newest.drop_all()
    with pytest.raises(ConnectionFailed, match="the connection broke"):
        answer(link)
    with pytest.raises(ConnectionFailed, match="the connection broke"):
        link.send(PING)


def test_breaking_off_wakes_the_thread_that_receives(link: Link) -> None:
    link.break_off()
    with pytest.raises(ConnectionFailed, match="the connection broke"):
        link.receive(5)


# -- downloads


@pytest.mark.parametrize(("status", "words"), [(403, "HTTP status 403"), (200, "more than 10 bytes")])
def test_a_download_is_bounded(tmp_path: Path, status: int, words: str) -> None:
    authority = Authority(tmp_path)
    server, url = behind_tls(authority.server("web", "127.0.0.1"), lambda *_args: (status, b"x" * 11))
    endpoint = Endpoint("127.0.0.1", int(url.rpartition(":")[2]), ca_cert=str(authority.cert_file))
    with server:
        with pytest.raises(ConnectionFailed, match=words):
            Transport(endpoint).download("/_download/1", 10, 5)
        if status == 200:
            assert Transport(endpoint).download("/_download/1", 11, 5) == b"x" * 11
