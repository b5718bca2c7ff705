# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every backend does: on the fake Incus, on a simulated TrueNAS and, with PIXELS_TEST_INCUS set, on the real Incus in a project of its own.

The fake is trusted because this one file passes against both. What a backend has no place for it has to refuse: a test that needs it ends
in Unsupported there, and with nothing made.
"""

from __future__ import annotations

import functools
import io
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    ConfigError,
    Conflict,
    NotFound,
    OperationFailed,
    PixelsError,
    Unsupported,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_HARDENING,
    KEY_KIND,
    KEY_OWNER,
    KEY_PROTECTED,
    KEY_UNFINISHED,
    SANDBOX,
    CloneSource,
    ExecRequest,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Limits,
    Mount,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend, incus_backend
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.backend import TrueNasBackend
from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.rpc import rpc_from
from support import quotas
from support.fake_incus import FakeIncus
from support.truenas.engine import File
from support.truenas.fake_guests import BootingEngine, FakeGuests, fake_ssh, key_pair
from support.truenas.server import Simulation

GIB = 2**30
SECONDS = 90


@dataclass
class Place:
    """A backend with what the server behind it has to offer."""

    backend: Backend
    image: str
    pool: str | None = None
    network: str | None = None
    kind: str = "incus"
    version: str = "6."

    @property
    def hardening(self) -> str:
        """The level that a sandbox gets by itself."""
        return self.backend.features.hardening[0]

    def spec(self, name: str, origin: ImageSource | CloneSource | None = None, **more: object) -> InstanceSpec:
        """Return what a planner would ask for."""
        keys = {
            KEY_KIND: SANDBOX,
            KEY_HARDENING: str(more.get("hardening", self.hardening)),
            KEY_UNFINISHED: f"2026-01-01T00:00:00Z/{secrets.token_hex(8)}",
        }
        base = InstanceSpec(
            name,
            origin or ImageSource(self.image),
            keys,
            hardening=self.hardening,
            pool=self.pool,
            network=self.network,
        )
        more["keys"] = {**keys, **dict(more.get("keys", {}))}  # type: ignore[call-overload]
        return replace(base, **more)  # type: ignore[arg-type]

    def make(self, name: str, origin: ImageSource | CloneSource | None = None, **more: object) -> Instance:
        """Make a sandbox and return it."""
        self.backend.create_instance(self.spec(name, origin, **more), Deadline(SECONDS))
        return self.get(name)

    def get(self, name: str) -> Instance:
        """Return a sandbox that is there."""
        found = self.backend.get_instance(name)
        assert found is not None
        return found

    def open(self, name: str) -> str:
        """Make a sandbox whose files can be reached, which some servers allow only while it runs; return its name."""
        self.make(name)
        if "stopped_files" not in self.backend.features.options:
            self.backend.set_power(name, "start", Deadline(SECONDS))
        return name

    def has(self, name: str, path: str) -> bool:
        """Say whether there is anything at a path in a sandbox."""
        return self.backend.has_file(name, path)

    def text(self, name: str, path: str) -> str:
        """Return the text of a file in a sandbox."""
        target = io.BytesIO()
        self.backend.read_file(name, path, target)
        return target.getvalue().decode()

    def write(self, name: str, path: str, text: str) -> None:
        """Write a text into a sandbox."""
        self.backend.write_file(name, path, io.BytesIO(text.encode()))

    def clean(self) -> None:
        """Remove every sandbox."""
        for found in self.backend.list_instances(addresses=False):
            if found.status != "stopped":
                self.backend.set_power(found.name, "stop", Deadline(SECONDS), force=True)
            self.backend.delete_instance(found.name, Deadline(SECONDS))


@dataclass
class TrueNasPlace(Place):
    """A simulated TrueNAS: what is on the disks of its sandboxes is seen and changed from behind its back."""

    engine: BootingEngine | None = None

    def has(self, name: str, path: str) -> bool:
        assert self.engine
        return self.engine.look(f"px-{name}", path) is not None

    def text(self, name: str, path: str) -> str:
        assert self.engine
        found = self.engine.look(f"px-{name}", path)
        assert found
        return found.content.decode()

    def write(self, name: str, path: str, text: str) -> None:
        assert self.engine
        if not self.engine.look(f"px-{name}", path.rpartition("/")[0]):
            raise NotFound(f"there is no folder for {path}")
        self.engine.write(f"px-{name}", path, File(text.encode()))


Test = Callable[..., None]


def needs(option: str | Callable[[Mapping[str, Any]], str]) -> Callable[[Test], Test]:
    """Have a test end in Unsupported where the server has no place for an option or a level; C(option) may depend on the arguments."""

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(**arguments: Any) -> None:
            place: Place = arguments["place"]
            wanted = option if isinstance(option, str) else option(arguments)
            features = place.backend.features
            if wanted in features.options or wanted in features.hardening:
                test(**arguments)
                return
            there = place.backend.list_instances()
            with pytest.raises(Unsupported):
                test(**arguments)
            # at most what the test made before it came to what there is no place for
            assert not [found for found in place.backend.list_instances() if found.unfinished and found not in there]

        return run

    return decorate


def incus(*argv: str) -> None:
    """Run the Incus client."""
    subprocess.run(["incus", *argv], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def real_place() -> Iterator[Place]:
    """A throw-away project of the real server."""
    project = f"pxt-{secrets.token_hex(4)}"
    incus("project", "create", project, "-c", "features.images=false", "-c", "features.networks=false")
    try:
        backend = incus_backend({"incus_project": project})
        image = os.environ.get("PIXELS_TEST_IMAGE", "pixels/debian/13")
        pool, network = os.environ.get("PIXELS_TEST_POOL"), os.environ.get("PIXELS_TEST_NETWORK")
        place = Place(backend, image, pool, network)
        try:
            yield place
        finally:
            place.clean()
            backend.close()
    finally:
        incus("project", "delete", project)


REAL = pytest.param(
    "real",
    marks=pytest.mark.skipif(not os.environ.get("PIXELS_TEST_INCUS"), reason="PIXELS_TEST_INCUS is not set"),
)


#: What is asked of Incus alone, for another reason than that TrueNAS refuses it; the tests of that backend have its own way.
INCUS_ONLY = pytest.mark.parametrize("place", ["fake", REAL], indirect=True)
TRUENAS = ["truenas-25.04", "truenas-25.10"]


@pytest.fixture(params=["fake", *TRUENAS, REAL])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Each of the servers, without any sandbox."""
    if request.param == "fake":
        yield Place(IncusBackend(FakeIncus().transport()), "debian/13")
        return
    if request.param in TRUENAS:
        monkeypatch.setenv("PATH", str(fake_ssh(tmp_path / "bin")), prepend=os.pathsep)
        version, engine = request.param.removeprefix("truenas-"), BootingEngine()
        with Simulation(tmp_path, version, engine) as simulation:
            backend = TrueNasBackend(
                rpc_from(simulation.options()), key_file=key_pair(tmp_path), guests=FakeGuests(engine)
            )
            yield TrueNasPlace(backend, "debian/13", kind="truenas", version=version, engine=engine)
            backend.close()
            assert not simulation.unknown
        return
    found: Place = request.getfixturevalue("real_place")
    with quotas.as_before():
        yield found
        found.clean()


@pytest.fixture
def running(place: Place) -> str:
    """Return the name of a sandbox that runs."""
    place.make("runs")
    place.backend.set_power("runs", "start", Deadline(SECONDS))
    return "runs"


# -- what there is


def test_the_server_says_what_it_can_do(place: Place) -> None:
    found = place.backend.capabilities()
    assert found.backend == place.kind
    assert found.server_version.startswith(place.version)
    assert found.cores >= 1
    assert not found.clustered


def test_what_is_not_there_is_none_to_a_read(place: Place) -> None:
    assert place.backend.get_instance("nobody") is None
    assert place.backend.list_instances() == ()
    assert not place.backend.is_busy("nobody")


def test_images_have_their_aliases(place: Place) -> None:
    assert any(place.image in image.aliases for image in place.backend.list_images())


def test_sandboxes_are_listed_by_name_as_they_are_read_alone(place: Place) -> None:
    made = [place.make(name) for name in ("b", "a", "c")]
    listed = place.backend.list_instances()
    assert [found.name for found in listed] == ["a", "b", "c"]
    assert list(listed) == sorted(made, key=lambda found: found.name)


@INCUS_ONLY
def test_an_image_is_found_by_its_fingerprint_and_by_the_beginning_of_it(place: Place) -> None:
    (image,) = [image for image in place.backend.list_images() if place.image in image.aliases]
    for number, text in enumerate((image.fingerprint, image.fingerprint[:12])):
        assert place.make(f"one{number}", ImageSource(text)).status == "stopped"


# -- making


@needs("disk")
def test_a_sandbox_is_made_stopped_with_what_was_asked(place: Place) -> None:
    made = place.make("one", limits=Limits(cpu=1, memory=GIB // 2, disk=3 * GIB, processes=500), keys={KEY_OWNER: "me"})
    assert made.status == "stopped"
    assert made.kind == SANDBOX
    assert made.keys == {KEY_KIND: SANDBOX, KEY_HARDENING: "standard", KEY_OWNER: "me"} | _shared(place, made)
    assert made.limits == Limits(cpu=1, memory=GIB // 2, disk=3 * GIB, processes=500)
    assert made.hardening == "standard"
    assert not made.nesting
    assert made.pool
    assert made.network
    assert made.created_at is not None
    assert not made.restart_required


def _shared(place: Place, made: Instance) -> dict[str, str]:
    """Return the key that says that the server had no room for ids of its own, where it would have them."""
    return {} if made.isolated or place.hardening == "none" else {"shared_ids": "true"}


@needs(lambda arguments: str(arguments["level"]))
@pytest.mark.parametrize("level", ["none", "standard", "strict"])
def test_each_level_of_hardening_is_in_force_as_asked(place: Place, level: str) -> None:
    made = place.make("one", hardening=level)
    assert made.hardening == level


@needs("strict")
def test_strict_has_a_quota_of_its_own(place: Place) -> None:
    assert place.make("one", hardening="strict").limits.disk == 10 * GIB


@needs("nesting")
def test_nesting_and_autostart_are_as_asked(place: Place) -> None:
    made = place.make("one", nesting=True, autostart=False)
    assert (made.nesting, made.autostart) == (True, False)


def test_a_name_that_is_taken_is_a_conflict_and_its_owner_stays_as_it_was(place: Place) -> None:
    made = place.make("one")
    with pytest.raises(Conflict):
        place.make("one", limits=Limits(cpu=1))
    assert place.get("one") == made


def test_of_two_creations_at_once_one_wins(place: Place) -> None:
    ended: list[PixelsError | None] = []
    gate = threading.Barrier(2)

    def create() -> None:
        gate.wait()
        try:
            place.backend.create_instance(place.spec("one"), Deadline(SECONDS))
            ended.append(None)
        except PixelsError as exc:
            ended.append(exc)

    threads = [threading.Thread(target=create) for _turn in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(end) for end in ended if end) == [Conflict]
    assert not place.get("one").unfinished


def test_an_unknown_image_names_those_there_are_and_leaves_nothing(place: Place) -> None:
    with pytest.raises(ConfigError, match=rf"image.*nothing/like/it.*{place.image}"):
        place.make("one", ImageSource("nothing/like/it"))
    assert place.backend.list_instances() == ()


def test_an_unknown_source_is_named_and_leaves_nothing(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"clone_from.*nobody"):
        place.make("one", CloneSource("nobody"))
    assert place.backend.list_instances() == ()


def test_an_unknown_checkpoint_names_those_there_are_and_leaves_nothing(place: Place) -> None:
    place.make("source")
    place.backend.create_checkpoint("source", "ready", None, Deadline(SECONDS))
    with pytest.raises(ConfigError, match=r"clone_from.*source has no checkpoint other.*ready"):
        place.make("one", CloneSource("source", "other"))
    assert place.backend.get_instance("one") is None


@pytest.mark.parametrize("option", ["pool", "network"])
def test_an_unknown_pool_or_network_names_those_there_are(place: Place, option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}: there is no {option} nowhere; there are: .+"):
        place.make("one", **{option: "nowhere"})
    assert place.backend.list_instances() == ()


@INCUS_ONLY
def test_an_unknown_profile_names_those_there_are(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"profiles: there is no profile nowhere.*default"):
        place.make("one", profiles=("nowhere",))


@needs("mounts")
def test_mounts_are_made_in_the_order_given(place: Place, tmp_path: object) -> None:
    mounts = (Mount(str(tmp_path), "/srv/b"), Mount(str(tmp_path), "/srv/a", readonly=False))
    assert place.make("one", mounts=mounts).mounts == mounts


# -- clones


def test_a_clone_has_the_disk_of_its_source_and_an_identity_of_its_own(place: Place) -> None:
    place.make("source")
    # images differ in what they have before their first start
    for path in ("/root/mine", "/etc/machine-id", "/etc/hostname"):
        place.write("source", path, "kept")
    before = {path: place.text("source", path) for path in ("/etc/machine-id", "/etc/hostname")}
    place.make("twin", CloneSource("source"))
    assert place.text("twin", "/root/mine") == "kept"
    assert place.text("twin", "/etc/machine-id") == ""
    assert place.text("twin", "/etc/hostname") == "px-twin\n"
    assert {path: place.text("source", path) for path in before} == before


def test_a_clone_has_ssh_host_keys_of_its_own(place: Place) -> None:
    place.make("source")
    for kind in ("ed25519", "rsa", "ecdsa", "dsa"):
        if place.has("source", "/etc/ssh"):
            place.write("source", f"/etc/ssh/ssh_host_{kind}_key", "old")
            place.write("source", f"/etc/ssh/ssh_host_{kind}_key.pub", "old")
    if not place.has("source", "/etc/ssh"):
        pytest.skip("the image has no folder for SSH keys")
    place.make("twin", CloneSource("source"))
    for kind, word in (("ed25519", "ssh-ed25519 "), ("rsa", "ssh-rsa "), ("ecdsa", "ecdsa-sha2-nistp256 ")):
        assert "OPENSSH PRIVATE KEY" in place.text("twin", f"/etc/ssh/ssh_host_{kind}_key")
        assert place.text("twin", f"/etc/ssh/ssh_host_{kind}_key.pub").startswith(word)
    assert not place.has("twin", "/etc/ssh/ssh_host_dsa_key")
    assert place.text("source", "/etc/ssh/ssh_host_rsa_key") == "old"


def test_a_clone_of_a_checkpoint_has_the_disk_of_then_and_not_the_keys(place: Place) -> None:
    place.make("source", keys={KEY_OWNER: "them", "label.team": "red"})
    place.write("source", "/root/mine", "then")
    place.backend.create_checkpoint("source", "ready", None, Deadline(SECONDS))
    place.write("source", "/root/mine", "now")
    twin = place.make("twin", CloneSource("source", "ready"), keys={KEY_OWNER: "me"})
    assert place.text("twin", "/root/mine") == "then"
    assert twin.keys == {KEY_KIND: SANDBOX, KEY_HARDENING: place.hardening, KEY_OWNER: "me"} | _shared(place, twin)
    assert place.backend.list_checkpoints("twin") == ()


@needs("mounts")
def test_a_clone_has_no_mounts_of_its_source_nor_of_its_checkpoint(place: Place, tmp_path: object) -> None:
    source = place.make("source", mounts=(Mount(str(tmp_path), "/srv/then"),))
    place.backend.create_checkpoint("source", "ready", None, Deadline(SECONDS))
    change = InstanceChange(mounts=(Mount(str(tmp_path), "/srv/now"),))
    place.backend.update_instance(source, change, Deadline(SECONDS))
    assert place.make("twin", CloneSource("source", "ready")).mounts == ()
    assert place.make("other", CloneSource("source")).mounts == ()


def test_a_clone_takes_the_present_limits_of_its_source_and_not_those_of_the_checkpoint(place: Place) -> None:
    source = place.make("source", limits=Limits(memory=GIB // 4))
    place.backend.create_checkpoint("source", "ready", None, Deadline(SECONDS))
    place.backend.update_instance(source, InstanceChange(Limits(memory=GIB // 2)), Deadline(SECONDS))
    twin = place.make("twin", CloneSource("source", "ready"), limits=Limits(cpu=1))
    assert (twin.limits.cpu, twin.limits.memory) == (1, GIB // 2)


# -- changing


def test_what_is_not_named_in_a_change_stays(place: Place) -> None:
    made = place.make("one", limits=Limits(cpu=1, memory=GIB), keys={KEY_OWNER: "me", "label.a": "1"})
    change = InstanceChange(Limits(memory=2 * GIB), autostart=True, keys={KEY_OWNER: None, "label.b": "2"})
    place.backend.update_instance(made, change, Deadline(SECONDS))
    after = place.get("one")
    assert (after.limits.cpu, after.limits.memory, after.autostart) == (1, 2 * GIB, True)
    assert KEY_OWNER not in after.keys
    assert after.labels == {"a": "1", "b": "2"}
    assert (after.hardening, after.network, after.pool) == (made.hardening, made.network, made.pool)


@needs("disk")
def test_a_disk_that_grows_keeps_its_pool(place: Place) -> None:
    made = place.make("one", limits=Limits(disk=3 * GIB))
    place.backend.update_instance(made, InstanceChange(Limits(disk=4 * GIB)), Deadline(SECONDS))
    after = place.get("one")
    assert (after.limits.disk, after.pool) == (4 * GIB, made.pool)


@needs("mounts")
def test_mounts_are_replaced_as_a_whole(place: Place, tmp_path: object) -> None:
    made = place.make("one", mounts=(Mount(str(tmp_path), "/srv/a"), Mount(str(tmp_path), "/srv/b")))
    wanted = (Mount(str(tmp_path), "/srv/c"),)
    place.backend.update_instance(made, InstanceChange(mounts=wanted), Deadline(SECONDS))
    assert place.get("one").mounts == wanted


@needs("strict")
@pytest.mark.parametrize(("old", "new"), [("none", "strict"), ("strict", "standard"), ("standard", "none")])
def test_a_change_of_level_leaves_nothing_of_the_old_one(place: Place, old: str, new: str) -> None:
    made = place.make("one", hardening=old)
    place.backend.update_instance(made, InstanceChange(hardening=new), Deadline(SECONDS))
    assert place.get("one").hardening == new


def test_a_stale_revision_is_a_conflict_and_changes_nothing(place: Place) -> None:
    stale = place.make("one")
    place.backend.update_instance(stale, InstanceChange(keys={"label.first": "1"}), Deadline(SECONDS))
    with pytest.raises(Conflict):
        place.backend.update_instance(stale, InstanceChange(keys={"label.second": "2"}), Deadline(SECONDS))
    assert place.get("one").labels == {"first": "1"}


def test_a_start_meanwhile_is_no_conflict(place: Place) -> None:
    made = place.make("one")
    place.backend.set_power("one", "start", Deadline(SECONDS))
    place.backend.update_instance(made, InstanceChange(keys={"label.first": "1"}), Deadline(SECONDS))
    assert place.get("one").labels == {"first": "1"}


@needs("nesting")
def test_what_only_a_start_brings_is_said_until_then(place: Place, running: str) -> None:
    place.backend.update_instance(place.get(running), InstanceChange(nesting=True), Deadline(SECONDS))
    assert place.get(running).restart_required
    place.backend.set_power(running, "stop", Deadline(SECONDS), force=True)
    place.backend.set_power(running, "start", Deadline(SECONDS))
    assert not place.get(running).restart_required


# -- power and end


@needs("freeze")
def test_power_goes_through_its_states(place: Place) -> None:
    place.make("one")
    for action, status in (
        ("start", "running"),
        ("freeze", "frozen"),
        ("unfreeze", "running"),
        ("stop", "stopped"),
        ("start", "running"),
    ):
        place.backend.set_power("one", action, Deadline(SECONDS), force=True)
        assert place.get("one").status == status


def test_a_start_of_what_runs_is_the_servers_refusal(place: Place, running: str) -> None:
    with pytest.raises(OperationFailed, match="already running"):
        place.backend.set_power(running, "start", Deadline(SECONDS))


def test_a_guest_gets_an_address_that_others_can_reach(place: Place, running: str) -> None:
    deadline = Deadline(SECONDS)
    while not place.get(running).addresses:
        deadline.pause(0.05, "no address")
    listed = {found.name: found.addresses for found in place.backend.list_instances()}
    assert listed[running] == place.get(running).addresses
    assert not any(address.startswith(("127.", "fe80:")) for address in listed[running])


def test_a_stopped_sandbox_goes_with_its_checkpoints(place: Place) -> None:
    place.make("one")
    place.backend.create_checkpoint("one", "ready", None, Deadline(SECONDS))
    place.backend.delete_instance("one", Deadline(SECONDS))
    assert place.backend.get_instance("one") is None


def test_a_running_sandbox_is_not_deleted(place: Place, running: str) -> None:
    with pytest.raises(ApiError):
        place.backend.delete_instance(running, Deadline(SECONDS))
    assert place.get(running).status == "running"


def test_writes_to_what_is_not_there_say_so(place: Place) -> None:
    backend, deadline = place.backend, Deadline(SECONDS)
    ghost = replace(place.make("one"), name="nobody", server_name="px-nobody")
    with pytest.raises(NotFound):
        backend.set_power("nobody", "start", deadline)
    with pytest.raises(NotFound):
        backend.delete_instance("nobody", deadline)
    with pytest.raises(NotFound):
        backend.update_instance(ghost, InstanceChange(autostart=True), deadline)
    with pytest.raises(NotFound):
        backend.list_checkpoints("nobody")
    with pytest.raises(NotFound):
        backend.create_checkpoint("nobody", "ready", None, deadline)
    with pytest.raises(NotFound):
        backend.restore_checkpoint(ghost, "ready", deadline)
    with pytest.raises(NotFound):
        backend.read_file("nobody", "/etc/hostname", io.BytesIO())
    with pytest.raises(NotFound):
        backend.execute("nobody", ExecRequest(("true",), cwd="/"), deadline)


# -- checkpoints


@needs("expires")
def test_checkpoints_are_listed_oldest_first_with_their_expiry(place: Place) -> None:
    place.make("one", keys={KEY_PROTECTED: "b"})
    end = datetime(2032, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    for label, expires_at in (("c", None), ("a", end), ("b", None)):
        place.backend.create_checkpoint("one", label, expires_at, Deadline(SECONDS))
    found = place.backend.list_checkpoints("one")
    assert [checkpoint.label for checkpoint in found] == ["c", "a", "b"]
    assert [checkpoint.expires_at for checkpoint in found] == [None, end, None]
    assert [checkpoint.protected for checkpoint in found] == [False, False, True]
    assert all(checkpoint.created_at for checkpoint in found)
    assert all(place.backend.is_whole(place.get("one"), checkpoint.label) for checkpoint in found)
    assert not place.backend.is_whole(place.get("one"), "d")


# Incus alone has a rule for what an instance, or its profile, says
@pytest.mark.parametrize("place", ["fake", REAL], indirect=True)
def test_a_checkpoint_without_an_expiry_does_not_get_that_of_the_instance(place: Place) -> None:
    place.make("one")
    record, etag = place.backend._fetch("one")
    config = {**record["config"], "snapshots.expiry": "1d"}
    place.backend._put("one", {**record, "config": config}, etag, Deadline(SECONDS))
    place.backend.create_checkpoint("one", "stays", None, Deadline(SECONDS))
    (found,) = place.backend.list_checkpoints("one")
    assert found.expires_at is None


def test_a_label_that_is_taken_is_a_conflict(place: Place) -> None:
    place.make("one")
    place.backend.create_checkpoint("one", "ready", None, Deadline(SECONDS))
    with pytest.raises(Conflict):
        place.backend.create_checkpoint("one", "ready", None, Deadline(SECONDS))
    assert len(place.backend.list_checkpoints("one")) == 1


def test_a_checkpoint_that_is_deleted_is_gone(place: Place) -> None:
    place.make("one")
    place.backend.create_checkpoint("one", "ready", None, Deadline(SECONDS))
    place.backend.delete_checkpoint("one", "ready", Deadline(SECONDS))
    assert place.backend.list_checkpoints("one") == ()
    with pytest.raises(NotFound):
        place.backend.delete_checkpoint("one", "ready", Deadline(SECONDS))


@needs("mounts")
def test_a_restore_brings_the_disk_back_and_nothing_else(place: Place, tmp_path: object) -> None:
    made = place.make("one", keys={"label.then": "1"}, limits=Limits(memory=GIB // 4), hardening="none")
    place.write("one", "/root/mine", "then")
    place.backend.create_checkpoint("one", "ready", None, Deadline(SECONDS))
    place.write("one", "/root/mine", "now")
    change = InstanceChange(
        Limits(memory=GIB // 2, cpu=1),
        hardening="strict",
        nesting=True,
        autostart=True,
        mounts=(Mount(str(tmp_path), "/srv/now"),),
        keys={"label.then": None, "label.now": "2"},
    )
    place.backend.update_instance(made, change, Deadline(SECONDS))
    before = place.get("one")

    place.backend.restore_checkpoint(before, "ready", Deadline(SECONDS))

    assert place.text("one", "/root/mine") == "then"
    assert place.get("one") == before
    place.backend.set_power("one", "start", Deadline(SECONDS))


@INCUS_ONLY
def test_what_is_recorded_of_the_disk_goes_where_the_disk_goes(place: Place) -> None:
    made = place.make("one")
    place.backend.create_checkpoint("one", "bare", None, Deadline(SECONDS))
    ready = InstanceChange(keys={"provision.status": "ready", "provision.definition": "5f2b", "label.a": "1"})
    place.backend.update_instance(made, ready, Deadline(SECONDS))
    place.backend.create_checkpoint("one", "whole", None, Deadline(SECONDS))

    told = {}
    for label in ("bare", "whole", None):
        clone = place.make(f"of-{label}".lower(), CloneSource("one", label))
        told[label] = (clone.provision.status, clone.provision.definition, clone.labels)
    assert told == {"bare": ("none", None, {}), "whole": ("ready", "5f2b", {}), None: ("ready", "5f2b", {})}

    for label, status in (("bare", "none"), ("whole", "ready")):
        place.backend.restore_checkpoint(place.get("one"), label, Deadline(SECONDS))
        assert (place.get("one").provision.status, place.get("one").labels) == (status, {"a": "1"})


def test_a_restore_of_an_unknown_label_changes_nothing(place: Place) -> None:
    made = place.make("one", keys={"label.a": "1"})
    with pytest.raises(ApiError):
        place.backend.restore_checkpoint(made, "nothing", Deadline(SECONDS))
    assert place.get("one") == made


@INCUS_ONLY
def test_drivers_that_keep_newer_checkpoints_lose_none(place: Place) -> None:
    made = place.make("one")
    for label in ("a", "b"):
        place.backend.create_checkpoint("one", label, None, Deadline(SECONDS))
    assert place.backend.lost_by_restore(made, "a") == ()


# -- what bases are made of


def empty(name: str, owner: str = "") -> InstanceSpec:
    """Return an instance without content."""
    return InstanceSpec(name, None, {KEY_KIND: "base", KEY_OWNER: owner, KEY_UNFINISHED: secrets.token_hex(8)})


@needs("base")
def test_an_instance_without_content_has_nothing_but_its_keys(place: Place) -> None:
    place.backend.create_instance(empty("base-one"), Deadline(SECONDS))
    made = place.get("base-one")
    assert (made.kind, made.status, made.network, made.profiles) == ("base", "stopped", None, ())
    assert made.pool
    assert not made.unfinished
    with pytest.raises(Conflict):
        place.backend.create_instance(empty("base-one", "another"), Deadline(SECONDS))
    assert place.get("base-one") == made


@needs("base")
def test_an_instance_keeps_disk_and_keys_under_another_name(place: Place) -> None:
    before = place.make("build-one", keys={"lineage": "abc"})
    place.write("build-one", "/root/it", "text")
    place.backend.rename_instance("build-one", "build-one-abc", Deadline(SECONDS))
    assert place.backend.get_instance("build-one") is None
    after = place.get("build-one-abc")
    assert after == replace(before, name=after.name, server_name=after.server_name)
    assert place.text("build-one-abc", "/root/it") == "text"


@needs("base")
def test_a_name_that_is_taken_or_an_instance_that_is_gone_cannot_be_renamed(place: Place) -> None:
    place.make("one")
    place.make("two")
    with pytest.raises(Conflict):
        place.backend.rename_instance("one", "two", Deadline(SECONDS))
    with pytest.raises(NotFound):
        place.backend.rename_instance("three", "four", Deadline(SECONDS))
    assert {found.name for found in place.backend.list_instances()} == {"one", "two"}


@INCUS_ONLY
def test_an_instance_tells_its_image_and_its_last_start(place: Place) -> None:
    made = place.make("one")
    assert made.image_fingerprint in {image.fingerprint for image in place.backend.list_images()}
    place.backend.set_power("one", "start", Deadline(SECONDS))
    place.backend.set_power("one", "stop", Deadline(SECONDS), force=True)
    after = place.get("one")
    assert after.used_at is not None
    assert made.used_at is not None
    assert after.used_at > made.used_at
    copy = place.make("two", CloneSource("one"))
    assert copy.image_fingerprint == made.image_fingerprint


# -- files


def test_files_come_back_byte_by_byte(place: Place) -> None:
    place.open("one")
    content = bytes(range(256)) * 5000
    place.backend.write_file("one", "/root/täst file", io.BytesIO(content), mode=0o600, uid=7, gid=8)
    target = io.BytesIO()
    info = place.backend.read_file("one", "/root/täst file", target)
    assert target.getvalue() == content
    assert (info.type, info.mode, info.uid, info.gid) == ("file", 0o600, 7, 8)


def test_a_file_is_written_over_whole(place: Place) -> None:
    place.open("one")
    place.write("one", "/root/it", "long text")
    place.write("one", "/root/it", "short")
    assert place.text("one", "/root/it") == "short"


def test_files_that_are_not_there_are_told_from_those_that_are(place: Place) -> None:
    place.open("one")
    assert place.backend.has_file("one", "/etc/passwd")
    assert place.backend.has_file("one", "/etc")
    assert not place.backend.has_file("one", "/etc/nothing")
    with pytest.raises(NotFound):
        place.backend.read_file("one", "/etc/nothing", io.BytesIO())
    with pytest.raises(NotFound):
        place.write("one", "/nothing/at/all", "text")
    place.backend.delete_file("one", "/etc/nothing")


def test_a_file_that_is_deleted_is_gone(place: Place) -> None:
    place.open("one")
    place.write("one", "/root/it", "text")
    place.backend.delete_file("one", "/root/it")
    assert not place.backend.has_file("one", "/root/it")


# -- commands


def sh(script: str, **more: object) -> ExecRequest:
    """Return a request for a shell script."""
    return replace(ExecRequest(("/bin/sh", "-c", script), cwd="/"), **more)  # type: ignore[arg-type]


def test_a_command_gives_its_code_and_both_its_outputs(place: Place, running: str) -> None:
    result = place.backend.execute(running, sh("echo out; echo err >&2; exit 3"), Deadline(SECONDS))
    assert (result.rc, result.stdout, result.stderr, result.timed_out) == (3, b"out\n", b"err\n", False)


def test_a_command_gets_folder_environment_and_input(place: Place, running: str) -> None:
    request = sh('pwd; printf "%s\\n" "$WORD"; cat', cwd="/tmp", env={"WORD": "a 'b' \\n"}, stdin=b"in\0put")
    result = place.backend.execute(running, request, Deadline(SECONDS))
    assert result.stdout == b"/tmp\na 'b' \\n\nin\0put"


def test_output_is_capped_and_says_so(place: Place, running: str) -> None:
    result = place.backend.execute(running, sh("echo 123456789; echo e >&2", output_limit=4), Deadline(SECONDS))
    assert (result.stdout, result.stdout_truncated) == (b"1234", True)
    assert (result.stderr, result.stderr_truncated) == (b"e\n", False)


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(place: Place, running: str) -> None:
    word = f"97{secrets.randbelow(10**6):06d}"
    result = place.backend.execute(running, sh(f"echo begun; sleep {word} & sleep {word}"), Deadline(1))
    assert result.timed_out
    assert result.stdout == b"begun\n"
    found = place.backend.execute(running, sh(f"grep -las {word}$ /proc/[0-9]*/cmdline || true"), Deadline(SECONDS))
    left = [line for line in found.stdout.decode().split() if "self" not in line]
    alive = place.backend.execute(
        running, sh("for f in $FILES; do tr '\\0' ' ' < $f; done", env={"FILES": " ".join(left)}), Deadline(SECONDS)
    )
    assert f"sleep {word}" not in alive.stdout.decode()


@INCUS_ONLY
def test_nothing_of_a_command_is_in_the_servers_list_of_operations(place: Place, running: str) -> None:
    word = secrets.token_hex(12)
    seen: list[str] = []

    def gate(_text: bytes) -> bytes:
        assert isinstance(place.backend, IncusBackend)
        seen.append(str(place.backend._client.get("/1.0/operations", recursion="1")))
        return b""

    request = sh(f"echo {word}", env={"SECRET": word}, stdin=word.encode(), gate=gate)
    assert word in place.backend.execute(running, request, Deadline(SECONDS)).stdout.decode()
    assert "Executing command" in seen[0]
    assert word not in seen[0]


def test_a_user_that_the_guest_does_not_know_is_refused(place: Place, running: str) -> None:
    with pytest.raises(ConfigError, match="nobody-like-this"):
        place.backend.execute(running, ExecRequest(("true",), user="nobody-like-this"), Deadline(SECONDS))


def test_an_account_is_found_by_name_and_by_number(place: Place) -> None:
    place.open("one")
    assert place.backend.account("one", "nobody") == place.backend.account("one", "65534")
    assert place.backend.account("one", "nobody").uid == 65534


def test_a_command_in_a_stopped_sandbox_is_refused(place: Place) -> None:
    place.make("one")
    with pytest.raises(ApiError):
        place.backend.execute("one", ExecRequest(("true",), cwd="/"), Deadline(SECONDS))
