# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the legs of a gateway to the files of its services; pure.

A leg is an interface whose other end is one sandbox. It is a dict: C(subnet) (IPv4, /24), C(rules) (as Rules.record of
the collection writes them), C(slots) (names with ports of their own, and the last byte of the address that each has on the leg). Addresses of a
leg: .1 is the gateway, .2 the sandbox, from .3 on the slots. What comes here was validated by who sent it, and is
checked once more: a name that is none would be a line of configuration.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Leg = Mapping[str, Any]

LEG = re.compile(r"pxe-[0-9a-f]{4,8}")
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_WEB = (80, 443)
#: Where nothing of the internet is: the gateway itself, its link, private networks, and everybody at once.
SPECIAL = (
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.88.99.0/24, "
    "192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3"
)
#: What is kept of a name that was refused: whole if it may be one, else its beginning, since a line of the log has to have an end.
_TOLD = """\
    default "";
    "~^(?<like>[A-Za-z0-9._-]{1,253})\\z" $like;
    "~^(?<unlike>(?s:.{1,64}))" $unlike;
"""
FIRST_SLOT, LAST_SLOT = 3, 250
#: Refused packets of one leg that are counted by where they went, a second.
_COUNTED = 20
GENERATION_NAME = "generation.pixels.invalid"


def check(name: str, leg: Leg) -> None:
    """Raise ValueError for a leg that no files can be made of."""
    if not LEG.fullmatch(name):
        raise ValueError(f"{name!r} is not a leg")
    if ipaddress.IPv4Network(leg["subnet"]).prefixlen != 24:
        raise ValueError(f"{name}: its subnet is not a /24")
    rules = leg["rules"]
    texts = {table: (*rules[table],) for table in ("names", "wildcards", "bound", "denied_names", "denied_wildcards")}
    for host in (host for hosts in texts.values() for host in hosts):
        if not _NAME.fullmatch(host):
            raise ValueError(f"{name}: {host!r} is not a name")
    for network_text in (*rules["networks"], *rules["denied_networks"]):
        ipaddress.IPv4Network(network_text)
    for target in rules["bound"].values():
        ipaddress.IPv4Address(target)
    for table in set(rules) - {"bound"}:
        for port in (port for allowed in rules[table].values() for port in allowed):
            # where the DNS of the leg is, nginx cannot be
            if not isinstance(port, int) or not 0 < port < 65536 or (table == "names" and port == 53):
                raise ValueError(f"{name}: {port!r} of {table} is no port")


def with_slots(leg: Leg, before: Leg | None) -> dict[str, Any]:
    """Return the leg with an address for each name that has other ports; one that had an address keeps it."""
    wanted = sorted(name for name, ports in leg["rules"]["names"].items() if set(ports) - set(_WEB))
    kept = {name: slot for name, slot in (before or {}).get("slots", {}).items() if name in wanted}
    free = (slot for slot in range(FIRST_SLOT, LAST_SLOT + 1) if slot not in kept.values())
    for name in wanted:
        if name not in kept:
            slot = next(free, None)
            if slot is None:
                raise ValueError(f"more than {LAST_SLOT - FIRST_SLOT + 1} names have ports other than 80 and 443")
            kept[name] = slot
    return {**leg, "slots": kept}


def render(settings: Mapping[str, Any], legs: Mapping[str, Leg]) -> dict[str, str]:
    """Return every file of the services, by path."""
    files = {"/etc/nftables.conf": nftables(settings, legs)}
    for name, leg in legs.items():
        files[f"/etc/systemd/network/50-{name}.network"] = network(name, leg)
        files[f"/etc/pixels/dns/{name}.conf"] = dns(name, leg)
    text = nginx(settings, legs)
    files["/etc/nginx/nginx.conf"] = text.replace("@GENERATION@", generation(text))
    return files


def generation(text: str) -> str:
    """Return a fingerprint of a configuration, which the running nginx answers with."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def address(leg: Leg, number: int) -> str:
    """Return an address of the leg's subnet."""
    return str(ipaddress.IPv4Network(leg["subnet"]).network_address + number)


def network(name: str, leg: Leg) -> str:
    """Return the file of systemd-networkd."""
    numbers = (1, *sorted(leg["slots"].values()))
    addresses = "".join(f"Address={address(leg, number)}/24\n" for number in numbers)
    return (
        f"[Match]\nName={name}\n\n[Network]\n{addresses}"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n"
    )


def dns(name: str, leg: Leg) -> str:
    """Return the file of the leg's dnsmasq: what is allowed has an address of the leg, all else does not exist."""
    rules = leg["rules"]
    lines = [
        f"interface={name}",
        "bind-dynamic",
        "except-interface=lo",
        "no-resolv",
        "no-hosts",
        "no-ping",
        "local=/#/",
        "dhcp-authoritative",
        f"dhcp-range={address(leg, 0)},static,255.255.255.0,1h",
        # by a MAC and not for whoever asks: a lease under another client's name would keep the address from the sandbox
        f"dhcp-host={mac(name)},{address(leg, 2)}",
        "dhcp-ignore=tag:!known",
        f"dhcp-leasefile=/run/pixels/{name}.leases",
        f"dhcp-option=option:router,{address(leg, 1)}",
        f"dhcp-option=option:dns-server,{address(leg, 1)}",
        "log-queries=extra",
        "log-async=50",
    ]
    lines += [f"host-record={host},{address(leg, leg['slots'].get(host, 1))}" for host in sorted(rules["names"])]
    lines += [f"address=/{host}/{address(leg, 1)}" for host in sorted(rules["wildcards"])]
    return "\n".join(lines) + "\n"


def mac(name: str) -> str:
    """Return the MAC of the sandbox at a leg, as the collection gives it one."""
    number = int(name.rpartition("-")[2], 16)
    return ":".join(("02", "70", *(f"{byte:02x}" for byte in number.to_bytes(4, "big"))))


def ports(legs: Mapping[str, Leg]) -> list[int]:
    """Return the ports at which nginx listens."""
    return sorted({*_WEB, *(port for leg in legs.values() for _slot, _name, port in _fixed(leg))})


def _fixed(leg: Leg) -> Iterator[tuple[int, str, int]]:
    """Yield slot, name and port of what is known by its address on the leg alone."""
    for name, slot in sorted(leg["slots"].items()):
        for port in leg["rules"]["names"][name]:
            if port not in _WEB:
                yield slot, name, port


def _target(rules: Mapping[str, Any], name: str) -> str:
    return str(rules["bound"].get(name, name))


def _keys(policy: str, rules: Mapping[str, Any], port: int, value: str) -> Iterator[str]:
    """Yield the lines of the map of one policy and port; value has N where the target's name belongs.

    What a name has of its own is all that it has: its key is there at each port where a pattern around it would fit.
    """
    for name, allowed in sorted(rules["names"].items()):
        if port in allowed:
            yield f'"{policy}|{name}" {value.replace("N", _target(rules, name))};'
        elif any(name.endswith(f".{parent}") for parent in rules["wildcards"]):
            yield f'"{policy}|{name}" "";'
    for name, denied in sorted(rules["denied_names"].items()):
        if (not denied or port in denied) and name not in rules["names"]:
            yield f'"{policy}|{name}" "";'
    # among patterns the first one that fits counts: the denials; \z is the end, where $ lets a line feed follow
    for name, denied in sorted(rules["denied_wildcards"].items()):
        if not denied or port in denied:
            yield f'"~*^{policy}\\|[a-z0-9._-]+\\.{re.escape(name)}\\z" "";'
    for name, allowed in sorted(rules["wildcards"].items()):
        if port in allowed:
            pattern = f"(?<h>[a-z0-9-]+(?:\\.[a-z0-9-]+)*\\.{re.escape(name)})"
            yield f'"~*^{policy}\\|{pattern}\\z" {value.replace("N", "$h")};'


def nginx(settings: Mapping[str, Any], legs: Mapping[str, Leg]) -> str:
    """Return the configuration of nginx; @GENERATION@ stands where its fingerprint belongs."""
    policies = {digest(leg["rules"]): leg["rules"] for leg in legs.values()}
    members = [
        f"{address(leg, number)} {digest(leg['rules'])};"
        for _name, leg in sorted(legs.items())
        for number in (1, *sorted(leg["slots"].values()))
    ]
    tls = [line for policy, rules in sorted(policies.items()) for line in _keys(policy, rules, 443, "N:443")]
    web = [line for policy, rules in sorted(policies.items()) for line in _keys(policy, rules, 80, "N")]
    fixed, bound = [], []
    for leg in (leg for _name, leg in sorted(legs.items())):
        for slot, name, port in _fixed(leg):
            fixed.append(f'"{address(leg, slot)}:{port}" {_target(leg["rules"], name)}:{port};')
    for rules in policies.values():
        for target in rules["bound"].values():
            bound.append(f"{target} {settings['bound_source']};")
            bound += [f"{target}:{port} {settings['bound_source']};" for port in ports(legs)]
    others = [port for port in ports(legs) if port not in _WEB]
    size = 2048
    while size < 2 * max(len(tls), len(web), len(members), 1):
        size *= 2

    def block(lines: list[str], indent: str = "    ") -> str:
        return "".join(f"{indent}{line}\n" for line in lines)

    limits = settings["limits"]
    head = """\
user www-data;
worker_processes 2;
worker_rlimit_nofile 16384;
worker_shutdown_timeout 10m;
pid /run/nginx.pid;
error_log stderr crit;
include /etc/nginx/modules-enabled/*.conf;
events { worker_connections 8192; }
"""
    common = f"""\
  resolver {settings["resolver"]} ipv6=off valid=30s;
  resolver_timeout 5s;
  map_hash_max_size {size};
  map_hash_bucket_size 512;
  variables_hash_max_size 2048;
  map $server_addr $policy {{
    default "";
{block(members)}  }}
"""
    stream = f"""\
stream {{
{common}\
  preread_buffer_size 32k;
  preread_timeout 10s;
  proxy_connect_timeout 5s;
  proxy_timeout 1h;
  proxy_socket_keepalive on;
  map $ssl_preread_server_name $told {{
{_TOLD}  }}
  log_format refused escape=json '{{"t":$msec,"leg":"$server_addr","port":$server_port,"how":"tls","name":"$told"}}';
  map $status $refused {{ 500 1; 503 1; default 0; }}
  limit_conn_zone $server_addr zone=stream_leg:2m;
  map "$policy|$ssl_preread_server_name" $tls {{
    default "";
{block(tls)}  }}
  map "$server_addr:$server_port" $fixed {{
    default "";
{block(fixed)}  }}
  map $tls $tls_source {{
    default "";
{block(sorted(set(bound)))}  }}
  map $fixed $fixed_source {{
    default "";
{block(sorted(set(bound)))}  }}
  server {{
    listen 443;
    ssl_preread on;
    proxy_pass $tls;
    proxy_bind $tls_source;
    limit_conn stream_leg {limits["connections"]};
    access_log /var/log/pixels/refused.log refused if=$refused;
  }}
"""
    for port in others:
        stream += f"""\
  server {{
    listen {port};
    proxy_pass $fixed;
    proxy_bind $fixed_source;
    limit_conn stream_leg {limits["connections"]};
    access_log /var/log/pixels/refused.log refused if=$refused;
  }}
"""
    web_part = f"""\
}}
http {{
{common}\
  map $host $told {{
{_TOLD}  }}
  log_format refused escape=json '{{"t":$msec,"leg":"$server_addr","port":80,"how":"http","name":"$told"}}';
  limit_conn_zone $server_addr zone=http_leg:2m;
  map "$policy|$host" $up {{
    default "";
{block(web)}  }}
  map $up $up_source {{
    default "";
{block(sorted(set(bound)))}  }}
  map $http_host $hostport {{ default 1; "~:(?!80$)" 0; }}
  map $http_upgrade $upg {{ default ""; "~*^websocket$" websocket; }}
  map $http_upgrade $conn {{ default ""; "~*^websocket$" upgrade; }}
  client_header_timeout 10s;
  client_max_body_size 0;
  large_client_header_buffers 4 32k;
  server_tokens off;
  merge_slashes off;
  access_log off;
  server {{
    listen 80;
    server_name {GENERATION_NAME};
    if ($remote_addr != 127.0.0.1) {{ return 403 "egress: not for sandboxes\\n"; }}
    return 200 "@GENERATION@";
  }}
  server {{
    listen 80 default_server;
    limit_conn http_leg {limits["connections"]};
    set $refused 0;
    if ($up = "") {{ set $refused 1; }}
    if ($hostport = 0) {{ set $refused 1; }}
    access_log /var/log/pixels/refused.log refused if=$refused;
    error_page 418 = @refused;
    if ($refused) {{ return 418; }}
    location @refused {{
      # each refusal takes a new connection, and those are limited
      keepalive_timeout 0;
      if ($up = "") {{ return 403 "egress: $host is not in the policy of this sandbox; see /etc/pixels-egress.txt\\n"; }}
      return 403 "egress: only port 80 of $host is in the policy of this sandbox\\n";
    }}
    location / {{
      proxy_pass http://$up$request_uri;
      proxy_bind $up_source;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $upg;
      proxy_set_header Connection $conn;
      proxy_pass_header Server;
      proxy_pass_header Date;
      proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
      proxy_connect_timeout 5s;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""
    return head + stream + web_part


def fingerprint(rules: Mapping[str, Any]) -> str:
    """Return the fingerprint of rules, as Rules.digest of the collection is."""
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def digest(rules: Mapping[str, Any]) -> str:
    """Return the word by which nginx knows rules."""
    return "p" + fingerprint(rules)[:16]


def elements(legs: Mapping[str, Leg]) -> dict[str, list[str]]:
    """Return the elements of the sets that follow the legs."""
    found: dict[str, list[str]] = {"guests": [], "direct": [], "bound": [], "ports": []}
    for name, leg in sorted(legs.items()):
        rules = leg["rules"]
        found["guests"].append(f'"{name}" . {address(leg, 2)}')
        for port in {port for allowed in rules["networks"].values() for port in allowed}:
            found["direct"] += [f'"{name}" . {text} . {port}' for text in _direct(rules, port)]
        for host, target in sorted(rules["bound"].items()):
            found["bound"] += [f"{target} . {port}" for port in rules["names"][host]]
    found["ports"] = [str(port) for port in ports(legs)]
    return {name: sorted(set(values)) for name, values in found.items()}


def _direct(rules: Mapping[str, Any], port: int) -> Iterator[str]:
    """Yield what is let through at a port of the networks without what is denied: a set takes no elements that overlap."""
    allowed = _spans(text for text, ports_of in rules["networks"].items() if port in ports_of)
    denied = _spans(text for text, ports_of in rules["denied_networks"].items() if not ports_of or port in ports_of)
    for begin, end in allowed:
        free = begin
        for first, last in (span for span in denied if span[0] <= end and begin <= span[1]):
            if free < first:
                yield from _networks(free, first - 1)
            free = last + 1
        if free <= end:
            yield from _networks(free, end)


def _spans(texts: Iterable[str]) -> list[tuple[int, int]]:
    """Return first and last address of networks, sorted; none overlap."""
    merged = ipaddress.collapse_addresses(map(ipaddress.IPv4Network, texts))
    return [(int(network[0]), int(network[-1])) for network in merged]


def _networks(first: int, last: int) -> Iterator[str]:
    for network in ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)):
        yield str(network).removesuffix("/32")


def element_script(legs: Mapping[str, Leg]) -> str:
    """Return the transaction that gives the sets of a loaded ruleset the elements of the legs."""
    lines = []
    for name, values in elements(legs).items():
        lines.append(f"flush set inet pixels {name}")
        if values:
            lines.append(f"add element inet pixels {name} {{ {', '.join(values)} }}")
    return "\n".join(lines) + "\n"


def nftables(settings: Mapping[str, Any], legs: Mapping[str, Leg]) -> str:
    """Return the whole ruleset, as it is loaded at the start."""
    uplink, limits = settings["uplink"], settings["limits"]
    own = f"{settings['legs_range']}, {settings['uplink_network']}"
    archives = ", ".join(str(ipaddress.IPv4Network(text)) for text in settings["archives"])
    of_archives = f"elements = {{ {archives} }}" if archives else ""
    return f"""\
#!/usr/sbin/nft -f
table inet pixels
delete table inet pixels
table inet pixels {{
  set guests {{ type ifname . ipv4_addr; }}
  set direct {{ type ifname . ipv4_addr . inet_service; flags interval; }}
  set bound {{ type ipv4_addr . inet_service; }}
  set ports {{ type inet_service; }}
  set never {{ type ipv4_addr; flags interval; auto-merge; elements = {{ 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3, {own} }} }}
  set special {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {SPECIAL}, {own} }} }}
  set archives {{ type ipv4_addr; flags interval; auto-merge; {of_archives} }}
  set denied {{ type ifname . ipv4_addr . inet_proto . inet_service; size 65536; flags dynamic,timeout; timeout 1h; counter; }}
  set denied_out {{ type ipv4_addr . inet_service; size 1024; flags dynamic,timeout; timeout 1h; counter; }}
  set strangers {{ type ifname . ether_addr . ipv4_addr; size 65536; flags dynamic,timeout; timeout 1h; counter; }}
  set leases {{ type ifname; size 4096; flags dynamic; }}
  set counted {{ type ifname; size 4096; flags dynamic; }}
  set queries {{ type ifname; size 4096; flags dynamic; }}
  set opened {{ type ifname; size 4096; flags dynamic; }}
  set open {{ type ifname; size 4096; flags dynamic; }}

  chain pre {{
    type filter hook prerouting priority -150; policy accept;
    iifname "pxe-*" fib daddr type != {{ local, broadcast, multicast }} jump beyond
  }}
  chain beyond {{
    iifname . ip saddr != @guests jump stranger
    ip daddr @never jump refuse
    meta l4proto != tcp jump refuse
    iifname . ip daddr . tcp dport != @direct jump refuse
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    iifname "{uplink}" ct state established,related accept
    iifname "{uplink}" udp sport 67 udp dport 68 accept
    iifname "{uplink}" drop
    iifname "pxe-*" udp sport 68 udp dport 67 fib daddr type {{ local, broadcast }} jump lease
    iifname "pxe-*" meta nfproto ipv6 drop
    iifname . ip saddr != @guests jump stranger
    iifname "pxe-*" fib daddr . iif type != local jump refuse
    iifname "pxe-*" udp dport 53 jump look_up
    iifname "pxe-*" ct state established accept
    iifname "pxe-*" tcp dport 53 jump open_one
    iifname "pxe-*" tcp dport @ports jump open_one
    iifname "pxe-*" jump refuse
  }}
  chain lease {{
    update @leases {{ iifname limit rate over 10/second burst 20 packets }} drop
    accept
  }}
  chain look_up {{
    update @queries {{ iifname limit rate over {limits["queries"]}/second burst {2 * limits["queries"]} packets }} drop
    accept
  }}
  chain open_one {{
    update @opened {{ iifname limit rate over {limits["opened"]}/second burst {5 * limits["opened"]} packets }} reject with tcp reset
    add @open {{ iifname ct count over {limits["connections"]} }} reject with tcp reset
    accept
  }}
  chain stranger {{
    update @counted {{ iifname limit rate over {_COUNTED}/second burst {5 * _COUNTED} packets }} drop
    update @strangers {{ iifname . ether saddr . ip saddr }}
    drop
  }}
  chain count {{
    # what one guest is refused must not push out what another was
    update @counted {{ iifname limit rate over {_COUNTED}/second burst {5 * _COUNTED} packets }} return
    meta l4proto {{ tcp, udp }} update @denied {{ iifname . ip daddr . meta l4proto . th dport }}
    meta l4proto != {{ tcp, udp }} update @denied {{ iifname . ip daddr . meta l4proto . 0 }}
  }}
  chain refuse {{
    jump count
    # whoever works in the guest is told at once
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmp type admin-prohibited
    drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    iifname "pxe-*" oifname "{uplink}" ct state established iifname . ip daddr . tcp dport @direct accept
    iifname "pxe-*" oifname "{uplink}" iifname . ip daddr . tcp dport @direct jump open_one
    iifname "{uplink}" oifname . ip saddr . tcp sport @direct ct state established accept
  }}
  chain source {{
    type nat hook postrouting priority 100;
    iifname "pxe-*" oifname "{uplink}" masquerade
  }}
  chain output {{
    type filter hook output priority 0; policy drop;
    oifname "lo" meta skuid 0 accept
    ct state established,related accept
    oifname "pxe-*" udp sport 67 udp dport 68 accept
    oifname "{uplink}" ip daddr {{ 255.255.255.255, {settings["uplink_network"]} }} udp sport 68 udp dport 67 accept
    # nginx speaks for the sandboxes, root and _apt for the gateway; nobody else has anything to say
    meta skuid != {{ "root", "_apt", "www-data" }} jump refuse_out
    oifname "{uplink}" ip daddr {settings["resolver"]} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @never jump refuse_out
    oifname "{uplink}" ip saddr {settings["bound_source"]} ip daddr . tcp dport @bound meta skuid "www-data" accept
    oifname "{uplink}" ip daddr @archives meta skuid != "www-data" tcp dport {{ 80, 443 }} accept
    ip daddr @special jump refuse_out
    oifname "{uplink}" meta skuid "www-data" tcp dport @ports accept
    oifname "{uplink}" meta skuid != "www-data" tcp dport {{ 80, 443 }} accept
    jump refuse_out
  }}
  chain refuse_out {{
    meta l4proto {{ tcp, udp }} update @denied_out {{ ip daddr . th dport }}
    reject with icmp type admin-prohibited
  }}
}}
{element_script(legs)}"""
