# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge of connection and inventory plugins: their options to a backend, our errors to theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.utils.path import unfrackpath
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import MissingDependency, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.options import CONNECTION_OPTIONS

if TYPE_CHECKING:
    from ansible.plugins import AnsiblePlugin


def connection_options(plugin: AnsiblePlugin) -> dict[str, Any]:
    """Return the connection options that a plugin was given; an empty one is one that was not."""
    options = {option.name: plugin.get_option(option.name) for option in CONNECTION_OPTIONS}
    # Ansible makes the working folder of an empty path
    nowhere = unfrackpath("")
    paths = {option.name for option in CONNECTION_OPTIONS if option.type == "path"}
    return {name: None if name in paths and value == nowhere else value for name, value in options.items()}


@contextmanager
def translated(error: type[AnsibleError], subject: str = "") -> Iterator[None]:
    """Raise our failures as an error of Ansible, with the subject in front."""
    try:
        yield
    except MissingDependency as exc:
        raise error(f"{subject}{exc}; install it where ansible runs") from exc
    except PixelsError as exc:
        raise error(f"{subject}{exc}") from exc
