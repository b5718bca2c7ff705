# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real daemon of the tests' own behind TLS: who is let in, who is refused, and what a crash of it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_HARDENING,
    KEY_KIND,
    KEY_UNFINISHED,
    SANDBOX,
    CloneSource,
    ExecRequest,
    ImageSource,
    InstanceChange,
    InstanceSpec,
    Limits,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend, incus_backend
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import (
    DirectTransport,
    PylxdTransport,
    Transport,
)
from support import module_process
from support.certificates import Authority, KeyPair
from support.daemon import PrivateDaemon

pytestmark = pytest.mark.skipif(not os.environ.get("PIXELS_TEST_INCUS"), reason="PIXELS_TEST_INCUS is not set")

IMAGE = os.environ.get("PIXELS_TEST_IMAGE", "pixels/debian/13")


@dataclass
class Site:
    """A private daemon, the authority behind its certificate, and a client that it trusts."""

    daemon: PrivateDaemon
    authority: Authority
    server: KeyPair
    client: KeyPair

    def options(self, **changes: object) -> dict[str, object]:
        """Return connection options that are right, but for the changes."""
        return {
            "incus_remote": self.daemon.url,
            "incus_client_cert": str(self.client.cert_file),
            "incus_client_key": str(self.client.key_file),
            "incus_server_cert": str(self.server.cert_file),
            **changes,
        }

    def by_authority(self, authority: Authority) -> dict[str, object]:
        """Return connection options that verify the server by an authority."""
        return self.options(incus_server_cert=None, incus_ca_cert=str(authority.cert_file))

    def restart_with(self, server: KeyPair) -> None:
        """Let the daemon show another certificate."""
        self.daemon.kill()
        self.daemon.use_certificate(server)
        self.daemon.start()

    def on_socket(self) -> IncusBackend:
        """Return a backend on the daemon's socket."""
        return incus_backend({"incus_socket": str(self.daemon.socket)})


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A daemon for all tests of this file: each leaves it running, with the certificate that it found."""
    folder = Path(tempfile.mkdtemp(prefix="pxt-"))
    daemon = PrivateDaemon(folder / "server")
    try:
        daemon.prepare()
        authority = Authority(folder / "certificates")
        server = authority.server("server", daemon.wire.far)
        client = authority.client("client")
        daemon.use_certificate(server)
        daemon.start()
        daemon.configure()
        daemon.trust(client)
        daemon.import_image(IMAGE)
        yield Site(daemon, authority, server, client)
    finally:
        daemon.remove()
        shutil.rmtree(folder)


@pytest.fixture(params=["direct", "pylxd"])
def backend_of(request: pytest.FixtureRequest) -> Iterator[Callable[[dict[str, object]], IncusBackend]]:
    """Make backends from options, over each of the two transports."""
    made: list[IncusBackend] = []

    def make(options: dict[str, object]) -> IncusBackend:
        made.append(incus_backend(options, direct=request.param == "direct"))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


Make = Callable[[dict[str, object]], IncusBackend]


def spec(name: str, origin: ImageSource | CloneSource, pool: str | None = None) -> InstanceSpec:
    """Return what a planner would ask for."""
    keys = {KEY_KIND: SANDBOX, KEY_HARDENING: "standard", KEY_UNFINISHED: f"2026-01-01T00:00:00Z/{os.urandom(8).hex()}"}
    return InstanceSpec(name=name, origin=origin, keys=keys, limits=Limits(cpu=1), pool=pool)


# -- how a person enters


def enter(site: Site, home: Path, options: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Type what a person is told to, with a command that ends by itself."""
    backend = incus_backend(options)
    told = backend.console("entered", ("sh", "-c", "echo in $(hostname)"))
    backend.close()
    environment = {**os.environ, "HOME": str(home)}
    script = "\n".join([*told.setup, told.command])
    return subprocess.run(
        ["sh", "-euc", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_a_person_is_told_enters_a_remote_sandbox(site: Site, tmp_path: Path) -> None:
    there = site.on_socket()
    there.create_instance(spec("entered", ImageSource(IMAGE)), Deadline(60))
    there.set_power("entered", "start", Deadline(60))
    try:
        for number, options in enumerate((site.options(), site.options(), site.by_authority(site.authority))):
            said = enter(site, tmp_path / str(number // 2), options)
            assert (said.returncode, said.stdout) == (0, "in px-entered\n"), said.stderr
        other = site.authority.self_signed("other", site.daemon.wire.far)
        said = enter(site, tmp_path / "wrong", site.options(incus_server_cert=str(other.cert_file)))
        assert said.returncode != 0
        assert "in px-entered" not in said.stdout
    finally:
        there.set_power("entered", "stop", Deadline(60), force=True)
        there.delete_instance("entered", Deadline(60))
        there.close()


# -- who is let in


def test_pinned_certificate_is_accepted(site: Site, backend_of: Make) -> None:
    assert backend_of(site.options()).capabilities().backend == "incus"


def test_certificate_of_the_given_authority_is_accepted(site: Site, backend_of: Make) -> None:
    assert backend_of(site.by_authority(site.authority)).capabilities().backend == "incus"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_bundle_in_the_environment_does_not_replace_the_pin(
    site: Site, backend_of: Make, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority(site.authority.folder / "bundle")
    monkeypatch.setenv(variable, str(other.cert_file))
    assert backend_of(site.options()).list_images()


def test_bundle_in_the_environment_does_not_replace_the_authority(
    site: Site, backend_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority(site.authority.folder / "bundle")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(site.authority.cert_file))
    with pytest.raises(ConnectionFailed, match="certificate is refused"):
        backend_of(site.by_authority(other)).list_images()


def test_proxy_in_the_environment_is_not_used(site: Site, backend_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert backend_of(site.options()).list_images()


# -- who is refused


def test_another_certificate_than_the_pinned_one_is_refused(site: Site, backend_of: Make) -> None:
    """Even one of the same authority, for the same address: a pin means this certificate."""
    twin = site.authority.server("twin", site.daemon.wire.far)
    with pytest.raises(ConnectionFailed, match="certificate"):
        backend_of(site.options(incus_server_cert=str(twin.cert_file))).list_images()


def test_authority_as_a_pin_does_not_let_its_servers_in(site: Site, backend_of: Make) -> None:
    with pytest.raises(ConnectionFailed, match="does not show the certificate"):
        backend_of(site.options(incus_server_cert=str(site.authority.cert_file))).list_images()


def test_certificate_of_another_authority_is_refused(site: Site, backend_of: Make) -> None:
    other = Authority(site.authority.folder / "other")
    with pytest.raises(ConnectionFailed, match="certificate is refused"):
        backend_of(site.by_authority(other)).list_images()


def test_system_authorities_are_used_where_none_is_named(site: Site, backend_of: Make) -> None:
    with pytest.raises(ConnectionFailed, match="certificate is refused"):
        backend_of(site.options(incus_server_cert=None)).list_images()


def test_client_that_is_not_trusted_is_refused(site: Site, backend_of: Make) -> None:
    stranger = site.authority.client("stranger")
    options = site.options(incus_client_cert=str(stranger.cert_file), incus_client_key=str(stranger.key_file))
    with pytest.raises(AuthenticationFailed):
        backend_of(options).list_instances()
    with pytest.raises(AuthenticationFailed):
        backend_of(options).capabilities()


def test_port_without_a_server_is_named(site: Site, backend_of: Make) -> None:
    url = site.daemon.url.replace(":8443", ":8444")
    with pytest.raises(ConnectionFailed, match=f"{url}: nothing listens there"):
        backend_of(site.options(incus_remote=url)).list_instances()


def test_socket_without_a_server_is_named(tmp_path: Path, backend_of: Make) -> None:
    with pytest.raises(ConnectionFailed, match="missing is not there"):
        backend_of({"incus_socket": str(tmp_path / "missing")}).list_instances()


def test_unknown_project_is_named(site: Site, backend_of: Make) -> None:
    backend = backend_of(site.options(incus_project="nowhere"))
    for read in (backend.list_instances, lambda: backend.get_instance("some"), backend.list_images):
        with pytest.raises(ConfigError, match="incus_project: there is no project nowhere"):
            read()


@pytest.fixture
def fenced(site: Site) -> Iterator[tuple[str, KeyPair]]:
    """Yield a restricted project, and a client that may enter it alone."""
    client = site.authority.client("fenced")
    features = [f"features.{name}=false" for name in ("images", "networks")]
    site.daemon.incus("project", "create", "fenced", *(f"--config={text}" for text in ("restricted=true", *features)))
    site.daemon.trust(client, "fenced", "--restricted", "--projects=fenced")
    yield "fenced", client
    site.daemon.incus("config", "trust", "remove", site.daemon.fingerprint("fenced"))
    site.daemon.incus("project", "delete", "fenced")


def test_what_a_fenced_client_lacks_for_egress_is_named_and_is_all_it_lacks(
    site: Site, backend_of: Make, fenced: tuple[str, KeyPair]
) -> None:
    project, client = fenced
    options = site.options(
        incus_project=project, incus_client_cert=str(client.cert_file), incus_client_key=str(client.key_file)
    )
    with pytest.raises(ConfigError) as caught:
        backend_of(options).check_egress_permitted(building=True)
    for words in ("restricted.devices.nic=allow", "restricted.containers.lowlevel=allow", "the project default"):
        assert words in str(caught.value)
    assert "features.networks" not in str(caught.value)
    site.daemon.incus("project", "set", project, "restricted.devices.nic=allow")
    site.daemon.incus("config", "trust", "remove", site.daemon.fingerprint("fenced"))
    site.daemon.trust(client, "fenced", "--restricted", "--projects=fenced,default")
    backend = backend_of(options)
    backend.check_egress_permitted()
    confined = spec("fenced", ImageSource(IMAGE), "disk")
    site.daemon.incus("network", "create", "pxe-00fe", "ipv4.address=none", "ipv6.address=none")
    try:
        # the server agrees that this is enough
        backend.create_instance(replace(confined, wire="pxe-00fe"), Deadline(120))
        backend.delete_instance("fenced", Deadline(60))
    finally:
        site.daemon.incus("network", "delete", "pxe-00fe")


def test_a_project_with_networks_of_its_own_has_no_bridges(site: Site, backend_of: Make) -> None:
    site.daemon.incus("project", "create", "own", "--config=features.networks=true")
    try:
        with pytest.raises(ConfigError, match=r"features\.networks=false"):
            backend_of(site.options(incus_project="own")).check_egress_permitted()
    finally:
        site.daemon.incus("project", "delete", "own")


@pytest.fixture
def expired(site: Site) -> Iterator[KeyPair]:
    """Let the daemon show a certificate that has expired."""
    pair = site.authority.server("expired", site.daemon.wire.far, expired=True)
    site.restart_with(pair)
    yield pair
    site.restart_with(site.server)


def test_expired_certificate_is_refused_pinned_or_not(site: Site, expired: KeyPair) -> None:
    for direct in (True, False):
        for options in (site.options(incus_server_cert=str(expired.cert_file)), site.by_authority(site.authority)):
            backend = incus_backend(options, direct=direct)
            with pytest.raises(ConnectionFailed, match="certificate has expired"):
                backend.list_instances()
            backend.close()


@pytest.fixture
def renamed(site: Site) -> Iterator[KeyPair]:
    """Let the daemon show a certificate that nobody signed and that names another host, as Incus makes its own."""
    pair = site.authority.self_signed("renamed", "elsewhere.test")
    site.restart_with(pair)
    yield pair
    site.restart_with(site.server)


def test_pin_accepts_any_name_and_an_authority_does_not(site: Site, renamed: KeyPair) -> None:
    itself = site.options(incus_server_cert=None, incus_ca_cert=str(renamed.cert_file))
    for direct in (True, False):
        pinned = incus_backend(site.options(incus_server_cert=str(renamed.cert_file)), direct=direct)
        assert pinned.list_images()
        pinned.close()
        verified = incus_backend(itself, direct=direct)
        with pytest.raises(ConnectionFailed, match="certificate is refused"):
            verified.list_images()
        verified.close()


# -- websockets


@pytest.mark.parametrize("kind", [DirectTransport, PylxdTransport])
def test_websocket_is_refused_a_server_that_is_not_pinned(site: Site, kind: type[Transport]) -> None:
    twin = site.authority.server("twin", site.daemon.wire.far)
    transport = kind(endpoint_from(site.options(incus_server_cert=str(twin.cert_file))))
    with pytest.raises(ConnectionFailed, match="certificate"):
        transport.websocket("/1.0/operations/none/websocket", {"secret": "none"})


def test_command_runs_over_tls(site: Site, backend_of: Make) -> None:
    backend = backend_of(site.options())
    deadline = Deadline(120)
    backend.create_instance(spec("talk", ImageSource(IMAGE)), deadline)
    try:
        backend.set_power("talk", "start", deadline)
        data = bytes(range(256)) * 2000
        result = backend.execute("talk", ExecRequest(("cat",), stdin=data), deadline)
        assert (result.rc, result.stdout) == (0, data)
    finally:
        backend.set_power("talk", "stop", Deadline(60), force=True)
        backend.delete_instance("talk", Deadline(60))


# -- a daemon that dies in the middle


def killed_during(site: Site, work: Callable[[IncusBackend], None], wait: float) -> PixelsError | None:
    """Kill the daemon so many seconds after it took up the work; start it again and return how the work ended."""
    ended: list[PixelsError | None] = []

    def run() -> None:
        backend = site.on_socket()
        try:
            work(backend)
            ended.append(None)
        except PixelsError as exc:
            ended.append(exc)
        finally:
            backend.close()

    thread = threading.Thread(target=run)
    thread.start()
    probe = site.on_socket()
    while thread.is_alive() and not probe.is_busy("crash"):
        time.sleep(0.005)
    thread.join(wait)
    probe.close()
    site.daemon.kill()
    thread.join(60)
    assert not thread.is_alive()
    site.daemon.start()
    return ended[0]


def volumes(site: Site, stem: str) -> list[str]:
    """Return the volumes of an instance that the server's own client shows."""
    listed = site.daemon.query("/1.0/storage-pools/disk/volumes?recursion=1")
    assert isinstance(listed, list)
    return [entry["name"] for entry in listed if entry["name"].startswith(stem)]


@pytest.fixture
def clean(site: Site) -> Iterator[None]:
    """Remove the sandboxes of a test."""
    yield
    backend = site.on_socket()
    for found in backend.list_instances():
        if found.status != "stopped":
            backend.set_power(found.name, "stop", Deadline(60), force=True)
        backend.delete_instance(found.name, Deadline(60))
    backend.close()


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("wait", [0.0, 0.4])
def test_create_that_was_killed_leaves_nothing_or_what_says_that_it_is_unfinished(site: Site, wait: float) -> None:
    origin = ImageSource(IMAGE)
    failure = killed_during(site, lambda backend: backend.create_instance(spec("crash", origin), Deadline(60)), wait)
    backend = site.on_socket()
    left = backend.get_instance("crash")
    if failure is None:
        assert left is not None
        assert not left.unfinished
        return
    if left is not None:
        assert left.unfinished
        assert left.kind == SANDBOX
        backend.delete_instance("crash", Deadline(60))
    assert volumes(site, "px-crash") == []
    backend.create_instance(spec("crash", origin), Deadline(60))
    made = backend.get_instance("crash")
    assert made is not None
    assert not made.unfinished
    backend.close()


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_checkpoint_that_was_killed_is_absent_or_whole_or_known_to_be_hollow(site: Site, wait: float) -> None:
    backend = site.on_socket()
    backend.create_instance(spec("crash", ImageSource(IMAGE)), Deadline(60))
    failure = killed_during(site, lambda other: other.create_checkpoint("crash", "one", None, Deadline(60)), wait)
    found = backend.get_instance("crash")
    assert found is not None
    labels = [checkpoint.label for checkpoint in backend.list_checkpoints("crash")]
    if failure is None:
        assert labels == ["one"]
        assert backend.is_whole(found, "one")
        return
    if labels:
        backend.delete_checkpoint("crash", "one", Deadline(60))
    backend.create_checkpoint("crash", "one", None, Deadline(60))
    assert backend.is_whole(found, "one")
    backend.close()


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("wait", [0.0, 0.2])
def test_restore_that_was_killed_gives_keys_and_limits_back_at_the_next_start(site: Site, wait: float) -> None:
    backend = site.on_socket()
    deadline = Deadline(120)
    backend.create_instance(spec("crash", ImageSource(IMAGE)), deadline)
    backend.create_checkpoint("crash", "one", None, deadline)
    first = backend.get_instance("crash")
    assert first is not None
    backend.update_instance(first, InstanceChange(Limits(memory=2**28), keys={"label.now": "yes"}), deadline)
    present = backend.get_instance("crash")
    assert present is not None

    killed_during(site, lambda other: other.restore_checkpoint(present, "one", Deadline(60)), wait)

    backend.set_power("crash", "start", deadline)
    after = backend.get_instance("crash")
    assert after is not None
    assert (after.limits, after.labels, after.hardening) == (present.limits, present.labels, present.hardening)
    assert site.daemon.query("/1.0/profiles") == ["/1.0/profiles/default"]
    backend.close()


# -- a pool that is full


@pytest.fixture
def small_pool(site: Site) -> Iterator[str]:
    """Give the daemon a pool that has no room for an image."""
    folder = site.daemon.folder / "small"
    folder.mkdir()
    site.daemon.inside("mount", "-t", "tmpfs", "-o", "size=40m,mode=0711", "none", str(folder))
    site.daemon.incus("storage", "create", "small", "dir", f"source={folder}")
    yield "small"
    site.daemon.incus("storage", "delete", "small")
    site.daemon.inside("umount", str(folder))
    folder.rmdir()


def test_full_pool_fails_with_the_servers_words_and_leaves_nothing(site: Site, small_pool: str) -> None:
    backend = site.on_socket()
    with pytest.raises(OperationFailed, match="disk space"):
        backend.create_instance(spec("full", ImageSource(IMAGE), pool=small_pool), Deadline(60))
    assert backend.get_instance("full") is None
    backend.close()


# -- the same through the module: what a user sees


@pytest.mark.usefixtures("clean")
def test_full_pool_is_told_by_the_module_and_leaves_nothing(site: Site, small_pool: str) -> None:
    result = module_process.run(
        "pixels_instance",
        name=["full", "fuller"],
        image=f"local:{IMAGE}",
        pool=small_pool,
        incus_socket=str(site.daemon.socket),
    )
    assert result["failed"] is True
    assert result["failed_names"] == ["full", "fuller"]
    for record in result["instances"]:
        assert record["status"] == "absent"
        assert "disk space" in record["msg"]
    assert volumes(site, "px-full") == []


@pytest.mark.usefixtures("clean")
def test_run_that_lost_its_daemon_is_finished_by_the_next(site: Site) -> None:
    options = {
        "name": ["crash1", "crash2"],
        "image": f"local:{IMAGE}",
        "state": "present",
        "incus_socket": str(site.daemon.socket),
    }
    lost = module_process.ModuleProcess("pixels_instance", **options)
    probe = site.on_socket()
    while lost.process.poll() is None and not probe.is_busy("crash1"):
        time.sleep(0.005)
    probe.close()
    site.daemon.kill()
    result = lost.result()
    assert result["failed"] is True
    assert set(result["failed_names"]) <= {"crash1", "crash2"}
    site.daemon.start()
    again = module_process.run("pixels_instance", **options)
    assert not again.get("failed"), again
    assert [record["unfinished"] for record in again["instances"]] == [False, False]
    assert module_process.run("pixels_instance", **options)["changed"] is False
