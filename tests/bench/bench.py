# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the collection beside the raw API and beside community.general, in one run on one machine.

Environment: PIXELS_BENCH_REFERENCE is the bin folder of a virtual environment with ansible-core and
community.general; PIXELS_TEST_IMAGE is the alias of the guest image. Everything happens in a throw-away project.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from floor import Floor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import truenas
from support.fleet import Fleet, remove_left
from support.internet import GOOD, RESOLVER, internet

OURS = Path(sys.executable).parent
REFERENCE = Path(os.environ.get("PIXELS_BENCH_REFERENCE", OURS))
IMAGE = os.environ.get("PIXELS_TEST_IMAGE", "pixels/debian/13")
PROJECT = f"pxbench-{secrets.token_hex(3)}"
#: btrfs cleans up after deletions in the background, and guests go on with their start after they have an address: both slow what
#: is measured next.
SETTLE_SECONDS = 20
MEMORY_MIB = 200
PARTS = ("clones", "many", "connection", "provision", "egress", "bases", "truenas")
ALLOWED = ["good.example.test"]
INSIDE = ["incus", "exec", "--project", PROJECT, "local:px-one", "--", "python3", "-c"]
#: Prints when it read the last byte.
READER = """
import socket, time
stream = socket.create_connection(("good.example.test", 80), 5); stream.settimeout(5)
stream.sendall(b"GET /slow/400 HTTP/1.1\\r\\nHost: good.example.test\\r\\n\\r\\n")
last = 0
try:
    while stream.recv(4096): last = time.time()
except OSError: pass
print(last)
"""
#: Prints the median of TLS requests, each with a connection of its own, and the time of 256 MB.
TRAFFIC = """
import json, socket, ssl, statistics, sys, time
context = ssl._create_unverified_context()
def fetch(path):
    begin = time.perf_counter()
    with socket.create_connection((sys.argv[1], 443), 10) as plain, context.wrap_socket(plain, server_hostname="good.example.test") as stream:
        stream.sendall(f"GET {path} HTTP/1.1\\r\\nHost: good.example.test\\r\\nConnection: close\\r\\n\\r\\n".encode())
        while stream.recv(1 << 20): pass
    return time.perf_counter() - begin
fetch("/")
request = statistics.median(fetch("/") for _ in range(50))
print(json.dumps({"request_s": request, "bulk_s": fetch("/bytes/268435456")}))
"""


@dataclass(frozen=True)
class Row:
    """One comparison; ratio is ours over the reference."""

    name: str
    ours_s: float
    reference: str
    reference_s: float
    target: str
    met: bool

    def shown(self) -> dict[str, object]:
        """Return the row as the closing line has it."""
        ratio = round(self.ours_s / self.reference_s, 3) if self.reference_s else None
        return {
            "name": self.name,
            "ours_s": round(self.ours_s, 3),
            "reference": self.reference,
            "reference_s": round(self.reference_s, 3),
            "ratio": ratio,
            "target": self.target,
            "met": self.met,
        }


def say(text: str) -> None:
    """Print progress beside the result."""
    print(text, file=sys.stderr, flush=True)


class Play:
    """Runs of ansible-playbook, timed as a user would see them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = PROJECT
        self.peak_mib = 0.0

    def run(self, tasks: list[dict[str, object]], bin_folder: Path = OURS, inventory: str = "localhost,") -> float:
        """Run one play and return its wall-clock seconds."""
        # the hosts of an inventory bring their own connection, which is stronger than the play's
        book = [{"hosts": "all", "connection": "local", "gather_facts": False, "tasks": tasks}]
        path = self.folder / "play.yml"
        path.write_text(json.dumps(book))
        return self.timed([bin_folder / "ansible-playbook", "-i", inventory, path])

    def book(self, name: str, variables: dict[str, object], *inventories: Path) -> float:
        """Run a playbook of the collection and return its wall-clock seconds."""
        more = [argument for inventory in inventories for argument in ("-i", inventory)]
        return self.timed([OURS / "ansible-playbook", "-i", "localhost,", *more, name, "-e", json.dumps(variables)])

    def timed(self, command: list[str | Path]) -> float:
        """Run a command and return its wall-clock seconds; peak_mib is the largest process of its tree."""
        env = {
            **os.environ,
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "INCUS_PROJECT": self.project,
            "PIXELS_INCUS_PROJECT": self.project,
        }
        output = self.folder / "output"
        with output.open("wb") as sink:
            begin = time.monotonic()
            process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env=env)
            _pid, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        self.peak_mib = usage.ru_maxrss / 1024
        if process.returncode:
            raise SystemExit(f"a play failed:\n{output.read_text()}")
        return seconds


def instance_task(names: list[str], **options: object) -> dict[str, object]:
    """Return a task of pixels_instance."""
    return {
        "pixels.sandbox.pixels_instance": {"name": names, "incus_project": PROJECT, **options},
        "vars": {"ansible_python_interpreter": sys.executable},
    }


def floor(verb: str, *names: str) -> float:
    """Run the raw requests in a process of their own and return the seconds that they took."""
    command = [sys.executable, str(Path(__file__).with_name("floor.py")), PROJECT, verb, *names]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def names(count: int, stem: str = "b") -> list[str]:
    """Return so many names of sandboxes."""
    return [f"{stem}{number}" for number in range(1, count + 1)]


def server_names(count: int, stem: str = "b") -> list[str]:
    """Return the same names as the server has them."""
    return [f"px-{name}" for name in names(count, stem)]


def incus(*command: str) -> None:
    """Run the Incus client."""
    subprocess.run(["incus", *command], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


class Bench:
    """The measurements, in the order in which they share what they made."""

    def __init__(self, play: Play, runs: int) -> None:
        self.play = play
        self.runs = runs
        self.rows: list[Row] = []
        self.empty = 0.0

    def median(self, what: str, work: Callable[[], float]) -> float:
        """Return the median of repeated runs."""
        times = [work() for _turn in range(self.runs)]
        say(f"{what}: " + ", ".join(f"{seconds:.2f}" for seconds in times))
        return statistics.median(times)

    def add(self, name: str, ours: float, reference: str, reference_s: float, most: float) -> None:
        """Record a comparison whose target is a ratio."""
        self.rows.append(Row(name, ours, reference, reference_s, f"ratio <= {most:.3g}", ours <= most * reference_s))

    def task(self, task: dict[str, object], bin_folder: Path = OURS) -> float:
        """Return the time of a play of one task less that of an empty one."""
        return max(0.0, self.play.run([task], bin_folder) - self.empty)

    def prepare(self) -> None:
        """Make the sandbox that all clones come from, and know what an empty play costs."""
        self.play.run([instance_task(["origin"], image=f"local:{IMAGE}")])
        self.play.run(
            [
                {
                    "pixels.sandbox.pixels_checkpoint": {"name": "origin", "label": "ready", "incus_project": PROJECT},
                    "vars": {"ansible_python_interpreter": sys.executable},
                }
            ]
        )
        self.play.run([])
        self.empty = self.median("an empty play", lambda: self.play.run([]))

    def clones(self) -> None:
        """Clone, do nothing again, and remove eight sandboxes, three ways."""
        ours: dict[str, list[float]] = {"clone": [], "noop": [], "remove": []}
        raw: dict[str, list[float]] = {"clone": [], "remove": []}
        general: dict[str, list[float]] = {"clone": [], "remove": []}
        for _turn in range(self.runs):
            time.sleep(SETTLE_SECONDS)
            raw["clone"].append(floor("clone", "px-origin/ready", *server_names(8)))
            raw["remove"].append(floor("delete", *server_names(8)))
            time.sleep(SETTLE_SECONDS)
            wanted = instance_task(names(8), clone_from="origin:ready")
            ours["clone"].append(self.task(wanted))
            time.sleep(SETTLE_SECONDS)
            ours["noop"].append(self.play.run([wanted]))
            ours["remove"].append(self.task(instance_task(names(8), state="absent")))
            time.sleep(SETTLE_SECONDS)
            general["clone"].append(self.general(state="started", wait_for_ipv4_addresses=True))
            general["remove"].append(self.general(state="absent", force_stop=True))
        for side, times in (("ours", ours), ("raw API", raw), ("lxd_container", general)):
            for what, values in times.items():
                say(f"{what} 8, {side}: " + ", ".join(f"{seconds:.2f}" for seconds in values))
        middle = statistics.median
        self.add("clone_8_address", middle(ours["clone"]), "raw API", middle(raw["clone"]), 1.25)
        self.add("clone_8_address", middle(ours["clone"]), "lxd_container", middle(general["clone"]), 1 / 3)
        self.noop("noop_8", middle(ours["noop"]))
        self.add("remove_8", middle(ours["remove"]), "raw API", middle(raw["remove"]), 1.25)
        self.add("remove_8", middle(ours["remove"]), "lxd_container", middle(general["remove"]), 1)

    def general(self, **options: object) -> float:
        """Return the time of community.general's module in a loop over the same eight."""
        task = {
            "community.general.lxd_container": {
                "name": "{{ item }}",
                "project": PROJECT,
                "url": "unix:/var/lib/incus/unix.socket",
                "snap_url": "unix:/var/lib/incus/unix.socket",
                "source": {"type": "copy", "source": "px-origin/ready"},
                **options,
            },
            "loop": server_names(8),
            "vars": {"ansible_python_interpreter": str(REFERENCE / "python")},
        }
        return self.task(task, REFERENCE)

    def noop(self, name: str, ours: float) -> None:
        """Record what a task with nothing to do adds to an empty play."""
        self.rows.append(Row(name, ours, "empty play", self.empty, "reference + 1 s", ours <= self.empty + 1))

    def many(self) -> None:
        """Clone 32 at once, then 50 in all for a task with nothing to do."""
        time.sleep(SETTLE_SECONDS)
        seconds = self.play.run([instance_task(names(32), clone_from="origin:ready")])
        memory = self.play.peak_mib
        say(f"32 clones: {seconds:.1f} s, largest process {memory:.0f} MiB")
        time.sleep(1)
        floor("delete", *server_names(32))
        time.sleep(SETTLE_SECONDS)
        raw = floor("clone", "px-origin/ready", *server_names(32, "f"))
        floor("delete", *server_names(32, "f"))
        self.rows.append(
            Row(
                "clone_32_address",
                seconds,
                "raw API",
                raw,
                f"all with address, {memory:.0f} of {MEMORY_MIB} MiB",
                memory < MEMORY_MIB,
            )
        )
        time.sleep(SETTLE_SECONDS)
        wanted = instance_task(names(50), clone_from="origin:ready", timeout=600)
        self.play.run([wanted])
        time.sleep(SETTLE_SECONDS)
        self.noop("noop_50", self.median("nothing to do for 50", lambda: self.play.run([wanted])))
        self.play.run([instance_task(names(50), state="absent")])

    def provision(self) -> None:
        """Clone a provisioned sandbox until its user's shell finds its agent, and run the role again on eight that are ready."""
        settings = {"from": "origin:ready", "egress": "unrestricted", **self.mirror()}
        self.play.book("pixels.sandbox.sandbox", {"names": "ready", **settings})
        exec_task = {
            "pixels.sandbox.pixels_exec": {
                "name": "p1",
                "incus_project": PROJECT,
                "user": "pixel",
                "login": True,
                "argv": ["sh", "-c", "command -v claude"],
            },
            "vars": {"ansible_python_interpreter": sys.executable},
        }
        times: dict[str, list[float]] = {"bare": [], "ready": []}
        for _turn in range(self.runs):
            for side, source in (("bare", "origin:ready"), ("ready", "ready")):
                time.sleep(SETTLE_SECONDS)
                tasks = [instance_task(["p1"], clone_from=source), *([exec_task] if side == "ready" else [])]
                times[side].append(max(0.0, self.play.run(tasks) - self.empty))
                floor("delete", "px-p1")
        for side, values in times.items():
            say(f"clone until there is {side}: " + ", ".join(f"{seconds:.2f}" for seconds in values))
        self.add(
            "clone_provisioned", statistics.median(times["ready"]), "bare clone", statistics.median(times["bare"]), 2
        )
        eight = {"names": ",".join(names(8, "r")), **settings, "from": "ready"}
        self.play.book("pixels.sandbox.sandbox", eight)
        time.sleep(SETTLE_SECONDS)
        again = self.median("the role again on 8", lambda: self.play.book("pixels.sandbox.sandbox", eight))
        met = again <= self.empty + 6
        self.rows.append(Row("provision_again_8", again, "empty play", self.empty, "reference + 6 s", met))
        floor("delete", "px-ready", "px-mirror", *server_names(8, "r"))

    def mirror(self) -> dict[str, object]:
        """Make a sandbox that is a mirror of Node.js; return the settings that take it and the machine's own ones over."""
        folder = self.play.folder / "mirror"
        tool = Path(__file__).parents[1] / "tools/node_mirror.py"
        subprocess.run([sys.executable, tool, folder], check=True, stdout=subprocess.DEVNULL)
        self.play.run([instance_task(["mirror"], image=f"local:{IMAGE}", wait_for="ready")])
        incus(
            "file", "push", "--recursive", "--create-dirs", f"--project={PROJECT}", str(folder), "local:px-mirror/srv"
        )
        serve = ("systemd-run", "--unit=mirror", "python3", "-m", "http.server", "--directory=/srv/mirror", "8099")
        incus("exec", f"--project={PROJECT}", "local:px-mirror", "--", *serve)
        registry = subprocess.run(
            ["npm", "config", "get", "registry"], check=True, capture_output=True, text=True
        ).stdout
        return {
            "registries_ca_certificates": sorted(map(str, Path("/usr/local/share/ca-certificates").glob("*.crt"))),
            "mise_source": "registry",
            "mise_registry": registry.strip(),
            "mise_settings": {
                "use_versions_host": False,
                "npm": {"package_manager": "npm"},
                "node": {"mirror_url": f"http://{Floor(PROJECT).address('px-mirror')}:8099/"},
            },
        }

    def connection(self) -> None:
        """Run twenty trivial tasks over both connection plugins, pipelining on both sides."""
        time.sleep(SETTLE_SECONDS)
        static_ours = self.play.folder / "ours.ini"
        static_ours.write_text(
            f"origin ansible_connection=pixels.sandbox.incus ansible_pixels_incus_project={PROJECT} "
            "ansible_python_interpreter=/usr/bin/python3\n"
        )
        from_plugin = self.play.folder / "pixels.yml"
        from_plugin.write_text(json.dumps({"plugin": "pixels.sandbox.pixels", "incus_project": PROJECT}))
        general = self.play.folder / "general.ini"
        general.write_text(
            f"px-origin ansible_connection=community.general.incus ansible_incus_project={PROJECT} "
            "ansible_python_interpreter=/usr/bin/python3\n"
        )
        count = 20
        for kind, task in (("raw", {"ansible.builtin.raw": "true"}), ("command", {"ansible.builtin.command": "true"})):
            times: dict[str, list[float]] = {"static": [], "plugin": [], "general": []}
            for _turn in range(self.runs):
                for side, inventory, folder in (
                    ("static", static_ours, OURS),
                    ("plugin", from_plugin, OURS),
                    ("general", general, REFERENCE),
                ):
                    times[side].append(self.over(task, count, inventory, folder))
            for side, values in times.items():
                say(f"{kind} over the connection, {side}: " + ", ".join(f"{seconds:.3f}" for seconds in values))
            middle = {side: statistics.median(values) for side, values in times.items()}
            for side in ("plugin", "static"):
                name = f"connection_{kind}_{side}_inventory"
                self.add(name, middle[side], "community.general.incus", middle["general"], 0.8)

    def over(self, task: dict[str, object], count: int, inventory: Path, folder: Path) -> float:
        """Return the seconds that one more task takes: a long play less a short one, by the number of tasks."""
        short = self.play.run([task], inventory=str(inventory), bin_folder=folder)
        long = self.play.run([task] * (count + 1), inventory=str(inventory), bin_folder=folder)
        return (long - short) / count

    def egress(self) -> None:
        """Make eight under the policy of agents, change policies small and large, and send through the gateway."""
        with internet(self.play.folder / "internet") as _net:
            settings = {"gateway_image": f"local:{IMAGE}", "gateway_resolver": RESOLVER}
            self.play.book("pixels.sandbox.gateway", settings)
            times: dict[str, list[float]] = {"agent": [], "unrestricted": []}
            for _turn in range(self.runs):
                for side, values in times.items():
                    time.sleep(SETTLE_SECONDS)
                    wanted = instance_task(names(8), clone_from="origin:ready", egress=side)
                    values.append(self.task(wanted))
                    self.play.run([instance_task(names(8), state="absent")])
            self.told("8 clones", times)
            middle = {side: statistics.median(values) for side, values in times.items()}
            self.add("egress_clone_8", middle["agent"], "without a policy", middle["unrestricted"], 1.25)
            self.play.run(
                [instance_task(["one", "two"], clone_from="origin:ready", egress="allowlist", egress_allow=ALLOWED)]
            )
            self.changes()
            self.traffic()
            self.play.run([instance_task(["one", "two"], state="absent")])

    def truenas(self) -> None:
        """Measure what our client adds to a call, over a simulated TrueNAS."""
        for name, (ours, bare) in truenas.measure().items():
            say(f"{name}: ours {ours:.2f}, bare {bare:.2f}")
            self.add(name, ours, "a bare websocket", bare, 1.5)

    def told(self, what: str, times: dict[str, list[float]]) -> None:
        """Print figures side by side."""
        for side, values in times.items():
            say(f"{what}, {side}: " + ", ".join(f"{seconds:.4g}" for seconds in values))

    def egress_task(self, allow: list[str]) -> dict[str, object]:
        """Return a task of pixels_egress."""
        task = {"name": "one", "mode": "allowlist", "allow": allow, "incus_project": PROJECT}
        return {"pixels.sandbox.pixels_egress": task, "vars": {"ansible_python_interpreter": sys.executable}}

    def changes(self) -> None:
        """Measure until a destination is cut, and policies of 20 and of 2000 names."""
        cut = []
        for _turn in range(max(3, self.runs)):
            self.play.run([self.egress_task(ALLOWED)])
            with subprocess.Popen([*INSIDE, READER], stdout=subprocess.PIPE, text=True) as reader:
                time.sleep(1.5)
                begin = time.time()
                self.play.run([self.egress_task(["other.example.test"])])
                last = float(reader.communicate(timeout=60)[0])
            cut.append(max(0.0, last - begin - self.empty))
        say("until a destination is cut: " + ", ".join(f"{seconds:.2f}" for seconds in cut))
        middle = statistics.median(cut)
        self.rows.append(Row("egress_cut", middle, "a task", 2.0, "under 2 s", middle < 2))
        times: dict[str, list[float]] = {"2000": [], "20": []}
        for turn in range(self.runs):
            for side, values in times.items():
                allow = [f"n{number}.t{turn}.example.test" for number in range(int(side))]
                values.append(self.task(self.egress_task(allow)))
        self.told("names in a policy", times)
        self.add("egress_2000_names", statistics.median(times["2000"]), "20 names", statistics.median(times["20"]), 3)
        self.play.run([self.egress_task(ALLOWED)])

    def traffic(self) -> None:
        """Measure requests and bulk from a confined sandbox, and from one without a policy to the same server."""
        out = {}
        for side, name in (("gateway", "px-one"), ("direct", "px-origin")):
            argv = ["incus", "exec", "--project", PROJECT, f"local:{name}", "--", "python3", "-c", TRAFFIC]
            target = "good.example.test" if side == "gateway" else GOOD
            done = subprocess.run([*argv, target], check=True, capture_output=True, text=True)
            out[side] = json.loads(done.stdout)
            say(f"traffic, {side}: {out[side]}")
        request = {side: float(told["request_s"]) for side, told in out.items()}
        met = request["gateway"] <= request["direct"] + 0.005
        self.rows.append(
            Row("egress_request", request["gateway"], "direct", request["direct"], "reference + 5 ms", met)
        )
        self.add("egress_bulk_256_mb", out["gateway"]["bulk_s"], "direct", out["direct"]["bulk_s"], 4)

    def bases(self) -> None:
        """Clone from a base, and rebuild the bases of three servers: with nothing to do, by building, and by copying."""
        script = self.play.folder / "build.sh"
        script.write_text("echo made > /made\n")
        image = f"local:{IMAGE}"
        wanted = {"name": "quick", "image": image, "script": str(script), "incus_project": PROJECT}
        self.play.run([{"pixels.sandbox.pixels_base": wanted, "vars": {"ansible_python_interpreter": sys.executable}}])
        build = next(name for name in Floor(PROJECT).names() if name.startswith("px-build-quick-"))
        times: dict[str, list[float]] = {"base": [], "raw API": []}
        for _turn in range(self.runs):
            time.sleep(SETTLE_SECONDS)
            times["raw API"].append(floor("clone", build, *server_names(8)))
            floor("delete", *server_names(8))
            time.sleep(SETTLE_SECONDS)
            times["base"].append(self.task(instance_task(names(8), clone_from="base:quick")))
            floor("delete", *server_names(8))
        self.told("8 clones", times)
        middle = {side: statistics.median(values) for side, values in times.items()}
        self.add("base_clone_8", middle["base"], "raw API", middle["raw API"], 1.25)
        remove_left()
        fleet = Fleet(Path(tempfile.gettempdir(), f"pxt-fleet-{os.getpid()}"))
        self.play.project = "default"
        try:
            fleet.up(world=True)
            self.fleet(fleet, script, image)
        finally:
            self.play.project = PROJECT
            fleet.down()

    def fleet(self, fleet: Fleet, script: Path, image: str) -> None:
        """Measure what a rebuild of a fleet costs."""
        servers = fleet.folder / "servers.yml"
        three = [{"name": f"quick{number}", "image": image, "script": str(script)} for number in range(3)]
        settings: dict[str, object] = {"servers": "incus", "base_roles": [], "base_definitions": three}
        self.play.book("pixels.sandbox.rebuild_bases", settings, servers)
        again = self.median(
            "3 servers with 3 bases, nothing stale",
            lambda: self.play.book("pixels.sandbox.rebuild_bases", settings, servers),
        )
        met = again <= self.empty + 3
        self.rows.append(Row("bases_noop_3_by_3", again, "empty play", self.empty, "reference + 3 s", met))
        dev: dict[str, object] = {"base_roles": ["pixels.sandbox.base_dev"], "base_image": image}
        self.play.book("pixels.sandbox.rebuild_bases", {**dev, "servers": "east"}, servers)
        built = self.play.book("pixels.sandbox.rebuild_bases", {**dev, "servers": "north"}, servers)
        copied = self.play.book(
            "pixels.sandbox.rebuild_bases", {**dev, "servers": "east,west", "build_on": "east"}, servers
        )
        self.add("base_dev_copied", copied, "built", built, 1 / 5)


def clean() -> None:
    """Remove the project and all in it."""
    floor_ = Floor(PROJECT)
    for name in floor_.names():
        incus("delete", "--project", PROJECT, "--force", name)
    for network in json.loads(
        subprocess.run(["incus", "query", "local:/1.0/networks?recursion=1"], check=True, capture_output=True).stdout
    ):
        if (network.get("config") or {}).get("user.pixels.project") == PROJECT:
            incus("network", "delete", f"local:{network['name']}")
    incus("project", "delete", PROJECT)


def main() -> None:
    """Measure, and print the figures as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often each figure is taken")
    parser.add_argument("--only", choices=PARTS, action="append", help="parts to measure")
    arguments = parser.parse_args()
    parts = arguments.only or PARTS
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit("ended by a signal"))
    incus("project", "create", PROJECT, "-c", "features.images=false", "-c", "features.profiles=true")
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Play(Path(folder)), arguments.runs)
            if set(parts) != {"truenas"}:
                bench.prepare()
            for part in parts:
                getattr(bench, part)()
    finally:
        clean()
    for row in bench.rows:
        say(f"{row.shown()}")
    print(json.dumps({"benchmarks": [row.shown() for row in bench.rows]}))


if __name__ == "__main__":
    main()
