# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What backends and planners talk about: frozen data, the same for every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

#: Values of Instance.kind, the mark of ownership (see docs of addressing).
SANDBOX = "sandbox"
GATEWAY = "gateway"
BASE = "base"
BUILD = "build"
#: The name of the instance through which confined sandboxes reach what their policies name.
GATEWAY_NAME = "gateway"
NO_GATEWAY = "there is no gateway on this server, or in this project of it: the role pixels.sandbox.gateway builds one"

#: Instance.wire of a sandbox without any network.
NO_WIRE = "none"

#: Names of our keys, as the planners use them; a backend stores them in its own way.
KEY_KIND = "kind"
KEY_OWNER = "owner"
KEY_EXPIRES = "expires"
KEY_TTL = "ttl"
KEY_HARDENING = "hardening"
#: The image as the user wrote it, and what a clone was copied from as C(name) or C(name:label).
KEY_IMAGE = "image"
KEY_SOURCE = "source"
#: The base that a clone comes from or a build belongs to, the fingerprint of that, and the name of the very build.
KEY_BASE = "base"
KEY_LINEAGE = "lineage"
KEY_BUILD = "build"
#: Its value is the time at which the creation began, a slash, and a random word that no other creation has.
KEY_UNFINISHED = "unfinished"
KEY_PROTECTED = "protected"
#: The policy that is wanted, in its canonical form.
KEY_EGRESS = "egress"
LABEL_PREFIX = "label."
#: How far the provisioning is. It describes the disk, and so goes where the disk goes: with a clone, and back with a restore.
PROVISION_PREFIX = "provision."

#: Power states. A backend reports any other word of its server in lower case.
RUNNING = "running"
STOPPED = "stopped"
FROZEN = "frozen"


@dataclass(frozen=True)
class Mount:
    """A folder of the server that is seen inside a sandbox."""

    source: str
    path: str
    readonly: bool = True


@dataclass(frozen=True)
class Published:
    """A port of the server that leads to one in a sandbox; address is the server's, protocol tcp or udp."""

    address: str
    port: int
    guest_port: int
    protocol: str = "tcp"

    @property
    def place(self) -> str:
        """Address and port of the server."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """As users write it, in its one canonical form."""
        return f"{self.place}:{self.guest_port}" + ("/udp" if self.protocol == "udp" else "")


@dataclass(frozen=True)
class Limits:
    """Limits of a sandbox; None is not given in a wish, and unlimited in a fact.

    cpu counts processors, memory and disk are bytes, processes counts tasks.
    """

    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class Provision:
    """How far the provisioning of a sandbox is.

    status is one of PROVISION_STATUSES. step is what is being done, or what failed. definition is a fingerprint of what
    was asked for. since is the time of the last change, as keys write it. The last three are None where nobody gave them.
    """

    status: str = "none"
    step: str | None = None
    definition: str | None = None
    since: str | None = None


PROVISION_STATUSES = ("none", "provisioning", "ready", "failed")


@dataclass(frozen=True)
class Ssh:
    """How root of a sandbox is reached over SSH.

    host_key is the one public key that it may show, as C(TYPE BASE64); it is known under alias, wherever its address leads.
    key_file is the path of the private key on the controller.
    """

    address: str
    alias: str
    host_key: str
    key_file: str
    user: str = "root"

    @property
    def options(self) -> tuple[str, ...]:
        """The options of ssh that accept this very host, no other key of ours, and nothing that a file says."""
        settings = (
            f"HostKeyAlias={self.alias}",
            # the pinned key goes with the command: there is no file to keep, to race for or to forget to clean
            f"KnownHostsCommand=/bin/echo {self.alias} {self.host_key}",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            f"HostKeyAlgorithms={self.host_key.split(' ')[0]}",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "IdentitiesOnly=yes",
            "PasswordAuthentication=no",
            "KbdInteractiveAuthentication=no",
            "ForwardAgent=no",
            "ServerAliveInterval=15",
        )
        return tuple(word for setting in settings for word in ("-o", setting))


@dataclass(frozen=True)
class Instance:
    """An instance as the server has it now.

    name is bare; kind is None for an instance that is not ours. keys holds our own keys without their
    prefix. hardening is what is in force by the configuration: the asked level, or "custom" when the keys of that level do not hold.
    image_fingerprint is that of the image which its disk began as, and used_at when it was started for the last time.
    wire is the link to the gateway that a confined sandbox hangs on, and ways_out is what in its configuration leads around it.
    restart_required says that a running instance was changed in a way that its next start brings.
    depends_on is the instance, or C(name:label), that its disk shares blocks with and that cannot lose them, None where it has all of
    its own. ssh is how its inside is reached where that is not through the server.
    revision is the server's token for optimistic concurrency.
    """

    name: str
    server_name: str
    status: str
    kind: str | None = None
    type: str = "container"
    keys: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    hardening: str = "none"
    isolated: bool = False
    nesting: bool = False
    autostart: bool | None = None
    mounts: tuple[Mount, ...] = ()
    published: tuple[Published, ...] = ()
    profiles: tuple[str, ...] = ()
    pool: str | None = None
    network: str | None = None
    wire: str | None = None
    ways_out: tuple[str, ...] = ()
    location: str | None = None
    project: str | None = None
    image: str | None = None
    image_fingerprint: str | None = None
    addresses: tuple[str, ...] = ()
    created_at: datetime | None = None
    used_at: datetime | None = None
    restart_required: bool = False
    depends_on: str | None = None
    ssh: Ssh | None = None
    revision: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """The user's labels, sorted by key."""
        return {
            key.removeprefix(LABEL_PREFIX): value
            for key, value in sorted(self.keys.items())
            if key.startswith(LABEL_PREFIX)
        }

    @property
    def provision(self) -> Provision:
        """How far its provisioning is; a word that is not ours counts as none."""
        told = {name: self.keys.get(f"{PROVISION_PREFIX}{name}") for name in ("status", "step", "definition", "since")}
        status = told.pop("status")
        return Provision(status if status in PROVISION_STATUSES else "none", **told)

    @property
    def unfinished(self) -> bool:
        """Whether its creation has not ended, or was broken off."""
        return KEY_UNFINISHED in self.keys


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a sandbox; size is in bytes, None where the pool's driver cannot tell."""

    label: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    size: int | None = None
    protected: bool = False


@dataclass(frozen=True)
class Image:
    """An image of the server's own store."""

    fingerprint: str
    aliases: tuple[str, ...] = ()
    type: str = "container"
    description: str = ""


@dataclass(frozen=True)
class ImageSource:
    """Where the image of a new sandbox comes from: a local alias or fingerprint, or a public server (server is its URL)."""

    name: str
    server: str | None = None
    protocol: str = "simplestreams"


@dataclass(frozen=True)
class CloneSource:
    """An instance (bare name), or one of its checkpoints, that a new sandbox is copied from.

    base is the name of the base that the instance was published for; in a wish it is all there is.
    """

    instance: str = ""
    label: str | None = None
    base: str | None = None


@dataclass(frozen=True)
class InstanceSpec:
    """An instance to be made. None leaves a choice to the profiles, the source of a clone, or the server.

    Without an origin it is one without a disk's content, which costs nothing, never starts and has nothing but its keys.
    """

    name: str
    origin: ImageSource | CloneSource | None
    keys: Mapping[str, str]
    type: str = "container"
    limits: Limits = Limits()
    hardening: str = "standard"
    nesting: bool | None = None
    autostart: bool | None = None
    mounts: tuple[Mount, ...] | None = None
    published: tuple[Published, ...] | None = None
    profiles: tuple[str, ...] | None = None
    pool: str | None = None
    network: str | None = None
    wire: str | None = None
    target: str | None = None


@dataclass(frozen=True)
class InstanceChange:
    """What is to change on an existing sandbox; None leaves a field alone, a key set to None is removed.

    wire "" takes a sandbox off its wire, to the network or to what a new sandbox would get.
    """

    limits: Limits = Limits()
    hardening: str | None = None
    nesting: bool | None = None
    autostart: bool | None = None
    mounts: tuple[Mount, ...] | None = None
    published: tuple[Published, ...] | None = None
    network: str | None = None
    wire: str | None = None
    profiles: tuple[str, ...] | None = None
    keys: Mapping[str, str | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything is to change at all."""
        return self != InstanceChange()


@dataclass(frozen=True)
class ExecRequest:
    """A command to run in a sandbox.

    argv is the command; env, argv and stdin are secret: no backend shows them to other clients of its
    server. user is a name or number as the guest knows it. output_limit caps each stream, in bytes; None is no cap.
    gate holds stdin back: it is called with what the command has printed so far, until it returns what is to be
    sent in front, which may be nothing; a password goes to a prompt in this way and to nobody else.
    """

    argv: tuple[str, ...]
    user: str = "root"
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    output_limit: int | None = None
    gate: Callable[[bytes], bytes | None] | None = None


@dataclass(frozen=True)
class ExecResult:
    """How a command ended."""

    rc: int
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    timed_out: bool = False


@dataclass(frozen=True)
class Console:
    """How a person enters a sandbox: a shell command, and those that are needed once before it."""

    command: str
    setup: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileInfo:
    """A file, folder or link inside a sandbox; mode is the permission bits."""

    type: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class Leg:
    """What the gateway has for one wire; digest is the fingerprint of the rules that it enforces there."""

    digest: str
    address: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class GatewayState:
    """What is in force; problems are those of the gateway as a whole, and known is False where it cannot be asked."""

    known: bool
    problems: tuple[str, ...] = ()
    legs: Mapping[str, Leg] = field(default_factory=dict)


@dataclass(frozen=True)
class GatewaySpec:
    """A gateway to be made: its image, the range that subnets of legs are taken from (None is chosen), limits and labels."""

    image: ImageSource
    legs_range: str | None = None
    pool: str | None = None
    limits: Limits = Limits()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GatewaySite:
    """A gateway and what lies around it, in addresses; status is its power state, sandboxes are those on its wires.

    resolver is the server's DNS on the uplink, and bound_source the address that connections have which go to an address that a policy
    names instead of to what a name resolves to.
    """

    status: str
    legs_range: str
    uplink: str
    uplink_network: str
    resolver: str
    bound_source: str
    labels: Mapping[str, str] = field(default_factory=dict)
    sandboxes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """What was refused to a sandbox, counted.

    how is dns, tls, http, packet or stranger (a packet under an address that is not the sandbox's). target is what the
    guest asked for: hostile text. last is when, in seconds of the epoch.
    """

    how: str
    target: str
    count: int
    last: int
    port: int | None = None
    protocol: str | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a backend and its server can do; planners read it before they write."""

    backend: str
    server_version: str = ""
    virtual_machines: bool = False
    clustered: bool = False
    cores: int = 1


#: Options of a sandbox, and of what is done with it, that not every kind of server has a place for.
OPTIONAL = frozenset(
    {
        "base",
        "disk",
        "expires",
        "freeze",
        "gateway",
        "mounts",
        "nesting",
        "processes",
        "profiles",
        "publish",
        "stopped_files",
    }
)


@dataclass(frozen=True)
class Features:
    """What a kind of server has, known before it is asked anything.

    server is its name in messages, options what of OPTIONAL it has, hardening the levels that it can enforce, the default first.
    stopped_files are files of sandboxes that do not run. memory_step is what a limit of memory is a multiple of, and memory_least the
    smallest one, in bytes.
    """

    server: str = "Incus"
    options: frozenset[str] = OPTIONAL
    hardening: tuple[str, ...] = ("standard", "none", "strict")
    memory_step: int = 1
    memory_least: int = 1

    @property
    def enforcement(self) -> str:
        """Where a policy is enforced that does not say so."""
        return "gateway" if "gateway" in self.options else "guest"
