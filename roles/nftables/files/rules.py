# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a policy and the addresses of its names to a ruleset of nftables and lines of /etc/hosts; pure.

A policy is a dict: C(rules) (as Rules.record of the collection writes them) and C(behind_gateway), whether names lead to a gateway that
judges them once more. What comes here was validated by who sent it, and is checked once more: a name that is none would be a line of a file.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

Document = Mapping[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: The addresses of names.
Known = Mapping[str, Iterable[str]]

TABLES = ("names", "wildcards", "networks", "bound", "denied_names", "denied_wildcards", "denied_networks")
NOTHING: Document = {"rules": {table: {} for table in TABLES}, "behind_gateway": False}
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
#: Where nothing of the internet is: the guest itself, its link, private networks, everybody at once, and IPv4 in other clothes.
SPECIAL: tuple[Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
            *(
                "::/96",
                "::ffff:0:0/96",
                "64:ff9b::/96",
                "64:ff9b:1::/48",
                "2002::/16",
                "fc00::/7",
                "fe80::/10",
                "ff00::/8",
            ),
        ),
    )
)
#: A machine never gets out by these, whatever a policy says.
NEVER = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"),
    )
)
BEGIN, END = "# pixels egress: what the policy names, as it was looked up last", "# pixels egress: end"


def check(document: Document) -> None:
    """Raise ValueError for a policy that no rules can be made of."""
    if not isinstance(document, dict) or set(document) != {"rules", "behind_gateway"}:
        raise ValueError("it is not a policy: an object with rules and behind_gateway")
    rules = document["rules"]
    if not isinstance(document["behind_gateway"], bool) or not isinstance(rules, dict) or set(rules) != set(TABLES):
        raise ValueError(f"its rules are not an object with {', '.join(TABLES)}")
    for table, entries in rules.items():
        if not isinstance(entries, dict):
            raise TypeError(f"{table} is not an object")
        if table != "bound":
            _check_ports(table, entries)
    _check_targets(rules)


def _check_targets(rules: Mapping[str, Any]) -> None:
    for name in rules["wildcards"]:
        raise ValueError(f"*.{name}: rules know addresses, and a wildcard cannot be looked up")
    for name in (*rules["names"], *rules["bound"], *rules["denied_names"], *rules["denied_wildcards"]):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name")
    for text in (*rules["networks"], *rules["bound"].values()):
        if _among(text, NEVER):
            raise ValueError(f"{text} is never a target")
    for text in rules["denied_networks"]:
        _network(text)


def _check_ports(table: str, entries: Mapping[str, Any]) -> None:
    for port in (port for ports in entries.values() for port in ports):
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError(f"{port!r} of {table} is no port")


def fingerprint(document: Document) -> str:
    """Return the fingerprint of a policy, as the collection has it."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def wanted_names(document: Document) -> list[str]:
    """Return the names that are to be looked up."""
    return sorted(set(document["rules"]["names"]) - set(document["rules"]["bound"]))


def usable(document: Document, address: str) -> bool:
    """Say whether a name may lead to an address: to those of the internet, or to what a gateway answers."""
    return not _among(address, NEVER if document["behind_gateway"] else SPECIAL)


def places(document: Document, known: Known) -> dict[str, list[str]]:
    """Return the addresses of each name of a policy, none where there is none that may be used."""
    bound = document["rules"]["bound"]
    return {
        name: [bound[name]]
        if name in bound
        else sorted(address for address in known.get(name, ()) if usable(document, address))
        for name in sorted(document["rules"]["names"])
    }


def pins(document: Document, known: Known) -> list[str]:
    """Return lines of /etc/hosts: who looks a name up finds the very addresses that are let through."""
    return [f"{address} {name}" for name, found in places(document, known).items() for address in found]


def with_pins(hosts: str, lines: Iterable[str]) -> str:
    """Return the text of /etc/hosts with other lines of ours."""
    head, begin, rest = hosts.partition(f"{BEGIN}\n")
    tail = rest.partition(f"{END}\n")[2] if begin else ""
    head = head if head.endswith("\n") or not head else f"{head}\n"
    block = [BEGIN, *lines, END]
    return head + ("\n".join(block) + "\n" if len(block) > 2 else "") + tail


def render(document: Document, known: Known, resolvers: Iterable[str] = (), inbound: Iterable[int] = ()) -> str:
    """Return the transaction that puts our table in place of what there is of it, and touches nothing else.

    Nothing is let through because it was once: each packet of a connection is looked at by where it goes.
    """
    rules = document["rules"]
    allowed = _by_port({name: (rules["names"][name], found) for name, found in places(document, known).items()})
    allowed += _by_port({text: (ports, [text]) for text, ports in rules["networks"].items()})
    refused = rules["denied_networks"]
    # a set of ranges has no two that overlap: those of all ports are one of their own
    denied = [_network(text) for text, ports in refused.items() if not ports]
    denied_ports = _by_port({text: (ports, [text]) for text, ports in refused.items()})
    # where nothing has a name nobody needs to ask for one
    asked = sorted(set(resolvers)) if rules["names"] else []
    sets = _set("inbound", "type inet_service; flags interval;", map(str, sorted(set(inbound))))
    for version in (4, 6):
        kind = f"type ipv{version}_addr"
        sets += _set(f"allowed{version}", f"{kind} . inet_service; flags interval;", _elements(allowed, version))
        sets += _set(f"denied{version}", f"{kind}; flags interval;", _collapsed(denied, version))
        sets += _set(
            f"denied_ports{version}", f"{kind} . inet_service; flags interval;", _elements(denied_ports, version)
        )
        own = [text for text in asked if ipaddress.ip_address(text).version == version]
        sets += _set(f"resolvers{version}", f"{kind}; flags interval;", own)
    return _FRAME.replace("@DIGEST@", fingerprint(document)).replace("@SETS@", sets)


@lru_cache(maxsize=65536)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


@lru_cache(maxsize=65536)
def _among(text: str, special: tuple[Network, ...]) -> bool:
    network: Any = _network(text)
    return any(network.version == one.version and network.subnet_of(one) for one in special)


def _by_port(table: Mapping[str, tuple[Iterable[int], Iterable[str]]]) -> list[tuple[int, Network]]:
    return [(port, _network(text)) for ports, texts in table.values() for port in ports for text in texts]


def _collapsed(networks: Iterable[Network], version: int) -> list[str]:
    """Return networks of a family, without those that lie inside of others."""
    own: Any = [network for network in networks if network.version == version]
    return [_text(network) for network in ipaddress.collapse_addresses(own)]


def _elements(pairs: Iterable[tuple[int, Network]], version: int) -> list[str]:
    table: dict[int, list[Network]] = {}
    for port, network in pairs:
        table.setdefault(port, []).append(network)
    return [f"{text} . {port}" for port in sorted(table) for text in _collapsed(table[port], version)]


def _text(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _set(name: str, kind: str, elements: Iterable[str]) -> str:
    told = ", ".join(elements)
    return f"  set {name} {{ {kind} " + (f"elements = {{ {told} }} " if told else "") + "}\n"


_FRAME = """\
table inet px_egress {}
delete table inet px_egress
table inet px_egress {
  comment "@DIGEST@"
@SETS@\
  set refused4 { type ipv4_addr . inet_proto . inet_service; size 512; flags dynamic,timeout; timeout 1h; counter; }
  set refused6 { type ipv6_addr . inet_proto . inet_service; size 512; flags dynamic,timeout; timeout 1h; counter; }

  chain output {
    type filter hook output priority 0; policy drop;
    oifname "lo" accept
    # who has which address on the link, and which one the guest gets; without these there is no network at all
    ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
    ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
    ip6 daddr ff02::1:2 udp sport 546 udp dport 547 accept
    # what is for everybody on the link is nobody's to count
    ip daddr 224.0.0.0/4 drop
    ip6 daddr ff00::/8 drop
    ip daddr @denied4 jump refuse
    ip6 daddr @denied6 jump refuse
    ip daddr . tcp dport @denied_ports4 jump refuse
    ip6 daddr . tcp dport @denied_ports6 jump refuse
    ip daddr . tcp dport @allowed4 accept
    ip6 daddr . tcp dport @allowed6 accept
    ip daddr @resolvers4 meta l4proto { tcp, udp } th dport 53 accept
    ip6 daddr @resolvers6 meta l4proto { tcp, udp } th dport 53 accept
    ct direction reply ct state established tcp sport @inbound accept
    jump refuse
  }
  chain input {
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    ip6 hoplimit 255 icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
    udp sport 67 udp dport 68 accept
    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
    ct state related icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    ct state related icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    tcp dport @inbound accept
    ip saddr @denied4 drop
    ip6 saddr @denied6 drop
    ip saddr . tcp sport @denied_ports4 drop
    ip6 saddr . tcp sport @denied_ports6 drop
    # answers and nothing else: whoever may be talked to may not begin to talk
    ip saddr . tcp sport @allowed4 tcp flags & (syn | ack) != syn accept
    ip6 saddr . tcp sport @allowed6 tcp flags & (syn | ack) != syn accept
    ip saddr @resolvers4 meta l4proto { tcp, udp } th sport 53 ct direction reply ct state established accept
    ip6 saddr @resolvers6 meta l4proto { tcp, udp } th sport 53 ct direction reply ct state established accept
    counter
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    counter
  }
  chain refuse {
    ip version 4 meta l4proto { tcp, udp } update @refused4 { ip daddr . meta l4proto . th dport }
    ip version 4 meta l4proto != { tcp, udp } update @refused4 { ip daddr . meta l4proto . 0 }
    ip6 version 6 meta l4proto { tcp, udp } update @refused6 { ip6 daddr . meta l4proto . th dport }
    ip6 version 6 meta l4proto != { tcp, udp } update @refused6 { ip6 daddr . meta l4proto . 0 }
    limit rate 10/minute burst 5 packets log prefix "px-egress refused: "
    # whoever works in the guest is told at once
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
}
"""
