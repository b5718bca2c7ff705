# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the tree itself: who imports whom, one exit, lists that must agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pixels.sandbox.plugins.doc_fragments._connection import ModuleDocFragment
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.options import CONNECTION_OPTIONS, connection_spec

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
OURS = "ansible_collections.pixels.sandbox.plugins."
CODE = sorted(PLUGINS.rglob("*.py"))
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())

#: A layer may import what begins with one of these; the first layer that fits a file counts.
LAYERS = (
    ("module_utils/_core/", ("module_utils._core.",)),
    ("module_utils/_backend/base.py", ("module_utils._core.",)),
    ("module_utils/_backend/streams.py", ("module_utils._core.",)),
    (
        "module_utils/_backend/select.py",
        (
            "module_utils._core.",
            "module_utils._backend.",
            "module_utils._incus.backend",
            "module_utils._truenas.backend",
        ),
    ),
    ("module_utils/_incus/wire.py", ("module_utils._core.", "module_utils._incus.hardening")),
    ("module_utils/_incus/endpoint.py", ("module_utils._core.",)),
    ("module_utils/_incus/transport.py", ("module_utils._core.errors", "module_utils._incus.endpoint")),
    (
        "module_utils/_incus/",
        (
            "module_utils._core.",
            "module_utils._core",
            "module_utils._incus.",
            "module_utils._incus",
            "module_utils._backend.base",
            "module_utils._backend.streams",
        ),
    ),
    ("module_utils/_truenas/endpoint.py", ("module_utils._core.errors",)),
    ("module_utils/_truenas/transport.py", ("module_utils._core.errors", "module_utils._truenas.endpoint")),
    ("module_utils/_truenas/failure.py", ("module_utils._core.errors", "module_utils._truenas.endpoint")),
    ("module_utils/_truenas/rpc.py", ("module_utils._core.", "module_utils._truenas.")),
    ("module_utils/_truenas/wire.py", ("module_utils._core.",)),
    (
        "module_utils/_truenas/",
        (
            "module_utils._core.",
            "module_utils._core",
            "module_utils._truenas.",
            "module_utils._truenas",
            "module_utils._backend.base",
            "module_utils._backend.streams",
        ),
    ),
    (
        "module_utils/_resource/",
        ("module_utils._core.", "module_utils._core", "module_utils._backend.base", "module_utils._resource."),
    ),
    ("module_utils/_glue/", ("module_utils._core.", "module_utils._backend.", "module_utils._glue.")),
    (
        "modules/",
        ("module_utils._core.", "module_utils._backend.base", "module_utils._glue.", "module_utils._resource."),
    ),
    ("connection/", ("module_utils._core.", "module_utils._incus.backend", "plugin_utils.")),
    ("inventory/", ("module_utils.", "plugin_utils.")),
    ("lookup/", ("module_utils._core.", "plugin_utils.")),
    (
        "plugin_utils/",
        ("module_utils._core.", "module_utils._backend.", "module_utils._glue.", "module_utils._resource."),
    ),
    ("doc_fragments/", ()),
)
#: Where Ansible may be seen.
SEES_ANSIBLE = ("module_utils/_glue/", "modules/", "connection/", "inventory/", "lookup/", "plugin_utils/")
#: Where each library of others may be imported.
LIBRARIES = {
    "pylxd": {"module_utils/_incus/transport.py"},
    "requests": {"module_utils/_incus/transport.py"},
    "urllib3": {"module_utils/_incus/transport.py"},
    "websocket": {
        "module_utils/_incus/transport.py",
        "module_utils/_incus/execution.py",
        "module_utils/_truenas/transport.py",
    },
    "cryptography": {"module_utils/_core/identity.py"},
    "jmespath": {"module_utils/_glue/query.py"},
}


def relative(path: Path) -> str:
    """Return a path below plugins/ as the tables write it."""
    return path.relative_to(PLUGINS).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_layers_import_only_what_is_below_them(path: Path) -> None:
    allowed = next(names for layer, names in LAYERS if relative(path).startswith(layer))
    for name in imports(path):
        if name.startswith(OURS):
            assert name.removeprefix(OURS).startswith(allowed), f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_ansible_and_libraries_are_seen_at_their_edges_only(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        if top == "ansible":
            assert relative(path).startswith(SEES_ANSIBLE), f"{relative(path)} imports {name}"
        if top in LIBRARIES:
            assert relative(path) in LIBRARIES[top], f"{relative(path)} imports {name}"


def calls(attribute: str) -> list[str]:
    """Return the files in which an attribute of this name is used, one entry for each use."""
    return [
        relative(path)
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == attribute
    ]


def test_there_is_one_exit_and_one_test_of_check_mode() -> None:
    for attribute in ("exit_json", "fail_json", "check_mode"):
        assert calls(attribute) == ["module_utils/_glue/run.py"], attribute


def test_nobody_asks_which_backend_it_has() -> None:
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                assert "Backend" not in ast.unparse(node.args[1]), relative(path)


def test_the_action_group_has_every_module() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    assert runtime["action_groups"]["pixels"] == MODULES


def test_fragments_say_what_the_option_table_has() -> None:
    spec = connection_spec()
    modules = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    plugins = yaml.safe_load(ModuleDocFragment.PLUGIN)["options"]
    assert list(spec) == list(modules) == list(plugins)
    for option in CONNECTION_OPTIONS:
        assert modules[option.name]["type"] == plugins[option.name]["type"] == option.type
        assert f"E({option.env})" in " ".join(modules[option.name]["description"])
        assert plugins[option.name]["env"] == [{"name": option.env}]
        assert plugins[option.name]["vars"] == [{"name": f"ansible_pixels_{option.name}"}]
        assert modules[option.name].get("default") == plugins[option.name].get("default") == option.default


@pytest.mark.parametrize("role", ROLES)
def test_roles_specify_every_default_and_nothing_else(role: str) -> None:
    folder = ROOT / "roles" / role
    defaults: dict[str, Any] = yaml.safe_load((folder / "defaults/main.yml").read_text()) or {}
    entries = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]
    options: dict[str, dict[str, Any]] = {}
    for entry in entries.values():
        options.update(entry.get("options", {}))
    assert set(defaults) <= set(options)
    for name, option in options.items():
        assert name.startswith(f"{role}_")
        assert option["type"]
        assert option["description"]
        assert ("default" in option) == (name in defaults), name
        if "default" in option and "{{" not in str(defaults[name]):
            assert option["default"] == defaults[name], name


def tracked(suffixes: tuple[str, ...]) -> list[Path]:
    """Return files of the tree by their ends, without what tools left."""
    skipped = {".git", ".cache", ".ansible", "output"}
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file() and path.suffix in suffixes and not skipped & set(path.relative_to(ROOT).parts)
    ]


@pytest.mark.parametrize("path", tracked((".py", ".yml", ".sh")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_names_its_licence(path: Path) -> None:
    head = path.read_text()[:600]
    expected = "BSD-2-Clause" if "module_utils" in path.parts and "tests" not in path.parts else "GPL-3.0-or-later"
    assert re.search(rf"^# SPDX-License-Identifier: {expected}$", head, re.MULTILINE), path


@pytest.mark.parametrize("name", MODULES)
def test_examples_use_options_that_exist(name: str) -> None:
    scope: dict[str, Any] = {}
    for node in ast.parse((PLUGINS / "modules" / f"{name}.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            scope[ast.unparse(node.targets[0])] = node.value.value
    options = yaml.safe_load(scope["DOCUMENTATION"])["options"]
    known = {*options, *connection_spec()} | {alias for entry in options.values() for alias in entry.get("aliases", [])}
    used = list(_tasks(yaml.safe_load(scope["EXAMPLES"]), f"pixels.sandbox.{name}"))
    assert len(used) >= 2
    for task in used:
        assert set(task or {}) <= known


def _tasks(tasks: list[dict[str, Any]], module: str) -> Iterator[dict[str, Any]]:
    for task in tasks:
        if module in task:
            yield task[module]
        yield from _tasks(task.get("block", []), module)
