# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes that run inside of a sandbox: what an agent that wants out would try.

Reads a JSON list of probes from standard input and prints a JSON object: for each id C(reached), C(refused) or C(error), and why.
A probe is C(reached) only when something answered that could not have answered otherwise. It needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Probe = Mapping[str, Any]

SECONDS = 3.0
_ETH_ALL = 3


class Refused(Exception):
    """The probe did not get through."""


def connect(probe: Probe) -> socket.socket:
    """Return a stream to the target."""
    try:
        stream = socket.create_connection((probe["address"], probe["port"]), timeout=SECONDS)
    except OSError as exc:
        raise Refused(f"connect: {exc}") from exc
    stream.settimeout(SECONDS)
    return stream


def answer_of(stream: socket.socket, request: bytes) -> bytes:
    """Send a request and return what comes back until the other end closes."""
    pieces = b""
    try:
        stream.sendall(request)
        while piece := stream.recv(65536):
            pieces += piece
    except OSError as exc:
        if not pieces:
            raise Refused(f"no answer: {exc}") from exc
    return pieces


def tcp(probe: Probe) -> str:
    """Connect, and hear a greeting."""
    with connect(probe) as stream:
        try:
            greeting = stream.recv(256)
        except OSError as exc:
            raise Refused(f"connected, and heard nothing: {exc}") from exc
    if not greeting:
        raise Refused("connected, and the connection was closed")
    return greeting.decode("ascii", "replace").strip()


def http(probe: Probe) -> str:
    """Send a request as it is, or a plain one with a Host, and get an answer of success."""
    host = probe.get("host", "")
    request = (
        probe.get("request") or f"GET {probe.get('path', '/')} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    with connect(probe) as stream:
        answer = answer_of(stream, request.encode("latin-1"))
    return told(answer, probe)


def told(answer: bytes, probe: Probe) -> str:
    """Return an answer that is one of who was meant: its status is 200, and it has the mark."""
    text = answer.decode("latin-1")
    mark = probe.get("mark", "")
    if not any(line.startswith("HTTP/1.1 200") for line in text.splitlines()) or (mark and mark not in text):
        raise Refused(text.partition("\r\n")[0][:200] or "an empty answer")
    return text.partition("\r\n\r\n")[2][:200]


def tls(probe: Probe) -> str:
    """Speak TLS with a server name, or none, and ask by HTTP inside."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connect(probe) as plain:
        try:
            stream = context.wrap_socket(plain, server_hostname=probe.get("name") or None)
        except (OSError, ValueError) as exc:
            raise Refused(f"no TLS: {exc}") from exc
        with stream:
            host = probe.get("host") or probe.get("name") or "none"
            request = f"GET {probe.get('path', '/')} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            return told(answer_of(stream, request.encode("latin-1")), probe)


def udp(probe: Probe) -> str:
    """Send a datagram, and get one back."""
    family = socket.AF_INET6 if ":" in probe["address"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(SECONDS)
        try:
            datagrams.sendto(b"out", (probe["address"], probe["port"]))
            return f"{len(datagrams.recv(2048))} bytes"
        except OSError as exc:
            raise Refused(str(exc)) from exc


def query(name: str, kind: int = 1) -> bytes:
    """Return a DNS query."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    return (
        struct.pack("!6H", random.randrange(65536), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)
    )


def dns(probe: Probe) -> str:
    """Look a name up at a server, and get an answer that has records."""
    data = query(probe["name"], probe.get("record", 1))
    if probe.get("stream"):
        with connect({**probe, "port": probe.get("port", 53)}) as stream:
            answer = answer_of(stream, struct.pack("!H", len(data)) + data)[2:]
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(SECONDS)
            try:
                datagrams.sendto(data, (probe["address"], probe.get("port", 53)))
                answer = datagrams.recv(4096)
            except OSError as exc:
                raise Refused(str(exc)) from exc
    if probe.get("any") and len(answer) >= 12:
        return "an answer"
    if len(answer) < 12 or answer[3] & 15 or not struct.unpack("!H", answer[6:8])[0]:
        raise Refused(f"answered without records, code {answer[3] & 15 if len(answer) > 3 else 'none'}")
    return "records"


def icmp(probe: Probe) -> str:
    """Send an echo request, and get its reply."""
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except OSError as exc:
        raise Refused(f"no raw socket: {exc}") from exc
    with raw:
        raw.settimeout(SECONDS)
        mark = random.randrange(65536)
        body = struct.pack("!BBHHH", 8, 0, 0, mark, 1) + b"out?"
        total = sum(struct.unpack(f"!{len(body) // 2}H", body))
        total = (total >> 16) + (total & 0xFFFF)
        body = body[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[4:]
        try:
            raw.sendto(body, (probe["address"], 0))
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                packet, peer = raw.recvfrom(1024)
                inner = packet[(packet[0] & 15) * 4 :]
                if peer[0] == probe["address"] and inner[0] == 0 and struct.unpack("!H", inner[4:6])[0] == mark:
                    return "echo reply"
        except OSError as exc:
            raise Refused(str(exc)) from exc
    raise Refused("no reply")


def icmp6(probe: Probe) -> str:
    """Ask everybody on the link for an echo, and get one from somebody else."""
    try:
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex(probe.get("interface", "eth0"))
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        raw.settimeout(SECONDS)
        raw.sendto(struct.pack("!BBHHH", 128, 0, 0, 7, 1), ("ff02::1", 0, 0, index))
    except OSError as exc:
        raise Refused(f"no echo request: {exc}") from exc
    with open("/proc/net/if_inet6", encoding="ascii") as table:
        own = {line.split()[0] for line in table}
    end = time.monotonic() + SECONDS
    with raw:
        while time.monotonic() < end:
            try:
                packet, peer = raw.recvfrom(1024)
            except OSError:
                break
            address = socket.inet_pton(socket.AF_INET6, peer[0].partition("%")[0]).hex()
            if packet[0] == 129 and address not in own:
                return peer[0]
    raise Refused("nobody replied")


def command(probe: Probe) -> str:
    """Run a program of the guest; it gets through when it succeeds."""
    try:
        done = subprocess.run(
            probe["argv"], capture_output=True, text=True, timeout=probe.get("seconds", 20), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Refused(str(exc)) from exc
    if done.returncode:
        raise Refused((done.stderr or done.stdout).strip()[-200:] or f"ended with {done.returncode}")
    return done.stdout.strip()[-200:]


def mac_of(interface: str) -> bytes:
    """Return an interface's MAC."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket, 0x8927, struct.pack("256s", interface.encode()))[18:24]


def arp(probe: Probe) -> str:
    """Ask on the wire who has an address, and get a reply: whoever replies can be talked to below IP."""
    interface = probe.get("interface", "eth0")
    try:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
        link.bind((interface, 0))
    except OSError as exc:
        raise Refused(f"no packet socket: {exc}") from exc
    with link:
        own = mac_of(interface)
        sender = socket.inet_aton(probe.get("source", "0.0.0.0"))  # noqa: S104  # a probe of nobody
        target = socket.inet_aton(probe["address"])
        frame = (
            b"\xff" * 6
            + own
            + b"\x08\x06"
            + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
            + own
            + sender
            + b"\0" * 6
            + target
        )
        tag = probe.get("vlan")
        if tag:
            frame = frame[:12] + struct.pack("!HH", 0x8100, tag) + frame[12:]
        end = time.monotonic() + SECONDS
        link.send(frame)
        while time.monotonic() < end:
            if not select.select([link], [], [], 0.2)[0]:
                continue
            heard = link.recv(2048)
            if heard[12:14] == b"\x08\x06" and heard[20:22] == b"\0\x02" and heard[28:32] == target:
                return heard[22:28].hex(":")
    raise Refused("nobody replied")


def frame_udp(probe: Probe) -> str:
    """Send a datagram in a frame to a MAC of choice, and get one back: below whatever the guest's own IP would do."""
    interface = probe.get("interface", "eth0")
    try:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
        link.bind((interface, 0))
    except OSError as exc:
        raise Refused(f"no packet socket: {exc}") from exc
    with link:
        source, target = socket.inet_aton(probe["source"]), socket.inet_aton(probe["address"])
        port = random.randrange(20000, 60000)
        payload = query(probe["name"]) if probe.get("name") else b"out?"
        body = struct.pack("!HHHH", port, probe["port"], 8 + len(payload), 0) + payload
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0, source, target)
        total = sum(struct.unpack("!10H", head))
        total = (total >> 16) + (total & 0xFFFF)
        head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
        link.send(bytes.fromhex(probe["mac"].replace(":", "")) + mac_of(interface) + b"\x08\x00" + head + body)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if select.select([link], [], [], 0.2)[0]:
                heard = link.recv(2048)
                if (
                    heard[12:14] == b"\x08\x00"
                    and heard[23] == 17
                    and heard[26:30] == target
                    and heard[36:38] == struct.pack("!H", port)
                ):
                    return f"{len(heard)} bytes"
    raise Refused("nothing came back")


def guest_api(_probe: Probe) -> str:
    """Talk to the guest API of the server."""
    for path in ("/dev/incus/sock", "/dev/lxd/sock"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(SECONDS)
            stream.connect(path)
            stream.sendall(b"GET /1.0 HTTP/1.0\r\nHost: a\r\n\r\n")
            if stream.recv(64).startswith(b"HTTP/"):
                return path
    raise Refused("there is none")


KINDS: Mapping[str, Callable[[Probe], str]] = {
    "tcp": tcp,
    "http": http,
    "tls": tls,
    "udp": udp,
    "dns": dns,
    "icmp": icmp,
    "icmp6": icmp6,
    "command": command,
    "arp": arp,
    "frame_udp": frame_udp,
    "guest_api": guest_api,
}


def attempt(probe: Probe) -> dict[str, str]:
    """Return how one probe ended."""
    try:
        return {"outcome": "reached", "why": KINDS[probe["kind"]](probe)}
    except Refused as exc:
        return {"outcome": "refused", "why": str(exc)[:300]}
    except Exception as exc:  # noqa: BLE001  # whatever goes wrong in the guest is an answer too
        return {"outcome": "error", "why": f"{type(exc).__name__}: {exc}"[:300]}


def main() -> None:
    """Run the probes, side by side where they do not change the guest."""
    probes = json.load(sys.stdin)
    together = [probe for probe in probes if probe["kind"] != "command"]
    with ThreadPoolExecutor(8) as pool:
        found = {probe["id"]: outcome for probe, outcome in pool.map(lambda probe: (probe, attempt(probe)), together)}
    for probe in probes:
        if probe["kind"] == "command":
            found[probe["id"]] = attempt(probe)
    json.dump({"uid": os.getuid(), "outcomes": found}, sys.stdout)


if __name__ == "__main__":
    main()
