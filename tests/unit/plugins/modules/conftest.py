# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules, whole, over a server in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.pixels.sandbox.plugins.module_utils._glue import run as glue
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend
from support.fake_incus import FakeIncus


@pytest.fixture
def server() -> FakeIncus:
    """Return a server with a pool, a network and an image."""
    return FakeIncus()


@pytest.fixture
def run(
    server: FakeIncus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a module with these options and returns its result."""
    monkeypatch.setattr(glue, "backend_from", lambda options: IncusBackend(server.transport()))
    # later versions of Ansible ask for it, earlier ones do not know it
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)

    def run_module(module: ModuleType, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {**options, "_ansible_check_mode": check_mode}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        server.requests.clear()
        with pytest.raises(SystemExit):
            module.main()
        return dict(json.loads(capsys.readouterr().out))

    return run_module
