# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated TrueNAS itself: it refuses what the real one refuses, and says so with the real one's numbers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Link, Transport
from support.truenas.engine import File
from support.truenas.server import API_KEY, Simulation
from support.truenas.state import User

CREATE = {"name": "px-a", "image": "debian/13", "autostart": False}
DATASET = "tank/.ix-virt/containers/px-a"
ROOTFS = "/var/lib/incus/storage-pools/tank/containers/px-a/rootfs"
LOGIN = {"mechanism": "API_KEY_PLAIN", "username": "root", "api_key": API_KEY}


class Bare:
    """A client that sends what it is told, without any rule of ours."""

    def __init__(self, server: Simulation, login: bool = True, user: str = "root") -> None:
        self.server = server
        self.link: Link = Transport(endpoint_from(server.options(user))).connect(5)
        self._number = 0
        if login:
            assert self.result("auth.login_ex", {**LOGIN, "username": user})["response_type"] == "SUCCESS"

    def message(self) -> dict[str, Any]:
        """Return the next message."""
        for _turn in range(100):
            found = self.link.receive(0.1)
            if found is not None:
                value: dict[str, Any] = json.loads(found)
                return value
        raise AssertionError("there is no message")

    def raw(self, request: object) -> dict[str, Any]:
        """Send anything and return the answer."""
        self.link.send(request if isinstance(request, str) else json.dumps(request))
        return self.message()

    def ask(self, method: str, *params: Any) -> dict[str, Any]:
        """Return the answer of a call."""
        self._number += 1
        return self.raw({"jsonrpc": "2.0", "id": self._number, "method": method, "params": list(params)})

    def result(self, method: str, *params: Any) -> Any:
        """Return the result of a call."""
        answer = self.ask(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    def refused(self, method: str, *params: Any) -> tuple[int, int, str]:
        """Return code, number and words of a refusal."""
        error = self.ask(method, *params)["error"]
        data = error.get("data") or {"error": 0, "reason": error["message"]}
        return error["code"], data["error"], data["reason"]

    def job(self, method: str, *params: Any) -> dict[str, Any]:
        """Return the record of a job at its end."""
        number = self.result(method, *params)
        job = self.server.jobs.get(number)
        assert job is not None
        assert job.done.wait(5)
        record: dict[str, Any] = self.result("core.get_jobs", [["id", "=", number]])[0]
        return record

    def space(self) -> str:
        """Return where this release has snapshots."""
        return "pool.snapshot" if self.server.state.dialect.release == (25, 10) else "zfs.snapshot"


@pytest.fixture(params=["25.04", "25.10"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Simulation]:
    """A simulated TrueNAS of each release."""
    with Simulation(tmp_path, request.param, busy_seconds=0) as found:
        yield found


@pytest.fixture
def bare(server: Simulation) -> Iterator[Bare]:
    """A client that is logged in."""
    found = Bare(server)
    yield found
    found.link.close()


def test_it_says_what_it_is(bare: Bare) -> None:
    assert "simulation" in bare.result("system.info")["system_product"]


# -- framing and login


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("no json", -32700),
        ([{"jsonrpc": "2.0", "id": 1, "method": "core.ping"}], -32700),
        ({"id": 1, "method": "core.ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "core.ping", "params": {}}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 7}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "core.ping", "more": 1}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "no.such"}, -32601),
        ({"jsonrpc": "2.0", "id": 1, "method": "core.ping", "params": [1]}, -32602),
    ],
)
def test_malformed_requests_are_refused(bare: Bare, request_: object, code: int) -> None:
    assert bare.raw(request_)["error"]["code"] == code


def test_a_request_without_a_number_gets_no_answer(bare: Bare) -> None:
    bare.link.send(json.dumps({"jsonrpc": "2.0", "method": "core.ping"}))
    assert bare.ask("core.ping")["id"] == 2


def test_nothing_goes_without_a_login_but_a_ping(server: Simulation) -> None:
    bare = Bare(server, login=False)
    assert bare.result("core.ping") == "pong"
    assert bare.refused("virt.instance.query")[:2] == (-32001, 207)
    assert bare.refused("auth.login_ex", {"mechanism": "API_KEY_PLAIN", "api_key": API_KEY})[0] == -32602
    assert bare.result("auth.login_ex", {**LOGIN, "api_key": "1-wrong"}) == {"response_type": "AUTH_ERR"}
    bare.link.close()


def test_the_twenty_first_login_of_a_minute_is_refused(tmp_path: Path) -> None:
    now = [0.0]
    with Simulation(tmp_path, clock=lambda: now[0], busy_seconds=0) as server:
        for _turn in range(20):
            Bare(server).link.close()
        bare = Bare(server, login=False)
        assert bare.refused("auth.login_ex", LOGIN)[:2] == (-32001, 16)
        now[0] += 61
        assert bare.result("auth.login_ex", LOGIN)["response_type"] == "SUCCESS"
        bare.link.close()


@pytest.mark.parametrize(("login", "size", "words"), [(False, 8193, "8 kB (1007)"), (True, 65537, "64 kB (1009)")])
def test_too_large_a_message_ends_the_connection(server: Simulation, login: bool, size: int, words: str) -> None:
    bare = Bare(server, login)
    with pytest.raises(Exception, match="closed the connection") as caught:
        bare.raw("x" * size)
    assert words in str(caught.value)


def test_a_connection_without_a_sign_of_life_is_cut(tmp_path: Path) -> None:
    with Simulation(tmp_path, idle_seconds=0.05) as server:
        bare = Bare(server)
        with pytest.raises(Exception, match="the connection broke"):
            bare.message()


def test_twenty_calls_at_once_and_no_more(server: Simulation, bare: Bare) -> None:
    with server.state.lock:
        for number in range(30):
            bare.link.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "pool.dataset.query", "params": []}))
        refused = [bare.message()["error"]["code"] for _turn in range(10)]
    assert refused == [-32000] * 10
    assert all("result" in bare.message() for _turn in range(20))
    assert server.most_pending == 20


def test_roles_are_held_to(tmp_path: Path) -> None:
    users = [User("reader", API_KEY, frozenset({"VIRT_INSTANCE_READ"}))]
    with Simulation(tmp_path, users=users) as server:
        bare = Bare(server, user="reader")
        assert bare.result("virt.instance.query") == []
        for method in ("virt.instance.create", "filesystem.file_receive", "zfs.dataset.delete", "pool.snapshot.create"):
            assert bare.refused(method)[1] == 13
        assert set(bare.result("core.get_methods", "virt.instance")) == {
            f"virt.instance.{word}" for word in ("query", "get_instance", "device_list", "image_choices")
        }
        bare.link.close()


# -- instances


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"cpu": 2}, "cpu"),
        ({"cpu": "99"}, "cpu"),
        ({"memory": "1G"}, "memory"),
        ({"memory": 1}, "memory"),
        ({"environment": {"A-B": "x"}}, "environment.A-B"),
        ({"environment": {"A": " \nx"}}, "environment.A"),
        ({"instance_type": "VM"}, "instance_type"),
        ({"source_type": "ZVOL"}, "source_type"),
        ({"profiles": []}, "profiles"),
        ({"storage_pool": "other"}, "storage_pool"),
        ({"autostart": "yes"}, "autostart"),
        ({"devices": [{"dev_type": "NIC", "nic_type": "ROUTED"}]}, "devices.0.nic_type"),
        ({"devices": [{"dev_type": "NIC", "nic_type": "BRIDGED", "parent": "none0"}]}, "devices.0.parent"),
        ({"devices": [{"dev_type": "GPU2"}]}, "devices.0.dev_type"),
        ({"devices": [{"dev_type": "DISK", "source": "/etc", "destination": "/x"}]}, "devices.0.source"),
    ],
)
def test_arguments_of_a_creation_are_checked_inside_the_job(bare: Bare, changes: dict[str, Any], where: str) -> None:
    record = bare.job("virt.instance.create", {**CREATE, **changes})
    assert (record["state"], record["exc_info"]["type"]) == ("FAILED", "VALIDATION")
    assert record["exc_info"]["extra"][0][0] == f"virt_instance_create.{where}"
    assert bare.result("virt.instance.query") == []


def test_a_release_knows_its_own_fields_only(bare: Bare) -> None:
    newest = bare.server.state.dialect.release == (25, 10)
    for field, value, known in (
        ("privileged_mode", False, newest),
        ("root_disk_size", 10, newest),
        ("iso_volume", None, not newest),
    ):
        record = bare.job("virt.instance.create", {**CREATE, "name": f"px-{field.replace('_', '-')}", field: value})
        assert (record["state"] == "SUCCESS") == known, field


@pytest.mark.parametrize("name", ["px_a", "-a", "a-", "123", "a" * 64, "a.b"])
def test_names_are_refused_by_incus(bare: Bare, name: str) -> None:
    record = bare.job("virt.instance.create", {**CREATE, "name": name})
    assert record["exc_info"]["errno"] == 14


def test_a_taken_name_and_a_missing_image(bare: Bare) -> None:
    assert bare.job("virt.instance.create", CREATE)["state"] == "SUCCESS"
    record = bare.job("virt.instance.create", CREATE)
    assert record["exc_info"]["extra"][0][:1] == ["virt_instance_create.name"]
    assert bare.job("virt.instance.create", {**CREATE, "name": "px-b", "image": "none"})["exc_info"]["errno"] == 14


def test_power_is_refused_where_the_real_one_refuses_it(bare: Bare) -> None:
    bare.job("virt.instance.create", CREATE)
    assert bare.job("virt.instance.stop", "px-a")["exc_info"]["type"] == "VALIDATION"
    assert bare.job("virt.instance.stop", "px-a", {"timeout": 1})["exc_info"]["errno"] == 14
    assert bare.job("virt.instance.stop", "px-none", {"force": True})["exc_info"]["errno"] == 14
    assert bare.job("virt.instance.start", "px-none")["exc_info"]["extra"][0][2] == 2
    assert bare.job("virt.instance.start", "px-a")["result"] is True
    assert bare.job("virt.instance.start", "px-a")["exc_info"]["errno"] == 14
    bare.server.engine.stubborn.add("px-a")  # type: ignore[attr-defined]
    assert bare.job("virt.instance.stop", "px-a", {"timeout": 1, "force": False})["state"] == "FAILED"
    assert bare.job("virt.instance.stop", "px-a", {"force": True})["state"] == "SUCCESS"


def test_an_update_changes_what_it_names(bare: Bare) -> None:
    bare.job("virt.instance.create", {**CREATE, "cpu": "2", "environment": {"A": "1"}})
    assert (
        bare.job("virt.instance.update", "px-a", {"memory": 1 << 30, "environment": {"B": "2"}})["state"] == "SUCCESS"
    )
    found = bare.result("virt.instance.get_instance", "px-a")
    assert (found["cpu"], found["memory"], found["environment"]) == ("2", 1 << 30, {"B": "2"})
    bare.job("virt.instance.update", "px-a", {"cpu": None})
    assert bare.result("virt.instance.get_instance", "px-a")["cpu"] is None
    assert bare.job("virt.instance.update", "px-a", {"name": "px-b"})["exc_info"]["type"] == "VALIDATION"


def test_devices_come_and_go(bare: Bare) -> None:
    bare.job("virt.instance.create", CREATE)
    proxy = {"dev_type": "PROXY", "source_proto": "TCP", "source_port": 8080, "dest_proto": "TCP", "dest_port": 80}
    assert bare.result("virt.instance.device_add", "px-a", {**proxy, "name": "web"}) is True
    assert bare.refused("virt.instance.device_add", "px-a", {**proxy, "name": "web", "source_port": 81})[0] == -32602
    assert bare.refused("virt.instance.device_add", "px-a", proxy)[0] == -32602
    assert bare.refused("virt.instance.device_add", "px-a", {"dev_type": "NIC", "network": "x"})[:2] == (-32001, 14)
    shown = {device["name"]: device["readonly"] for device in bare.result("virt.instance.device_list", "px-a")}
    assert shown == {"web": False, "eth0": True, "root": True}
    assert bare.result("virt.instance.device_delete", "px-a", "web") is True
    code, _number, words = bare.refused("virt.instance.device_delete", "px-a", "eth0")
    assert (code, "eth0 does not exist" in words) == (-32602, True)


def test_an_empty_list_is_no_proof_while_there_is_no_incus(bare: Bare) -> None:
    bare.job("virt.instance.create", CREATE)
    bare.server.state.initialized = False
    assert bare.result("virt.instance.query") == []
    assert bare.result("virt.global.config")["state"] == "NO_POOL"
    assert bare.refused("virt.instance.get_instance", "px-a")[1] == 14


def test_jobs_of_one_instance_queue(bare: Bare) -> None:
    slow = bare.server.faults.add("slow_job", "virt.instance.create")
    bare.result("virt.instance.create", CREATE)
    second = bare.result("virt.instance.start", "px-a")
    other = bare.job("virt.instance.create", {**CREATE, "name": "px-b"})
    assert other["state"] == "SUCCESS"
    assert bare.result("core.get_jobs", [["id", "=", second]], {"get": True})["state"] == "WAITING"
    slow.release.set()
    job = bare.server.jobs.get(second)
    assert job is not None
    assert job.done.wait(5)
    assert job.state == "SUCCESS"


def test_queries_filter_as_asked(bare: Bare) -> None:
    for name in ("px-a", "px-b", "other"):
        bare.job("virt.instance.create", {**CREATE, "name": name})

    def names(*arguments: Any) -> list[str]:
        return [row["id"] for row in bare.result("virt.instance.query", *arguments)]

    assert names([["name", "^", "px-"]]) == ["px-a", "px-b"]
    assert names([["OR", [["id", "=", "other"], ["id", "$", "-b"]]]]) == ["px-b", "other"]
    assert names([], {"order_by": ["-name"], "limit": 2}) == ["px-b", "px-a"]
    assert bare.result("virt.instance.query", [], {"count": True}) == 3
    assert bare.result("virt.instance.query", [["id", "=", "px-a"]], {"select": ["cpu"]}) == [{"cpu": None}]
    assert bare.refused("virt.instance.query", [["name", "is", "x"]])[0] == -32602
    assert bare.refused("virt.instance.query", [], {"where": 1})[0] == -32602
    assert bare.refused("virt.instance.query", [["id", "=", "none"]], {"get": True})[0] == -32602


# -- datasets and snapshots


def test_hidden_datasets_stay_hidden(bare: Bare) -> None:
    bare.job("virt.instance.create", CREATE)
    assert [row["id"] for row in bare.result("pool.dataset.query")] == ["tank", "tank/apps"]
    for method in ("get_instance", "delete", "update"):
        params = [DATASET, {}] if method == "update" else [DATASET]
        code, _number, words = bare.refused(f"pool.dataset.{method}", *params)
        assert (code, "does not exist" in words) == (-32602, True)


def test_user_properties_are_kept(bare: Bare) -> None:
    properties = [{"key": "pixels:kind", "value": "sandbox"}, {"key": "pixels:owner", "value": "me"}]
    data = {"name": "tank/pixels/a", "create_ancestors": True, "user_properties": properties}
    bare.result("pool.dataset.create", data)
    assert bare.refused("pool.dataset.create", data)[:2] == (-32602, 22)
    changes = [{"key": "pixels:owner", "remove": True}, {"key": "pixels:label", "value": "x"}]
    bare.result("pool.dataset.update", "tank/pixels/a", {"user_properties_update": changes})
    found = bare.result("pool.dataset.get_instance", "tank/pixels/a")["user_properties"]
    assert {key: value["rawvalue"] for key, value in found.items()} == {"pixels:kind": "sandbox", "pixels:label": "x"}
    for wrong in ({"key": "kind", "value": "x"}, {"key": "a:B", "value": "x"}, {"key": "a:b", "value": "x" * 1025}):
        assert bare.refused("pool.dataset.create", {"name": "tank/x", "user_properties": [wrong]})[0] == -32602
    assert bare.refused("pool.dataset.delete", "tank/pixels")[1] == 16
    assert bare.result("pool.dataset.delete", "tank/pixels", {"recursive": True}) is True


def test_each_release_has_its_own_namespace(bare: Bare) -> None:
    newest = bare.server.state.dialect.release == (25, 10)
    assert bare.ask("pool.snapshot.query").get("error", {}).get("code") == (None if newest else -32601)
    assert bare.ask("pool.dataset.rename", "tank/x", {"new_name": "tank/y"})["error"]["code"] == (
        -32602 if newest else -32601
    )
    assert bare.result("zfs.snapshot.query") == []
    listed = bare.result("core.get_methods", "zfs.snapshot")
    assert bool(listed) != newest
    answer = bare.ask(f"{bare.space()}.create", {"dataset": "tank/apps", "name": "x", "suspend_vms": False})
    assert ("error" in answer) == newest


def test_snapshots_are_refused_as_zfs_refuses(bare: Bare) -> None:
    space = bare.space()
    bare.job("virt.instance.create", CREATE)
    for label in ("one", "two"):
        bare.result(f"{space}.create", {"dataset": DATASET, "name": label})
    assert bare.refused(f"{space}.create", {"dataset": DATASET, "name": "one"})[1] == 17
    assert bare.refused(f"{space}.create", {"dataset": "tank/none", "name": "one"})[1] == 2
    assert bare.refused(f"{space}.delete", f"{DATASET}@none")[1] == 2
    _code, number, words = bare.refused(f"{space}.rollback", f"{DATASET}@one")
    assert (number, f"{DATASET}@two" in words) == (14, True)
    bare.result(f"{space}.clone", {"snapshot": f"{DATASET}@two", "dataset_dst": f"{DATASET}-clone"})
    assert bare.refused(f"{space}.delete", f"{DATASET}@two")[:2] == (-32602, 22)
    assert bare.refused(f"{space}.rollback", f"{DATASET}@one", {"recursive": True})[1] == 14
    assert bare.refused(f"{space}.clone", {"snapshot": f"{DATASET}@two", "dataset_dst": DATASET})[1] == 17
    assert bare.refused(f"{space}.clone", {"snapshot": f"{DATASET}@two", "dataset_dst": "other/x"})[1] == 22
    bare.result("zfs.dataset.delete", f"{DATASET}-clone")
    bare.result(f"{space}.rollback", f"{DATASET}@one", {"recursive": True})
    rows = bare.result(f"{space}.query", [["dataset", "=", DATASET]], {"select": ["name"]})
    assert rows == [{"name": f"{DATASET}@one"}]
    bare.job("virt.instance.start", "px-a")
    assert bare.refused(f"{space}.rollback", f"{DATASET}@one")[1] == 16


def test_a_rollback_brings_back_the_disk(bare: Bare) -> None:
    space, engine = bare.space(), bare.server.engine
    bare.job("virt.instance.create", CREATE)
    engine.write("px-a", "/root/x", File(b"old"))
    bare.result(f"{space}.create", {"dataset": DATASET, "name": "one"})
    engine.write("px-a", "/root/x", File(b"new"))
    bare.result(f"{space}.rollback", f"{DATASET}@one")
    assert engine.look("px-a", "/root/x") == File(b"old")


def test_a_clone_takes_the_place_of_a_disk(bare: Bare) -> None:
    space, engine = bare.space(), bare.server.engine
    bare.job("virt.instance.create", CREATE)
    engine.write("px-a", "/root/x", File(b"of a"))
    bare.result(f"{space}.create", {"dataset": DATASET, "name": "one"})
    bare.job("virt.instance.create", {**CREATE, "name": "px-b"})
    target = DATASET.replace("px-a", "px-b")
    assert bare.refused("zfs.dataset.delete", DATASET)[1] == 16
    bare.result("zfs.dataset.delete", target)
    assert bare.job("virt.instance.start", "px-b")["state"] == "FAILED"
    properties = {"mountpoint": "legacy", "canmount": "noauto"}
    bare.result(
        f"{space}.clone", {"snapshot": f"{DATASET}@one", "dataset_dst": target, "dataset_properties": properties}
    )
    assert bare.job("virt.instance.start", "px-b")["state"] == "SUCCESS"
    # nothing in it was changed
    assert engine.look("px-b", "/root/x") == File(b"of a")
    assert engine.look("px-b", "/etc/hostname") == File(b"px-a\n")
    # the source goes, and what the clone needs of it stays
    assert bare.job("virt.instance.delete", "px-a")["state"] == "SUCCESS"
    origin = bare.result("zfs.dataset.query", [["id", "=", target]])[0]["properties"]["origin"]["rawvalue"]
    assert origin.startswith("tank/.ix-virt/deleted/")
    assert bare.result(f"{space}.query", [["id", "=", origin]], {"count": True}) == 1


# -- files of the host


def receive(bare: Bare, path: str, content: bytes = b"x", **options: int) -> dict[str, Any]:
    """Have the NAS write a file."""
    return bare.ask("filesystem.file_receive", path, base64.b64encode(content).decode(), options)


def test_a_file_is_written_into_a_running_container(bare: Bare) -> None:
    bare.job("virt.instance.create", {**CREATE, "autostart": True})
    path = f"{ROOTFS}/root/.ssh/authorized_keys"
    assert receive(bare, path, b"key\n", mode=0o600, uid=0, gid=0)["result"] is True
    assert bare.server.engine.look("px-a", "/root/.ssh/authorized_keys") == File(b"key\n", 0o600)
    receive(bare, path, b"more\n", append=True)
    assert bare.server.engine.look("px-a", "/root/.ssh/authorized_keys") == File(b"key\nmore\n", 0o600)
    found = bare.result("filesystem.stat", path)
    assert (found["realpath"], found["type"], found["mode"]) == (path, "FILE", 0o100600)
    assert "error" in receive(bare, path, mode="0644")  # type: ignore[arg-type]


def test_a_stopped_container_has_no_files_on_the_host(bare: Bare) -> None:
    bare.job("virt.instance.create", CREATE)
    receive(bare, f"{ROOTFS}/root/x")
    assert bare.server.engine.look("px-a", "/root/x") is None
    assert bare.server.state.nas_files == {f"{ROOTFS}/root/x": b"x"}


@pytest.mark.parametrize("target", ["/etc", "../../../../../../../../etc"])
def test_a_link_of_the_guest_leads_out_as_on_the_real_one(bare: Bare, target: str) -> None:
    bare.job("virt.instance.create", {**CREATE, "autostart": True})
    bare.server.engine.write("px-a", "/root/.ssh", File(target.encode(), kind="SYMLINK"))
    receive(bare, f"{ROOTFS}/root/.ssh/shadow")
    assert [Path(path).name for path in bare.server.state.nas_files] == ["shadow"]
    assert bare.server.engine.look("px-a", "/etc/shadow") is None
    found = bare.result("filesystem.stat", f"{ROOTFS}/root/.ssh")
    assert found["type"] == "SYMLINK"
    assert not found["realpath"].startswith(ROOTFS)


def test_unknown_faults_are_no_faults(server: Simulation) -> None:
    with pytest.raises(ValueError, match="there is no fault"):
        server.faults.add("surprise")


def test_events_tell_of_jobs_in_their_order(bare: Bare) -> None:
    bare.result("core.subscribe", "core.get_jobs")
    bare.link.send(json.dumps({"jsonrpc": "2.0", "id": "x", "method": "virt.instance.create", "params": [CREATE]}))
    states: list[str] = []
    while states.count("SUCCESS") < 2:
        message = bare.message()
        if "method" in message:
            assert message["params"]["collection"] == "core.get_jobs"
            states.append(message["params"]["fields"]["state"])
    assert states == ["WAITING", "RUNNING", "SUCCESS", "SUCCESS"]
