# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""From options to a backend: the only file that knows which ones there are."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError


def backend_from(options: Mapping[str, object]) -> Backend:
    """Return the backend that the connection options name; nothing is sent yet.

    Raises ConfigError for an unknown backend or options that contradict each other.
    """
    name = options.get("backend") or "incus"
    if name == "incus":
        from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import incus_backend

        return incus_backend(options)
    if name == "truenas":
        from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.backend import truenas_backend

        return truenas_backend(options)
    raise ConfigError(f"backend {name!r} is not known: incus and truenas are")
