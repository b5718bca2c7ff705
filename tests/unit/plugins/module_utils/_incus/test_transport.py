# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both transports against a server of the test's own: on a socket, behind TLS, slow, gone, forked, in threads."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConnectionFailed, OperationFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import Endpoint, endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import (
    DirectTransport,
    PylxdTransport,
    Transport,
)
from support.certificates import Authority, KeyPair
from support.local_server import LocalServer, behind_tls, hello, on_socket

KINDS = [DirectTransport, PylxdTransport]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    """A server on a socket that answers with what it was asked."""
    with on_socket(tmp_path / "socket") as found:
        yield found


@pytest.fixture(params=KINDS)
def transport(request: pytest.FixtureRequest, tmp_path: Path, server: LocalServer) -> Iterator[Transport]:
    """Each transport, to a project on the socket."""
    found = request.param(Endpoint(socket=str(tmp_path / "socket"), project="mine"))
    yield found
    found.close()


# -- requests


def test_the_project_goes_with_every_request_unless_it_is_named(transport: Transport) -> None:
    assert transport.request("GET", "/1.0/x").json()["target"] == "/1.0/x?project=mine"
    assert transport.request("GET", "/1.0/x", params={"project": "p"}).json()["target"] == "/1.0/x?project=p"


def test_paths_and_parameters_are_quoted(transport: Transport) -> None:
    answer = transport.request("GET", "/1.0/a b?c", params={"path": "/é &=#"}).json()
    assert answer["target"] == "/1.0/a%20b%3Fc?path=%2F%C3%A9+%26%3D%23&project=mine"


def test_json_and_bytes_and_files_are_sent_as_they_are(transport: Transport, tmp_path: Path) -> None:
    assert transport.request("POST", "/x", json={"a": 1}).json()["body"] == '{"a": 1}'
    data = bytes(range(256)) * 1000
    assert transport.request("POST", "/x", data=data).json()["body"].encode("latin-1") == data
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert transport.request("POST", "/x", data=file).json()["body"].encode("latin-1") == data
    with path.open("rb") as file:
        path.write_bytes(b"")
        assert transport.request("POST", "/x", data=file).json()["body"] == ""


def test_headers_are_in_lower_case(transport: Transport) -> None:
    assert transport.request("GET", "/x").headers["etag"] == '"tag"'


def test_an_error_is_an_answer_as_any_other(transport: Transport, server: LocalServer) -> None:
    server.answer = lambda *_args: (404, b'{"error": "no"}')
    response = transport.request("GET", "/x")
    assert (response.status, response.json()) == (404, {"error": "no"})


def test_a_body_goes_to_a_file_only_when_it_is_what_was_asked_for(transport: Transport, server: LocalServer) -> None:
    content = os.urandom(3_000_000)
    server.answer = lambda *_args: (200, content)
    target = io.BytesIO()
    assert transport.request("GET", "/x", into=target).content == b""
    assert target.getvalue() == content
    server.answer = lambda *_args: (404, b'{"error": "no"}')
    target = io.BytesIO()
    assert transport.request("GET", "/x", into=target).json() == {"error": "no"}
    assert target.getvalue() == b""


def test_a_file_that_breaks_off_is_never_taken_for_whole(transport: Transport, server: LocalServer) -> None:
    content = os.urandom(3_000_000)
    server.answer = lambda *_args: (200, content)
    server.breaks_off = 1
    with pytest.raises(ConnectionFailed):
        transport.request("GET", "/x", into=io.BytesIO())
    # on a connection that was used before it is asked for again, from its beginning
    transport.request("GET", "/x", into=io.BytesIO())
    server.breaks_off = 1
    target = io.BytesIO(b"before")
    target.seek(6)
    transport.request("GET", "/x", into=target)
    assert target.getvalue() == b"before" + content


def test_an_answer_that_nobody_takes_any_more_leaves_nothing_on_the_way(
    transport: Transport, server: LocalServer
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OperationFailed("enough")

    server.answer = lambda *_args: (200, os.urandom(3_000_000))
    with pytest.raises(OperationFailed):
        transport.request("GET", "/x", into=Full())
    server.answer = hello
    assert transport.request("GET", "/y").json()["target"] == "/y?project=mine"
    assert server.connections == 2


def test_a_redirect_is_not_followed(transport: Transport, server: LocalServer) -> None:
    server.answer = lambda *_args: (302, b"{}")
    assert transport.request("GET", "/x").status == 302


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"\xff"])
def test_what_is_no_api_says_so(transport: Transport, server: LocalServer, content: bytes) -> None:
    server.answer = lambda *_args: (200, content)
    with pytest.raises(ConnectionFailed, match="does not answer as an Incus API"):
        transport.request("GET", "/x").json()


# -- connections


def test_one_connection_serves_many_requests(transport: Transport, server: LocalServer) -> None:
    for _turn in range(5):
        transport.request("GET", "/x")
    assert server.connections == 1


def test_each_thread_has_a_connection_of_its_own(transport: Transport, server: LocalServer) -> None:
    gate = threading.Barrier(4)
    ended: list[str] = []

    def work(number: int) -> None:
        gate.wait()
        for _turn in range(20):
            ended.append(transport.request("GET", f"/{number}").json()["target"] == f"/{number}?project=mine")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [True] * 80
    assert server.connections == 4


def test_a_fork_does_not_use_the_connection_of_its_parent(transport: Transport, server: LocalServer) -> None:
    # pylxd keeps a connection for each address, so it is always the same one here
    transport.request("GET", "/x")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if transport.request("GET", "/x").status == 200 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert transport.request("GET", "/x").status == 200
    assert server.connections == 2


def test_a_connection_that_the_server_has_closed_is_replaced_for_a_read(
    transport: Transport, server: LocalServer
) -> None:
    server.closes = True
    assert [transport.request("GET", "/x").status for _turn in range(3)] == [200] * 3


def test_a_write_is_never_sent_twice(transport: Transport, server: LocalServer) -> None:
    transport.request("GET", "/x")
    server.answer = lambda *_args: (0, b"")
    with pytest.raises(ConnectionFailed):
        transport.request("POST", "/write", json={})
    assert [line for line in server.seen if line.startswith("POST")] == ["POST /write?project=mine"]


def test_after_a_failure_the_next_request_has_a_new_connection(transport: Transport, server: LocalServer) -> None:
    answer = server.answer
    server.answer = lambda *_args: (0, b"")
    with pytest.raises(ConnectionFailed):
        transport.request("PUT", "/x", json={})
    server.answer = answer
    assert transport.request("GET", "/x").status == 200


def test_a_server_that_does_not_answer_ends_with_words(transport: Transport, server: LocalServer) -> None:
    gate = threading.Event()
    server.answer = lambda *_args: (200 if gate.wait(5) else 500, b"{}")
    try:
        with pytest.raises(ConnectionFailed, match="does not answer in time"):
            transport.request("GET", "/x", timeout=0.1)
    finally:
        gate.set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_that_is_not_there_is_named(kind: type[Transport], tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match=r"/none is not there"):
        kind(Endpoint(socket=str(tmp_path / "none"))).request("GET", "/x")


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_that_nobody_serves_is_named(kind: type[Transport], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(ConnectionFailed, match="nothing listens there"):
        kind(Endpoint(socket=str(path))).request("GET", "/x")


def test_a_websocket_that_is_refused_says_so(transport: Transport) -> None:
    with pytest.raises(ConnectionFailed, match="refused a websocket"):
        transport.websocket("/x", {"secret": "s"})


# -- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority of the tests' own."""
    return Authority(tmp_path_factory.mktemp("authority"))


Connect = Callable[..., Transport]


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Connect]:
    """Make each transport, to a server that shows a certificate."""
    client = authority.client("client")
    servers: list[LocalServer] = []

    def make(shown: KeyPair, **options: object) -> Transport:
        server, url = behind_tls(shown)
        servers.append(server)
        server.__enter__()
        files = {"incus_client_cert": str(client.cert_file), "incus_client_key": str(client.key_file)}
        transport: Transport = request.param(endpoint_from({"incus_remote": url, **files, **options}))
        return transport

    yield make
    for server in servers:
        server.__exit__()


def pin(pair: KeyPair) -> dict[str, object]:
    """Return the options that pin a certificate."""
    return {"incus_server_cert": str(pair.cert_file)}


def test_the_pinned_certificate_is_accepted_whoever_signed_it_for_whatever_name(
    connect: Connect, authority: Authority
) -> None:
    for shown in (authority.self_signed("own", "elsewhere.test"), authority.server("signed", "elsewhere.test")):
        assert connect(shown, **pin(shown)).request("GET", "/x").status == 200


def test_another_certificate_with_the_same_name_and_signer_is_refused(connect: Connect, authority: Authority) -> None:
    shown, pinned = authority.server("one", "127.0.0.1"), authority.server("two", "127.0.0.1")
    with pytest.raises(ConnectionFailed, match="certificate"):
        connect(shown, **pin(pinned)).request("GET", "/x")


def test_a_pin_on_the_signer_is_no_pin_on_what_it_signs(connect: Connect, authority: Authority) -> None:
    options = {"incus_server_cert": str(authority.cert_file)}
    with pytest.raises(ConnectionFailed, match="does not show the certificate"):
        connect(authority.server("signed", "127.0.0.1"), **options).request("GET", "/x")


def test_an_authority_vouches_for_its_servers_by_name(connect: Connect, authority: Authority) -> None:
    options = {"incus_ca_cert": str(authority.cert_file)}
    assert connect(authority.server("here", "127.0.0.1"), **options).request("GET", "/x").status == 200
    with pytest.raises(ConnectionFailed, match="certificate is refused"):
        connect(authority.server("elsewhere", "elsewhere.test"), **options).request("GET", "/x")
    with pytest.raises(ConnectionFailed, match="certificate is refused"):
        connect(authority.self_signed("stranger", "127.0.0.1"), **options).request("GET", "/x")


@pytest.mark.parametrize("pinned", [True, False])
def test_a_certificate_out_of_its_time_is_refused(connect: Connect, authority: Authority, pinned: bool) -> None:
    for shown, words in (
        (authority.server("old", "127.0.0.1", expired=True), "has expired"),
        (authority.server("early", "127.0.0.1", not_yet=True), "not yet valid"),
    ):
        options = pin(shown) if pinned else {"incus_ca_cert": str(authority.cert_file)}
        with pytest.raises(ConnectionFailed, match=words):
            connect(shown, **options).request("GET", "/x")


def test_the_system_does_not_know_the_authority_of_a_test(connect: Connect, authority: Authority) -> None:
    with pytest.raises(ConnectionFailed, match="certificate is refused"):
        connect(authority.server("here", "127.0.0.1")).request("GET", "/x")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_opens_no_way(
    connect: Connect, authority: Authority, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, str(authority.cert_file))
    other = Authority(tmp_path / "other", "other authority")
    options = {"incus_ca_cert": str(other.cert_file)}
    with pytest.raises(ConnectionFailed, match="certificate is refused"):
        connect(authority.server("here", "127.0.0.1"), **options).request("GET", "/x")


def test_a_websocket_goes_to_the_pinned_server_only(connect: Connect, authority: Authority) -> None:
    shown, pinned = authority.server("one", "127.0.0.1"), authority.server("two", "127.0.0.1")
    with pytest.raises(ConnectionFailed, match="certificate"):
        connect(shown, **pin(pinned)).websocket("/x", {})
    with pytest.raises(ConnectionFailed, match="refused a websocket"):
        connect(shown, **pin(shown)).websocket("/x", {})
