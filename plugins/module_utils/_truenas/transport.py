# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Messages to and from one TrueNAS, over a websocket on verified TLS; and the files it hands out over HTTPS."""

from __future__ import annotations

from ansible_collections.pixels.sandbox.plugins.module_utils._truenas.endpoint import Endpoint


class Transport:
    """Opens connections to one server; what it opens belongs to the thread that asked for it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def download(self, target: str, most: int, timeout: float) -> bytes:
        """Return what the server hands out at a path with its query; ConnectionFailed for more than C(most) bytes."""
        raise NotImplementedError
