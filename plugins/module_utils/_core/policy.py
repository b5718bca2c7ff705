# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What a sandbox may reach: entries as users write them, policies, and the rules that come of them.

An entry is C(NAME[:PORT[,PORT...]]), C(*.NAME), C(NAME=ADDRESS) or a network C(ADDRESS[/LENGTH]), each with ports if need be. A wildcard
stands for every name below it, at any depth, and not for the name itself.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Union

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.presets import (
    MULTI_TENANT,
    PRESETS,
    PRESETS_VERSION,
    REGISTRY_LABELS,
    SUMS,
)

MODES = ("unrestricted", "agent", "allowlist", "none")
ENFORCEMENTS = ("gateway", "guest", "both")
WEB_PORTS = (80, 443)
#: More than this is no list that somebody has read.
MOST_ENTRIES = 5000

#: Never a target: they mean the gateway itself, its link, or everybody on a link.
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"),
    )
)
#: Ways in which IPv6 carries an address of IPv4: compatible, mapped, translated, NAT64, Teredo, 6to4. What is in them would not be judged.
_CARRIERS = tuple(
    map(
        ipaddress.ip_network,
        (
            "::/96",
            "::ffff:0:0/96",
            "::ffff:0:0:0/96",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2001::/32",
            "2002::/16",
        ),
    )
)
#: A target only where the policy asks for it.
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            "10.0.0.0/8",
            "100.64.0.0/10",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "fc00::/7",
            "fec0::/10",
        ),
    )
)
#: A resolver answers whoever asks with what anybody else wants to be told, and takes data out in what it is asked.
_RESOLVERS = {53: "DNS", 853: "DNS over TLS"}
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PORTS = re.compile(r"[0-9]{1,5}(?:,[0-9]{1,5})*")

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]  # noqa: UP007  # pylint of Ansible knows no other for all its Pythons


@dataclass(frozen=True)
class Target:
    """One entry of a list.

    value is a name, the name behind the star of a wildcard, or a network. ports () is what the kind of list means by
    none: the default ones to allow, all to deny. address is what a name is bound to, instead of being looked up.
    """

    kind: str
    value: str
    ports: tuple[int, ...] = ()
    address: str | None = None

    @property
    def text(self) -> str:
        """The entry as users write it, in its one canonical form."""
        host = f"*.{self.value}" if self.kind == "wildcard" else self.value
        if self.kind == "network" and ":" in host and self.ports:
            host = f"[{host}]"
        if self.address:
            host += f"={self.address}"
        return host + (":" + ",".join(map(str, self.ports)) if self.ports else "")


@dataclass(frozen=True)
class Rules:
    """What is enforced: names and networks with their ports, denials already taken off where they can be.

    denied_* hold what is still to be refused inside of a wildcard or a network; () means all ports. bound are the
    names that are not looked up, with their addresses.
    """

    names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    wildcards: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    networks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bound: Mapping[str, str] = field(default_factory=dict)
    denied_names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    denied_wildcards: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    denied_networks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The rules as JSON has them, in one order."""
        return {
            name: {key: list(value) if isinstance(value, tuple) else value for key, value in sorted(table.items())}
            for name, table in sorted(self.__dict__.items())
        }

    @property
    def digest(self) -> str:
        """A fingerprint of the rules."""
        return _digest(self.record)

    def permits(self, name: str, port: int) -> bool:
        """Say whether a connection to this name and port is let through; the time is linear in the length of the name."""
        if name in self.names:
            return port in self.names[name]
        parents = _parents(name)
        for ports in (self.denied_names.get(name), *(self.denied_wildcards.get(parent) for parent in parents)):
            if ports is not None and (not ports or port in ports):
                return False
        return any(port in self.wildcards.get(parent, ()) for parent in parents)


@dataclass(frozen=True)
class Policy:
    """What is wanted of a sandbox's egress; allow and deny are in canonical form, sorted.

    entries are those that the presets had when it was given: presets of a later version change nothing until a task asks for them.
    """

    mode: str = "unrestricted"
    enforcement: str | None = None
    presets: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    private: bool = False
    presets_version: int = PRESETS_VERSION
    entries: tuple[str, ...] = ()

    @property
    def confined(self) -> bool:
        """Whether anything is enforced at all."""
        return self.mode != "unrestricted"

    @property
    def at_gateway(self) -> bool:
        """Whether the gateway enforces it."""
        return self.confined and self.enforcement != "guest"

    @property
    def in_guest(self) -> bool:
        """Whether the sandbox itself enforces it."""
        return self.confined and self.enforcement != "gateway"

    @property
    def outdated(self) -> bool:
        """Whether presets have changed since it was given."""
        return bool(self.presets) and self.presets_version < PRESETS_VERSION

    @property
    def text(self) -> str:
        """The canonical form, as it is kept with a sandbox."""
        return json.dumps({**self.__dict__, "format": 1}, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """A fingerprint of the canonical form."""
        return _digest(self.__dict__)

    def rules(self) -> Rules:
        """Return what is to be enforced; an unrestricted policy has no rules."""
        return _rules_of(self)


@lru_cache(maxsize=64)
def _rules_of(wanted: Policy) -> Rules:
    allowed = [parse(text, wanted.private) for text in (*wanted.entries, *wanted.allow)]
    denied = [parse(text, refusing=True) for text in wanted.deny]
    if wanted.at_gateway:
        # IPv6 has no path there that could be denied
        denied = [target for target in denied if target.kind != "network" or ":" not in target.value]
    rules = _rules(allowed, denied)
    if not wanted.in_guest:
        return rules
    # there a name is its addresses, and a denied network counts for those as well
    return replace(rules, denied_networks=_denials(denied)["network"])


def policy(
    mode: str,
    *,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    presets: Sequence[str] | None = None,
    enforcement: str | None = None,
    private: bool = False,
    default_enforcement: str = "gateway",
) -> Policy:
    """Return the policy that the options ask for; ConfigError, naming the option, for what cannot be."""
    if mode not in MODES:
        raise ConfigError(f"egress mode {mode!r} is not known; there are: {', '.join(MODES)}")
    given = {"allow": allow, "deny": deny, "presets": presets, "enforcement": enforcement, "private": private}
    if mode == "unrestricted":
        _refuse(mode, given, ("allow", "deny", "presets", "enforcement", "private"))
        return Policy()
    if enforcement not in (None, *ENFORCEMENTS):
        raise ConfigError(f"enforcement {enforcement!r} is not known; there are: {', '.join(ENFORCEMENTS)}")
    if mode == "none":
        _refuse(mode, given, ("allow", "deny", "presets", "private"))
    chosen = tuple(presets) if presets is not None else (("agent",) if mode == "agent" else ())
    made = Policy(
        mode,
        enforcement or default_enforcement,
        tuple(sorted(set(chosen))),
        canonical(allow, "allow", private),
        canonical(deny, "deny", refusing=True),
        private,
        PRESETS_VERSION,
        _entries(chosen),
    )
    _check_enforced(made)
    return made


@lru_cache(maxsize=256)
def stored_policy(text: str) -> Policy:
    """Return the policy that a sandbox carries; ConfigError for a text that is none."""
    try:
        told = json.loads(text)
        if told.pop("format") != 1:
            raise ValueError("its format is not known")
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in told.items()
        }
        if "entries" not in fields:
            fields["entries"] = _entries(fields["presets"])
        made = Policy(**fields)
        _check_stored(made)
        made.rules()
        return made
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ConfigError(f"the policy that the sandbox carries cannot be read: {exc}") from exc


def _check_stored(made: Policy) -> None:
    """Raise ValueError for a policy that nobody can have given: what cannot be understood is not to count as none."""
    if not made.confined or made.mode not in MODES or made.enforcement not in ENFORCEMENTS:
        raise ValueError(f"there is no mode {made.mode!r} with enforcement {made.enforcement!r}")
    for name in ("presets", "allow", "deny", "entries"):
        value = getattr(made, name)
        if not isinstance(value, tuple) or not all(isinstance(text, str) for text in value):
            raise ValueError(f"{name} is no list of texts")
    if not isinstance(made.private, bool) or not isinstance(made.presets_version, int):
        raise TypeError("private is no truth value, or presets_version is no number")


def canonical(entries: Iterable[str], option: str, private: bool = False, refusing: bool = False) -> tuple[str, ...]:
    """Return entries in their canonical form, sorted, each once; ConfigError, naming the option, for a bad one."""
    found = set()
    for entry in entries:
        try:
            found.add(parse(str(entry), private, refusing).text)
        except ConfigError as exc:
            raise ConfigError(f"{option}: {exc}") from exc
    if len(found) > MOST_ENTRIES:
        raise ConfigError(f"{option} has {len(found)} entries; {MOST_ENTRIES} are the most")
    return tuple(sorted(found))


@lru_cache(maxsize=2 * MOST_ENTRIES)
def parse(entry: str, private: bool = False, refusing: bool = False) -> Target:
    """Return what an entry names; ConfigError for what cannot be enforced, and why.

    An entry that is refusing, which takes away what others give, may name what may never be given.
    """
    if not entry or entry != entry.strip() or any(ord(char) < 33 or ord(char) == 127 for char in entry):
        raise ConfigError(f"{entry!r} is empty or has spaces or control characters")
    network, rest = _network_part(entry)
    if network is not None:
        if not refusing:
            _check_network(entry, network, private)
        return Target("network", _network_text(network), _ports(entry, rest, refusing))
    if "://" in entry or "/" in entry:
        raise ConfigError(f"{entry!r} is neither a name nor a network: write the name alone, without scheme and path")
    host, _colon, rest = entry.partition(":")
    host, bound, address = host.partition("=")
    ports = _ports(entry, rest if _colon else None, refusing)
    if host.startswith("*"):
        return _wildcard(entry, host, ports, bool(bound), refusing)
    name = _name(entry, host)
    return Target("name", name, ports, _address(entry, address, private or refusing) if bound else None)


def readable_name(text: str) -> str | None:
    """Return a name that somebody asked for, None for hostile text that is no name."""
    try:
        return _name(text, text)
    except ConfigError:
        return None


def _presets(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        if name not in PRESETS and name not in SUMS:
            raise ConfigError(f"presets: {name!r} is not known; there are: {', '.join(sorted((*PRESETS, *SUMS)))}")
        found += SUMS.get(name, (name,))
    return sorted(set(found))


def _entries(presets: Iterable[str]) -> tuple[str, ...]:
    """Return what presets name, sorted."""
    return tuple(sorted({text for preset in _presets(presets) for text in PRESETS[preset]}))


def _check_enforced(made: Policy) -> None:
    """Raise ConfigError for what the chosen enforcement has no way to do."""
    rules = made.rules()
    if made.at_gateway:
        for network in rules.networks:
            if ":" in network:
                raise ConfigError(f"allow: {network}: IPv6 has no path through the gateway")
        if not made.in_guest:
            _check_denied(made)
    if made.in_guest:
        for name in rules.wildcards:
            # a preset that cannot be enforced whole is refused too: what is left of it would not be what its word says
            option = "allow" if any(text.startswith(f"*.{name}") for text in made.allow) else "presets"
            raise ConfigError(
                f"{option}: *.{name}: the rules in a guest know addresses, and a wildcard cannot be looked up: "
                "name the hosts, or take enforcement: gateway"
            )


def _check_denied(made: Policy) -> None:
    """Raise ConfigError for a denied network that the gateway would meet behind names alone, where it judges the names."""
    allowed = [parse(text, made.private) for text in made.allow]
    if not made.presets and all(target.kind == "network" for target in allowed):
        return
    places = [target.value for target in allowed if target.kind == "network"]
    places += [target.address for target in allowed if target.address]
    merged = list(ipaddress.collapse_addresses(map(ipaddress.IPv4Network, places)))
    for text in made.deny:
        target = parse(text, refusing=True)
        if target.kind != "network" or ":" in target.value:
            continue
        network = ipaddress.IPv4Network(target.value)
        # where no name leads to, whatever the policy says
        nowhere = any(special.version == 4 and network.subnet_of(special) for special in (*_NEVER, *_PRIVATE))
        before = bisect_right(merged, network[-1], key=lambda place: place[0])
        if not nowhere and not (before and merged[before - 1].overlaps(network)):
            raise ConfigError(
                f"deny: {text}: the gateway lets a name through to whatever addresses it has: deny names, or networks "
                "inside of those that are allowed, or take enforcement: both"
            )


def _refuse(mode: str, given: Mapping[str, object], options: Sequence[str]) -> None:
    for option in options:
        if given[option]:
            raise ConfigError(f"{option} contradicts the egress mode {mode}")


def _name(entry: str, host: str) -> str:
    name = host.lower().removesuffix(".")
    if not name.isascii():
        try:
            plain = name.encode("idna").decode("ascii")
            exact = plain.encode("ascii").decode("idna") == name
        except UnicodeError as exc:
            raise ConfigError(f"{entry!r} is not an international name") from exc
        if not exact:
            raise ConfigError(f"{entry!r} can be read as more than one name: write it in its xn-- form")
        name = plain
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError(f"{entry!r} is not a name: labels of up to 63 letters, digits and inner hyphens, 253 in all")
    if len(labels) < 2 or labels[-1] in ("localhost", "local") or labels[-1].isdigit():
        raise ConfigError(f"{entry!r} is not the name of a host: a domain and one label at least")
    return name


def _wildcard(entry: str, host: str, ports: tuple[int, ...], bound: bool, refusing: bool) -> Target:
    if not host.startswith("*.") or "*" in host[1:]:
        raise ConfigError(f"{entry!r}: a star stands alone in front, as in *.example.com")
    name = _name(entry, host[2:])
    labels = name.split(".")
    if not refusing and len(labels) == 2 and labels[0] in REGISTRY_LABELS and len(labels[1]) == 2:
        raise ConfigError(f"{entry!r} stands for all names of a country: name the hosts")
    for shared in () if refusing else MULTI_TENANT:
        if name == shared or name.endswith(f".{shared}") or shared.endswith(f".{name}"):
            raise ConfigError(f"{entry!r}: anybody can get a name below {shared}: name the hosts")
    if set(ports) - set(WEB_PORTS):
        raise ConfigError(f"{entry!r}: a wildcard is for ports 80 and 443, where a connection tells its name")
    if bound:
        raise ConfigError(f"{entry!r}: only a name can be bound to an address")
    return Target("wildcard", name, ports)


def _network_part(entry: str) -> tuple[Network | None, str | None]:
    """Return the network at the begin of an entry and what follows its colon; no network where there is a name."""
    if entry.startswith("["):
        text, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{entry!r} is not an address in brackets")
        return _network(entry, text), rest[1:] if rest else None
    if entry.count(":") > 1:
        return _network(entry, entry), None
    text, colon, rest = entry.partition(":")
    if re.fullmatch(r"[0-9./]+", text):
        return _network(entry, text), rest if colon else None
    return None, None


def _network(entry: str, text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigError(f"{entry!r} is not a network: {exc}") from exc


def _network_text(network: Network) -> str:
    """Return a network in the one form that all Pythons write: from 3.13 on they write mapped addresses as here."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    address = f"::ffff:{mapped}" if mapped else str(network.network_address)
    return address if network.prefixlen == network.max_prefixlen else f"{address}/{network.prefixlen}"


def _check_network(entry: str, network: Network, private: bool) -> None:
    for never in _NEVER:
        if network.version == never.version and network.overlaps(never):
            raise ConfigError(
                f"{entry!r} has addresses of {never}, which means the gateway itself, its link or everybody on it, "
                "and is never let through"
            )
    for carrier in _CARRIERS:
        if network.version == 6 and network.overlaps(carrier):
            raise ConfigError(f"{entry!r} has addresses of IPv4 in {carrier}: write those themselves")
    for special in _PRIVATE:
        if network.version == special.version and network.overlaps(special) and not private:
            raise ConfigError(f"{entry!r} has private addresses, which a policy reaches only with private: true")


def _address(entry: str, text: str, private: bool) -> str:
    network = _network(entry, text)
    if network.version != 4 or network.prefixlen != 32:
        raise ConfigError(f"{entry!r}: a name is bound to one IPv4 address")
    _check_network(entry, network, private)
    return str(network.network_address)


def _ports(entry: str, text: str | None, refusing: bool) -> tuple[int, ...]:
    if text is None:
        return ()
    if not _PORTS.fullmatch(text):
        raise ConfigError(f"{entry!r}: ports are numbers with commas between")
    ports = tuple(sorted({int(port) for port in text.split(",")}))
    if ports[0] < 1 or ports[-1] > 65535:
        raise ConfigError(f"{entry!r}: ports are from 1 to 65535")
    for port in () if refusing else _RESOLVERS.keys() & set(ports):
        raise ConfigError(f"{entry!r}: port {port} is {_RESOLVERS[port]}, which carries out whatever is asked there")
    return ports


def _rules(allowed: Sequence[Target], denied: Sequence[Target]) -> Rules:
    tables: dict[str, dict[str, tuple[int, ...]]] = {"name": {}, "wildcard": {}, "network": {}}
    bound: dict[str, str] = {}
    for target in allowed:
        table = tables[target.kind]
        table[target.value] = _together(target.ports or WEB_PORTS, table.get(target.value, ()))
        if target.address and bound.setdefault(target.value, target.address) != target.address:
            raise ConfigError(f"allow: {target.value} is bound to more than one address")
    refused = _denials(denied)
    names, wildcards = {}, {}
    for name, given in tables["name"].items():
        parents = _parents(name)
        # a name that is written out is looked up as such: it has what a wildcard around it gives as well
        ports = _together(given, *(tables["wildcard"].get(parent, ()) for parent in parents))
        denials = [refused["name"].get(name), *map(refused["wildcard"].get, parents)]
        if name in bound:
            place = ipaddress.ip_address(bound[name])
            denials += [denial for text, denial in refused["network"].items() if place in ipaddress.ip_network(text)]
        if left := _left(ports, denials):
            names[name] = left
    for name, ports in tables["wildcard"].items():
        # what denies a wildcard as a whole, or one around it
        if left := _left(ports, map(refused["wildcard"].get, (name, *_parents(name)))):
            wildcards[name] = left
    return Rules(
        names,
        wildcards,
        tables["network"],
        {name: address for name, address in bound.items() if name in names},
        _inside(refused["name"], wildcards),
        _inside(refused["wildcard"], wildcards),
        refused["network"] if tables["network"] else {},
    )


def _denials(denied: Sequence[Target]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the ports that are denied, () for all, by kind and value."""
    refused: dict[str, dict[str, tuple[int, ...]]] = {"name": {}, "wildcard": {}, "network": {}}
    for target in denied:
        there = refused[target.kind].get(target.value)
        all_of_them = not target.ports or there == ()
        refused[target.kind][target.value] = () if all_of_them else _together(target.ports, there or ())
    return refused


def _together(*some: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({port for ports in some for port in ports}))


def _left(ports: tuple[int, ...], denials: Iterable[tuple[int, ...] | None]) -> tuple[int, ...]:
    left = set(ports)
    for denial in denials:
        if denial is not None:
            left = left - set(denial) if denial else set()
    return tuple(sorted(left))


def _inside(table: Mapping[str, tuple[int, ...]], wildcards: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Return what of a table lies inside of a wildcard: all else is refused anyway."""
    return {name: ports for name, ports in table.items() if any(parent in wildcards for parent in _parents(name))}


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
