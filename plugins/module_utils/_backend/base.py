# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The one interface between planners and what runs the sandboxes: primitives over frozen data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import BinaryIO

from ansible_collections.pixels.sandbox.plugins.module_utils._core.accounts import Account
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    Capabilities,
    Checkpoint,
    CloneSource,
    Console,
    ExecRequest,
    ExecResult,
    Features,
    FileInfo,
    GatewaySite,
    GatewaySpec,
    GatewayState,
    Image,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Refusal,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Rules


class Backend(ABC):
    """A server that runs sandboxes. Names are bare; safe to use from many threads at once.

    Reads return None for what is not there; writes raise NotFound. Errors are PixelsError only.
    """

    #: What this kind of server has: a planner looks here before it writes.
    features = Features()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should be told of the way to the server; nothing is asked of it."""
        return ()

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Return what the server can do."""

    @abstractmethod
    def list_instances(self, addresses: bool = True) -> tuple[Instance, ...]:
        """Return every instance of the project, ours and foreign, sorted by name, in one call.

        addresses says whether the caller needs them: they cost the server some 10 ms a running guest.
        """

    @abstractmethod
    def get_instance(self, name: str) -> Instance | None:
        """Return the instance called px-<name>, with its addresses."""

    @abstractmethod
    def is_busy(self, name: str) -> bool:
        """Say whether the server is working at the instance at this moment."""

    @abstractmethod
    def check_origin(self, origin: ImageSource | CloneSource) -> None:
        """Raise ConfigError, with what there is, where an image of the server's own store, or a checkpoint, is missing."""

    @abstractmethod
    def create_instance(self, spec: InstanceSpec, deadline: Deadline) -> None:
        """Make a stopped sandbox from an image or as a clone.

        A clone gets an identity of its own: MAC, machine-id, host name, SSH host keys. The instance carries
        the key KEY_UNFINISHED until all of this is done, so that a broken creation is told from a whole sandbox.
        Raises Conflict when the name is taken, ConfigError when image, pool, network or source do not exist.
        """

    @abstractmethod
    def update_instance(self, instance: Instance, change: InstanceChange, deadline: Deadline) -> None:
        """Change the instance if it still is what was read (revision); Conflict otherwise."""

    @abstractmethod
    def rename_instance(self, name: str, new_name: str, deadline: Deadline) -> None:
        """Give a stopped instance another name; Conflict when that is taken, NotFound when the instance is not there."""

    @abstractmethod
    def set_power(self, name: str, action: str, deadline: Deadline, force: bool = False) -> None:
        """Do C(action): start, stop, restart, freeze or unfreeze. A stop without force is a shutdown of the guest.

        Returns when the server says it is done. Raises OperationFailed, or DeadlineExceeded for a guest that does not stop.
        """

    @abstractmethod
    def delete_instance(self, name: str, deadline: Deadline) -> None:
        """Delete a stopped instance with its checkpoints; NotFound when it is gone."""

    @abstractmethod
    def list_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return the checkpoints, oldest first; NotFound when the instance is not there."""

    @abstractmethod
    def create_checkpoint(self, name: str, label: str, expires_at: datetime | None, deadline: Deadline) -> None:
        """Take a checkpoint of the disk; Conflict when the label is taken."""

    @abstractmethod
    def delete_checkpoint(self, name: str, label: str, deadline: Deadline) -> None:
        """Delete a checkpoint; NotFound when it is gone."""

    @abstractmethod
    def restore_checkpoint(self, instance: Instance, label: str, deadline: Deadline) -> None:
        """Put the disk of a stopped sandbox back; keys, limits, devices and hardening keep their present values.

        A restore that was broken off is finished by the next call for the same sandbox.
        """

    @abstractmethod
    def is_whole(self, instance: Instance, label: str) -> bool:
        """Say whether a checkpoint that is listed has its disk: a server killed while making it can leave it hollow."""

    @abstractmethod
    def lost_by_restore(self, instance: Instance, label: str) -> tuple[str, ...]:
        """Return the labels that the pool's driver would delete when it restores C(label)."""

    @abstractmethod
    def list_images(self) -> tuple[Image, ...]:
        """Return the images of the server's own store."""

    @abstractmethod
    def execute(self, name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        """Run a command and wait for its end; when the deadline is over it and what it started are killed."""

    @abstractmethod
    def console(self, name: str, command: Sequence[str]) -> Console:
        """Return what a person types to run a command on a terminal in the sandbox; nothing is asked of the server."""

    @abstractmethod
    def account(self, name: str, user: str) -> Account:
        """Return an account of the guest by name or number; ConfigError when there is none."""

    @abstractmethod
    def has_file(self, name: str, path: str) -> bool:
        """Say whether there is anything at the path in the sandbox."""

    @abstractmethod
    def read_file(self, name: str, path: str, target: BinaryIO) -> FileInfo:
        """Copy a file out of the sandbox into an open binary file; NotFound when it is not there."""

    @abstractmethod
    def write_file(
        self, name: str, path: str, source: BinaryIO, mode: int | None = None, uid: int = 0, gid: int = 0
    ) -> None:
        """Copy an open binary file into the sandbox, whole or not at all as far as the server can."""

    @abstractmethod
    def delete_file(self, name: str, path: str) -> None:
        """Delete a file in the sandbox; a file that is not there is success."""

    # -- egress

    @abstractmethod
    def gateway_state(self) -> GatewayState | None:
        """Return what the gateway enforces; None where there is no gateway."""

    @abstractmethod
    def check_egress_permitted(self, building: bool = False) -> None:
        """Raise ConfigError, which names all that is missing, where this client may not confine sandboxes, or build their gateway."""

    @abstractmethod
    def gateway_site(self) -> GatewaySite | None:
        """Return the gateway's place on the server; None where there is no gateway of ours."""

    @abstractmethod
    def make_gateway(self, spec: GatewaySpec, deadline: Deadline) -> None:
        """Make the gateway's network and its instance, stopped, as far as they are not there.

        Raises ConfigError where the range of the legs overlaps with a network of the server, Foreign for an instance of its name that is not ours.
        """

    @abstractmethod
    def delete_gateway(self, deadline: Deadline) -> None:
        """Delete the gateway and its network; ConfigError while there are wires of sandboxes."""

    @abstractmethod
    def make_wire(self, name: str, deadline: Deadline) -> str:
        """Make a link for the sandbox of this name, which nothing hangs on yet, and return what it is called."""

    @abstractmethod
    def drop_wire(self, name: str, wire: str, deadline: Deadline) -> None:
        """Remove a link of the sandbox, with its leg; one that is gone is success."""

    @abstractmethod
    def connect_wire(self, wire: str, rules: Rules, deadline: Deadline) -> None:
        """Have the gateway enforce these rules on a wire, and read back that it does.

        Wires of many sandboxes at once are connected together. Raises ConfigError where there is no gateway.
        """

    @abstractmethod
    def network_off_wire(self, instance: Instance) -> str | None:
        """Return the network that a sandbox gets which leaves its wire."""

    @abstractmethod
    def refusals(self, wires: Sequence[str]) -> Mapping[str, tuple[Refusal, ...]]:
        """Return what was refused on each wire that has a leg, the newest first."""

    def get_instances(self, names: Sequence[str], addresses: bool = True) -> Mapping[str, Instance]:
        """Return the instances of these bare names that exist: one call however many there are."""
        if len(names) == 1:
            found = self.get_instance(names[0])
            return {found.name: found} if found else {}
        wanted = set(names)
        return {found.name: found for found in self.list_instances(addresses) if found.name in wanted}

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""
