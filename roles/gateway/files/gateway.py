# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's one program: legs come in as JSON, its services follow, and what is in force is read back.

px-gateway apply             read {"set": {LEG: {...}}, "remove": [LEG...]} from standard input, carry it out, print the status
px-gateway status            print what is in force, and where it is not what the legs ask for
px-gateway refused [LEG...]  print what was refused, counted
px-gateway boot              make all files anew and load the rules; nothing else starts before
px-gateway collect           keep what was refused since the last time
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import render

VERSION = 2
SETTINGS = Path("/etc/pixels/gateway.json")
LEGS = Path("/etc/pixels/legs")
STATE = Path("/var/lib/pixels")
RUN = Path("/run/pixels")
NGINX = Path("/etc/nginx/nginx.conf")
UDP = Path("/proc/net/udp")
LOG = Path("/var/log/pixels/refused.log")
NFT_BASE = RUN / "nft.base"
NFT_SUM = RUN / "nft.sum"
#: Sets whose elements come from traffic.
DYNAMIC = ("denied", "denied_out", "strangers", "leases", "counted", "queries", "opened", "open")
#: Files that are made from legs, and go with them.
OWN_FILES = (("/etc/systemd/network", "50-pxe-*.network"), ("/etc/pixels/dns", "pxe-*.conf"))
READY_SECONDS = 10.0
SETTLE_SECONDS = 10.0
#: As in nginx's file.
WORKERS = 2
SET_SECONDS = 3600
MOST_REFUSALS = 500

Legs = dict[str, dict[str, Any]]


class Failed(Exception):
    """What could not be done, in words."""


def run(*command: str, stdin: str | None = None) -> str:
    """Run a program and return what it printed; Failed with its words when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(
            f"{command[0]} {command[1] if len(command) > 1 else ''}: {(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return done.stdout


def succeeds(*command: str) -> bool:
    """Say whether a program ends well."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(path)


def read(path: Path) -> str | None:
    """Return a file's text, None where there is none."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Be the only one that changes something."""
    RUN.mkdir(exist_ok=True)
    with open(RUN / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def settings() -> dict[str, Any]:
    """Return the settings that the role wrote."""
    return dict(json.loads(SETTINGS.read_text()))


def stored_legs() -> Legs:
    """Return the legs that there are; a file that is none, as a crash can leave it, is no leg, and the others work."""
    found = {}
    for path in sorted(LEGS.glob("pxe-*.json")):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            leg = json.loads(path.read_text())
            render.check(path.stem, leg)
            found[path.stem] = render.with_slots(leg, leg)
    return found


def own_files() -> set[str]:
    """Return the paths of what was made for legs."""
    return {str(path) for folder, pattern in OWN_FILES for path in Path(folder).glob(pattern)}


# -- apply


def apply(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out what is wanted of some legs; the others do not notice."""
    before = stored_legs()
    if set(wanted.get("remove", ())) | (set(wanted.get("set", ())) - set(before)):
        # what was refused on a leg is not to be told of the next one with its name
        collect()
    after: Legs = {name: leg for name, leg in before.items() if name not in wanted.get("remove", ())}
    for name, leg in wanted.get("set", {}).items():
        try:
            render.check(name, leg)
            after[name] = render.with_slots(leg, before.get(name))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise Failed(f"the leg cannot be made: {exc}") from exc
    subnets = [leg["subnet"] for leg in after.values()]
    if len(set(subnets)) != len(subnets):
        raise Failed("two legs have one subnet")
    files = render.render(settings(), after)
    validate(files)
    try:
        switch(store(files, before, after), before, after)
        return settled(sorted(wanted.get("set", ())))
    except Failed:
        # what cannot be had as a whole is not to be there in part, and the other legs are to be as they were
        with contextlib.suppress(Failed):
            switch(store(render.render(settings(), before), after, before), after, before)
        raise


def settled(names: Sequence[str]) -> dict[str, Any]:
    """Return the status when what was asked for is in force; Failed where it does not come to be."""
    told: dict[str, Any] = {}

    def problems() -> list[str]:
        told.update(status(names))
        return [*told["problems"], *(f"{name}: {text}" for name in names for text in told["legs"][name]["problems"])]

    found = problems()
    # an interface that has just come may not have its addresses yet, nor a DNS that was just started its sockets
    end = time.monotonic() + SETTLE_SECONDS
    while found and time.monotonic() < end:
        time.sleep(0.1)
        found = problems()
    if found:
        raise Failed("; ".join(found))
    return told


def validate(files: Mapping[str, str]) -> None:
    """Raise Failed where a service would not take its file; nothing was changed."""
    candidate = RUN / "nginx.conf"
    candidate.write_text(files[str(NGINX)])
    run("nginx", "-q", "-t", "-c", str(candidate))
    run("nft", "--check", "--file", "-", stdin=files["/etc/nftables.conf"])


def store(files: Mapping[str, str], before: Legs, after: Legs) -> set[str]:
    """Write what differs and remove what is not wanted any more; return the paths."""
    for name in after:
        if after[name] != before.get(name):
            write(LEGS / f"{name}.json", json.dumps(after[name], sort_keys=True))
    for file in LEGS.glob("pxe-*.json"):
        if file.stem not in after:
            file.unlink()
    changed = {path for path, text in files.items() if read(Path(path)) != text}
    for path in changed:
        write(Path(path), files[path])
    gone = own_files() - set(files)
    for path in gone:
        Path(path).unlink()
    return changed | gone


def unit(name: str) -> str:
    """Return the unit of a leg's dnsmasq."""
    return f"pxdns@{name}.service"


def switch(changed: set[str], before: Legs, after: Legs) -> None:
    """Bring running services to their files: first what lets through, then what only says so."""
    wanted = generation_in(read(NGINX))
    # one that was broken off may have left the file, and a reload that was not taken an older one in force
    if str(NGINX) in changed or answered_generation() != wanted:
        reload_nginx()
    # while nginx makes its new workers
    load_rules(after)
    wait_until(
        # in this order: an answer means that new workers are there, and then the old ones are counted
        lambda: answered_generation() == wanted and listening_workers() == WORKERS,
        "nginx does not run what was written for it",
    )
    cut(before, after)
    if any(path.startswith("/etc/systemd/network/") for path in changed):
        run("networkctl", "reload")
    gone = sorted(set(before) - set(after))
    wants = Path("/etc/systemd/system/multi-user.target.wants")
    for name in gone:
        with contextlib.suppress(FileNotFoundError):
            (wants / unit(name)).unlink()
        for path in (RUN / f"{name}.leases", STATE / "refused" / f"{name}.json"):
            path.unlink(missing_ok=True)
    if gone:
        run("systemctl", "stop", *map(unit, gone))
    there = running(after)
    due = [name for name in after if f"/etc/pixels/dns/{name}.conf" in changed or name not in there]
    for name in due:
        with contextlib.suppress(FileExistsError):
            (wants / unit(name)).symlink_to("/etc/systemd/system/pxdns@.service")
    if due:
        run("systemctl", "restart", *map(unit, due))


def running(names: Iterable[str]) -> dict[str, float]:
    """Return when the dnsmasq of each leg was started, in seconds of the epoch, of those that run; all are asked for at once."""
    wanted = list(names)
    if not wanted:
        return {}
    fields = "--property=ActiveState,ExecMainStartTimestampMonotonic"
    shown = run("systemctl", "show", fields, *map(unit, wanted)).strip().split("\n\n")
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    found = {}
    for name, block in zip(wanted, shown, strict=True):
        told = dict(line.split("=", 1) for line in block.splitlines())
        if told["ActiveState"] == "active":
            found[name] = boot + int(told["ExecMainStartTimestampMonotonic"]) / 1e6
    return found


def load_rules(legs: Legs) -> None:
    """Load the rules: the elements alone where all else is loaded, since counters and limits live in the other sets."""
    text = Path("/etc/nftables.conf").read_text()
    script = render.element_script(legs)
    base = text.removesuffix(script)
    if read(NFT_BASE) == base and read(NFT_SUM) == rules_sum(True):
        run("nft", "--file", "-", stdin=script)
    else:
        run("nft", "--file", "/etc/nftables.conf")
        write(NFT_BASE, base)
        write(NFT_SUM, rules_sum(True))
    write(RUN / "nft.full", rules_sum(False))


def rules_sum(base: bool) -> str:
    """Return a fingerprint of the loaded rules without what traffic adds, and of base, without the elements of the legs."""
    loaded = json.loads(run("nft", "--json", "--stateless", "list", "ruleset"))["nftables"]
    skipped = (*DYNAMIC, *render.elements({})) if base else DYNAMIC
    for entry in loaded:
        for kind, body in entry.items():
            if kind != "metainfo":
                body.pop("handle", None)
                if kind == "set" and body["name"] in skipped:
                    body.pop("elem", None)
                elif kind == "set":
                    body["elem"] = sorted(json.dumps(element, sort_keys=True) for element in body.get("elem", ()))
    return render.generation(json.dumps([entry for entry in loaded if "metainfo" not in entry], sort_keys=True))


def generation_in(text: str | None) -> str | None:
    """Return the fingerprint that a file of nginx carries, None where it carries none."""
    _head, _name, rest = (text or "").partition(f"server_name {render.GENERATION_NAME};")
    return rest.partition('return 200 "')[2].partition('"')[0] or None


def reload_nginx() -> None:
    """Have nginx read its file again; one that is just starting has not yet said where a signal finds it."""
    wait_until(lambda: succeeds("nginx", "-q", "-s", "reload"), "nginx cannot be told to read its file again")


def listening_workers() -> int:
    """Return how many workers of nginx take connections: for a moment after a reload the old ones still do."""
    try:
        master = Path("/run/nginx.pid").read_text().strip()
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    except OSError:
        return 0
    titles = [read(Path(f"/proc/{child}/cmdline")) or "" for child in children]
    return sum(title.strip("\0 ") == "nginx: worker process" for title in titles)


def answered_generation() -> str | None:
    """Return the fingerprint that the running nginx answers with."""
    try:
        with socket.create_connection(("127.0.0.1", 80), timeout=2) as stream:
            stream.sendall(f"GET / HTTP/1.0\r\nHost: {render.GENERATION_NAME}\r\n\r\n".encode())
            answer = b""
            while piece := stream.recv(4096):
                answer += piece
    except OSError:
        return None
    return answer.rpartition(b"\r\n\r\n")[2].decode("ascii", "replace")


def wait_until(holds: Any, otherwise: str) -> None:
    """Wait until something holds; Failed when it does not in time."""
    end = time.monotonic() + READY_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise Failed(otherwise)
        time.sleep(0.02)


def cut(before: Legs, after: Legs) -> None:
    """End the connections of legs that lost something: an old worker of nginx would keep them."""
    for name, old in before.items():
        new = after.get(name)
        if old != new and (new is None or loses(old["rules"], new["rules"]) or old["slots"] != new["slots"]):
            succeeds("ss", "--kill", "--tcp", "dst", render.address(old, 2))


def loses(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Say whether something that was let through may not be any more."""
    for table in ("names", "wildcards", "networks"):
        if any(set(ports) - set(new[table].get(key, ())) for key, ports in old[table].items()):
            return True
    return any(old[table] != new[table] for table in ("bound", "denied_names", "denied_wildcards", "denied_networks"))


# -- status


def status(names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what is in force: of the gateway, and of these legs or of all."""
    legs = stored_legs()
    files = render.render(settings(), legs)
    problems = [
        f"{path} was changed" for path in sorted(files) if read(Path(path)) != files[path] and "pxe-" not in path
    ]
    if answered_generation() != generation_in(files[str(NGINX)]):
        problems.append("nginx does not run what the legs ask for")
    if read(RUN / "nft.full") != rules_sum(False):
        problems.append("the loaded rules were changed")
    addresses = {
        entry["ifname"].partition("@")[0]: {found["local"] for found in entry["addr_info"] if found["family"] == "inet"}
        for entry in json.loads(run("ip", "-json", "address", "show"))
    }
    asked = [name for name in (legs if names is None else names) if name in legs]
    since = running(asked)
    answering = listeners(53)
    told = {name: leg_status(name, legs[name], files, addresses, since.get(name), answering) for name in asked}
    return {"version": VERSION, "problems": problems, "legs": told}


def listeners(port: int) -> set[str]:
    """Return the addresses at which something takes what comes by UDP: a service that has just been started may end at once."""
    found = set()
    for line in (read(UDP) or "").splitlines()[1:]:
        host, _colon, number = line.split()[1].partition(":")
        if int(number, 16) == port:
            found.add(socket.inet_ntoa(struct.pack("=I", int(host, 16))))
    return found


def leg_status(
    name: str,
    leg: Mapping[str, Any],
    files: Mapping[str, str],
    addresses: Mapping[str, set[str]],
    since: float | None,
    answering: set[str],
) -> dict[str, Any]:
    """Return what is in force of a leg; since is when its DNS was started, None where it does not run."""
    problems = [
        f"{path} was changed" for path in sorted(files) if f"{name}." in path and read(Path(path)) != files[path]
    ]
    wanted = {render.address(leg, number) for number in (1, *leg["slots"].values())}
    if name not in addresses:
        problems.append("its interface is not there")
    elif addresses[name] != wanted:
        problems.append(f"its interface has {', '.join(sorted(addresses[name])) or 'no address'}")
    if since is None:
        problems.append("its DNS does not run")
    elif render.address(leg, 1) not in answering:
        problems.append("its DNS does not answer")
    elif since < Path(f"/etc/pixels/dns/{name}.conf").stat().st_mtime - 1:
        problems.append("its DNS runs with an older file")
    return {
        "digest": render.fingerprint(leg["rules"]),
        "subnet": leg["subnet"],
        "address": render.address(leg, 2),
        "problems": problems,
    }


# -- what was refused


def collect() -> None:
    """Add what was refused since the last time to what is kept of each leg."""
    legs = stored_legs()
    by_address = {
        render.address(leg, number): name for name, leg in legs.items() for number in (1, *leg["slots"].values())
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in legs}
    for entry in (*logged(by_address), *asked(legs), *counted(legs)):
        found[entry.pop("leg")].append(entry)
    for name, entries in found.items():
        if entries:
            keep(STATE / "refused" / f"{name}.json", entries)


def keep(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Add entries to a file of counts, the newest ones only."""
    kept = {json.dumps(key): dict(value) for key, value in json.loads(read(path) or "[]")}
    for entry in entries:
        key = json.dumps([entry["how"], entry["target"], entry.get("port"), entry.get("protocol")])
        there = kept.setdefault(key, {**entry, "count": 0})
        there["count"] += entry["count"]
        there["last"] = max(there["last"], entry["last"])
    newest = sorted(kept.items(), key=lambda item: item[1]["last"], reverse=True)[:MOST_REFUSALS]
    write(path, json.dumps([[json.loads(key), value] for key, value in newest]))


def logged(by_address: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield what nginx refused, and begin its log anew."""
    old = LOG.with_suffix(".old")
    if not old.exists():
        try:
            if not LOG.stat().st_size:
                return
            LOG.rename(old)
        except FileNotFoundError:
            return
        # when the gateway stops, nginx has stopped before
        wait = time.monotonic() + (2 if succeeds("nginx", "-q", "-s", "reopen") else 0)
        while not LOG.exists() and time.monotonic() < wait:
            time.sleep(0.02)
    # the log has a file system of its own, and so an end
    with open(old, encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                told = json.loads(line)
                leg = by_address[told["leg"]]
                yield entry_of(leg, str(told["how"]), str(told["name"]), float(told["t"]), port=int(told["port"]))
    old.unlink()


def asked(legs: Legs) -> Iterator[dict[str, Any]]:
    """Yield the names that no DNS of a leg has an answer for."""
    cursor = STATE / "journal.cursor"
    command = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=json",
        "--identifier=dnsmasq",
        f"--cursor-file={cursor}",
    ]
    # what was logged a moment ago is to be counted too
    succeeds("journalctl", "--sync")
    for line in run(*command).splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            leg = str(told["_SYSTEMD_UNIT"]).removeprefix("pxdns@").removesuffix(".service")
            _head, mark, rest = str(told["MESSAGE"]).partition(" config ")
            name, _is, answer = rest.partition(" is ")
            if mark and answer == "NXDOMAIN" and leg in legs:
                yield entry_of(leg, "dns", name, int(told["__REALTIME_TIMESTAMP"]) / 1e6)


def counted(legs: Legs) -> Iterator[dict[str, Any]]:
    """Yield the packets that the rules refused, and begin their counters anew."""
    now = time.time()
    for name in ("denied", "strangers"):
        told = json.loads(run("nft", "--json", "list", "set", "inet", "pixels", name))["nftables"]
        run("nft", "flush", "set", "inet", "pixels", name)
        (found,) = [entry["set"] for entry in told if "set" in entry]
        for element in found.get("elem", ()):
            body = element["elem"]
            leg, *rest = body["val"]["concat"]
            if leg not in legs:
                continue
            last = now - (SET_SECONDS - body.get("expires", SET_SECONDS))
            count = body.get("counter", {}).get("packets", 1)
            if name == "denied":
                target, protocol, port = rest
                yield entry_of(leg, "packet", target, last, count, port=port or None, protocol=str(protocol))
            else:
                yield entry_of(leg, "stranger", f"{rest[0]} {rest[1]}", last, count)


def entry_of(leg: str, how: str, target: str, last: float, count: int = 1, **more: Any) -> dict[str, Any]:
    """Return one refusal; what the guest chose is cut to a length that names have."""
    return {"leg": leg, "how": how, "target": target[:256], "last": int(last), "count": count, **more}


def refused(names: Sequence[str]) -> dict[str, Any]:
    """Return what was refused of these legs, or of all."""
    legs = stored_legs()
    return {
        name: [value for _key, value in json.loads(read(STATE / "refused" / f"{name}.json") or "[]")]
        for name in names or legs
        if name in legs
    }


# -- the program


def boot() -> None:
    """Make all files from the legs and load the rules, before anything else of the gateway runs."""
    legs = stored_legs()
    files = render.render(settings(), legs)
    store(files, legs, legs)
    for path in (NFT_BASE, NFT_SUM):
        path.unlink(missing_ok=True)
    LOG.parent.mkdir(exist_ok=True)
    load_rules(legs)
    # only now: without rules nothing is to pass
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def fail(text: str) -> NoReturn:
    """End with a message."""
    sys.exit(f"px-gateway: {text}")


def main(arguments: Sequence[str]) -> None:
    """Do what the arguments say."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    os.umask(0o022)
    try:
        with alone():
            if verb == "apply" and not rest:
                print(json.dumps(apply(json.load(sys.stdin))))
            elif verb == "status" and not rest:
                print(json.dumps(status()))
            elif verb == "refused":
                collect()
                print(json.dumps(refused(rest)))
            elif verb == "collect" and not rest:
                collect()
            elif verb == "boot" and not rest:
                boot()
            else:
                fail(str(__doc__).split("\n", 2)[2])
    except Failed as exc:
        fail(str(exc))


if __name__ == "__main__":
    main(sys.argv[1:])
