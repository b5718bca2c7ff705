# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""JMESPath for the option query; the one place that needs jmespath."""

from __future__ import annotations

import traceback
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError, MissingDependency


def apply_query(query: str, data: object) -> Any:
    """Return what a JMESPath expression makes of the data; ConfigError for a bad expression."""
    try:
        import jmespath
    except ImportError as exc:
        raise MissingDependency("jmespath", traceback.format_exc()) from exc
    try:
        return jmespath.search(query, data)
    except jmespath.exceptions.JMESPathError as exc:
        raise ConfigError(f"query {query!r} cannot be applied: {exc}") from exc
