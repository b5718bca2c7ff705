# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls and jobs against the simulated TrueNAS over real TLS: each fault, and that nothing is done twice."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    ConfigError,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    NotFound,
    OperationFailed,
    OutcomeUnknown,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import READ_SECONDS, Rpc, rpc_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.session import Session
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Link
from support.truenas.hurry import HURRY, Connect
from support.truenas.server import API_KEY, Simulation
from support.truenas.state import User

CREATE = {"name": "px-a", "image": "debian/13", "autostart": False}
DATASET = "tank/.ix-virt/containers/px-a"
ROOTFS = "/var/lib/incus/storage-pools/tank/containers/px-a/rootfs"


def soon(seconds: float = 20) -> Deadline:
    """Return a deadline that a test which works does not reach."""
    return Deadline(seconds)


def made(rpc: Rpc, name: str = "px-a", start: bool = False) -> None:
    """Make an instance."""
    rpc.job("virt.instance.create", [{**CREATE, "name": name, "autostart": start}], soon())


# -- one login


def test_one_login_serves_a_whole_task(simulation: Simulation, connect: Connect) -> None:
    rpc = connect(simulation)

    def work(number: int) -> str:
        made(rpc, f"px-{number}", start=True)
        found = rpc.call("virt.instance.get_instance", [f"px-{number}"], soon())
        rpc.job("virt.instance.stop", [f"px-{number}", {"timeout": 30, "force": False}], soon())
        rpc.job("virt.instance.delete", [f"px-{number}"], soon())
        return str(found["name"])

    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(work, range(48))) == [f"px-{number}" for number in range(48)]
    assert (simulation.opened, simulation.logins) == (1, 1)
    assert len(simulation.calls("virt.instance.create")) == 48
    # the server refuses more than twenty at once
    assert simulation.most_pending <= 10
    assert simulation.calls("core.subscribe") == [["core.get_jobs"]]


def test_nothing_is_sent_before_it_is_needed(newest: Simulation, connect: Connect) -> None:
    rpc = rpc_from(newest.options())
    rpc.close()
    assert newest.opened == 0
    connect(newest).call("virt.global.config", [], soon())
    assert [name for name, _params in newest.seen] == ["auth.login_ex", "system.version_short", "virt.global.config"]


def test_a_fork_logs_in_for_itself(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    made(rpc)
    child = os.fork()
    if child == 0:
        try:
            found = rpc.call("virt.instance.query", [], soon())
            rpc.close()
            os._exit(0 if len(found) == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    # the parent's connection was left alone
    assert rpc.job("virt.instance.start", ["px-a"], soon()) is True
    assert (newest.opened, newest.logins) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("AUTH_ERR", "refuses the API key"),
        ("EXPIRED", "expired or was revoked"),
        ("OTP_REQUIRED", "second factor"),
        ("REDIRECT", "standby of a pair"),
        ("DENIED", "does not let this user in"),
    ],
)
def test_a_refused_login_says_why_without_the_key(tmp_path: Path, connect: Connect, answer: str, words: str) -> None:
    with Simulation(tmp_path, users=[User("root", API_KEY, answer=answer)]) as server:
        with pytest.raises(AuthenticationFailed, match=words) as caught:
            connect(server).call("virt.global.config", [], soon())
        assert [name for name, _params in server.seen] == ["auth.login_ex"]
    assert API_KEY[2:] not in str(caught.value)
    assert "root" in str(caught.value)


def test_a_login_that_comes_too_often_is_tried_later(newest: Simulation, connect: Connect) -> None:
    newest.faults.add("busy", times=3)
    slept: list[float] = []
    rpc = connect(newest, pace=replace(HURRY, first_pause=1, last_pause=30), sleep=slept.append)
    assert rpc.version_text(soon()) == "25.10.1"
    assert newest.logins == 4
    assert len(slept) == 3
    # each is about twice the one before
    assert all(0.75 * 2**turn <= seconds <= 1.25 * 2**turn for turn, seconds in enumerate(slept))


def test_logins_that_are_refused_for_good_end_with_the_deadline(newest: Simulation, connect: Connect) -> None:
    newest.faults.add("busy", times=1000)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    deadline = Deadline(100, lambda: now[0], sleep)
    with pytest.raises(DeadlineExceeded, match="refuses logins for now"):
        connect(newest, pace=replace(HURRY, first_pause=1, last_pause=30), sleep=sleep).version(deadline)
    assert newest.logins < 12


def test_a_read_has_the_time_of_a_minute_in_which_logins_are_refused(newest: Simulation, connect: Connect) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        # the server is at work at each refusal, too
        now[0] += seconds + 5.5
        if now[0] > 60:
            newest.faults.clear()

    newest.faults.add("busy", times=1000)
    deadline = Deadline(READ_SECONDS, lambda: now[0], sleep)
    assert connect(newest, pace=replace(HURRY, first_pause=0.5, last_pause=30), sleep=sleep).version(deadline) == (
        25,
        10,
    )
    assert now[0] > 60


def test_the_real_limit_is_kept_to(newest: Simulation, connect: Connect) -> None:
    now = [1000.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    newest._clock = lambda: now[0]  # the server counts by the same clock
    rpc = connect(newest, pace=replace(HURRY, logins=18, ping=1e9), clock=lambda: now[0], sleep=sleep)
    for _turn in range(40):
        rpc.call("virt.global.config", [], Deadline(1000))
        rpc.close()
    assert newest.logins == 40
    assert [round(seconds) for seconds in slept] == [60, 60]


# -- versions


@pytest.mark.parametrize(("version", "named"), [("26", "26.0.0-BETA.1"), ("24.10", "24.10"), ("25.08-MASTER", "25.08")])
def test_another_version_gets_one_message_that_names_it(
    tmp_path: Path, connect: Connect, version: str, named: str
) -> None:
    with Simulation(tmp_path, version) as server:
        with pytest.raises(Unsupported, match=named) as caught:
            connect(server).job("virt.instance.create", [CREATE], soon())
        assert "25.04 and 25.10 are supported" in str(caught.value)
        assert not [name for name, _params in server.seen if name.startswith("virt")]


@pytest.mark.parametrize(
    ("version", "release"),
    [("25.04.0", (25, 4)), ("25.04.2.6", (25, 4)), ("25.10-RC.1", (25, 10)), ("25.10.0.1", (25, 10))],
)
def test_versions_are_understood(tmp_path: Path, connect: Connect, version: str, release: tuple[int, int]) -> None:
    with Simulation(tmp_path, version) as server:
        rpc = connect(server)
        assert (rpc.version(soon()), rpc.version_text(soon())) == (release, version)


# -- errors by their numbers


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1, AuthenticationFailed),
        (2, NotFound),
        (13, AuthenticationFailed),
        (14, OperationFailed),
        (16, Conflict),
        (17, Conflict),
        (22, OperationFailed),
        (28, OperationFailed),
        (201, Unsupported),
        (205, OperationFailed),
    ],
)
def test_the_number_says_what_failed(
    newest: Simulation, connect: Connect, number: int, kind: type[PixelsError]
) -> None:
    rpc = connect(newest)
    for verb, fault in ((rpc.call, "fail"), (rpc.job, "fail_job")):
        method = "pool.dataset.promote" if fault == "fail" else "virt.instance.start"
        newest.faults.add(fault, method, number=number, words=f"because of {API_KEY}")
        with pytest.raises(kind) as caught:
            verb(method, ["px-a"], soon())
        assert caught.type is kind
        assert method in str(caught.value)
        assert API_KEY not in str(caught.value)
        assert "Traceback" not in str(caught.value)
        if isinstance(caught.value, ApiError):
            assert caught.value.result() == {"error_code": number, "request": method}


def test_what_is_not_there_comes_as_an_invalid_request(simulation: Simulation, connect: Connect) -> None:
    with pytest.raises(NotFound, match=r"VirtInstance px-a does not exist") as caught:
        connect(simulation).call("virt.instance.get_instance", ["px-a"], soon())
    assert caught.value.code == 2


def test_an_invalid_request_names_its_fields(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    with pytest.raises(
        ApiError, match=r"pool_dataset_create.no_such: Extra inputs are not permitted.*name: Field required"
    ):
        rpc.call("pool.dataset.create", [{"no_such": "tank/x"}], soon())
    with pytest.raises(ApiError, match=r"virt_instance_create.cpu: Input should be a valid string") as caught:
        rpc.job("virt.instance.create", [{**CREATE, "cpu": 2}], soon())
    assert caught.type is ApiError
    assert caught.value.code == 22


def test_an_unknown_method_is_not_supported(newest: Simulation, connect: Connect) -> None:
    with pytest.raises(Unsupported, match=r"does not know container.query"):
        connect(newest).call("container.query", [], soon())
    assert newest.unknown == {"container.query"}


def test_a_failed_start_has_the_end_of_its_log(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    made(rpc)
    newest.engine.broken.add("px-a")  # type: ignore[attr-defined]
    with pytest.raises(OperationFailed, match=r"forkstart px-a: exit status 1; its log ends with: lxc px-a"):
        rpc.job("virt.instance.start", ["px-a"], soon())


def test_times_and_sets_are_understood(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    made(rpc)
    before = time.time() - 1
    taken = rpc.call("pool.snapshot.create", [{"dataset": DATASET, "name": "one"}], soon())
    created = taken["properties"]["creation"]["parsed"]
    assert created.tzinfo is not None
    assert before <= created.timestamp() <= time.time()


# -- rights


def test_what_may_not_be_called_is_known_before_anything_is_made(tmp_path: Path, connect: Connect) -> None:
    users = [User("agent", API_KEY, frozenset({"VIRT_INSTANCE_WRITE", "SNAPSHOT_READ"}))]
    with Simulation(tmp_path, "25.10", users=users) as server:
        rpc = connect(server, "agent")
        rpc.check_permitted(["virt.instance.create", "virt.instance.query", "pool.snapshot.query"], soon())
        wanted = ["virt.instance.create", "pool.snapshot.create", "pool.snapshot.delete", "filesystem.put"]
        with pytest.raises(AuthenticationFailed) as caught:
            rpc.check_permitted(wanted, soon())
        words = str(caught.value)
        assert "agent" in words
        assert "may not call filesystem.put, pool.snapshot.create, pool.snapshot.delete" in words
        assert "it needs FULL_ADMIN and SNAPSHOT_DELETE and SNAPSHOT_WRITE" in words
        # each service was asked for once
        assert len(server.calls("core.get_methods")) == 3
        with pytest.raises(AuthenticationFailed, match="Not authorized"):
            rpc.call("pool.snapshot.create", [{"dataset": "tank/apps", "name": "x"}], soon())


# -- connections that break


@pytest.mark.parametrize("fault", ["drop_request", "drop_answer", "garbage"])
def test_a_read_is_asked_again(newest: Simulation, connect: Connect, fault: str) -> None:
    rpc = connect(newest)
    newest.faults.add(fault, "virt.instance.query")
    assert rpc.call("virt.instance.query", [], soon()) == []
    assert len(newest.calls("virt.instance.query")) == 2
    assert newest.logins == 2


def test_a_read_is_not_asked_again_for_ever(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    newest.faults.add("drop_request", "virt.instance.query", times=100)
    with pytest.raises(ConnectionFailed, match=r"virt.instance.query"):
        rpc.call("virt.instance.query", [], soon())
    assert len(newest.calls("virt.instance.query")) == 3


@pytest.mark.parametrize(("fault", "was_done"), [("drop_request", False), ("drop_answer", True)])
def test_a_change_is_never_asked_again(newest: Simulation, connect: Connect, fault: str, was_done: bool) -> None:
    rpc = connect(newest)
    newest.faults.add(fault, "pool.dataset.create")
    with pytest.raises(OutcomeUnknown, match="it may have been done or not"):
        rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon())
    assert len(newest.calls("pool.dataset.create")) == 1
    rows = rpc.call("pool.dataset.query", [[["id", "=", "tank/x"]]], soon())
    assert bool(rows) == was_done


@pytest.mark.parametrize("fault", ["drop_request", "drop_answer"])
def test_a_job_is_never_started_twice(newest: Simulation, connect: Connect, fault: str) -> None:
    rpc = connect(newest)
    newest.faults.add(fault, "virt.instance.create")
    with pytest.raises(OutcomeUnknown):
        rpc.job("virt.instance.create", [CREATE], soon())
    assert len(newest.calls("virt.instance.create")) == 1


def test_a_change_that_was_not_sent_is_sent_over_the_next_connection(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    # the connection goes while the client asks for events, before the job is asked for
    newest.faults.add("drop_request", "core.subscribe")
    made(rpc)
    assert len(newest.calls("virt.instance.create")) == 1
    assert newest.logins == 2


def test_a_connection_that_broke_in_silence_is_replaced(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    rpc.call("core.ping", [], soon())
    newest.drop_all()
    wait_for(lambda: not newest.connections)
    time.sleep(0.02)
    assert rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon())["id"] == "tank/x"


def test_a_restarting_server_is_waited_for(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    rpc.version(soon())
    newest.faults.add("bad_gateway", times=4)
    newest.faults.add("drop_request", "virt.instance.query")
    assert rpc.call("virt.instance.query", [], soon()) == []


def test_a_server_that_never_answered_is_not_waited_for(newest: Simulation, connect: Connect) -> None:
    newest.faults.add("bad_gateway")
    with pytest.raises(ConnectionFailed, match="HTTP status 502"):
        connect(newest).version(soon())


def test_too_many_calls_are_asked_again_even_if_they_change_something(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    newest.faults.add("too_many", "pool.dataset.create", times=3)
    assert rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon())["id"] == "tank/x"
    assert newest.logins == 1


def test_an_expired_session_is_renewed_once(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    newest.faults.add("expire", "pool.dataset.create")
    assert rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon())["id"] == "tank/x"
    assert newest.logins == 2
    newest.faults.add("expire", "pool.dataset.create", times=2)
    with pytest.raises(AuthenticationFailed, match="Not authenticated"):
        rpc.call("pool.dataset.create", [{"name": "tank/y"}], soon())


def test_too_large_an_answer_is_not_taken_in(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest, most=100_000)
    newest.faults.add("oversize", "virt.instance.query", size=200_000, times=10)
    with pytest.raises(ConnectionFailed, match="more than 100000 bytes"):
        rpc.call("virt.instance.query", [], soon())
    newest.faults.clear()
    newest.faults.add("oversize", "pool.dataset.create", size=200_000)
    with pytest.raises(OutcomeUnknown, match="more than 100000 bytes"):
        rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon())


def test_too_large_a_request_is_not_sent(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    made(rpc, start=True)
    with pytest.raises(ConfigError, match="more than the 65536 that TrueNAS takes"):
        rpc.call("pool.dataset.create", [{"name": "x" * 70_000}], soon())
    assert newest.calls("pool.dataset.create") == []
    # files have a limit of their own
    content = "eHh4" * 200_000
    assert rpc.call("filesystem.file_receive", [f"{ROOTFS}/root/big", content, {}], soon()) is True
    assert newest.logins == 1
    with pytest.raises(ConfigError, match="more than the 2097152"):
        rpc.call("filesystem.file_receive", [f"{ROOTFS}/root/big", "eHh4" * 600_000, {}], soon())


def test_a_call_ends_with_its_deadline(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    rpc.version(soon())
    newest.faults.add("mute", "pool.dataset.create")
    with pytest.raises(DeadlineExceeded, match=r"no answer after 0.1 s; it may still be worked at"):
        rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon(0.1))


# -- signs of life


def test_pings_go_out_while_nothing_comes_in(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest, pace=replace(HURRY, ping=0.01, pong=5))
    rpc.version(soon())
    [connection] = newest.connections
    wait_for(lambda: connection.pings >= 3)
    assert rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon())["id"] == "tank/x"
    assert newest.opened == 1


class Flood(Link):
    """A connection on which something comes each second, and never nothing."""

    def __init__(self, now: list[float]) -> None:
        self.heard = self.pings = 0
        self.ended = threading.Event()
        self._now = now

    def receive(self, seconds: float) -> bytes | None:
        """Return an event, a hundred times."""
        if self.heard == 100:
            raise ConnectionFailed("it is over")
        self._now[0] += 1
        self.heard += 1
        return b'{"method": "collection_update", "params": {"collection": "core.get_jobs", "id": 1, "fields": {}}}'

    def ping(self) -> None:
        """Count it."""
        self.pings += 1

    def break_off(self) -> None:
        """Have nothing to break off."""

    def close(self) -> None:
        """Say that nothing more is read."""
        self.ended.set()


def test_a_stream_of_events_does_not_starve_the_pings() -> None:
    now = [0.0]
    link = Flood(now)
    session = Session(link, replace(HURRY, ping=25, pong=10), lambda: now[0])
    assert link.ended.wait(5)
    assert link.pings == 4
    assert session.why == "it is over"


def test_a_server_that_shows_no_sign_of_life_is_left(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest, pace=replace(HURRY, ping=0.02, pong=0.2))
    newest.faults.add("mute", "virt.instance.query")
    assert rpc.call("virt.instance.query", [], soon()) == []
    assert newest.opened >= 2
    newest.faults.add("mute", "pool.dataset.create")
    with pytest.raises(OutcomeUnknown, match="no sign of life"):
        rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon())


# -- jobs


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def told_its_number(newest: Simulation, number: int) -> None:
    """Wait until the client was told the number of a job."""
    job = newest.jobs.get(number)
    assert job is not None
    assert job.answered.wait(5)


def restarted_with(newest: Simulation, method: str, arguments: list[Any]) -> None:
    """Restart the middleware, and have somebody else's job take the first number before anybody is back."""
    newest.faults.add("bad_gateway", times=1_000_000)
    newest.restart()
    wait_for(lambda: not newest.connections)
    job = newest.jobs.start(method, arguments, "root", None, lambda _job: "somebody else's")
    assert job.number == 1
    newest.faults.clear()


def test_a_job_is_awaited_by_events_alone(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    made(rpc)
    assert newest.calls("core.get_jobs") == []


def test_a_job_is_asked_for_where_events_are_missing(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest, pace=replace(HURRY, look=0.02))
    made(rpc)
    [connection] = newest.connections
    connection.subscriptions.clear()
    assert rpc.job("virt.instance.start", ["px-a"], soon()) is True
    assert newest.calls("core.get_jobs")


@pytest.mark.parametrize("gateway", [0, 2])
def test_a_job_is_awaited_over_a_broken_connection(newest: Simulation, connect: Connect, gateway: int) -> None:
    rpc = connect(newest)
    rpc.version(soon())
    newest.faults.add("drop_job", "virt.instance.create")
    slow = newest.faults.add("slow_job", "virt.instance.create")
    if gateway:
        # the server takes a while to come back
        newest.faults.add("bad_gateway", times=gateway)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rpc.job, "virt.instance.create", [CREATE], soon())
        assert slow.struck.wait(5)
        wait_for(lambda: newest.calls("core.get_jobs"))
        slow.release.set()
        assert waiting.result()["name"] == "px-a"
    assert len(newest.calls("virt.instance.create")) == 1
    assert newest.logins == 2


@pytest.mark.parametrize("breaks", [False, True])
def test_a_job_is_known_by_what_the_server_shows_of_it(newest: Simulation, connect: Connect, breaks: bool) -> None:
    rpc = connect(newest)
    newest.jobs.shown = ["********"]
    slow = newest.faults.add("slow_job", "virt.instance.create")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rpc.job, "virt.instance.create", [CREATE], soon())
        assert slow.struck.wait(5)
        told_its_number(newest, 1)
        # the client has been told of the job by now
        time.sleep(0.05)
        if breaks:
            newest.drop_all()
            wait_for(lambda: newest.calls("core.get_jobs"))
        slow.release.set()
        assert waiting.result()["name"] == "px-a"


def test_nothing_is_sent_after_the_deadline(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    rpc.version(soon())
    with pytest.raises(DeadlineExceeded, match=r"pool.dataset.create: not done after 0 s"):
        rpc.call("pool.dataset.create", [{"name": "tank/x"}], soon(0))
    # what was sent before this would be known by now
    assert rpc.call("core.ping", [], soon()) == "pong"
    assert newest.calls("pool.dataset.create") == []


def test_many_jobs_over_a_broken_connection_take_one_login(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    rpc.version(soon())
    faults = [newest.faults.add("slow_job", "virt.instance.create") for _turn in range(12)]
    with ThreadPoolExecutor(12) as pool:
        waiting = [
            pool.submit(rpc.job, "virt.instance.create", [{**CREATE, "name": f"px-{number}"}], soon())
            for number in range(12)
        ]
        for fault in faults:
            assert fault.struck.wait(5)
        for number in range(1, 13):
            told_its_number(newest, number)
        newest.drop_all()
        wait_for(lambda: len(newest.calls("core.get_jobs")) == 12)
        for fault in faults:
            fault.release.set()
        assert sorted(each.result()["name"] for each in waiting) == sorted(f"px-{number}" for number in range(12))
    assert newest.logins == 2


def test_a_job_that_outlasts_its_deadline_goes_on(newest: Simulation, connect: Connect) -> None:
    now = [0.0]
    rpc = connect(newest, pace=replace(HURRY, look=0.01))
    slow = newest.faults.add("slow_job", "virt.instance.create")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rpc.job, "virt.instance.create", [CREATE], Deadline(100, lambda: now[0]))
        assert slow.struck.wait(5)
        told_its_number(newest, 1)
        wait_for(lambda: newest.calls("core.get_jobs"))
        now[0] = 101
        with pytest.raises(DeadlineExceeded, match="job 1, which goes on: not done after 100 s"):
            waiting.result()
    slow.release.set()
    wait_for(lambda: "px-a" in newest.state.instances)


@pytest.mark.parametrize("fault", ["fail_job", "fail_late"])
def test_a_failed_job_has_the_words_of_the_server(newest: Simulation, connect: Connect, fault: str) -> None:
    newest.faults.add(fault, "virt.instance.create", words="the pool is full", number=28)
    with pytest.raises(OperationFailed, match=r"virt.instance.create: .*the pool is full") as caught:
        connect(newest).job("virt.instance.create", [CREATE], soon())
    assert caught.value.code == 28


def test_a_job_that_a_restart_forgot_has_an_unknown_outcome(newest: Simulation, connect: Connect) -> None:
    newest.faults.add("vanish", "virt.instance.create")
    with pytest.raises(OutcomeUnknown, match="no longer knows its job 1, as after a restart"):
        connect(newest).job("virt.instance.create", [CREATE], soon())
    assert len(newest.calls("virt.instance.create")) == 1


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("virt.instance.delete", ["px-other"]), ("virt.instance.create", [{**CREATE, "name": "px-other"}])],
)
def test_a_job_of_the_same_number_is_not_ours(
    newest: Simulation, connect: Connect, method: str, arguments: list[Any]
) -> None:
    rpc = connect(newest)
    slow = newest.faults.add("slow_job", "virt.instance.create")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rpc.job, "virt.instance.create", [CREATE], soon())
        assert slow.struck.wait(5)
        told_its_number(newest, 1)
        restarted_with(newest, method, arguments)
        with pytest.raises(OutcomeUnknown, match="no longer knows its job 1"):
            waiting.result()
        slow.release.set()


def test_a_later_job_with_the_same_arguments_is_not_ours_either(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    slow = newest.faults.add("slow_job", "virt.instance.create")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rpc.job, "virt.instance.create", [CREATE], soon())
        assert slow.struck.wait(5)
        told_its_number(newest, 1)
        # the client knows by now when it began
        time.sleep(0.05)
        restarted_with(newest, "virt.instance.create", [CREATE])
        with pytest.raises(OutcomeUnknown, match="no longer knows its job 1"):
            waiting.result()
        slow.release.set()


def test_a_closed_client_tells_those_that_wait(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    rpc.version(soon())
    newest.faults.add("mute", "pool.dataset.create")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rpc.call, "pool.dataset.create", [{"name": "tank/x"}], soon())
        wait_for(lambda: newest.calls("pool.dataset.create"))
        rpc.close()
        with pytest.raises(OutcomeUnknown):
            waiting.result()


def test_no_thread_is_left_behind(newest: Simulation) -> None:
    for _turn in range(3):
        rpc = rpc_from(newest.options())
        rpc.version(soon())
        rpc.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "truenas"]


# -- files


def test_a_file_of_the_nas_is_read(newest: Simulation, connect: Connect) -> None:
    rpc = connect(newest)
    made(rpc, start=True)
    assert rpc.download(f"{ROOTFS}/etc/hostname", 100, soon()) == b"px-a\n"
    with pytest.raises(NotFound, match=r"filesystem.get"):
        rpc.download(f"{ROOTFS}/etc/nothing", 100, soon())
    with pytest.raises(ConnectionFailed, match="more than 3 bytes"):
        rpc.download(f"{ROOTFS}/etc/hostname", 3, soon())


# -- what is written down


def test_the_transcript_has_every_request_and_no_key(tmp_path: Path, connect: Connect) -> None:
    path = tmp_path / "transcript"
    with Simulation(tmp_path / "tls", transcript=str(path)) as server:
        made(connect(server))
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["method"] for line in lines] == [
        "auth.login_ex",
        "system.version_short",
        "core.subscribe",
        "virt.instance.create",
    ]
    assert lines[-1]["params"] == [CREATE]
    assert API_KEY[2:] not in text
