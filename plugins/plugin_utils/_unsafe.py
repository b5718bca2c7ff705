# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strings of a server are data, never templates."""

from __future__ import annotations

from typing import Any

from ansible.utils.unsafe_proxy import wrap_var


def unsafe(value: Any) -> Any:
    """Return the value with every string in it, keys of mappings too, marked as never to be templated."""
    if isinstance(value, dict):
        return {wrap_var(key): unsafe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [unsafe(item) for item in value]
    return wrap_var(value)
