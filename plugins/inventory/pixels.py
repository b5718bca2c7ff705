# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes as hosts, from one server or from many."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pixels
short_description: Sandboxes as hosts
version_added: 1.0.0
author: The pixels.sandbox authors (@pixels-sandbox)
description:
  - Lists the sandboxes of one or many servers, each with one call. Instances that are no sandboxes of this
    collection, and sandboxes whose creation has not ended, are left out.
  - A host carries what P(pixels.sandbox.incus#connection) needs to enter its sandbox, and what
    M(pixels.sandbox.pixels_instance_info) returns about it as variables with C(pixels_) in front (C(pixels_name),
    C(pixels_status), C(pixels_labels) and so on).
  - All hosts are in the group C(pixels). Further groups are C(pixels_STATUS), C(pixels_label_KEY_VALUE) for each
    label, C(pixels_base_NAME) for a sandbox that comes from a base and C(pixels_image_NAME) for one that comes from
    an image, and C(pixels_server_NAME) when O(servers) is given. Characters that a name of a group cannot have
    become underscores.
  - The name of the file has to end in C(pixels.yml) or C(pixels.yaml).
notes:
  - Strings from a server are data. They are never templates, also when they look like one.
  - The variables hold paths of keys and certificates, never what is in them.
  - Ansible goes on without an inventory that it cannot read, unless E(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED) is
    set.
seealso:
  - plugin: pixels.sandbox.incus
    plugin_type: connection
  - module: pixels.sandbox.pixels_instance_info
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
  - pixels.sandbox._connection.plugin
requirements:
  - jmespath, for O(query)
options:
  plugin:
    description: Marks a file as one of this plugin.
    type: str
    required: true
    choices:
      - pixels.sandbox.pixels
  addresses:
    description:
      - Whether hosts get C(pixels_addresses), and O(query) sees the addresses.
      - They cost a server some 10 milliseconds for each running sandbox, and the connection does not need them.
    type: bool
    default: false
  hostnames:
    description:
      - Jinja2 expressions over the variables of a host. The first one that gives a name is what the host is called;
        one with an undefined variable gives none.
      - A name has letters, digits, dots, underscores and inner hyphens. Without one the host is called as its
        sandbox.
    type: list
    elements: str
    default: []
  query:
    description:
      - A JMESPath expression over the list of what M(pixels.sandbox.pixels_instance_info) returns for the sandboxes
        of a server. It selects those that become hosts.
    type: str
  servers:
    description:
      - The servers to ask. Without it, the one that the connection options name.
      - A server takes each connection option that it does not give from those of the file and the environment,
        except that a server with C(incus_socket) takes no C(incus_remote), and one with C(incus_server_cert) no
        C(incus_ca_cert), and the other way round.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the server is called here, in messages and in the name of its group.
        type: str
        required: true
      prefix:
        description:
          - What is put in front of the names of its hosts. Two servers that have a sandbox of one name need it. Two
            hosts of one name are an error.
        type: str
        default: ""
      backend:
        description: See O(backend).
        type: str
      incus_socket:
        description: See O(incus_socket).
        type: path
      incus_remote:
        description: See O(incus_remote).
        type: str
      incus_client_cert:
        description: See O(incus_client_cert).
        type: path
      incus_client_key:
        description: See O(incus_client_key).
        type: path
      incus_server_cert:
        description: See O(incus_server_cert).
        type: path
      incus_ca_cert:
        description: See O(incus_ca_cert).
        type: path
      incus_project:
        description: See O(incus_project).
        type: str
      truenas_host:
        description: See O(truenas_host).
        type: str
      truenas_port:
        description: See O(truenas_port).
        type: int
      truenas_username:
        description: See O(truenas_username).
        type: str
      truenas_api_key:
        description: See O(truenas_api_key).
        type: str
      truenas_ca_cert:
        description: See O(truenas_ca_cert).
        type: path
      truenas_fingerprint:
        description: See O(truenas_fingerprint).
        type: str
      truenas_insecure_skip_verify:
        description: See O(truenas_insecure_skip_verify).
        type: bool
      truenas_pool:
        description: See O(truenas_pool).
        type: str
      truenas_ssh_key:
        description: See O(truenas_ssh_key).
        type: path
  skip_unreachable:
    description:
      - Whether a server that cannot be reached is left out with a warning. Otherwise it is an error.
      - A server that is reached and refuses is an error always.
    type: bool
    default: false
"""

EXAMPLES = r"""
# Every sandbox of the Incus on this machine, as lab.pixels.yml.
plugin: pixels.sandbox.pixels

---
# Running sandboxes of one owner, in groups by the label "team", for ten minutes from a cache.
plugin: pixels.sandbox.pixels
query: "[?status=='running' && owner=='alice']"
keyed_groups:
  - key: pixels_labels.team
    prefix: team
groups:
  small: (pixels_memory or 0) < 1024 ** 3
compose:
  ansible_user: "'pixel'"
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/pixels-inventory
cache_timeout: 600

---
# Two servers with one client certificate. Their hosts are called east-NAME and west-NAME.
plugin: pixels.sandbox.pixels
incus_client_cert: ~/.config/pixels/client.crt
incus_client_key: ~/.config/pixels/client.key
skip_unreachable: true
servers:
  - name: east
    prefix: east-
    incus_remote: https://east.example.com:8443
    incus_server_cert: ~/.config/pixels/east.crt
  - name: west
    prefix: west-
    incus_remote: https://west.example.com:8443
    incus_server_cert: ~/.config/pixels/west.crt
"""

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError, AnsibleUndefinedVariable
from ansible.inventory.data import InventoryData
from ansible.inventory.group import to_safe_group_name
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.display import Display
from ansible.utils.path import unfrackpath
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.select import backend_from
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import SANDBOX
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.options import CONNECTION_OPTIONS, OPTION_NAMES
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.query import apply_query
from ansible_collections.pixels.sandbox.plugins.module_utils._resource.instance import instance_record
from ansible_collections.pixels.sandbox.plugins.plugin_utils._session import connection_options, translated
from ansible_collections.pixels.sandbox.plugins.plugin_utils._unsafe import unsafe

display = Display()

CONNECTION = "pixels.sandbox.incus"
ROOT_GROUP = "pixels"
_SERVER_KEYS = {"name", "prefix", *OPTION_NAMES}
#: Where a server gives the first, it does not take the second from the file or the environment.
_EXCLUDING = (
    ("incus_socket", "incus_remote"),
    ("incus_server_cert", "incus_ca_cert"),
    ("incus_ca_cert", "incus_server_cert"),
)
_HOSTNAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_PARALLEL = 8

Record = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """A server to ask; name is empty for the only one of a file without a list of servers."""

    name: str
    prefix: str
    options: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """The server in front of a message."""
        return f"server {self.name}: " if self.name else ""


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Sandboxes as hosts."""

    NAME = "pixels.sandbox.pixels"
    #: Set by parse() of the base class.
    inventory: InventoryData

    def verify_file(self, path: str) -> bool:
        """Say whether the file is one of ours by its name."""
        return bool(super().verify_file(path)) and path.endswith(("pixels.yml", "pixels.yaml"))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        """Add the sandboxes that the file selects to the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        servers = self._servers()
        found = self._cached(servers, path, cache)
        self.inventory.add_group(ROOT_GROUP)
        added: dict[str, str] = {}
        for server in servers:
            with translated(AnsibleParserError, server.subject):
                records = selected(self.get_option("query"), found.get(server.name, []))
            for record in records:
                self._add(server, record, added)

    # -- which servers

    def _servers(self) -> list[Server]:
        common = connection_options(self)
        entries = self.get_option("servers")
        if not entries:
            return [Server("", "", common)]
        with translated(AnsibleParserError):
            servers = [server_from(entry, common) for entry in entries]
            names = [server.name for server in servers]
            for name in names:
                if names.count(name) > 1:
                    raise ConfigError(f"servers: two are called {name}")
        return servers

    # -- what they have

    def _cached(self, servers: list[Server], path: str, cache: bool) -> dict[str, list[Record]]:
        """Return the sandboxes by server, from the cache where it has them."""
        caching = self.get_option("cache")
        key = self._key(servers, path)
        if caching and cache:
            try:
                return dict(self._cache[key])
            except KeyError:
                # not kept, or kept for too long
                pass
        found = self._read(servers)
        # what lacks a server that was not reached is not kept: it may be there the next time
        if caching and len(found) == len(servers):
            self._cache[key] = found
        return found

    def _key(self, servers: list[Server], path: str) -> str:
        """Return the key of the cache: another one when the file asks other servers, or asks them more."""
        asked = json.dumps(
            [self.get_option("addresses"), [[server.name, dict(server.options)] for server in servers]], sort_keys=True
        )
        return f"{self.get_cache_key(path)}_{hashlib.sha256(asked.encode()).hexdigest()[:16]}"

    def _read(self, servers: list[Server]) -> dict[str, list[Record]]:
        addresses = self.get_option("addresses")
        with ThreadPoolExecutor(max_workers=min(_PARALLEL, len(servers))) as pool:
            answers = list(pool.map(lambda server: read_server(server, addresses), servers))
        found = {}
        for server, answer in zip(servers, answers, strict=True):
            if isinstance(answer, ConnectionFailed):
                text = f"{server.subject}{answer}"
                if isinstance(answer, AuthenticationFailed) or not self.get_option("skip_unreachable"):
                    raise AnsibleParserError(text) from answer
                self.display.warning(f"{text}: its sandboxes are left out")
            else:
                found[server.name] = answer
        return found

    # -- hosts and groups

    def _add(self, server: Server, record: Record, added: dict[str, str]) -> None:
        """Add a sandbox as a host with its variables and groups."""
        described = {f"{ROOT_GROUP}_{field}": value for field, value in record.items()}
        variables = unsafe({**described, **self._connection_variables(server, record)})
        host = self._hostname(server, record, variables)
        where = f"{record['name']}{f' of server {server.name}' if server.name else ''}"
        if host in added:
            raise AnsibleParserError(
                f"two hosts are called {host}: {added[host]} and {where}; give the servers a prefix, or other hostnames"
            )
        if host == "localhost":
            # every play against the controller would go into the sandbox
            self.display.warning(f"{where} is left out: it would stand for the controller; give its server a prefix")
            return
        added[host] = where
        self.inventory.add_host(host, group=ROOT_GROUP)
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        for group in groups_of(server, record):
            self.inventory.add_child(ROOT_GROUP, self.inventory.add_group(group))
            self.inventory.add_child(group, host)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)

    def _hostname(self, server: Server, record: Record, variables: Record) -> str:
        for expression in self.get_option("hostnames"):
            try:
                candidate = self._compose(expression, variables)
            except AnsibleUndefinedVariable:
                # that is what the next one is for
                continue
            except AnsibleError as exc:
                raise AnsibleParserError(f"hostnames: {expression}: {exc}") from exc
            if candidate and _HOSTNAME.fullmatch(str(candidate)):
                return server.prefix + str(candidate)
        return server.prefix + str(record["name"])

    def _connection_variables(self, server: Server, record: Record) -> Record:
        """Return what the connection needs for this sandbox: only what it would not come to by itself."""
        variables: Record = {"ansible_connection": CONNECTION, "ansible_host": record["name"]}
        if server.options["backend"] == "truenas":
            variables = ssh_variables(record)
        for option in CONNECTION_OPTIONS:
            value, common = server.options[option.name], self.get_option(option.name)
            if option.secret:
                # it stays where it is: tasks on the controller find it in the environment, or in a vault
                continue
            # an empty value keeps the connection from what its environment names for another server
            if (value or option.default) != option.default or (common or option.default) != option.default:
                variables[f"ansible_pixels_{option.name}"] = value or ""
        if server.name:
            variables["pixels_server"] = server.name
        return variables


def ssh_variables(record: Mapping[str, Any]) -> Record:
    """Return what Ansible's own connection needs for a sandbox that is reached over SSH; one that does not run has no address."""
    variables: Record = {"ansible_connection": "ssh"}
    ssh = record["ssh"]
    if ssh:
        variables |= {
            "ansible_host": ssh["host"],
            "ansible_user": ssh["user"],
            "ansible_ssh_private_key_file": ssh["private_key_file"],
            "ansible_ssh_common_args": ssh["common_args"],
            # the options above know the host key: no file has a say
            "ansible_ssh_host_key_checking": True,
        }
    return variables


def server_from(entry: object, common: Mapping[str, Any]) -> Server:
    """Return a server from its entry in the file, with what it takes from the common options."""
    if not isinstance(entry, Mapping) or not entry.get("name"):
        raise ConfigError("servers: each one is a dictionary with a name")
    name = str(entry["name"])
    unknown = sorted(str(key) for key in set(entry) - _SERVER_KEYS)
    if unknown:
        raise ConfigError(f"servers: {name} has unknown options: {', '.join(unknown)}")
    prefix = str(entry.get("prefix") or "")
    if prefix and not _HOSTNAME.fullmatch(f"{prefix}x"):
        raise ConfigError(f"servers: prefix {prefix!r} of {name} cannot begin the name of a host")
    options = dict(common)
    for given, dropped in _EXCLUDING:
        if entry.get(given) and dropped not in entry:
            options[dropped] = None
    for option in CONNECTION_OPTIONS:
        if option.name in entry:
            value = entry[option.name]
            if value and option.type == "path":
                value = unfrackpath(str(value), follow=False)
            # a plain string: those of a file of Ansible carry marks that a cache cannot keep
            if option.type == "bool":
                options[option.name] = boolean(value, strict=False)
            else:
                options[option.name] = str(value) if value else option.default
    return Server(name, prefix, options)


def read_server(server: Server, addresses: bool) -> list[Record] | ConnectionFailed:
    """Return the sandboxes of a server, or why it could not be reached."""
    with translated(AnsibleParserError, server.subject):
        try:
            backend = backend_from(server.options)
            for text in backend.warnings:
                display.warning(f"{server.subject}{text}")
            try:
                instances = backend.list_instances(addresses)
            finally:
                backend.close()
        except ConnectionFailed as exc:
            return exc
    records = []
    for instance in instances:
        if instance.kind == SANDBOX and not instance.unfinished:
            record: Record = instance_record(instance)
            if not addresses:
                # an empty list would say that there are none
                del record["addresses"]
            records.append(record)
    return records


def selected(query: str | None, records: list[Record]) -> list[Record]:
    """Return those of the records that the query selects; ConfigError where it makes something else of them."""
    if not query:
        return records
    chosen = apply_query(str(query), records)
    if chosen is None:
        return []
    if not isinstance(chosen, list) or any(record not in records for record in chosen):
        raise ConfigError(f"query {query!r} does not select sandboxes, as [?status=='running'] does")
    return chosen


def groups_of(server: Server, record: Record) -> list[str]:
    """Return the groups of a sandbox, as Ansible can use their names."""
    names = [f"{ROOT_GROUP}_{record['status']}"]
    names += [f"{ROOT_GROUP}_label_{key}_{value}" for key, value in record["labels"].items()]
    if record["base"]:
        names.append(f"{ROOT_GROUP}_base_{record['base']}")
    elif record["image"]:
        names.append(f"{ROOT_GROUP}_image_{record['image']}")
    if server.name:
        names.append(f"{ROOT_GROUP}_server_{server.name}")
    return [str(to_safe_group_name(name, force=True, silent=True)) for name in names]
