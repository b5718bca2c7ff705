# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a gateway, read as its services read them, let through just what the rules permit.

The reader knows of nginx, dnsmasq and nftables what these files use: maps with exact keys before patterns in their
order, records before domains, sets of ranges. Policies are drawn by chance, always the same ones.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Rules, policy

PROGRAM = Path(__file__).parents[3] / "roles/gateway/files/render.py"
SETTINGS: dict[str, Any] = {
    "uplink": "eth0",
    "uplink_network": "10.9.0.0/24",
    "legs_range": "100.64.0.0/14",
    "bound_source": "10.9.0.250",
    "resolver": "10.9.0.1",
    "archives": [],
    "limits": {"connections": 512, "opened": 200, "queries": 200},
}
WIRE = "pxe-0007"
LABELS = ("a", "b", "wild", "x-1")
NAMES = tuple(f"{'.'.join(chosen)}.test" for depth in (1, 2, 3) for chosen in itertools.product(LABELS, repeat=depth))
PORTS = (22, 80, 443, 8443)
#: Made of documentation addresses (RFC 5737), so that the small ones lie in the large ones.
NETWORKS = ("198.51.100.0/24", "198.51.100.0/28", "198.51.100.4/30", "198.51.100.5", "203.0.113.0/25", "203.0.113.9")
ADDRESSES = ("198.51.100.5", "198.51.100.6", "198.51.100.9", "198.51.100.200", "203.0.113.9", "203.0.113.200")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RENDER = load()


class Nginx:
    """The maps of a configuration of nginx, by the variable that they set, those of stream and of http apart."""

    def __init__(self, text: str) -> None:
        self.maps: dict[str, tuple[dict[bytes, str], list[tuple[re.Pattern[bytes], str]]]] = {}
        for part in ("stream", "http"):
            _head, _word, body = text.partition(f"\n{part} {{\n")
            for match in re.finditer(r"\n  map \S+ \$(\w+) \{\n(.*?)\n  \}", body.partition("\n}\n")[0], re.DOTALL):
                self.maps[f"{part} {match[1]}"] = self._map(match[2])

    @staticmethod
    def _map(body: str) -> tuple[dict[bytes, str], list[tuple[re.Pattern[bytes], str]]]:
        exact: dict[bytes, str] = {}
        patterns = []
        for line in body.splitlines():
            key, value = re.fullmatch(r'\s+"?(.*?)"? ("[^"]*"|\S+);', line).groups()  # type: ignore[union-attr]
            value = value.strip('"')
            if key.startswith("~"):
                flags = re.IGNORECASE if key.startswith("~*") else 0
                expression = key.lstrip("~*").replace("(?<", "(?P<").replace(r"\z", r"\Z")
                patterns.append((re.compile(expression.encode(), flags), value))
            elif key != "default":
                # nginx does not start with two
                assert key.encode() not in exact, key
                exact[key.encode()] = value
        return exact, patterns

    def value(self, name: str, key: bytes) -> bytes:
        """Return what a map gives for a key."""
        exact, patterns = self.maps[name]
        if key.lower() in exact:
            return exact[key.lower()].encode()
        for pattern, value in patterns:
            if match := pattern.search(key):
                return re.sub(rb"\$(\w+)", lambda found: match[found[1].decode()], value.encode())
        return b""

    def target(self, address: str, port: int, name: bytes) -> bytes:
        """Return where a connection to an address of the leg is passed on to, nothing for one that is refused."""
        if port == 443:
            return self.value("stream tls", self.value("stream policy", address.encode()) + b"|" + name)
        if port == 80:
            # what is in a Host beside a name is refused before, and its last dot is taken off
            found = self.value("http up", self.value("http policy", address.encode()) + b"|" + name.lower())
            return found and found + b":80"
        return self.value("stream fixed", f"{address}:{port}".encode())


def looked_up(text: str, name: str) -> str | None:
    """Return the address that dnsmasq has for a name."""
    records = dict(re.findall(r"^host-record=([^,]+),(\S+)$", text, re.MULTILINE))
    domains = dict(re.findall(r"^address=/([^/]+)/(\S+)$", text, re.MULTILINE))
    if name in records:
        return str(records[name])
    labels = name.split(".")
    return next((domains[tail] for n in range(len(labels)) if (tail := ".".join(labels[n:])) in domains), None)


def ranges(elements: list[str]) -> list[tuple[int, int, int, int]]:
    """Return first and last address, first and last port of each element of a set; nft refuses those that overlap."""
    found = []
    for element in elements:
        _leg, network, ports = element.split(" . ")
        net = ipaddress.IPv4Network(network)
        first, _dash, last = ports.partition("-")
        one = (int(net[0]), int(net[-1]), int(first), int(last or first))
        for other in found:
            apart = one[1] < other[0] or other[1] < one[0] or one[3] < other[2] or other[3] < one[2]
            assert apart, elements
        found.append(one)
    return found


def holds(elements: list[tuple[int, int, int, int]], address: str, port: int) -> bool:
    number = int(ipaddress.IPv4Address(address))
    return any(first <= number <= last and begin <= port <= end for first, last, begin, end in elements)


def drawn(chance: random.Random) -> Iterator[Rules]:
    """Yield rules of policies."""

    def ports(some: tuple[int, ...]) -> str:
        chosen = sorted(chance.sample(some, chance.randint(0, 2)))
        return ":" + ",".join(map(str, chosen)) if chosen else ""

    def entries(most: int, denied: bool) -> list[str]:
        found = [chance.choice(NAMES) + ports(PORTS) for _n in range(chance.randint(0, most))]
        found += [f"*.{chance.choice(NAMES)}" + ports((80, 443)) for _n in range(chance.randint(0, most))]
        found += [chance.choice(NETWORKS) + ports(PORTS) for _n in range(chance.randint(0, most // 2))]
        return found if denied else [*found, "*.wild.test"]

    while True:
        try:
            yield policy("allowlist", allow=entries(6, False), deny=entries(6, True)).rules()
        except ConfigError:
            # what could not be enforced is refused elsewhere
            continue


def permits_address(rules: Rules, address: str, port: int) -> bool:
    def inside(table: Any, every: bool) -> bool:
        return any(
            ipaddress.ip_address(address) in ipaddress.ip_network(network) and (port in ports or (every and not ports))
            for network, ports in table.items()
        )

    return inside(rules.networks, False) and not inside(rules.denied_networks, True)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_rendered_lets_through_just_what_the_rules_permit(seed: int) -> None:
    rules = next(drawn(random.Random(seed)))
    leg = RENDER.with_slots({"subnet": "100.64.7.0/24", "rules": rules.record}, None)
    other = RENDER.with_slots({"subnet": "100.64.8.0/24", "rules": Rules({"o.test": (22, 443)}).record}, None)
    files = RENDER.render(SETTINGS, {WIRE: leg, "pxe-0008": other})
    nginx = Nginx(files["/etc/nginx/nginx.conf"])
    dns = files[f"/etc/pixels/dns/{WIRE}.conf"]
    addresses = [RENDER.address(leg, number) for number in (1, *leg["slots"].values())]
    for name in (*NAMES, "o.test", "test"):
        there = looked_up(dns, name)
        for port in PORTS:
            found = nginx.target(there, port, name.encode()) if there else b""
            assert found == (f"{name}:{port}".encode() if rules.permits(name, port) else b""), (name, port)
    # whoever does not ask the DNS goes to any address of the leg, with any text for a name
    for address, port, name in itertools.product(addresses, PORTS, NAMES[::3]):
        for text in (name, name.upper(), f"{name}\n", f"{name}.", f".{name}", f"x|{name}", f"{name}\n.a.wild.test"):
            host, _colon, to = nginx.target(address, port, text.encode()).decode().partition(":")
            assert not host or rules.permits(host.lower(), int(to)), (address, port, text)
            assert not host or port not in (80, 443) or host.lower() == text.lower()
    sets = {kind: [found for found in values if WIRE in found] for kind, values in RENDER.elements({WIRE: leg}).items()}
    direct = ranges(sets["direct"])
    for address, port in itertools.product(ADDRESSES, PORTS):
        assert holds(direct, address, port) == permits_address(rules, address, port), (address, port)


def test_a_name_that_is_denied_at_one_port_below_a_wildcard_is_refused_there() -> None:
    rules = policy("allowlist", allow=["*.wild.test", "a.wild.test:443"], deny=["a.wild.test:80"]).rules()
    assert not rules.permits("a.wild.test", 80)
    leg = RENDER.with_slots({"subnet": "100.64.7.0/24", "rules": rules.record}, None)
    nginx = Nginx(RENDER.render(SETTINGS, {WIRE: leg})["/etc/nginx/nginx.conf"])
    assert nginx.target("100.64.7.1", 80, b"a.wild.test") == b""
    assert nginx.target("100.64.7.1", 443, b"a.wild.test") == b"a.wild.test:443"
    assert nginx.target("100.64.7.1", 80, b"b.wild.test") == b"b.wild.test:80"
