# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin, as Ansible runs it, over servers that are lists in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.doc_fragments import constructed, inventory_cache
from ansible.template import Templar
from ansible_collections.pixels.sandbox.plugins.doc_fragments import _connection
from ansible_collections.pixels.sandbox.plugins.inventory import pixels
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import Instance, Limits

NAME = "pixels.sandbox.pixels"
SOCKET = "/run/one.socket"


class Shelf:
    """A server with these instances, or one that fails."""

    warnings = ()

    def __init__(self, *instances: Instance, failure: PixelsError | None = None) -> None:
        self.instances = instances
        self.failure = failure
        self.calls: list[bool] = []
        self.closed = 0

    def list_instances(self, addresses: bool = True) -> tuple[Instance, ...]:
        self.calls.append(addresses)
        if self.failure:
            raise self.failure
        return self.instances

    def close(self) -> None:
        self.closed += 1


Shelves = dict[str, Shelf]
Parse = Callable[..., InventoryData]


def sandbox(name: str, status: str = "running", labels: Mapping[str, str] | None = None, **keys: str) -> Instance:
    """Return a sandbox of ours."""
    marks = {f"label.{key}": value for key, value in (labels or {}).items()}
    return Instance(
        name=name,
        server_name=f"px-{name}",
        status=status,
        kind="sandbox",
        keys={"kind": "sandbox", **keys, **marks},
        limits=Limits(cpu=2, memory=2**31),
        addresses=("10.0.0.2",),
    )


def loaded() -> pixels.InventoryModule:
    """Return the plugin as Ansible's loader would, which finds no collection that Python has imported by itself."""
    options: dict[str, Any] = {}
    fragments = (constructed.ModuleDocFragment.DOCUMENTATION, inventory_cache.ModuleDocFragment.DOCUMENTATION)
    for text in (*fragments, _connection.ModuleDocFragment.PLUGIN, pixels.DOCUMENTATION):
        options.update(yaml.safe_load(text)["options"])
    constants.config.initialize_plugin_configuration_definitions("inventory", NAME, options)
    plugin = pixels.InventoryModule()
    plugin._load_name = plugin.ansible_name = NAME
    plugin._redirected_names = []
    return plugin


@pytest.fixture
def shelves(monkeypatch: pytest.MonkeyPatch) -> Shelves:
    """Return the servers by socket or address; a test puts them there."""
    servers: Shelves = {}

    def backend_from(options: Mapping[str, Any]) -> Shelf:
        return servers[options.get("incus_remote") or options.get("incus_socket") or SOCKET]

    monkeypatch.setattr(pixels, "backend_from", backend_from)
    return servers


@pytest.fixture
def parse(tmp_path: Path, shelves: Shelves) -> Parse:
    """Return a function that parses a file of these options; an instance instead of options stands for one server."""

    def run(*instances: Instance, cached: bool = False, **options: Any) -> InventoryData:
        if instances:
            shelves[SOCKET] = Shelf(*instances)
        path = tmp_path / "lab.pixels.yml"
        path.write_text(json.dumps({"plugin": "pixels.sandbox.pixels", **options}), encoding="utf-8")
        plugin = loaded()
        inventory = InventoryData()
        plugin.parse(inventory, DataLoader(), str(path), cache=cached)
        if options.get("cache"):
            plugin.update_cache_if_changed()
        inventory.reconcile_inventory()
        return inventory

    return run


def variables(inventory: InventoryData, host: str) -> dict[str, Any]:
    """Return the variables of a host."""
    found: dict[str, Any] = inventory.get_host(host).get_vars()
    return found


def members(inventory: InventoryData, group: str) -> list[str]:
    """Return the hosts of a group and of its children."""
    return sorted(host.name for host in inventory.groups[group].get_hosts())


@pytest.mark.parametrize(
    ("name", "ours"),
    [("pixels.yml", True), ("lab.pixels.yaml", True), ("hosts.yml", False), ("pixels.yml.bak", False)],
)
def test_the_name_of_a_file_says_whether_it_is_ours(tmp_path: Path, name: str, ours: bool) -> None:
    path = tmp_path / name
    path.touch()
    assert loaded().verify_file(str(path)) is ours


def test_every_sandbox_is_a_host_and_nothing_else_is(parse: Parse) -> None:
    foreign = Instance(name="x", server_name="px-x", status="running")
    base = Instance(name="base-a", server_name="px-base-a", status="stopped", kind="base")
    found = parse(sandbox("a"), foreign, base, sandbox("half", unfinished="2026-01-02T03:04:05Z"))
    assert members(found, "pixels") == ["a"]
    assert members(found, "all") == ["a"]


def test_groups_tell_status_labels_and_image(parse: Parse) -> None:
    found = parse(
        sandbox("a", image="debian/13", labels={"team": "red"}),
        sandbox("b", status="stopped", base="dev", image="debian/13"),
    )
    assert members(found, "pixels_running") == ["a"]
    assert members(found, "pixels_stopped") == ["b"]
    assert members(found, "pixels_label_team_red") == ["a"]
    assert members(found, "pixels_image_debian_13") == ["a"]
    assert members(found, "pixels_base_dev") == ["b"]


def test_a_group_has_a_legal_name_whatever_the_label_is(parse: Parse) -> None:
    found = parse(sandbox("a", labels={"for.who": "me & you: {{ x }}"}))
    assert "pixels_label_for_who_me___you_____x___" in found.groups


def test_a_host_carries_what_the_connection_needs_and_no_more(parse: Parse) -> None:
    found = variables(parse(sandbox("a")), "a")
    assert found["ansible_connection"] == "pixels.sandbox.incus"
    assert found["ansible_host"] == "a"
    assert not [name for name in found if name.startswith("ansible_pixels_")]


def test_a_host_carries_the_options_of_its_server(parse: Parse, shelves: Shelves) -> None:
    shelves["https://east:8443"] = Shelf(sandbox("a"))
    found = variables(
        parse(
            incus_remote="https://east:8443", incus_client_cert="/c.crt", incus_client_key="/c.key", incus_project="p"
        ),
        "a",
    )
    assert {name: value for name, value in found.items() if name.startswith("ansible_pixels_")} == {
        "ansible_pixels_incus_remote": "https://east:8443",
        "ansible_pixels_incus_client_cert": "/c.crt",
        "ansible_pixels_incus_client_key": "/c.key",
        "ansible_pixels_incus_project": "p",
    }


def test_a_server_with_a_socket_is_not_taken_for_the_remote_one_of_the_environment(
    parse: Parse, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELS_INCUS_REMOTE", "https://east:8443")
    shelves["/run/two.socket"] = Shelf(sandbox("a"))
    found = variables(parse(servers=[{"name": "two", "incus_socket": "/run/two.socket"}]), "a")
    assert found["ansible_pixels_incus_socket"] == "/run/two.socket"
    # empty, so that the connection does not read the environment either
    assert found["ansible_pixels_incus_remote"] == ""


def test_variables_are_those_of_the_info_module(parse: Parse) -> None:
    found = variables(parse(sandbox("a", labels={"team": "red"}, owner="alice")), "a")
    assert found["pixels_status"] == "running"
    assert found["pixels_labels"] == {"team": "red"}
    assert found["pixels_owner"] == "alice"
    assert found["pixels_memory"] == 2**31


@pytest.mark.parametrize("wanted", [True, False])
def test_addresses_are_asked_for_only_where_they_are_wanted(parse: Parse, shelves: Shelves, wanted: bool) -> None:
    shelves[SOCKET] = Shelf(sandbox("a"))
    found = variables(parse(addresses=wanted), "a")
    assert shelves[SOCKET].calls == [wanted]
    assert shelves[SOCKET].closed == 1
    assert found.get("pixels_addresses") == (["10.0.0.2"] if wanted else None)


def test_strings_of_the_server_are_never_templates(parse: Parse) -> None:
    evil = "{{ lookup('pipe', 'false') }}"
    inventory = parse(
        sandbox("a", labels={"note": evil}, owner=evil),
        compose={"note": "pixels_labels.note", "more": "'<' ~ pixels_owner ~ '>'"},
    )
    found = variables(inventory, "a")
    templar = Templar(loader=DataLoader(), variables=found)
    assert templar.template(found["pixels_labels"]) == {"note": evil}
    assert templar.template(found["pixels_owner"]) == evil
    assert templar.template(found["note"]) == evil
    assert templar.template(found["more"]) == f"<{evil}>"


def test_query_selects_hosts(parse: Parse) -> None:
    found = parse(sandbox("a"), sandbox("b", status="stopped"), query="[?status=='stopped']")
    assert members(found, "pixels") == ["b"]


@pytest.mark.parametrize("query", ["[?", "[].name", "length(@)"])
def test_a_query_that_selects_no_sandboxes_is_an_error(parse: Parse, query: str) -> None:
    with pytest.raises(AnsibleParserError, match="query"):
        parse(sandbox("a"), query=query)


def test_a_query_without_a_result_selects_nothing(parse: Parse) -> None:
    assert members(parse(sandbox("a"), query="nothing"), "pixels") == []


def test_constructed_groups_and_variables_work(parse: Parse) -> None:
    inventory = parse(
        sandbox("a", labels={"team": "red"}),
        sandbox("b"),
        compose={"ansible_user": "'pixel'"},
        groups={"large": "pixels_memory > 1024"},
        keyed_groups=[{"key": "pixels_labels.team", "prefix": "team"}],
    )
    assert variables(inventory, "b")["ansible_user"] == "pixel"
    assert members(inventory, "large") == ["a", "b"]
    assert members(inventory, "team_red") == ["a"]


def test_strict_makes_a_broken_expression_an_error(parse: Parse) -> None:
    assert "x" not in variables(parse(sandbox("a"), compose={"x": "nowhere.at_all"}), "a")
    with pytest.raises(AnsibleError, match="Could not set x for host a"):
        parse(sandbox("a"), compose={"x": "nowhere.at_all"}, strict=True)


def test_hosts_are_called_as_the_first_expression_that_gives_a_name(parse: Parse) -> None:
    found = parse(
        sandbox("a", labels={"host": "web-1"}),
        sandbox("b", labels={"host": "no name!"}),
        sandbox("c"),
        hostnames=["pixels_labels.host", "'box-' ~ pixels_name if pixels_name == 'c' else ''"],
    )
    assert members(found, "pixels") == ["b", "box-c", "web-1"]
    assert variables(found, "web-1")["ansible_host"] == "a"


def test_a_sandbox_never_stands_for_the_controller(parse: Parse) -> None:
    assert members(parse(sandbox("localhost"), sandbox("a")), "all") == ["a"]


def two_servers(shelves: Shelves) -> list[dict[str, str]]:
    """Put two servers there that have a sandbox of one name, and return their entries."""
    shelves["https://east:8443"] = Shelf(sandbox("a"))
    shelves["https://west:8443"] = Shelf(sandbox("a"), sandbox("b"))
    return [
        {"name": "east", "incus_remote": "https://east:8443", "prefix": "e-"},
        {"name": "west", "incus_remote": "https://west:8443", "prefix": "w-"},
    ]


def test_many_servers_are_asked_once_each(parse: Parse, shelves: Shelves) -> None:
    found = parse(servers=two_servers(shelves), incus_client_cert="/c.crt", incus_client_key="/c.key")
    assert members(found, "pixels_server_east") == ["e-a"]
    assert members(found, "pixels_server_west") == ["w-a", "w-b"]
    assert variables(found, "w-a")["ansible_pixels_incus_remote"] == "https://west:8443"
    assert variables(found, "w-a")["ansible_pixels_incus_client_cert"] == "/c.crt"
    assert variables(found, "w-a")["ansible_host"] == "a"
    assert [len(shelf.calls) for shelf in shelves.values()] == [1, 1]


def test_two_hosts_of_one_name_are_an_error_that_names_both(parse: Parse, shelves: Shelves) -> None:
    entries = [{**entry, "prefix": ""} for entry in two_servers(shelves)]
    with pytest.raises(AnsibleParserError, match=r"called a: a of server east and a of server west; give .* a prefix"):
        parse(servers=entries)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"incus_socket": "/x"}], "a dictionary with a name"),
        (["east"], "a dictionary with a name"),
        ([{"name": "east", "plug": "/x"}], "east has unknown options: plug"),
        ([{"name": "east"}, {"name": "east"}], "two are called east"),
        ([{"name": "east", "prefix": "a b"}], "prefix 'a b' of east"),
    ],
)
def test_a_malformed_server_is_an_error(parse: Parse, entries: list[object], message: str) -> None:
    with pytest.raises(AnsibleParserError, match=message):
        parse(servers=entries)


def test_a_server_that_cannot_be_reached_is_an_error_that_names_it(parse: Parse, shelves: Shelves) -> None:
    entries = two_servers(shelves)
    shelves["https://west:8443"].failure = ConnectionFailed("https://west:8443 does not answer in time")
    with pytest.raises(AnsibleParserError, match="server west: https://west:8443 does not answer"):
        parse(servers=entries)


def test_a_server_that_cannot_be_reached_can_be_left_out(parse: Parse, shelves: Shelves) -> None:
    entries = two_servers(shelves)
    shelves["https://west:8443"].failure = ConnectionFailed("https://west:8443 does not answer in time")
    assert members(parse(servers=entries, skip_unreachable=True), "pixels") == ["e-a"]


def test_a_server_that_refuses_is_never_left_out(parse: Parse, shelves: Shelves) -> None:
    entries = two_servers(shelves)
    shelves["https://west:8443"].failure = AuthenticationFailed("the server does not let us")
    with pytest.raises(AnsibleParserError, match="server west: the server does not let us"):
        parse(servers=entries, skip_unreachable=True)


def test_the_cache_answers_instead_of_the_server(parse: Parse, shelves: Shelves, tmp_path: Path) -> None:
    cache = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "kept")}
    evil = "{{ lookup('pipe', 'false') }}"
    shelves[SOCKET] = Shelf(sandbox("a", labels={"note": evil}))
    first = parse(**cache)
    again = parse(cached=True, **cache)
    assert len(shelves[SOCKET].calls) == 1
    assert variables(again, "a") == variables(first, "a")
    found = variables(again, "a")
    assert Templar(loader=DataLoader(), variables=found).template(found["pixels_labels"]) == {"note": evil}
    # a refresh, and other options, ask again
    parse(cached=False, **cache)
    parse(cached=True, addresses=True, **cache)
    assert shelves[SOCKET].calls == [False, False, True]


def test_the_cache_does_not_keep_what_lacks_a_server(parse: Parse, shelves: Shelves, tmp_path: Path) -> None:
    cache = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "kept")}
    entries = two_servers(shelves)
    shelves["https://west:8443"].failure = ConnectionFailed("west does not answer in time")
    parse(servers=entries, skip_unreachable=True, **cache)
    shelves["https://west:8443"].failure = None
    found = parse(cached=True, servers=entries, skip_unreachable=True, **cache)
    assert members(found, "pixels") == ["e-a", "w-a", "w-b"]


def test_variables_can_be_written_as_json(parse: Parse) -> None:
    found = variables(parse(sandbox("a", labels={"team": "red"})), "a")
    own = {name: value for name, value in found.items() if name.startswith(("pixels_", "ansible_"))}
    assert json.loads(json.dumps(own)) == own


def test_a_sandbox_that_is_reached_over_ssh_has_ansibles_own_connection() -> None:
    way = {"host": "10.66.0.2", "user": "root", "private_key_file": "/k", "common_args": "-o HostKeyAlias=px-box"}
    assert pixels.ssh_variables({"ssh": way}) == {
        "ansible_connection": "ssh",
        "ansible_host": "10.66.0.2",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": "/k",
        "ansible_ssh_common_args": "-o HostKeyAlias=px-box",
        "ansible_ssh_host_key_checking": True,
    }
    assert pixels.ssh_variables({"ssh": None}) == {"ansible_connection": "ssh"}
