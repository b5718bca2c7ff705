# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Incus as a backend: the primitives of the interface over the client."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, BinaryIO

from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._core import accounts, names
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ApiError,
    AuthenticationFailed,
    ConfigError,
    Conflict,
    DeadlineExceeded,
    NotFound,
    OperationFailed,
    PixelsError,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    KEY_EGRESS,
    KEY_UNFINISHED,
    PROVISION_PREFIX,
    Capabilities,
    Checkpoint,
    CloneSource,
    Console,
    ExecRequest,
    ExecResult,
    FileInfo,
    GatewaySite,
    GatewaySpec,
    GatewayState,
    Image,
    ImageSource,
    Instance,
    InstanceChange,
    InstanceSpec,
    Offer,
    Refusal,
    RemoteSource,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.policy import Rules
from ansible_collections.pixels.sandbox.plugins.module_utils._incus import (
    confinement,
    console,
    execution,
    files,
    hardening,
    identity,
    shape,
    wire,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.gateway import Gateway
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import (
    DirectTransport,
    PylxdTransport,
    Transport,
)

_READ_TRIES = 5
#: Stays the same from the making of an instance to its end, through restores too.
_UUID = "volatile.uuid"
#: Keys that describe the disk.
_OF_DISK = wire.KEYS + PROVISION_PREFIX
#: Keys of the server itself that describe the disk.
_CAME_WITH_DISK = ("volatile.last_state.idmap", "volatile.base_image")
_FINGERPRINT = re.compile(r"[0-9a-f]{12,64}")

Record = dict[str, Any]


def incus_backend(options: Mapping[str, object], direct: bool = False) -> IncusBackend:
    """Return the backend that the options name; direct leaves pylxd out, for what must be quick."""
    endpoint = endpoint_from(options)
    return IncusBackend((DirectTransport if direct else PylxdTransport)(endpoint), endpoint.project)


class IncusBackend(Backend):
    """An Incus server, or one project of it."""

    def __init__(self, transport: Transport, project: str = "") -> None:
        self._client = Client(transport)
        self._project = project or "default"
        self._server_record: Record | None = None
        self._gateway = Gateway(self._client, self._project, self.execute)

    # -- what there is

    def capabilities(self) -> Capabilities:
        """Return what the server can do."""
        server = self._server()
        environment = server["environment"]
        resources = self._client.get("/1.0/resources")
        return Capabilities(
            backend="incus",
            server_version=environment["server_version"],
            virtual_machines="qemu" in environment["driver"],
            clustered=bool(environment["server_clustered"]),
            cores=int(resources["cpu"]["total"]),
        )

    def list_instances(self, addresses: bool = True) -> tuple[Instance, ...]:
        """Return the px- instances of the project, sorted by name."""
        for turn in range(_READ_TRIES):
            records = self._read("/1.0/instances", recursion="2" if addresses else "1")
            whole = [record for record in records if record["config"] is not None]
            if len(whole) == len(records) or turn == _READ_TRIES - 1:
                break
            # an instance that goes at this very moment is listed without its configuration
            Deadline(1).pause(0.1, "read again")
        if not records:
            # a project that does not exist is answered like an empty one
            self._check_project()
        ours = [record for record in whole if record["name"].startswith(names.PREFIX)]
        return tuple(self._instance(record) for record in sorted(ours, key=lambda record: str(record["name"])))

    def get_instance(self, name: str) -> Instance | None:
        """Return the instance called px-<name>, with its addresses."""
        try:
            record = self._read(self._path(name), recursion="1")
        except NotFound:
            self._check_project()
            return None
        return self._instance(record)

    def list_images(self) -> tuple[Image, ...]:
        """Return the images of the server's store."""
        try:
            records = self._client.get("/1.0/images", recursion="1")
        except NotFound:
            self._check_project()
            raise
        return tuple(wire.image_from_wire(record) for record in records)

    def is_busy(self, name: str) -> bool:
        """Say whether an operation on the instance is running."""
        groups = self._client.get("/1.0/operations", recursion="1")
        wanted = names.server_name(name)
        for operation in (operation for group in groups.values() for operation in group):
            for paths in (operation.get("resources") or {}).values():
                if operation["status_code"] < 200 and any(
                    path.split("?")[0].split("/")[3:4] == [wanted] for path in paths
                ):
                    return True
        return False

    # -- making and changing

    def check_origin(self, origin: ImageSource | CloneSource) -> None:
        """Raise ConfigError, with what there is, where the image or the checkpoint is missing."""
        if isinstance(origin, CloneSource):
            if origin.label is None:
                return
            labels = [checkpoint.label for checkpoint in self.list_checkpoints(origin.instance)]
            if origin.label not in labels:
                there = ", ".join(labels) or "none"
                raise ConfigError(f"clone_from: {origin.instance} has no checkpoint {origin.label}; it has: {there}")
        elif not origin.server:
            images = self.list_images()
            begin = origin.name if _FINGERPRINT.fullmatch(origin.name) else "no fingerprint"
            if not any(origin.name in image.aliases or image.fingerprint.startswith(begin) for image in images):
                there = ", ".join(sorted(alias for image in images for alias in image.aliases)) or "none"
                raise ConfigError(f"image: the server has no image {origin.name}; its aliases are: {there}")

    def create_instance(self, spec: InstanceSpec, deadline: Deadline) -> None:
        """Make a stopped sandbox from an image or as a clone; see the interface."""
        wanted = shape.new_shape(self._client, spec)
        try:
            self._create_isolated(spec, wanted, deadline)
            if isinstance(spec.origin, CloneSource):
                identity.give_identity(self._client, names.server_name(spec.name))
            self._finish(spec, wanted, deadline)
        except DeadlineExceeded as exc:
            left = f"what there is of {names.server_name(spec.name)} carries {wire.KEYS}{KEY_UNFINISHED}"
            raise DeadlineExceeded(f"{exc}; {left}, and the next run makes it again") from exc
        except ApiError as exc:
            if not isinstance(exc, Conflict):
                self._discard(spec)
            raise

    def offer_instance(self, name: str) -> Offer:
        """Let another server copy a stopped instance, and return what that server needs."""
        endpoint = self._client.transport.endpoint
        if not endpoint.host:
            raise ConfigError("no other server reaches a socket: incus_remote says where this one listens")
        record, _etag = self._fetch(name)
        # what the server says of itself comes over a connection that was verified
        certificate = endpoint.pinned_pem or str(self._server()["environment"]["certificate"])
        body = {"migration": True, "live": False, "instance_only": True}
        begun = self._client.request("POST", self._path(name), json=body).json()["metadata"]
        return Offer(
            f"{endpoint.url}/1.0/operations/{begun['id']}", certificate, dict(begun["metadata"]), record["architecture"]
        )

    def update_instance(self, instance: Instance, change: InstanceChange, deadline: Deadline) -> None:
        """Change the instance if it still is what was read."""
        record, etag = self._fetch(instance.name)
        if change.wire == "" and change.network is None:
            given, network = shape.network_off_wire(self._client, record["profiles"])
            change = change if given else replace(change, network=network)
        for _turn in range(_READ_TRIES):
            if wire.revision(record) != instance.revision:
                raise Conflict(
                    f"{instance.name} was changed by somebody else meanwhile", 412, "PUT", self._path(instance.name)
                )
            try:
                changed = shape.confined_shape(self._client, record, shape.changed_shape(record, change))
                self._put(instance.name, changed, etag, deadline)
                return
            except Conflict:
                # a restart changes the ETag too: only a change of what we manage is a conflict
                record, etag = self._fetch(instance.name)
        raise Conflict(f"{instance.name} keeps being changed by somebody else", 412, "PUT", self._path(instance.name))

    def rename_instance(self, name: str, new_name: str, deadline: Deadline) -> None:
        """Give a stopped instance another name."""
        path, body = self._path(name), {"name": names.server_name(new_name)}
        try:
            self._client.run("POST", path, body, deadline, f"rename {name} to {new_name}")
        except ApiError as exc:
            # neither a name that is taken nor an instance that is gone has a number of its own among the answers
            if self._client.find(path) is None:
                raise NotFound(f"{name} is not there", 404, "POST", path) from exc
            if self._client.find(self._path(new_name)) is not None:
                raise Conflict(f"the name {new_name} is taken", 409, "POST", path) from exc
            raise

    def set_power(self, name: str, action: str, deadline: Deadline, force: bool = False) -> None:
        """Do start, stop, restart, freeze or unfreeze."""
        if action in ("start", "restart"):
            self._finish_restore(name, deadline)
        body = {"action": action, "timeout": max(1, int(deadline.left())), "force": force, "stateful": False}
        self._client.run("PUT", f"{self._path(name)}/state", body, deadline, f"{action} {name}")

    def delete_instance(self, name: str, deadline: Deadline) -> None:
        """Delete a stopped instance with its checkpoints."""
        self._client.run("DELETE", self._path(name), None, deadline, f"delete {name}")
        self._drop_journal(name)

    # -- checkpoints

    def list_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return the checkpoints, oldest first."""
        record, _etag = self._fetch(name)
        keys = {key.removeprefix(wire.KEYS): value for key, value in record["config"].items()}
        protected = wire.protected_labels(keys)
        snapshots = self._read(f"{self._path(name)}/snapshots", recursion="1")
        ordered = sorted(snapshots, key=lambda snapshot: str(snapshot["created_at"]))
        return tuple(wire.checkpoint_from_wire(snapshot, protected) for snapshot in ordered)

    def create_checkpoint(self, name: str, label: str, expires_at: datetime | None, deadline: Deadline) -> None:
        """Take a checkpoint of the disk."""
        # left out, the time of the key snapshots.expiry would count, and the server prune what is to stay
        expires = wire.time_to_wire(expires_at) if expires_at else wire.NEVER
        body: Record = {"name": label, "stateful": False, "expires_at": expires}
        path = f"{self._path(name)}/snapshots"
        try:
            self._client.run("POST", path, body, deadline, f"checkpoint {label} of {name}")
        except OperationFailed as exc:
            # a label that is taken has no number of its own among the answers
            if label in {checkpoint.label for checkpoint in self.list_checkpoints(name)}:
                raise Conflict(f"the label {label} is taken", 409, "POST", path) from exc
            raise

    def delete_checkpoint(self, name: str, label: str, deadline: Deadline) -> None:
        """Delete a checkpoint."""
        path = f"{self._path(name)}/snapshots/{label}"
        self._client.run("DELETE", path, None, deadline, f"delete checkpoint {label} of {name}")

    def is_whole(self, instance: Instance, label: str) -> bool:
        """Say whether a checkpoint has a disk: a server that was killed while it made one can leave the record alone."""
        kind = wire.VIRTUAL_MACHINE if instance.type == "vm" else "container"
        path = f"/1.0/storage-pools/{instance.pool}/volumes/{kind}/{instance.server_name}/snapshots/{label}"
        return self._client.find(path) is not None

    def restore_checkpoint(self, instance: Instance, label: str, deadline: Deadline) -> None:
        """Put the disk back and keep everything else.

        The server turns keys, limits and devices back too. What they are now is first written to a profile that
        no instance uses, since a profile is made at once and outlives a restore; a run that is killed in between is finished
        by the next start or restore, before the sandbox can run with what it had long ago.
        """
        name = instance.name
        record, etag = self._fetch(name)
        left = self._journal(name)
        if not _is_journal_of(record, left):
            if left is not None:
                self._drop_journal(name)
            journal = {field: record[field] for field in ("config", "devices", "profiles", "description")}
            body = {
                "name": self._journal_name(name),
                "description": f"What {instance.server_name} gets back after a restore",
                "config": {"user.pixels.journal": json.dumps(journal)},
            }
            self._client.request("POST", "/1.0/profiles", json=body)
        try:
            self._client.run("PUT", self._path(name), {"restore": label}, deadline, f"restore {label} of {name}", etag)
        finally:
            # also after a failure: the server may have turned the keys back and failed at the disk
            self._finish_restore(name, deadline.restarted())

    def refill_instance(self, name: str, source: str, deadline: Deadline) -> None:
        """Give a stopped instance the disk of another one."""
        origin, _etag = self._fetch(source)
        server_name = names.server_name(name)
        copied = {"type": "copy", "source": names.server_name(source), "instance_only": True, "refresh": True}
        body = {"name": server_name, "source": copied}
        self._client.run("POST", "/1.0/instances", body, deadline, f"refill {name}")
        identity.give_identity(self._client, server_name)
        # whose ids the files have on the disk, and what image it began as, came with it
        record, etag = self._fetch(name)
        came = {key: origin["config"][key] for key in _CAME_WITH_DISK if key in origin["config"]}
        left = {key: value for key, value in record["config"].items() if key not in _CAME_WITH_DISK}
        self._put(name, {**record, "config": {**left, **came}}, etag, deadline)

    def lost_by_restore(self, instance: Instance, label: str) -> tuple[str, ...]:
        """Return the labels that the pool's driver would delete."""
        if self._client.get(f"/1.0/storage-pools/{instance.pool}")["driver"] != "zfs":
            return ()
        labels = [checkpoint.label for checkpoint in self.list_checkpoints(instance.name)]
        return tuple(labels[labels.index(label) + 1 :]) if label in labels else ()

    # -- inside

    def execute(self, name: str, request: ExecRequest, deadline: Deadline) -> ExecResult:
        """Run a command and wait for its end."""
        account = self.account(name, request.user)
        env = {**account.environment, **request.env}
        complete = replace(request, env=env, cwd=request.cwd or account.home)
        return execution.execute(self._client, names.server_name(name), complete, (account.uid, account.gid), deadline)

    def console(self, name: str, command: Sequence[str]) -> Console:
        """Return what a person types to run a command on a terminal in the sandbox."""
        endpoint = self._client.transport.endpoint
        return Console(console.enter(endpoint, names.server_name(name), command), tuple(console.set_up(endpoint)))

    def account(self, name: str, user: str) -> accounts.Account:
        """Return an account of the guest; ConfigError when there is none of that name."""
        if user in ("root", "0"):
            return accounts.ROOT
        try:
            passwd = files.small_file(self._client, names.server_name(name), accounts.PASSWD)
        except NotFound as exc:
            if self._client.find(self._path(name)) is None:
                raise
            raise ConfigError(f"user {user!r}: {name} has no {accounts.PASSWD}") from exc
        account = accounts.find_account(passwd.decode("utf-8", "replace"), user)
        if account is None:
            raise ConfigError(f"user {user!r} does not exist in {name}")
        return account

    def has_file(self, name: str, path: str) -> bool:
        """Say whether there is anything at the path in the sandbox."""
        return files.has_file(self._client, names.server_name(name), path)

    def read_file(self, name: str, path: str, target: BinaryIO) -> FileInfo:
        """Copy a file out of the sandbox."""
        return files.read_file(self._client, names.server_name(name), path, target)

    def write_file(
        self, name: str, path: str, source: BinaryIO, mode: int | None = None, uid: int = 0, gid: int = 0
    ) -> None:
        """Copy an open binary file into the sandbox."""
        files.write_file(self._client, names.server_name(name), path, source, mode, uid, gid)

    def delete_file(self, name: str, path: str) -> None:
        """Delete a file in the sandbox."""
        files.delete_file(self._client, names.server_name(name), path)

    # -- egress

    def gateway_state(self) -> GatewayState | None:
        """Return what the gateway enforces."""
        return self._gateway.state()

    def check_egress_permitted(self, building: bool = False) -> None:
        """Raise ConfigError where the project, or the rights of this client, do not allow what egress needs."""
        self._gateway.check_permitted(building)

    def gateway_site(self) -> GatewaySite | None:
        """Return the gateway's place on the server."""
        return self._gateway.site()

    def make_gateway(self, spec: GatewaySpec, deadline: Deadline) -> None:
        """Make the gateway's network and its instance."""
        self.check_origin(spec.image)
        self._gateway.make(spec, self._image_source(spec.image), deadline)

    def delete_gateway(self, deadline: Deadline) -> None:
        """Delete the gateway and its network."""
        self._gateway.delete(deadline)

    def make_wire(self, name: str, deadline: Deadline, now: str | None = None) -> str:
        """Return the link of the sandbox of this name, a new one where it has none that is as it was made."""
        return self._gateway.make_wire(name, deadline, now)

    def drop_wire(self, name: str, wire: str, deadline: Deadline) -> None:
        """Remove a link of the sandbox, with its leg."""
        self._gateway.drop_wire(name, wire, deadline)

    def connect_wire(self, wire: str, rules: Rules, deadline: Deadline) -> None:
        """Have the gateway enforce these rules on a wire."""
        self._gateway.connect(wire, rules, deadline)

    def network_off_wire(self, instance: Instance) -> str | None:
        """Return the network that a sandbox gets which leaves its wire."""
        return shape.network_off_wire(self._client, instance.profiles)[1]

    def wire_address(self, wire: str) -> str | None:
        """Return the MAC that the server's bridge has."""
        found = self._client.find(f"/1.0/networks/{wire}/state")
        return found[0].get("hwaddr") if found else None

    def refusals(self, wires: Sequence[str]) -> Mapping[str, tuple[Refusal, ...]]:
        """Return what was refused on each wire that has a leg."""
        return self._gateway.refusals(wires)

    def close(self) -> None:
        """Close what is open."""
        self._client.transport.close()

    # -- private: reading

    @staticmethod
    def _path(name: str) -> str:
        return f"/1.0/instances/{names.server_name(name)}"

    def _server(self) -> Record:
        if self._server_record is None:
            record = dict(self._client.get("/1.0"))
            if record.get("auth") != "trusted":
                # the one request that a stranger may make: it is answered in part
                raise AuthenticationFailed(
                    "the server does not trust this client: incus_client_cert is not added there"
                )
            self._server_record = record
        return self._server_record

    def _check_project(self) -> None:
        """Raise ConfigError when nothing was found because the project itself is not there."""
        if self._project != "default" and self._client.find(f"/1.0/projects/{self._project}") is None:
            raise ConfigError(f"incus_project: there is no project {self._project}")

    def _instance(self, record: Record) -> Instance:
        found = wire.instance_from_wire(record, self._project)
        hangs_on = confinement.wire_of(record["devices"])
        if hangs_on is None and KEY_EGRESS not in found.keys:
            return found
        expanded = (
            record.get("expanded_config") or record["config"],
            record.get("expanded_devices") or record["devices"],
        )
        return replace(found, wire=hangs_on, ways_out=confinement.ways_out(hangs_on, *expanded))

    def _read(self, path: str, **params: str) -> Any:
        """Read records with their state; the server fails with 500 when a guest comes or goes at that very moment."""
        for _turn in range(_READ_TRIES):
            try:
                return self._client.get(path, **params)
            except NotFound:
                raise
            except ApiError as exc:
                if exc.code != 500:
                    raise
                Deadline(1).pause(0.1, "read again")
        return self._client.get(path, **params)

    def _fetch(self, name: str) -> tuple[Record, str]:
        found = self._client.find(self._path(name))
        if found is None:
            raise NotFound(f"{name} is not there", 404, "GET", self._path(name))
        return dict(found[0]), found[1]

    # -- private: creating

    def _create_isolated(self, spec: InstanceSpec, wanted: Record, deadline: Deadline) -> None:
        """Create with ids of its own, and with shared ones only where the server twice cannot."""
        config = wanted["config"]
        for _turn in range(2):
            try:
                self._create(spec, wanted, deadline)
                return
            except OperationFailed as exc:
                self._discard(spec)
                if config.get(hardening.ISOLATED) != "true":
                    raise
                failure = exc
        # No number tells a server without room for ids from one that fails for another reason: that one fails again.
        config.update({hardening.ISOLATED: "false", wire.SHARED_IDS: "true"})
        try:
            self._create(spec, wanted, deadline)
        except OperationFailed:
            raise failure from None

    def _create(self, spec: InstanceSpec, wanted: Record, deadline: Deadline) -> None:
        body: Record = {
            "name": names.server_name(spec.name),
            "type": wire.VIRTUAL_MACHINE if spec.type == "vm" else "container",
            **self._source(spec.origin),
            **wanted,
        }
        params = {"target": spec.target} if spec.target else {}
        try:
            self._client.run("POST", "/1.0/instances", body, deadline, f"create {spec.name}", params=params)
        except ApiError as exc:
            # a name that is taken has no number of its own among the answers
            there = self.get_instance(spec.name)
            if there and there.keys.get(KEY_UNFINISHED) != spec.keys[KEY_UNFINISHED]:
                raise Conflict(f"the name {spec.name} is taken", 409, exc.method, exc.path) from exc
            # where the image or the checkpoint is missing, that is the better answer
            if isinstance(spec.origin, (ImageSource, CloneSource)):
                self.check_origin(spec.origin)
            raise

    def _source(self, origin: ImageSource | CloneSource | RemoteSource | None) -> Record:
        """Return what a request to create says of the origin."""
        if origin is None:
            return {"source": {"type": "none"}}
        if isinstance(origin, RemoteSource):
            offer = origin.offer()
            given = {
                "type": "migration",
                "mode": "pull",
                "operation": offer.address,
                "certificate": offer.certificate,
                "secrets": dict(offer.secrets),
                "instance_only": True,
            }
            return {"source": given, "architecture": offer.architecture}
        if isinstance(origin, CloneSource):
            name = names.server_name(origin.instance)
            source = f"{name}/{origin.label}" if origin.label else name
            return {"source": {"type": "copy", "source": source, "instance_only": True}}
        return {"source": self._image_source(origin)}

    @staticmethod
    def _image_source(origin: ImageSource) -> Record:
        if origin.server:
            return {
                "type": "image",
                "mode": "pull",
                "server": origin.server,
                "protocol": origin.protocol,
                "alias": origin.name,
            }
        # the API does not look for a fingerprint among the aliases
        field = "fingerprint" if _FINGERPRINT.fullmatch(origin.name) else "alias"
        return {"type": "image", field: origin.name}

    def _finish(self, spec: InstanceSpec, wanted: Record, deadline: Deadline) -> None:
        """Leave just what was wanted: a copy brings keys of its source along, and all carry the mark of being unfinished."""
        mark = f"{wire.KEYS}{KEY_UNFINISHED}"
        kept = ("volatile.", "image.", _OF_DISK)
        for turn in range(_READ_TRIES):
            record, etag = self._fetch(spec.name)
            if record["config"].get(mark) != wanted["config"][mark]:
                raise Conflict(
                    f"another run took {spec.name} for one that was broken off", 409, "PUT", self._path(spec.name)
                )
            inherited = {key: value for key, value in record["config"].items() if key.startswith(kept)}
            config = {**inherited, **wanted["config"]}
            del config[mark]
            try:
                self._put(spec.name, {**record, **wanted, "config": config}, etag, deadline)
            except Conflict:
                # who makes it may be saying meanwhile that it still does
                if turn == _READ_TRIES - 1:
                    raise
            else:
                return

    def _discard(self, spec: InstanceSpec) -> None:
        """Remove what a failed creation left, if it is this very creation's."""
        with contextlib.suppress(PixelsError):
            found = self.get_instance(spec.name)
            if found and found.keys.get(KEY_UNFINISHED) == spec.keys[KEY_UNFINISHED]:
                self.delete_instance(spec.name, Deadline(60))

    # -- private: changing

    def _put(self, name: str, record: Record, etag: str, deadline: Deadline) -> None:
        fields = ("architecture", "config", "devices", "ephemeral", "profiles", "stateful", "description")
        body = {field: record[field] for field in fields if field in record}
        self._client.run("PUT", self._path(name), body, deadline, f"update {name}", etag)

    # -- private: the journal of a restore

    def _journal_name(self, name: str) -> str:
        # projects without profiles of their own share those of the default project
        owner = "" if self._project == "default" else f"-{self._project}"
        return f"{names.server_name(name)}-restore{owner}"

    def _journal(self, name: str) -> Record | None:
        found = self._client.find(f"/1.0/profiles/{self._journal_name(name)}")
        text = found[0]["config"].get("user.pixels.journal") if found else None
        return dict(json.loads(text)) if text else None

    def _finish_restore(self, name: str, deadline: Deadline) -> None:
        """Give a sandbox back what a restore turned back, if there is a restore that has not ended."""
        journal = self._journal(name)
        if journal is None:
            return
        record, etag = self._fetch(name)
        if not _is_journal_of(record, journal):
            self._drop_journal(name)
            return
        # the MAC belongs to what the sandbox is now, other volatile keys and those of the disk to the disk that it has now
        turned_back = ("volatile.", _OF_DISK)
        restored = {key: value for key, value in record["config"].items() if key.startswith(turned_back)}
        kept = {
            key: value
            for key, value in journal["config"].items()
            if key.endswith(".hwaddr") or not key.startswith(turned_back)
        }
        self._put(name, {**record, **journal, "config": {**restored, **kept}}, etag, deadline)
        # a NIC that was of another type then has lost its MAC by that, and the lease on its link belongs to that one
        record, etag = self._fetch(name)
        macs = {key: value for key, value in kept.items() if key.endswith(".hwaddr")}
        if not macs.items() <= record["config"].items():
            self._put(name, {**record, "config": {**record["config"], **macs}}, etag, deadline)
        self._drop_journal(name)

    def _drop_journal(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            self._client.request("DELETE", f"/1.0/profiles/{self._journal_name(name)}")


def _is_journal_of(record: Record, journal: Record | None) -> bool:
    """Say whether a journal was written for this very instance, and not for one of the same name before it."""
    return journal is not None and journal["config"].get(_UUID) == record["config"].get(_UUID)
