# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one program that says what this machine may reach: a policy comes in as JSON, rules follow, and what is loaded is read back.

px-egress apply    read a policy from standard input, have it in force and keep it, print the status
px-egress status   print what is loaded, and where it is not what the policy asks for
px-egress refused  print what was refused, counted
px-egress refresh  look the names up again
px-egress boot     load the rules of the last good policy, before there is a network
px-egress clear    forget the policy, and let everything through
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import secrets
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import rules

VERSION = 1
SETTINGS = Path("/etc/pixels/egress.json")
POLICY = Path("/etc/pixels/egress-policy.json")
STATE = Path("/var/lib/pixels-egress")
RUN = Path("/run/pixels-egress")
HOSTS = Path("/etc/hosts")
#: Where the resolvers of this machine are listed; behind the one of systemd, those that it asks.
RESOLV = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
UNITS = ("px-egress.service", "px-egress-refresh.timer", "px-egress-refresh.path")
#: How long an address that a name leads to no more is let through: a download may still run there.
KEPT_SECONDS = 3600
ANSWER_SECONDS = 1.5
LOOKUP_SECONDS = 10.0
#: Types of the records with the addresses of a name: of IPv4, and of IPv6.
KINDS = (1, 28)
DNS_PORT = 53
MOST_REFUSALS = 500
SET_SECONDS = 3600

Document = Mapping[str, Any]
#: When each address was last what a name leads to, by name.
Seen = dict[str, dict[str, float]]


class Failed(Exception):
    """What could not be done, in words."""


def run(*command: str, stdin: str | None = None) -> str:
    """Run a program and return what it printed; Failed with its words when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{command[0]}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(0o644)
    temporary.replace(path)


def read(path: Path) -> str | None:
    """Return a file's text, None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Be the only one that changes something."""
    RUN.mkdir(exist_ok=True)
    with open(RUN / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def parsed(text: str) -> Document:
    """Return the policy that a text is; Failed for one that is none."""
    try:
        document = json.loads(text)
        rules.check(document)
    except (ValueError, TypeError, AttributeError) as exc:
        raise Failed(f"the policy cannot be read: {exc}") from exc
    return dict(document)


def seen() -> Seen:
    """Return what names have led to."""
    return dict(found) if isinstance(found := remembered("addresses.json"), dict) else {}


def remembered(name: str) -> Any:
    """Return what was written for the next time, None where that is nothing or cannot be read: rules never wait for it."""
    try:
        return json.loads(read(STATE / name) or "null")
    except ValueError:
        return None


# -- what is loaded


def render(document: Document, known: Seen) -> str:
    """Return the rules of a policy."""
    inbound = json.loads(read(SETTINGS) or "{}").get("inbound", ())
    return rules.render(document, known, resolvers(document), inbound)


def load(text: str) -> None:
    """Load rules, and remember what the kernel made of them."""
    if text == read(RUN / "rules.nft") and read(RUN / "loaded") == listing():
        return
    collect()
    run("nft", "--file", "-", stdin=text)
    write(RUN / "rules.nft", text)
    write(RUN / "loaded", listing() or "")


def listing() -> str | None:
    """Return our table as the kernel has it, without what traffic adds; None where there is none."""
    try:
        told = run("nft", "--stateless", "list", "table", "inet", "px_egress")
    except Failed:
        return None
    return re.sub(r"set refused[46] \{.*?\n\t\}", "", told, flags=re.DOTALL)


def settle(document: Document, known: Seen) -> None:
    """Bring rules and /etc/hosts to what names lead to."""
    load(render(document, known))
    pin(rules.pins(document, known))


def pin(lines: Iterable[str]) -> None:
    """Put our lines into /etc/hosts in place of those that are there."""
    before = read(HOSTS) or ""
    after = rules.with_pins(before, lines)
    if after != before:
        write(HOSTS, after)


# -- names


def resolvers(document: Document) -> list[str]:
    """Return the addresses that names are looked up at: those of the settings, else those that this machine has."""
    given = json.loads(read(SETTINGS) or "{}").get("resolvers")
    # behind a gateway there is no other than its own
    if given and not document["behind_gateway"]:
        return list(given)
    for path in RESOLV:
        found = []
        for line in (read(path) or "").splitlines():
            word, _space, rest = line.strip().partition(" ")
            with contextlib.suppress(ValueError):
                if word == "nameserver" and not ipaddress.ip_address(rest.strip()).is_loopback:
                    found.append(rest.strip())
        if found:
            return found
    return []


def look_up(document: Document, before: Seen) -> tuple[Seen, bool]:
    """Return what the names of a policy lead to, and whether anybody answered.

    Each family of addresses is a question of its own: one that nobody answers leaves a name what it had of that family, however old.
    """
    now = time.time()
    names = rules.wanted_names(document)
    answers = answered(names, resolvers(document))
    after: Seen = {}
    for name in names:
        after[name] = {
            address: when
            for address, when in before.get(name, {}).items()
            if (name, kind_of(address)) not in answers or 0 <= now - when < KEPT_SECONDS
        }
        for kind in KINDS:
            after[name].update(dict.fromkeys(answers.get((name, kind), ()), now))
    return after, not names or bool(answers)


def answered(names: Iterable[str], servers: Sequence[str]) -> dict[tuple[str, int], set[str]]:
    """Return the answers to all questions about names that anybody has answered.

    What was not answered is asked again as long as anybody answers: on a link that only just comes up one answer is lost and the next is not.
    """
    end = time.monotonic() + LOOKUP_SECONDS
    open_questions = [(name, kind) for name in names for kind in KINDS]
    answers: dict[tuple[str, int], set[str]] = {}
    with ThreadPoolExecutor(32) as pool:
        while open_questions:
            told = pool.map(lambda question: ask(question[0], question[1], servers, end), open_questions)
            found = {question: said for question, said in zip(open_questions, told, strict=True) if said is not None}
            answers.update(found)
            open_questions = [question for question in open_questions if question not in answers] if found else []
    return answers


def kind_of(address: str) -> int:
    """Return the type of the records that have such addresses."""
    return KINDS[":" in address]


def ask(name: str, kind: int, servers: Sequence[str], end: float) -> set[str] | None:
    """Ask one resolver after the other, over TCP what is too long for UDP."""
    for server in servers:
        for stream in (False, True):
            if time.monotonic() > end:
                return None
            question = query(name, kind)
            try:
                answer = exchanged(server, question, stream)
                truncated, found = read_answer(question, answer, kind)
            except (OSError, ValueError, IndexError, struct.error):
                break
            if not truncated:
                return found
    return None


def query(name: str, kind: int) -> bytes:
    """Return a question in DNS."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    return (
        struct.pack("!6H", secrets.randbelow(65536), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)
    )


def exchanged(server: str, question: bytes, stream: bool) -> bytes:
    """Return what a resolver answers."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as link:
        link.settimeout(ANSWER_SECONDS)
        link.connect((server, DNS_PORT))
        if not stream:
            link.send(question)
            return link.recv(65535)
        link.sendall(struct.pack("!H", len(question)) + question)
        with link.makefile("rb") as file:
            return file.read(struct.unpack("!H", file.read(2))[0])


def read_answer(question: bytes, answer: bytes, kind: int) -> tuple[bool, set[str]]:
    """Return whether an answer was cut off, and the addresses in it; ValueError for what is no answer to the question."""
    length = len(question)
    if answer[:2] != question[:2] or answer[12:length].lower() != question[12:].lower():
        raise ValueError("an answer to something else")
    flags, _questions, count = struct.unpack("!3H", answer[2:8])
    # no such name is an answer, a server that fails is none
    if not flags & 0x8000 or flags & 15 not in (0, 3):
        raise ValueError("no answer")
    found, place = set(), length
    for _turn in range(count if not flags & 0x0200 else 0):
        while answer[place] and answer[place] < 192:
            place += 1 + answer[place]
        place += 2 if answer[place] else 1
        told, group, _ttl, size = struct.unpack("!2HIH", answer[place : place + 10])
        data = answer[place + 10 : place + 10 + size]
        if (told, group) == (kind, 1):
            found.add(str(ipaddress.ip_address(data)))
        place += 10 + size
    return bool(flags & 0x0200), found


# -- verbs


def apply(document: Document) -> dict[str, Any]:
    """Have a policy in force: at once with what is known of its names, and then with what they lead to."""
    before = seen()
    run("nft", "--check", "--file", "-", stdin=render(document, before))
    write(POLICY, json.dumps(document, sort_keys=True))
    settle(document, before)
    refresh(document)
    return status()


def refresh(document: Document) -> bool:
    """Bring rules up to date with the resolvers of this machine, and then with the names; say whether anybody answered for them."""
    while True:
        before, asked = seen(), resolvers(document)
        settle(document, before)
        after, heard = look_up(document, before)
        write(STATE / "addresses.json", json.dumps(after, sort_keys=True))
        settle(document, after)
        # a machine that changes its network may have others by now, and nobody would come back for these
        if resolvers(document) == asked:
            return heard


def stored() -> Document | None:
    """Return the policy that is kept, None where there is none."""
    text = read(POLICY)
    return None if text is None else parsed(text)


def boot() -> None:
    """Load the rules of the policy that is kept, with what its names led to last."""
    document = stored()
    if document is not None:
        settle(document, seen())


def clear() -> None:
    """Remove all that a policy has brought."""
    POLICY.unlink(missing_ok=True)
    run("nft", "--file", "-", stdin="table inet px_egress {}\ndelete table inet px_egress\n")
    pin(())
    for path in (STATE / "addresses.json", STATE / "refused.json", RUN / "rules.nft", RUN / "loaded"):
        path.unlink(missing_ok=True)


def status() -> dict[str, Any]:
    """Return what is loaded, and where it is not what the policy asks for."""
    loaded, problems = listing(), []
    told: dict[str, Any] = {"version": VERSION, "policy": None, "loaded": None, "unresolved": []}
    if loaded is not None:
        mark = re.search(r'^\tcomment "([0-9a-f]{64})"$', loaded, flags=re.MULTILINE)
        told["loaded"] = mark[1] if mark else ""
    try:
        document = stored()
    except Failed as exc:
        return {**told, "problems": [str(exc)]}
    if document is not None:
        known = seen()
        told["policy"] = rules.fingerprint(document)
        told["unresolved"] = [name for name, found in rules.places(document, known).items() if not found]
        if loaded is None:
            problems.append("no rules are loaded")
        elif loaded != read(RUN / "loaded"):
            problems.append("the loaded rules were changed")
        problems += [f"{unit} is not enabled" for unit in UNITS if not enabled(unit)]
    elif loaded is not None:
        problems.append("rules are loaded, and there is no policy")
    return {**told, "problems": problems}


def enabled(unit: str) -> bool:
    """Say whether a unit is started with the machine."""
    return (
        subprocess.run(["systemctl", "--quiet", "is-enabled", unit], capture_output=True, check=False).returncode == 0
    )


# -- what was refused


def collect() -> None:
    """Add what was refused since the last time to what is kept."""
    before = remembered("refused.json") or []
    kept = {(entry["target"], entry["port"], entry["protocol"]): entry for entry in before}
    found = list(counted())
    for entry in found:
        there = kept.setdefault((entry["target"], entry["port"], entry["protocol"]), {**entry, "count": 0})
        there["count"] += entry["count"]
        there["last"] = max(there["last"], entry["last"])
    if found:
        newest = sorted(kept.values(), key=lambda entry: entry["last"], reverse=True)[:MOST_REFUSALS]
        write(STATE / "refused.json", json.dumps(newest))


def counted() -> Iterator[dict[str, Any]]:
    """Yield what the rules refused, and begin their counters anew."""
    now = time.time()
    for name in ("refused4", "refused6"):
        try:
            told = json.loads(run("nft", "--json", "list", "set", "inet", "px_egress", name))["nftables"]
            run("nft", "flush", "set", "inet", "px_egress", name)
        except Failed:
            continue
        for body in (item["elem"] for entry in told if "set" in entry for item in entry["set"].get("elem", ())):
            target, protocol, port = body["val"]["concat"]
            yield {
                "target": target,
                "port": port or None,
                "protocol": str(protocol),
                "count": body.get("counter", {}).get("packets", 1),
                "last": int(now - (SET_SECONDS - body.get("expires", SET_SECONDS))),
            }


# -- the program


def fail(text: str) -> NoReturn:
    """End with a message."""
    sys.exit(f"px-egress: {text}")


def main(arguments: Sequence[str]) -> None:
    """Do what the arguments say."""
    os.umask(0o022)
    if os.geteuid() != 0:
        fail("it needs to be root")
    try:
        with alone():
            match arguments:
                case ["apply"]:
                    print(json.dumps(apply(parsed(sys.stdin.read()))))
                case ["status"]:
                    print(json.dumps(status()))
                case ["refused"]:
                    collect()
                    print(json.dumps(remembered("refused.json") or []))
                case ["refresh"]:
                    document = stored()
                    if document is not None and not refresh(document):
                        print("px-egress: no resolver answers; what is known of names stays", file=sys.stderr)
                        sys.exit(os.EX_TEMPFAIL)
                case ["boot"]:
                    boot()
                case ["clear"]:
                    clear()
                case _:
                    fail(str(__doc__).split("\n", 2)[2])
    except Failed as exc:
        fail(str(exc))


if __name__ == "__main__":
    main(sys.argv[1:])
