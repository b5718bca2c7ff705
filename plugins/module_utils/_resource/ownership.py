# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is ours to change, and how it is changed while others change it too."""

from __future__ import annotations

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import Foreign
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import SANDBOX, Instance


def refuse_foreign(instance: Instance) -> None:
    """Raise Foreign unless the instance is a sandbox of ours."""
    if instance.kind != SANDBOX:
        what = "was not made by this collection" if instance.kind is None else f"is a {instance.kind}, not a sandbox"
        raise Foreign(f"{instance.name}: the instance {instance.server_name} {what}; it is left alone")
