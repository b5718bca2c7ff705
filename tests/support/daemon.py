# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Incus of a test's own, in a network namespace of its own, reached over TLS; it may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

from support.certificates import KeyPair

#: TEST-NET-3 (RFC 5737): a test talks to addresses that it made itself, and to no others.
TEST_NET = "203.0.113"
PORT = 8443
_START_SECONDS = 60
_END_SECONDS = 20


def _command(*argv: str, check: bool = True, env: dict[str, str] | None = None, stdin: str = "") -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env, input=stdin, timeout=120)
    if check and done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


class Found:
    """A process that another program started."""

    stdout = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """Return None while it runs."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return 0 if state == "Z" else None

    def wait(self, timeout: float = _END_SECONDS) -> int:
        """Wait until it has ended."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.05)
        return 0

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class Wire:
    """A network namespace with one end of a veth pair, the other end on the machine.

    The net of the pair is black-holed first, so that nothing for it leaves by the machine's uplink, neither before the
    pair is up nor after it is gone: a /30 inside a black-holed /29.
    """

    def __init__(self) -> None:
        self.name = f"pxt{secrets.token_hex(4)}"
        self.near = self.far = ""
        self._hole = ""

    def up(self) -> None:
        """Make the namespace and the pair."""
        # nine are more than run at once; the rest of the net may be somebody's, whatever the RFC says
        for net in (8 * number for number in range(1, 10)):
            hole = f"{TEST_NET}.{net}/29"
            # taken by another run of these tests: the kernel refuses a second route to the same net
            if not subprocess.run(
                ["ip", "route", "add", "blackhole", hole], check=False, capture_output=True
            ).returncode:
                self._hole = hole
                self.near, self.far = f"{TEST_NET}.{net + 1}", f"{TEST_NET}.{net + 2}"
                break
        else:
            raise RuntimeError(f"no free net in {TEST_NET}.0/24: remove its black-hole routes")
        _command("ip", "netns", "add", self.name)
        _command("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _command("ip", "addr", "add", f"{self.near}/30", "dev", self.name)
        _command("ip", "link", "set", self.name, "up")
        _command("ip", "-n", self.name, "addr", "add", f"{self.far}/30", "dev", "eth0")
        _command("ip", "-n", self.name, "link", "set", "eth0", "up")
        _command("ip", "-n", self.name, "link", "set", "lo", "up")

    def reach(self, other: Wire) -> None:
        """Let what is in the namespace reach what is in another one, by way of the machine, and nothing else."""
        _command("ip", "-n", self.name, "route", "replace", f"{other.far}/32", "via", self.near)

    def reach_world(self) -> None:
        """Let what is in the namespace reach what the machine reaches, under the machine's address."""
        _command("ip", "-n", self.name, "route", "replace", "default", "via", self.near)
        hook = "type nat hook postrouting priority srcnat; policy accept;"
        rule = f'ip saddr {self.far} oifname != "pxt*" masquerade'
        lines = (f"table ip {self.name} {{", "chain out {", hook, rule, "}", "}", "")
        _command("nft", "-f", "-", stdin="\n".join(lines))

    def has(self, pid: int) -> bool:
        """Say whether a process lives in the namespace."""
        try:
            return Path(f"/proc/{pid}/ns/net").stat().st_ino == Path(f"/run/netns/{self.name}").stat().st_ino
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False

    def text(self) -> dict[str, str]:
        """Return what another program needs to find it again."""
        return {"name": self.name, "near": self.near, "far": self.far, "_hole": self._hole}

    @classmethod
    def found(cls, text: dict[str, str]) -> Wire:
        """Return a namespace that another program made."""
        wire = cls()
        wire.__dict__.update(text)
        return wire

    def down(self) -> None:
        """Remove what was made, as far as it is there."""
        for command in (
            ("ip", "link", "delete", self.name),
            ("ip", "netns", "delete", self.name),
            ("nft", "delete", "table", "ip", self.name),
            ("ip", "route", "delete", "blackhole", self._hole),
        ):
            if self._hole:
                _command(*command, check=False)


class PrivateDaemon:
    """An incusd with a folder, a network namespace and a server certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wire = Wire()
        self.log = folder / "incusd.log"
        self.home = folder / "incus"
        self._holder: subprocess.Popen[bytes] | Found | None = None
        self._daemon: subprocess.Popen[bytes] | Found | None = None

    @classmethod
    def found(cls, folder: Path) -> PrivateDaemon:
        """Return the daemon of a folder that another program started.

        A number of a process that was given to somebody else since is not taken for it: it has to live in the daemon's own namespace.
        """
        daemon = cls(folder)
        left = json.loads((folder / "state.json").read_text())
        daemon.wire = Wire.found(left["wire"])
        for name in ("_holder", "_daemon"):
            if left[name] and daemon.wire.has(left[name]):
                setattr(daemon, name, Found(left[name]))
        return daemon

    def _remember(self) -> None:
        """Write down what another program needs to find it again."""
        processes = {name: getattr(self, name).pid if getattr(self, name) else None for name in ("_holder", "_daemon")}
        (self.folder / "state.json").write_text(json.dumps({"wire": self.wire.text(), **processes}))

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"https://{self.wire.far}:{PORT}"

    @property
    def socket(self) -> Path:
        """Its socket, seen from the machine."""
        return self.home / "unix.socket"

    def prepare(self) -> None:
        """Make the namespaces; the certificate can be made when the address is known."""
        self.home.mkdir(parents=True)
        # containers of mapped users have to walk through the folders above their own
        for above in (self.home, *self.home.parents):
            if above.owner() == "root" and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
        self.wire.up()
        self._remember()
        aside = self.folder / "cgroup"
        aside.mkdir()
        # A sysfs belongs to the network namespace it is mounted in, and a fresh one hides the cgroups that containers need.
        script = (
            'mount --rbind /sys/fs/cgroup "$1" && exec nsenter --net="/run/netns/$2" sh -c \''
            "umount -l /sys && mount -t sysfs sysfs /sys && "
            'mount --rbind "$1" /sys/fs/cgroup && echo ready && exec sleep infinity\' sh "$1"'
        )
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(aside), self.wire.name],
            stdout=subprocess.PIPE,
            # it outlives this program, and whoever waits for the end of what that prints does not wait for it
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        self._remember()
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise RuntimeError("the namespaces of the private daemon could not be made")

    def use_certificate(self, pair: KeyPair) -> None:
        """Give the daemon its server certificate; it is read at the next start."""
        shutil.copy(pair.cert_file, self.home / "server.crt")
        shutil.copy(pair.key_file, self.home / "server.key")

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        assert self._holder is not None
        with self.log.open("ab") as sink:
            self._daemon = subprocess.Popen(
                ["nsenter", f"--target={self._holder.pid}", "--mount", "--net", _incusd()],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        self._remember()
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._daemon.poll() is None:
            if (
                self.socket.exists()
                and subprocess.run(
                    [_incusd(), "waitready", "--timeout=5"], check=False, capture_output=True, env=self._env()
                ).returncode
                == 0
            ):
                return
            time.sleep(0.1)
        raise RuntimeError(f"the private daemon does not answer:\n{self.log.read_text()[-2000:]}")

    def listen(self) -> None:
        """Open the TLS port."""
        self.incus("config", "set", f"core.https_address={self.wire.far}:{PORT}")

    def configure(self, pool: str = "disk") -> None:
        """Open the TLS port; give it a pool that its default profile uses, and a bridge without any address."""
        self.listen()
        self.incus("network", "create", "wire", "ipv4.address=none", "ipv6.address=none")
        self.incus("storage", "create", pool, "dir")
        self.incus("profile", "device", "add", "default", "root", "disk", "path=/", f"pool={pool}")

    def trust(self, client: KeyPair, name: str = "test", *options: str) -> None:
        """Trust a client's certificate."""
        self.incus("config", "trust", "add-certificate", str(client.cert_file), f"--name={name}", *options)

    def fingerprint(self, name: str) -> str:
        """Return the fingerprint of the trusted certificate of this name."""
        listed = json.loads(self.incus("config", "trust", "list", "--format=json"))
        return str(next(entry["fingerprint"] for entry in listed if entry["name"] == name))

    def import_image(self, alias: str) -> None:
        """Copy an image of the machine's own Incus."""
        target = self.folder / "image"
        target.mkdir(exist_ok=True)
        self.incus("image", "import", *export_image(alias, target), "--alias", alias)
        shutil.rmtree(target)

    def incus(self, *argv: str, stdin: str = "") -> str:
        """Run the Incus client against this daemon and return what it printed."""
        return _command("incus", *argv, env=self._env(), stdin=stdin)

    def inside(self, *argv: str) -> str:
        """Run a command of the machine in the daemon's namespaces."""
        assert self._holder is not None
        return _command("nsenter", f"--target={self._holder.pid}", "--mount", "--net", *argv)

    def query(self, path: str) -> object:
        """Return what a GET of the API answers, past the product's own code."""
        return json.loads(self.incus("query", path))

    def kill(self) -> None:
        """Kill the daemon with its helpers, as the end of a machine would; nothing is tidied.

        An rsync that outlived it would still write to the disk that the next daemon works on.
        """
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGKILL)
        self._daemon.wait()
        self._kill_others()

    def remove(self) -> None:
        """End everything that was started and remove what was made."""
        if self._daemon and self._daemon.poll() is None:
            # the client may fail when the daemon is half up; its processes are ended below in any case
            subprocess.run(
                ["incus", "stop", "--all", "--force"], check=False, capture_output=True, env=self._env(), timeout=60
            )
            subprocess.run([_incusd(), "shutdown", "--timeout=30"], check=False, capture_output=True, env=self._env())
            try:
                self._daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._holder:
            self._kill_others()
            self._holder.kill()
            self._holder.wait()
            if self._holder.stdout:
                self._holder.stdout.close()
        self.wire.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill_others(self) -> None:
        """Kill all that the daemon has left running."""
        end = time.monotonic() + _END_SECONDS
        while others := self._others_in_namespace():
            if time.monotonic() > end:
                raise RuntimeError(f"processes of the private daemon do not end: {others}")
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _others_in_namespace(self) -> list[int]:
        """Return what a killed daemon left running in the namespaces: all of it was started by it."""
        assert self._holder is not None
        own = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        if own == os.readlink("/proc/self/ns/mnt"):
            raise RuntimeError("the namespaces of the private daemon are the machine's own: nothing is ended")
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self._holder.pid:
                try:
                    if os.readlink(entry / "ns/mnt") == own:
                        found.append(int(entry.name))
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    # it has just ended, or belongs to whom even root may not ask: in neither case it is ours
                    continue
        return found

    def _env(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("INCUS_")}
        return {**kept, "INCUS_DIR": str(self.home), "INCUS_CONF": str(self.folder / "client")}


def export_image(alias: str, folder: Path) -> list[str]:
    """Write an image of the machine's own Incus into an empty folder, and return its files in the order of an import."""
    _command("incus", "image", "export", f"local:{alias}", f"{folder}/")
    return [str(path) for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_size)]


def _incusd() -> str:
    """Return where the daemon is; the packages keep it off the search path."""
    for path in ("/usr/libexec/incus/incusd", "/usr/lib/incus/incusd", "/opt/incus/bin/incusd"):
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("incusd")
    if not found:
        raise RuntimeError("incusd is not installed")
    return found
