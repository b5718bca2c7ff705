# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is tried on the egress of a sandbox: tables of attacks, each with a control that shows that it could have got through; pure.

A probe is an object that roles/verify_egress/files/attack.py understands. It has words like C(<leg>) for what differs from sandbox to sandbox
(see WORDS), so that the same line is tried by whoever is told to. It is C(reached) only where somebody answered who cannot answer otherwise.

An attack has C(leaked) when its probe reached. It has C(held) when its probe was refused, its control reached, and the sandbox reached what its
policy names before and afterwards. Everything else is C(inconclusive).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Probe = dict[str, Any]

#: The sandboxes: two under the policy, two without one that share a link, and one whose policy on the same gateway lets through what is attacked.
INSIDE, SIBLING, CONTROL, OTHER, WIDE = ROLES = ("inside", "sibling", "control", "other", "wide")
#: Who stands beside whom.
PEERS = {INSIDE: SIBLING, SIBLING: INSIDE, CONTROL: OTHER, OTHER: CONTROL, WIDE: INSIDE}
#: Words of probes: what a sandbox is called here, its address and MAC; its router, which under a policy is the leg, and that one's MAC; the MAC
#: that the server itself has on its link; an address of the leg that it gives nobody; and the same of who stands beside it.
WORDS = ("me", "address", "mac", "leg", "leg_mac", "second", "server_mac", "peer", "peer_mac", "peer_leg", "wide_leg")

#: Ports at which machines have services, without those at which a leg is to answer.
PORTS = (
    *(7, 21, 22, 23, 25, 67, 68, 110, 111, 123, 139, 143, 179, 389, 445, 514, 631, 853, 873, 993, 1080, 2049, 2375),
    *(3128, 3306, 5000, 5353, 5355, 5432, 6379, 8000, 8008, 8080, 8099, 8118, 8443, 8888, 9000, 9090, 9100, 9418),
)
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_TAG, _OUTER_TAG = 0x8100, 0x88A8
#: Of nobody: documentation (RFC 5737) and locally administered.
_NOBODY, _NOBODYS_MAC = "192.0.2.1", "02:00:5e:00:53:21"
#: What colluding guests call themselves beside what their server knows: first and second of a pair.
COLLUDING = {"eth0": "10.99.0", "n8": "10.99.8", "six": "fd99:"}


@dataclass(frozen=True)
class Targets:
    """What is attacked: all of it belongs to who runs the battery.

    allowed is a name that the policy lets through, at allowed_address. foreign is an address with HTTP, TLS, SSH, DNS and UDP echo
    that it does not, foreign6 one of IPv6, and foreign_name a name there; mark is what its pages have and no other. slow is a path of
    allowed whose answer takes long. private_names are names of the policy that lead to private addresses, in the order of private.
    metadata and resolvers are addresses; dns_name is a name that the resolvers know; hosts are addresses of the server.
    """

    allowed: str
    allowed_address: str
    foreign: str
    foreign_name: str
    mark: str = ""
    dns_name: str = ""
    slow: str = ""
    foreign6: str = ""
    resolvers: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    private_names: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attack:
    """One attempt, and the same one by somebody whom the policy does not hold.

    control is in what the probe of the control differs, and by who makes it, always as root. again says that it is tried once more after
    each change of the sandbox.
    """

    id: str
    title: str
    probe: Probe
    control: Probe = field(default_factory=dict)
    by: str = CONTROL
    again: bool = False


def filled(probe: Probe, words: Mapping[str, str]) -> Probe | None:
    """Return a probe with the words of a sandbox in it, None where that has nothing for one of them."""
    found = {}
    for key, value in probe.items():
        text = value
        if isinstance(value, str):
            for word in WORDS:
                if f"<{word}>" in text:
                    if not words.get(word):
                        return None
                    text = text.replace(f"<{word}>", words[word])
        found[key] = text
    return found


def web(t: Targets) -> Probe:
    """Return the probe that asks who must not be reached, by HTTP."""
    return {"kind": "http", "address": t.foreign, "port": 80, "host": t.foreign_name, "mark": t.mark}


def alive(t: Targets) -> Probe:
    """Return the probe by which a sandbox shows that it reaches what its policy names."""
    return {"kind": "tls", "address": t.allowed, "port": 443, "name": t.allowed}


def catalogue(t: Targets, server_name: str, router: str, gateway: str | None) -> list[Attack]:
    """Return the attacks that change nothing in the sandbox.

    server_name and router are those of the control, which the server's own DNS knows, and gateway the gateway's address on its uplink.
    """
    found = [*_by_address(t), *_at_the_leg(t), *_requests(t), *_beside(), *_lookups(t), *_private(t)]
    found += _server(t, f"{server_name}.incus", router)
    if gateway:
        found += _uplink(t, gateway)
    return _unique(found)


def not_tried(t: Targets) -> list[str]:
    """Return what is not tried, in words."""
    lacking = {
        "IPv6 beyond the link: there is no target foreign6": not t.foreign6,
        "a live download by HTTP after a deny: there is no target slow": not t.slow,
        "foreign resolvers: there is no target resolvers": not t.resolvers,
        "private addresses: there is no target private": not t.private,
        "names that lead to private addresses: there is no target private_names": not t.private_names,
        "metadata addresses: there is no target metadata": not t.metadata,
        "the server by its addresses: there is no target hosts": not t.hosts,
    }
    return [
        *(words for words, lacks in lacking.items() if lacks),
        "what a name that is allowed does with what it is sent",
        "another Host inside of TLS than its server name",
        "what leaves by published ports and mounted folders",
        "frames that bridges keep to themselves, like those of spanning trees",
        "holes in the gateway's own programs",
        "the kernel of the server",
    ]


def _by_address(t: Targets) -> list[Attack]:
    """Return attempts to go to an address, past the gateway."""
    secure = _secure(t)
    attacks = [
        Attack("address-http", "an address, by HTTP", web(t), again=True),
        Attack("address-tls", "an address, by TLS", secure, again=True),
        Attack(
            "address-of-allowed",
            "the address of an allowed name, past the gateway",
            {**secure, "address": t.allowed_address, "name": t.allowed, "mark": ""},
        ),
        Attack("address-ssh", "an address, by SSH", {"kind": "tcp", "address": t.foreign, "port": 22}),
        Attack("address-port", "an address, at another port", {"kind": "tcp", "address": t.foreign, "port": 8443}),
        Attack("dot", "DNS over TLS, by address", {"kind": "tcp", "address": t.foreign, "port": 853}),
        Attack("doh", "DNS over HTTPS, by address", {**secure, "path": "/dns-query"}),
        Attack("quic", "UDP to port 443, as QUIC", {"kind": "udp", "address": t.foreign, "port": 443}, again=True),
        Attack("udp", "UDP to another port", {"kind": "udp", "address": t.foreign, "port": 7}),
        Attack("icmp", "ICMP from a raw socket", {"kind": "icmp", "address": t.foreign}),
        Attack(
            "frame-resolver",
            "a foreign resolver, by a frame of a packet socket",
            _frame(t.resolvers[0] if t.resolvers else t.foreign, t.dns_name or t.allowed, "<leg_mac>"),
            again=True,
        ),
    ]
    if t.foreign6:
        attacks.append(Attack("address-ipv6", "an address of IPv6", {**web(t), "address": t.foreign6}))
    return attacks


def _at_the_leg(t: Targets) -> list[Attack]:
    """Return attempts to get something else from the leg than the policy says; another policy on the same gateway gets it."""
    secure = _secure(t)
    tcp = {"kind": "tcp", "address": t.allowed}
    own = {"kind": "http", "address": "<leg>", "port": 80, "host": t.allowed}
    own_tls = {"kind": "tls", "address": "<leg>", "port": 443, "name": t.allowed}
    return [
        Attack("other-port", "another port of an allowed name", {**tcp, "port": 8443}, by=WIDE),
        Attack("other-port-ssh", "SSH of a name that is allowed for the web", {**tcp, "port": 22}, by=WIDE),
        Attack("forged-sni", "a forged server name", {**secure, "address": "<leg>"}, by=WIDE, again=True),
        Attack("forged-host", "a forged Host", {**web(t), "address": "<leg>"}, by=WIDE, again=True),
        # whoever says no name is refused under every policy: the control shows that the server would answer
        Attack(
            "no-sni",
            "no server name",
            {**secure, "address": "<leg>", "name": "", "host": t.foreign_name},
            {"address": t.foreign},
        ),
        Attack(
            "no-host",
            "no Host",
            {"kind": "http", "address": "<leg>", "port": 80, "request": "GET / HTTP/1.0\r\n\r\n", "mark": t.mark},
            {"address": t.foreign},
        ),
        Attack("peer-leg-http", "another sandbox's leg, by HTTP", {**own, "address": "<peer_leg>"}, own, INSIDE),
        Attack("peer-leg-tls", "another sandbox's leg, by TLS", {**own_tls, "address": "<peer_leg>"}, own_tls, INSIDE),
        Attack(
            "wide-leg",
            "what another sandbox's policy allows, at its leg",
            {**secure, "address": "<wide_leg>"},
            by=WIDE,
        ),
        Attack(
            "gateway-ports",
            "the gateway's other ports",
            {"kind": "ports", "address": "<leg>", "ports": list(PORTS)},
            {"ports": [80]},
            INSIDE,
        ),
        Attack(
            "gateway-page",
            "what the gateway tells itself",
            {**own, "host": "generation.pixels.invalid"},
            own,
            INSIDE,
        ),
        Attack("leases", "more addresses than one from the leg's DHCP", {"kind": "leases"}),
    ]


def _requests(t: Targets) -> list[Attack]:
    """Return requests that mean one thing to a proxy and another to a server."""
    end = "Connection: close\r\n\r\n"
    name = t.foreign_name
    through = {
        "absolute-form": (
            "an absolute form with another Host",
            f"GET http://{name}/ HTTP/1.1\r\nHost: {t.allowed}\r\n{end}",
        ),
        "host-port": ("a Host with a port", f"GET / HTTP/1.1\r\nHost: {name}:80\r\n{end}"),
        "host-case": ("a Host in capitals", f"GET / HTTP/1.1\r\nHost: {name.upper()}\r\n{end}"),
        "host-dot": ("a Host with a dot at its end", f"GET / HTTP/1.1\r\nHost: {name}.\r\n{end}"),
        "upgrade-h2c": (
            "an upgrade to h2c",
            f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            "HTTP2-Settings: AAMAAABkAAQ\r\n\r\n",
        ),
        "upgrade-websocket": (
            "an upgrade to a websocket",
            f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        ),
    }
    leg = {"kind": "http", "address": "<leg>", "port": 80, "mark": t.mark}
    attacks = [Attack(key, title, {**leg, "request": text}, by=WIDE) for key, (title, text) in through.items()]
    pipelined = f"GET / HTTP/1.1\r\nHost: {t.allowed}\r\n\r\nGET / HTTP/1.1\r\nHost: {name}\r\n{end}"
    attacks.append(
        Attack(
            "pipelined",
            "a pipelined request with another Host",
            {**leg, "request": pipelined, "answers": 2},
            by=WIDE,
        )
    )
    # these the gateway refuses whoever asks
    never = {
        "host-user": ("a Host with a user", f"GET / HTTP/1.1\r\nHost: {t.allowed}@{name}\r\n{end}"),
        "two-hosts": ("two Hosts", f"GET / HTTP/1.1\r\nHost: {t.allowed}\r\nHost: {name}\r\n{end}"),
    }
    return attacks + [
        Attack(key, title, {**leg, "request": text}, {"address": t.foreign}) for key, (title, text) in never.items()
    ]


def _beside() -> list[Attack]:
    """Return attempts on whoever stands beside the sandbox."""
    return [
        Attack("peer-icmp", "a sibling, by IP", {"kind": "icmp", "address": "<peer>"}),
        Attack("peer-arp", "a sibling, by ARP", {"kind": "arp", "address": "<peer>", "source": "<address>"}),
        Attack("ipv6-link", "whoever is on the link, by IPv6", {"kind": "icmp6", "address": "ff02::1"}),
        Attack("guest-api", "the guest API", {"kind": "guest_api"}, by=OTHER),
    ]


def _lookups(t: Targets) -> list[Attack]:
    """Return attempts to get out by DNS."""
    leg = {"kind": "dns", "address": "<leg>"}
    foreign = {"address": t.foreign}
    attacks = [
        Attack(
            "tunnel", "a DNS tunnel through the leg's resolver", {**leg, "name": f"data-<me>.{t.foreign_name}"}, foreign
        ),
        Attack(
            "tunnel-allowed", "a DNS tunnel below an allowed name", {**leg, "name": f"data-<me>.{t.allowed}"}, foreign
        ),
        Attack(
            "tunnel-stream",
            "a DNS tunnel through the leg's resolver, over TCP",
            {**leg, "name": f"data-<me>.{t.foreign_name}", "stream": True},
            foreign,
        ),
        Attack(
            "tunnel-text",
            "a DNS tunnel in records of text of an allowed name",
            {**leg, "name": t.allowed, "record": 16},
            {**foreign, "record": 1},
        ),
        Attack(
            "tunnel-address",
            "a DNS tunnel to an address",
            {"kind": "dns", **foreign, "name": f"data-<me>.{t.foreign_name}"},
        ),
    ]
    for address in t.resolvers:
        query = {"kind": "dns", "address": address, "name": t.dns_name or t.allowed}
        attacks.append(Attack("resolver-udp", f"the foreign resolver {address} over UDP", query, again=True))
        attacks.append(Attack("resolver-tcp", f"the foreign resolver {address} over TCP", {**query, "stream": True}))
    return attacks


def _private(t: Targets) -> list[Attack]:
    """Return attempts on addresses that are nobody's on the internet."""
    page = {**web(t), "mark": ""}
    attacks = [Attack("private", f"the private address {one}", {**page, "address": one}) for one in t.private]
    attacks += [Attack("metadata", f"the metadata address {one}", {**page, "address": one}) for one in t.metadata]
    for name in t.private_names:
        title = f"the allowed name {name}, which leads to a private address"
        attacks.append(Attack("private-name", title, {**page, "address": "<leg>", "host": name}, by=WIDE))
    return attacks


def _server(t: Targets, name: str, router: str) -> list[Attack]:
    """Return attempts on the server, by IP and below."""
    attacks = []
    for address in t.hosts:
        attacks.append(Attack("server-icmp", f"the server at {address}, by ICMP", {"kind": "icmp", "address": address}))
        query = {"kind": "dns", "address": address, "name": name, "any": True}
        attacks.append(Attack("server-dns-udp", f"the server's DNS at {address} over UDP", query))
        attacks.append(Attack("server-dns-tcp", f"the server's DNS at {address} over TCP", {**query, "stream": True}))
    if router:
        attacks.append(Attack("server-mac", "the server by its MAC", _frame(router, name, "<server_mac>")))
        attacks.append(Attack("server-broadcast", "the server by a broadcast", _frame(router, name, _BROADCAST)))
    return attacks


def _uplink(t: Targets, gateway: str) -> list[Attack]:
    """Return attempts on the gateway's side of the internet; the leg itself answers the same."""
    leg = {"address": "<leg>"}
    probes: dict[str, Probe] = {
        "HTTP": {"kind": "http", "port": 80, "host": t.allowed},
        "TLS": {"kind": "tls", "port": 443, "name": t.allowed},
        "DNS": {"kind": "dns", "name": t.allowed},
    }
    attacks = [
        Attack(
            f"uplink-{words.lower()}",
            f"the gateway on its uplink, by {words}",
            {**probe, "address": gateway},
            leg,
            INSIDE,
        )
        for words, probe in probes.items()
    ]
    ports = {"kind": "ports", "address": gateway, "ports": list(PORTS)}
    return [
        *attacks,
        Attack("uplink-ports", "the gateway's other ports on its uplink", ports, {**leg, "ports": [80]}, INSIDE),
    ]


def frames(interface: str = "eth0") -> list[Attack]:
    """Return frames that root sends while root in the sandbox beside it listens; they harm nobody who shares the control's link."""
    beside = {"to": "<peer_mac>", "source": "<address>", "target": "<peer>"}
    table: dict[str, tuple[str, Probe]] = {
        "broadcast": ("a broadcast", {}),
        "multicast": ("a multicast", {"to": "01:00:5e:00:00:fb"}),
        "unicast": ("a sibling's MAC", {"to": "<peer_mac>"}),
        "vlan": ("a VLAN", {"tags": [[_TAG, 7]]}),
        "vlan-unicast": ("a sibling's MAC in a VLAN", {"tags": [[_TAG, 7]], "to": "<peer_mac>"}),
        "vlan-zero": ("the VLAN of priorities", {"tags": [[_TAG, 0]]}),
        "vlan-nested": ("a VLAN in a VLAN", {"tags": [[_OUTER_TAG, 7], [_TAG, 8]]}),
        "other-mac": ("a broadcast from another MAC", {"from": _NOBODYS_MAC}),
        "ip": ("IP to a sibling's MAC", {**beside, "body": "udp"}),
        "ip-forged": ("IP from another address to a sibling's MAC", {**beside, "body": "udp", "source": _NOBODY}),
        "ipv6": ("IPv6 to a sibling's MAC", {**beside, "body": "udp6"}),
        "arp": ("an ARP reply to everybody", {"body": "arp", "source": _NOBODY}),
        "router": ("a rogue router of IPv6", {"body": "router", "to": "33:33:00:00:00:01"}),
        "dhcp": ("a rogue DHCP server", {"body": "dhcp", "source": _NOBODY}),
    }
    return [
        Attack(f"frame-{key}", f"{title}, by a frame", {"to": _BROADCAST, "interface": interface, **frame})
        for key, (title, frame) in table.items()
    ]


def second_addresses(t: Targets) -> list[Attack]:
    """Return attempts from addresses that the sandbox gave itself: another one of its leg, and its sibling's."""
    own = {"kind": "http", "address": "<leg>", "port": 80, "host": t.allowed}
    return [
        Attack("second-address", "a second address on the leg", {**own, "source": "<second>"}, {"source": ""}, INSIDE),
        Attack(
            "peer-address", "a sibling's address as a second one", {**own, "source": "<peer>"}, {"source": ""}, INSIDE
        ),
    ]


def colluding() -> list[Attack]:
    """Return attempts between two guests that have agreed on addresses which nobody gave them."""
    probes: dict[str, tuple[str, Probe]] = {
        "ip": ("IP", {"kind": "icmp", "address": f"{COLLUDING['eth0']}.2"}),
        "arp": ("ARP", {"kind": "arp", "address": f"{COLLUDING['eth0']}.2", "source": f"{COLLUDING['eth0']}.1"}),
        "ipv6": ("IPv6", {"kind": "icmp6", "address": f"{COLLUDING['six']}:2"}),
        "nested": ("IP on nested NICs", {"kind": "icmp", "address": f"{COLLUDING['n8']}.2"}),
    }
    return [
        Attack(f"collude-{key}", f"a colluding sibling, by {words}", probe) for key, (words, probe) in probes.items()
    ]


def _secure(t: Targets) -> Probe:
    return {"kind": "tls", "address": t.foreign, "port": 443, "name": t.foreign_name, "mark": t.mark}


def _frame(address: str, name: str, mac: str) -> Probe:
    """Return a look-up in a frame to a MAC of choice."""
    return {"kind": "frame_udp", "address": address, "port": 53, "name": name, "source": "<address>", "mac": mac}


def _unique(attacks: Iterable[Attack]) -> list[Attack]:
    """Number attacks of one id."""
    seen: dict[str, int] = {}
    found = []
    for attack in attacks:
        seen[attack.id] = seen.get(attack.id, 0) + 1
        number = seen[attack.id]
        found.append(attack if number == 1 else replace(attack, id=f"{attack.id}-{number}"))
    return found
