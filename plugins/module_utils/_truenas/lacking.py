# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What the API of TrueNAS has no place for: it is said, and nothing is done."""

# ruff: noqa: ARG002

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import Unsupported
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    GatewaySite,
    GatewaySpec,
    GatewayState,
    Instance,
    Refusal,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Rules

NO_GATEWAY = (
    "the API of TrueNAS filters no traffic and makes no networks, so there is no gateway: take enforcement guest, or a network that is a "
    "bridge behind a firewall of yours"
)


class Lacking(Backend):
    """The primitives of the interface that TrueNAS refuses."""

    def rename_instance(self, name: str, new_name: str, deadline: Deadline) -> None:
        """TrueNAS renames nothing."""
        raise Unsupported("TrueNAS cannot rename an instance")

    def gateway_state(self) -> GatewayState | None:
        """There is no gateway."""
        return None

    def check_egress_permitted(self, building: bool = False) -> None:
        """Nothing outside of a sandbox confines it here."""
        raise Unsupported(NO_GATEWAY)

    def gateway_site(self) -> GatewaySite | None:
        """There is no gateway."""
        return None

    def make_gateway(self, spec: GatewaySpec, deadline: Deadline) -> None:
        """There is no gateway."""
        raise Unsupported(NO_GATEWAY)

    def delete_gateway(self, deadline: Deadline) -> None:
        """There is no gateway."""
        raise Unsupported(NO_GATEWAY)

    def make_wire(self, name: str, deadline: Deadline) -> str:
        """There is no gateway."""
        raise Unsupported(NO_GATEWAY)

    def drop_wire(self, name: str, wire: str, deadline: Deadline) -> None:
        """There is no gateway."""
        raise Unsupported(NO_GATEWAY)

    def connect_wire(self, wire: str, rules: Rules, deadline: Deadline) -> None:
        """There is no gateway."""
        raise Unsupported(NO_GATEWAY)

    def network_off_wire(self, instance: Instance) -> str | None:
        """There are no wires."""
        return instance.network

    def refusals(self, wires: Sequence[str]) -> Mapping[str, tuple[Refusal, ...]]:
        """There are no wires."""
        return {}
