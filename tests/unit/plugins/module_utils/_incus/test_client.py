# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors by number, operations with short and long deadlines, ETags."""

from __future__ import annotations

import json

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    NotFound,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client, refusal
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import Response
from support.fake_incus import FakeIncus

PROFILE = {"name": "extra", "description": "", "config": {}, "devices": {}}
SANDBOX = {
    "name": "px-one",
    "source": {"type": "image", "alias": "debian/13"},
    "devices": {"root": {"type": "disk", "path": "/", "pool": "pixels"}},
}


class Clock:
    """A clock that only the waits of the fake move."""

    def __init__(self, server: FakeIncus) -> None:
        self.now = 0.0
        self.waits: list[int] = []
        server.waited = self._waited

    def _waited(self, seconds: int) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def deadline(self, seconds: float) -> Deadline:
        """Return a deadline on this clock."""
        return Deadline(seconds, clock=lambda: self.now, sleep=lambda _arg: None)


@pytest.fixture
def server() -> FakeIncus:
    """A server in memory."""
    return FakeIncus()


@pytest.fixture
def client(server: FakeIncus) -> Client:
    """A client of it."""
    return Client(server.transport())


@pytest.fixture
def clock(server: FakeIncus) -> Clock:
    """Its clock."""
    return Clock(server)


# -- errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, ApiError),
        (401, AuthenticationFailed),
        (403, AuthenticationFailed),
        (404, NotFound),
        (409, Conflict),
        (412, Conflict),
        (500, ApiError),
        (503, ApiError),
    ],
)
def test_a_refusal_is_known_by_its_number_and_keeps_the_servers_words(code: int, kind: type[PixelsError]) -> None:
    body = {"type": "error", "error_code": code, "error": "not found, conflict, whatever"}
    found = refusal(Response(code, {}, json.dumps(body).encode()), "GET", "/1.0/x")
    assert found.__class__ is kind
    assert "not found, conflict, whatever" in str(found)


def test_a_refusal_without_words_has_its_number() -> None:
    found = refusal(Response(502, {}, b"{}"), "GET", "/1.0/x")
    assert str(found) == "status 502"
    assert found.result() == {"error_code": 502, "request": "GET /1.0/x"}


def test_what_answers_no_json_is_no_server(client: Client) -> None:
    with pytest.raises(ConnectionFailed):
        refusal(Response(502, {}, b"<html>Bad gateway"), "GET", "/1.0/x")


def test_find_returns_the_record_with_its_etag_and_none_for_nothing(client: Client) -> None:
    assert client.find("/1.0/profiles/extra") is None
    client.request("POST", "/1.0/profiles", json=PROFILE)
    found = client.find("/1.0/profiles/extra")
    assert found is not None
    record, etag = found
    assert record == PROFILE
    assert etag


# -- operations


def test_an_answer_that_is_no_operation_is_returned_at_once(client: Client) -> None:
    assert client.run("POST", "/1.0/profiles", PROFILE, Deadline(5), "make a profile") == {}


def test_an_operation_is_waited_for_to_its_end(client: Client, server: FakeIncus) -> None:
    ended = client.run("POST", "/1.0/instances", SANDBOX, Deadline(5), "create")
    assert ended["status_code"] == 200
    assert server.sent("GET") == [f"/1.0/operations/{ended['id']}/wait"]


def test_an_operation_may_take_longer_than_one_wait_and_than_the_socket(
    client: Client, server: FakeIncus, clock: Clock
) -> None:
    server.stall = [15]
    client.run("POST", "/1.0/instances", SANDBOX, clock.deadline(400), "create")
    assert sum(clock.waits) == 300
    assert max(clock.waits) < 60


def test_a_deadline_shorter_than_a_wait_ends_it(client: Client, server: FakeIncus, clock: Clock) -> None:
    server.stall = [99]
    with pytest.raises(DeadlineExceeded, match="create: not done after 7 s"):
        client.run("POST", "/1.0/instances", SANDBOX, clock.deadline(7), "create")
    assert clock.waits == [7]


def test_a_deadline_between_two_waits_ends_with_a_shorter_one(client: Client, server: FakeIncus, clock: Clock) -> None:
    server.stall = [99]
    with pytest.raises(DeadlineExceeded):
        client.run("POST", "/1.0/instances", SANDBOX, clock.deadline(75), "create")
    assert clock.waits == [20, 20, 20, 15]


def test_when_the_time_is_over_the_operation_is_cancelled(client: Client, server: FakeIncus, clock: Clock) -> None:
    server.stall = [99]
    with pytest.raises(DeadlineExceeded):
        client.run("POST", "/1.0/instances", SANDBOX, clock.deadline(5), "create")
    assert [path.split("/")[2] for path in server.sent("DELETE")] == ["operations"]


def test_nothing_is_sent_when_the_time_is_over_before(client: Client, server: FakeIncus, clock: Clock) -> None:
    deadline = clock.deadline(5)
    clock.now = 6
    with pytest.raises(DeadlineExceeded):
        client.run("POST", "/1.0/instances", SANDBOX, deadline, "create")
    assert server.requests == []


def test_a_failed_operation_keeps_the_servers_words_and_its_number(client: Client, server: FakeIncus) -> None:
    server.fail("Creating instance", "No space left on device", 400)
    with pytest.raises(OperationFailed, match="No space left on device") as caught:
        client.run("POST", "/1.0/instances", SANDBOX, Deadline(5), "create")
    assert caught.value.result() == {"error_code": 400, "request": "POST /1.0/instances"}


def test_an_operation_that_fails_after_a_long_time_is_not_taken_for_one_that_goes_on(
    client: Client, server: FakeIncus, clock: Clock
) -> None:
    server.stall = [3]
    server.fail("Creating instance", "context deadline exceeded")
    with pytest.raises(OperationFailed, match="context deadline exceeded"):
        client.run("POST", "/1.0/instances", SANDBOX, clock.deadline(100), "create")
    assert len(clock.waits) == 3


def test_a_server_that_forgot_the_operation_says_so(client: Client) -> None:
    with pytest.raises(NotFound):
        client.wait("11111111-2222-3333-4444-555555555555", Deadline(5), "wait")


def test_a_stale_etag_is_a_conflict(client: Client) -> None:
    client.run("POST", "/1.0/instances", SANDBOX, Deadline(5), "create")
    found = client.find("/1.0/instances/px-one")
    assert found is not None
    record, etag = found
    fields = ("architecture", "config", "devices", "ephemeral", "profiles", "stateful", "description")
    body = {name: record[name] for name in fields}
    body["config"] = {**body["config"], "user.pixels.owner": "me"}
    client.run("PUT", "/1.0/instances/px-one", body, Deadline(5), "update", etag)
    with pytest.raises(Conflict):
        client.run("PUT", "/1.0/instances/px-one", body, Deadline(5), "update", etag)
