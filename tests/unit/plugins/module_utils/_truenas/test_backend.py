# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TrueNAS as a backend, against the simulation: what no other backend has, and what is left when something goes wrong."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    AuthenticationFailed,
    ConfigError,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    Foreign,
    NotFound,
    OperationFailed,
    OutcomeUnknown,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    CloneSource,
    ExecRequest,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Limits,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.ownership import refuse_foreign
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.backend import TrueNasBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import Pace, Rpc
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.transport import Transport
from support.truenas.engine import File
from support.truenas.fake_guests import KEY, BootingEngine, FakeGuests, fake_ssh, key_pair
from support.truenas.server import Simulation
from support.truenas.state import User

HURRY = Pace(ping=20, pong=0.1, first_pause=0.005, last_pause=0.02, reconnect=2, look=5)
SECONDS = 20
LIMITED_KEY = "8-limitedlimitedlimitedlimitedlimited"
ROLES = ("VIRT_GLOBAL_READ", "VIRT_INSTANCE_WRITE", "VIRT_INSTANCE_DELETE", "DATASET_WRITE", "DATASET_DELETE")
ORDINARY = frozenset((*ROLES, "DATASET_READ", "SNAPSHOT_READ", "SNAPSHOT_WRITE", "SNAPSHOT_DELETE", "READONLY_ADMIN"))


@dataclass
class Box:
    """A simulated TrueNAS with a backend on it."""

    simulation: Simulation
    engine: BootingEngine
    key_file: str
    backend: TrueNasBackend

    def again(self, user: str = "root", key_file: str | None = None) -> TrueNasBackend:
        """Return another controller's backend."""
        rpc = Rpc(Transport(endpoint_from(self.simulation.options(user)), 1 << 20), HURRY)
        return TrueNasBackend(rpc, "", self.key_file if key_file is None else key_file, FakeGuests(self.engine))

    def make(self, name: str = "one", origin: CloneSource | None = None, **more: Any) -> Instance:
        """Make a sandbox and return it."""
        self.backend.create_instance(spec(name, origin, **more), Deadline(SECONDS))
        return self.get(name)

    def get(self, name: str = "one") -> Instance:
        """Return a sandbox that is there."""
        found = self.backend.get_instance(name)
        assert found
        return found

    def power(self, action: str, name: str = "one") -> None:
        """Start or stop."""
        self.backend.set_power(name, action, Deadline(SECONDS), force=True)

    def take(self, label: str, name: str = "one") -> None:
        """Take a checkpoint."""
        self.backend.create_checkpoint(name, label, None, Deadline(SECONDS))

    def write(self, path: str, text: str, name: str = "one") -> None:
        """Write on a disk, behind everybody's back."""
        self.engine.write(f"px-{name}", path, File(text.encode()))

    def text(self, path: str, name: str = "one") -> str | None:
        """Return what is on a disk."""
        found = self.engine.look(f"px-{name}", path)
        return found.content.decode() if found else None

    @property
    def left(self) -> set[str]:
        """Everything that there is of sandboxes: instances, datasets and snapshots."""
        state = self.simulation.state
        datasets = [name for name in state.datasets if "/px-" in name or name.startswith("tank/pixels/")]
        snapshots = [f"{name}@{label}" for name, found in state.datasets.items() for label in found.snapshots]
        return {*state.instances, *datasets, *snapshots}


def spec(name: str = "one", origin: CloneSource | None = None, **more: Any) -> InstanceSpec:
    """Return what a planner would ask for."""
    keys = {"kind": "sandbox", "hardening": "none", "unfinished": "2026-01-01T00:00:00Z/word"}
    wanted = InstanceSpec(name, origin or ImageSource("debian/13"), keys, hardening="none")
    return replace(wanted, **more)


@pytest.fixture(params=["25.04", "25.10"])
def box(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A TrueNAS of each release."""
    monkeypatch.setenv("PATH", str(fake_ssh(tmp_path / "bin")), prepend=os.pathsep)
    engine, key_file = BootingEngine(), key_pair(tmp_path)
    users = (User("root", "7-secretsecretsecretsecretsecretsecret"), User("limited", LIMITED_KEY, ORDINARY))
    with Simulation(tmp_path, request.param, engine, users, busy_seconds=0) as simulation:
        found = Box(simulation, engine, key_file, None)  # type: ignore[arg-type]
        found.backend = found.again()
        yield found
        found.backend.close()
        assert not simulation.unknown


# -- what is there, and whose it is


def test_what_others_made_is_seen_and_foreign_also_with_a_record_of_one_that_had_its_name(box: Box) -> None:
    box.make()
    box.backend._rpc.job("virt.instance.delete", ["px-one"], Deadline(SECONDS))
    assert box.get().unfinished
    body = {"name": "px-one", "image": "debian/13", "autostart": False}
    box.backend._rpc.job("virt.instance.create", [body], Deadline(SECONDS))
    found = box.get()
    assert (found.kind, found.keys) == (None, {})
    with pytest.raises(Foreign):
        refuse_foreign(found)
    with pytest.raises(NotFound):
        box.backend.delete_instance("one", Deadline(SECONDS))
    assert "px-one" in box.simulation.state.instances


def test_a_sandbox_removed_by_hand_is_seen_as_unfinished_and_goes_without_a_trace(box: Box) -> None:
    box.make()
    box.backend._rpc.job("virt.instance.delete", ["px-one"], Deadline(SECONDS))
    assert [found.unfinished for found in box.backend.list_instances()] == [True]
    box.backend.delete_instance("one", Deadline(SECONDS))
    assert box.backend.get_instance("one") is None
    assert box.left == set()


def test_an_empty_answer_of_a_server_without_its_pool_is_no_absence(box: Box) -> None:
    box.make()
    box.simulation.state.initialized = False
    with pytest.raises(ConfigError, match="NO_POOL"):
        box.backend.get_instance("one")
    with pytest.raises(ConfigError, match="NO_POOL"):
        box.backend.list_instances()


def test_a_failure_to_look_is_no_absence(box: Box) -> None:
    box.make()
    box.simulation.faults.add("fail", "virt.instance.query", words="no", times=9)
    with pytest.raises(OperationFailed):
        box.backend.delete_instance("one", Deadline(SECONDS))
    box.simulation.faults.clear()
    assert box.get().status == "stopped"


def test_the_address_is_that_of_the_managed_interface(box: Box) -> None:
    box.make()
    box.power("start")
    aliases = box.engine.addresses("px-one")
    assert [alias["address"] for alias in aliases][1] == "172.17.0.1"
    assert box.get().addresses == (aliases[0]["address"],)


def test_long_values_and_odd_ones_are_kept_as_they_are(box: Box) -> None:
    made = box.make()
    values = {"egress": "ä" * 5000, "label.a": "", "label.b": "=x, y: 'z' \\"}
    box.backend.update_instance(made, InstanceChange(keys=values), Deadline(SECONDS))
    keys = box.get().keys
    assert {key: keys[key] for key in values} == values
    box.backend.update_instance(box.get(), InstanceChange(keys={"egress": "short"}), Deadline(SECONDS))
    assert box.again().get_instance("one").keys["egress"] == "short"  # type: ignore[union-attr]


# -- two at once, and runs that were killed


def test_of_many_writers_each_change_is_kept(box: Box) -> None:
    box.make()
    ended: list[str] = []

    def write(number: int) -> None:
        other = box.again()
        while True:
            found = other.get_instance("one")
            assert found
            try:
                other.update_instance(found, InstanceChange(keys={f"label.n{number}": "1"}), Deadline(SECONDS))
            except Conflict:
                ended.append("conflict")
                continue
            break
        other.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(box.get().labels) == {"n0", "n1", "n2", "n3"}
    assert not [text for text in box.left if "@write" in text]


def test_the_mark_of_a_writer_that_was_killed_stands_in_nobodys_way(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.pixels.sandbox.plugins.module_utils._truenas import state

    monkeypatch.setattr(state, "_PATIENCE", 0.1)
    made = box.make()
    number = box.backend._states.get("one").number  # type: ignore[union-attr]
    box.backend._snapshots.create("tank/pixels/one", f"write-{number + 1}", Deadline(SECONDS))
    box.backend.update_instance(made, InstanceChange(keys={"label.a": "1"}), Deadline(SECONDS))
    assert box.get().labels == {"a": "1"}


def test_a_creation_that_was_killed_is_seen_and_made_again(box: Box) -> None:
    def die(*_args: object) -> None:
        raise KeyboardInterrupt

    box.backend._finish = die  # type: ignore[assignment,method-assign]
    with pytest.raises(KeyboardInterrupt):
        box.backend.create_instance(spec(), Deadline(SECONDS))
    box.backend = box.again()
    assert box.get().unfinished
    with pytest.raises(Conflict):
        box.make()
    box.backend.delete_instance("one", Deadline(SECONDS))
    assert box.left == set()
    assert not box.make().unfinished


# -- a server that misbehaves


@pytest.mark.parametrize("method", ["virt.instance.create", "virt.instance.start", "virt.instance.stop"])
@pytest.mark.parametrize("fault", ["drop_job", "slow_job"])
def test_a_broken_connection_or_a_slow_job_changes_nothing_of_a_creation(box: Box, method: str, fault: str) -> None:
    box.simulation.faults.add(fault, method, **({"seconds": 0.3} if fault == "slow_job" else {}))
    assert not box.make().unfinished
    assert len(box.simulation.calls("virt.instance.create")) == 1


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("fail_job", "virt.instance.create"),
        ("fail_late", "virt.instance.create"),
        ("fail_job", "virt.instance.start"),
        ("fail", "filesystem.file_receive"),
        ("fail_job", "virt.instance.stop"),
    ],
)
def test_a_creation_that_fails_says_so_and_leaves_nothing(box: Box, kind: str, method: str) -> None:
    box.simulation.faults.add(kind, method, words="the disk is full")
    with pytest.raises(PixelsError, match="the disk is full"):
        box.make()
    assert box.left == set()
    assert not box.make().unfinished


def test_a_creation_whose_job_the_server_forgot_is_looked_for(box: Box) -> None:
    box.simulation.faults.add("vanish", "virt.instance.create")
    with pytest.raises(OutcomeUnknown):
        box.make()
    assert box.left == set()


def test_what_could_not_be_cleared_away_is_named_and_marked(box: Box) -> None:
    box.simulation.faults.add("fail", "filesystem.file_receive", words="no")
    box.simulation.faults.add("fail_job", "virt.instance.delete", words="never", times=9)
    with pytest.raises(OperationFailed, match=r"px-one could not be removed.*never.*marked as unfinished"):
        box.make()
    box.simulation.faults.clear()
    assert box.get().unfinished
    if box.get().status != "stopped":
        box.power("stop")
    box.backend.delete_instance("one", Deadline(SECONDS))
    assert box.left == set()


def test_a_deadline_says_what_is_left(box: Box) -> None:
    box.simulation.faults.add("slow_job", "virt.instance.create", seconds=1.5)
    with pytest.raises(DeadlineExceeded, match="px-one is marked as unfinished"):
        box.backend.create_instance(spec(), Deadline(0.5))
    assert box.get().unfinished


@pytest.mark.parametrize("method", ["clone", "dataset", "start"])
def test_a_clone_that_fails_leaves_its_source_as_it_was_and_nothing_else(box: Box, method: str) -> None:
    box.make()
    before = box.left
    snapshots = box.backend._snapshots
    names = {"clone": snapshots.method("clone"), "dataset": "zfs.dataset.delete", "start": "virt.instance.start"}
    box.simulation.faults.add("fail_job" if method == "start" else "fail", names[method], words="it is busy")
    with pytest.raises(PixelsError, match="it is busy"):
        box.make("two", CloneSource("one"))
    assert box.left == before
    assert box.make("two", CloneSource("one")).depends_on == "one"


def test_a_clone_that_was_killed_without_its_disk_is_cleared_away(box: Box) -> None:
    def die(*_args: object) -> None:
        raise KeyboardInterrupt

    box.make()
    box.backend._snapshots.clone = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        box.make("two", CloneSource("one"))
    box.backend = box.again()
    assert (box.get("two").unfinished, box.get("two").status) == (True, "stopped")
    box.backend.delete_instance("two", Deadline(SECONDS))
    assert not [text for text in box.left if "two" in text]
    assert box.make("two", CloneSource("one")).depends_on == "one"


def test_a_disk_that_is_busy_is_deleted_a_moment_later(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.pixels.sandbox.plugins.module_utils._truenas import backend

    monkeypatch.setattr(backend, "_BUSY_SECONDS", 0.01)
    box.make()
    box.simulation.faults.add("fail_job", "virt.instance.delete", words="dataset is busy", times=2)
    box.backend.delete_instance("one", Deadline(SECONDS))
    assert box.left == set()


# -- rights and releases


def test_what_the_user_may_not_do_is_said_before_anything_is_made(box: Box) -> None:
    limited = box.again("limited")
    with pytest.raises(AuthenticationFailed, match=r"filesystem\.put"):
        limited.create_instance(spec(), Deadline(SECONDS))
    limited.close()
    assert box.left == set()
    assert not box.simulation.calls("virt.instance.create")


def test_without_a_key_for_ssh_no_full_administrator_is_needed_and_nobody_gets_in(box: Box) -> None:
    limited = box.again("limited", key_file="")
    limited.create_instance(spec(), Deadline(SECONDS))
    limited.set_power("one", "start", Deadline(SECONDS))
    with pytest.raises(ConfigError, match="truenas_ssh_key"):
        limited.execute("one", ExecRequest(("true",)), Deadline(SECONDS))
    limited.close()
    assert not box.simulation.calls("filesystem.file_receive")


@pytest.mark.parametrize("version", ["24.10", "26"])
def test_other_releases_are_named(version: str, tmp_path: Path) -> None:
    with Simulation(tmp_path, version, busy_seconds=0) as simulation:
        rpc = Rpc(Transport(endpoint_from(simulation.options()), 1 << 20), HURRY)
        backend = TrueNasBackend(rpc)
        with pytest.raises(Unsupported, match=version.replace(".", r"\.")):
            backend.list_instances()
        backend.close()


def test_a_file_cannot_be_reached_in_a_sandbox_that_does_not_run(box: Box) -> None:
    box.make()
    for work in (
        lambda: box.backend.has_file("one", "/etc/passwd"),
        lambda: box.backend.read_file("one", "/etc/passwd", io.BytesIO()),
        lambda: box.backend.write_file("one", "/root/it", io.BytesIO()),
        lambda: box.backend.delete_file("one", "/root/it"),
    ):
        with pytest.raises(Unsupported, match="does not run"):
            work()
    assert box.get().status == "stopped"


@pytest.mark.parametrize("memory", [2**20, 10**9 + 1])
def test_memory_that_the_server_would_round_is_refused(box: Box, memory: int) -> None:
    with pytest.raises(Unsupported, match="memory"):
        box.make(limits=Limits(memory=memory))
    assert box.left == set()


# -- checkpoints and clones


def test_checkpoints_have_the_times_of_zfs_and_are_listed_by_age(box: Box) -> None:
    box.make()
    for label in ("c", "a", "B"):
        box.take(label)
    box.backend._snapshots.create("tank/.ix-virt/containers/px-one", "auto-2026", Deadline(SECONDS))
    found = box.backend.list_checkpoints("one")
    assert [checkpoint.label for checkpoint in found] == ["c", "a", "B"]
    assert all(checkpoint.created_at and checkpoint.created_at.year >= 2026 for checkpoint in found)
    assert not box.simulation.calls(box.backend._snapshots.method("rollback"))


def test_a_restore_never_has_the_server_destroy_what_is_newer(box: Box) -> None:
    box.make()
    box.take("a")
    box.take("b")
    assert box.backend.lost_by_restore(box.get(), "a") == ("b",)
    with pytest.raises(PixelsError):
        box.backend.restore_checkpoint(box.get(), "a", Deadline(SECONDS))
    assert [checkpoint.label for checkpoint in box.backend.list_checkpoints("one")] == ["a", "b"]
    assert all(params[1] == {} for params in box.simulation.calls(box.backend._snapshots.method("rollback")))


def test_snapshots_of_others_are_named_and_left_alone(box: Box) -> None:
    box.make()
    box.take("a")
    box.backend._snapshots.create("tank/.ix-virt/containers/px-one", "auto-2026", Deadline(SECONDS))
    with pytest.raises(ConfigError, match="not ours, auto-2026"):
        box.backend.lost_by_restore(box.get(), "a")


def test_what_is_recorded_of_the_disk_goes_where_the_disk_goes(box: Box) -> None:
    made = box.make()
    box.take("bare")
    ready = InstanceChange(keys={"provision.status": "ready", "label.a": "1"})
    box.backend.update_instance(made, ready, Deadline(SECONDS))
    assert box.make("now", CloneSource("one")).provision.status == "ready"
    assert box.make("then", CloneSource("one", "bare")).provision.status == "none"
    box.backend.delete_instance("now", Deadline(SECONDS))
    box.backend.restore_checkpoint(box.get(), "bare", Deadline(SECONDS))
    assert (box.get().provision.status, box.get().labels) == ("none", {"a": "1"})


def test_a_restore_that_was_broken_off_is_finished_by_the_next_start(box: Box) -> None:
    made = box.make()
    box.write("/root/it", "then")
    box.take("a")
    box.write("/root/it", "now")
    ready = InstanceChange(keys={"provision.status": "ready"})
    box.backend.update_instance(made, ready, Deadline(SECONDS))
    box.simulation.faults.add("drop_request", box.backend._snapshots.method("rollback"))
    with pytest.raises(OutcomeUnknown):
        box.backend.restore_checkpoint(box.get(), "a", Deadline(SECONDS))
    assert box.get().provision.status == "none"
    box.power("start")
    assert box.text("/root/it") == "then"


def test_what_a_clone_shares_is_seen_and_kept_until_it_goes(box: Box) -> None:
    box.make()
    box.take("a")
    assert box.make("two", CloneSource("one", "a")).depends_on == "one:a"
    assert box.make("three", CloneSource("one")).depends_on == "one"
    with pytest.raises(ConfigError, match=r"a of one has clones.*two"):
        box.backend.delete_checkpoint("one", "a", Deadline(SECONDS))
    with pytest.raises(ConfigError, match="three"):
        box.backend.lost_by_restore(box.get(), "a")
    for name in ("two", "three"):
        box.backend.delete_instance(name, Deadline(SECONDS))
    box.backend.delete_checkpoint("one", "a", Deadline(SECONDS))
    assert not [text for text in box.left if "@" in text]


def test_a_source_can_go_before_its_clones(box: Box) -> None:
    box.make()
    box.write("/root/it", "kept")
    box.make("two", CloneSource("one"))
    box.backend.delete_instance("one", Deadline(SECONDS))
    box.power("start", "two")
    assert box.text("/root/it", "two") == "kept"
    box.power("stop", "two")
    box.backend.delete_instance("two", Deadline(SECONDS))
    assert not box.simulation.state.instances


def test_only_a_shell_of_ours_is_ever_destroyed(box: Box) -> None:
    box.make()
    box.take("a")
    box.make("two", CloneSource("one", "a"))
    assert [params[0] for params in box.simulation.calls("zfs.dataset.delete")] == ["tank/.ix-virt/containers/px-two"]
    assert not [name for name, _params in box.simulation.seen if name.startswith("cronjob.")]


def test_a_clone_of_what_was_made_without_a_way_in_is_refused_before_anything(box: Box) -> None:
    without = box.again(key_file="")
    without.create_instance(spec(), Deadline(SECONDS))
    before = box.left
    with pytest.raises(ConfigError, match="identity of its own over SSH"):
        box.make("two", CloneSource("one"))
    without.close()
    assert box.left == before


# -- the way in


def test_the_bootstrap_is_the_only_file_that_the_nas_ever_writes(box: Box) -> None:
    box.make()
    box.power("start")
    box.backend.write_file("one", "/root/it", io.BytesIO(b"text"))
    box.make("two", CloneSource("one"))
    ((path, _content, options),) = box.simulation.calls("filesystem.file_receive")
    assert path == "/var/lib/incus/storage-pools/tank/containers/px-one/rootfs/etc/rc.local"
    assert options["mode"] == 0o700
    assert box.simulation.state.nas_files == {}


@pytest.mark.parametrize("trap", ["/etc/rc.local", "/etc"])
def test_a_link_in_the_image_leads_no_write_anywhere(box: Box, trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = box.engine.start

    def start(name: str) -> None:
        started(name)
        files = box.engine._disk(name).files
        files[trap] = File(b"/etc/cron.d/x" if trap == "/etc/rc.local" else b"/srv", kind="SYMLINK")

    monkeypatch.setattr(box.engine, "start", start)
    with pytest.raises(OperationFailed, match="nothing was written"):
        box.make()
    assert not box.simulation.calls("filesystem.file_receive")
    assert box.simulation.state.nas_files == {}
    assert box.left == set()


def test_a_file_of_the_image_in_its_place_is_not_written_over(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    started = box.engine.start

    def start(name: str) -> None:
        started(name)
        box.engine.write(name, "/etc/rc.local", File(b"mine"))

    monkeypatch.setattr(box.engine, "start", start)
    with pytest.raises(OperationFailed, match=r"rc\.local of its own"):
        box.make()
    assert box.left == set()


def test_each_sandbox_shows_a_host_key_of_its_own_that_is_known_before_it_runs(box: Box) -> None:
    box.make()
    box.make("two", CloneSource("one"))
    keys = {}
    for name in ("one", "two"):
        box.power("start", name)
        way = box.get(name).ssh
        assert way
        assert way.host_key == box.engine.shown[f"px-{name}"]
        assert way.alias == f"px-{name}"
        keys[name] = way.host_key
    assert keys["one"] != keys["two"]


def test_a_host_that_shows_another_key_is_not_entered(box: Box) -> None:
    box.make()
    box.power("start")
    assert box.backend.has_file("one", "/etc/passwd")
    box.power("stop")
    box.write(f"{KEY}.pub", "ssh-ed25519 AAAAother root@px-one\n")
    box.power("start")
    with pytest.raises(ConnectionFailed, match="host key"):
        box.backend.has_file("one", "/etc/passwd")


def test_how_a_person_enters_is_told_with_the_key_that_the_host_has(box: Box) -> None:
    box.make()
    box.power("start")
    way = box.get().ssh
    assert way
    text = box.backend.console("one", ("su", "-l")).command
    assert text.startswith("ssh -t ")
    for word in (way.host_key, "StrictHostKeyChecking=yes", f"HostKeyAlias={way.alias}", f"root@{way.address}"):
        assert word in text
    assert "accept-new" not in text


def test_one_login_is_enough_for_many_sandboxes(box: Box) -> None:
    for name in ("one", "two", "three"):
        box.make(name)
    box.backend.list_instances()
    assert box.simulation.logins == 1


def test_a_network_is_a_bridge_of_the_server_that_the_operator_names(box: Box) -> None:
    assert box.make(network="br0").network == "br0"
    other = box.make("two")
    box.backend.update_instance(other, InstanceChange(network="br0"), Deadline(SECONDS))
    assert box.get("two").network == "br0"
    with pytest.raises(ConfigError, match="there is no network br9; there are: br0"):
        box.backend.update_instance(box.get("two"), InstanceChange(network="br9"), Deadline(SECONDS))


def test_nothing_outside_of_a_sandbox_confines_it(box: Box) -> None:
    with pytest.raises(Unsupported, match="filters no traffic"):
        box.backend.check_egress_permitted()
    assert box.backend.gateway_site() is None
    assert box.backend.features.enforcement == "guest"
