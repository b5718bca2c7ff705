# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods of the simulated TrueNAS, with the roles that each needs and the releases that have it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.truenas import devices
from support.truenas import dialects as models
from support.truenas.dialects import FANGTOOTH, GOLDEYE, given
from support.truenas.engine import File
from support.truenas.jobs import Job
from support.truenas.query import queried
from support.truenas.schema import ANYTHING, NEEDED, Details, Field, checked, integer, text
from support.truenas.state import EINVAL, POOL, Dataset, Instance, Invalid, Refused, Snapshot, State, User, not_found

if TYPE_CHECKING:
    from support.truenas.server import Connection, Simulation

NAME = text(1)
QUERY = (("query-filters", models.FILTERS), ("query-options", models.QUERY_OPTIONS.optional({}, null=False)))


@dataclass
class Call:
    """Who calls, over which connection, and the job that it runs in."""

    simulation: Simulation
    connection: Connection | None
    user: User | None
    job: Job | None = None

    @property
    def state(self) -> State:
        """What the simulation remembers."""
        return self.simulation.state


Work = Callable[..., Any]


@dataclass(frozen=True)
class Method:
    """A method: what it takes, what it needs, and how its jobs queue."""

    name: str
    work: Work
    params: tuple[tuple[str, Field], ...] = ()
    roles: tuple[str, ...] = ()
    job: bool = False
    lock: Callable[[Sequence[Any]], str] | None = None
    login: bool = True
    private: bool = False
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (99, 0)

    def arguments(self, params: Sequence[Any], release: tuple[int, int]) -> list[Any]:
        """Return the arguments with their defaults; Invalid with all that is wrong with them."""
        wrong: Details = []
        found = []
        if len(params) > len(self.params):
            wrong.append([None, f"Too many arguments (expected {len(self.params)}, found {len(params)})", EINVAL])
        for at, (name, rule) in enumerate(self.params):
            if at < len(params):
                found.append(checked(params[at], rule, name, release, wrong))
            elif rule.default is NEEDED:
                wrong.append([name, "Field required", EINVAL])
            else:
                found.append(checked(rule.default, rule, name, release, wrong))
        if wrong:
            raise Invalid(wrong)
        return found


METHODS: dict[str, list[Method]] = {}


def method(name: str, *params: tuple[str, Field], **options: Any) -> Callable[[Work], Work]:
    """Make a function the work of a method."""

    def register(work: Work) -> Work:
        METHODS.setdefault(name, []).append(Method(name, work, params, **options))
        return work

    return register


def find(name: str, release: tuple[int, int]) -> Method | None:
    """Return a method of a release."""
    return next((found for found in METHODS.get(name, ()) if found.since <= release < found.until), None)


def virt(name: str, *params: tuple[str, Field], **options: Any) -> Callable[[Work], Work]:
    """Make a function the work of a method that came and went with Incus."""
    return method(name, *params, since=FANGTOOTH, until=(26, 0), **options)


# -- core, auth, system


@method("core.ping", login=False)
def _ping(call: Call) -> str:
    return "pong"


@method("auth.login_ex", ("login_data", models.LOGIN), login=False)
def _login(call: Call, data: Mapping[str, Any]) -> dict[str, Any]:
    assert call.connection
    user = call.state.users.get(data["username"])
    if user is None or user.api_key != data["api_key"]:
        return {"response_type": "AUTH_ERR"}
    if user.answer != "SUCCESS":
        return {"response_type": user.answer, **({"urls": []} if user.answer == "REDIRECT" else {})}
    call.connection.user = user
    info = {"pw_name": user.name} if data["login_options"]["user_info"] else None
    return {"response_type": "SUCCESS", "user_info": info, "authenticator": "LEVEL_1"}


@method("core.subscribe", ("event", NAME))
def _subscribe(call: Call, event: str) -> str:
    assert call.connection
    return call.connection.subscribe(event)


@method("core.unsubscribe", ("ident", NAME))
def _unsubscribe(call: Call, ident: str) -> None:
    assert call.connection
    call.connection.subscriptions.pop(ident, None)


@method("core.set_options", ("options", Field("any")))
def _set_options(call: Call, options: Any) -> None:
    if isinstance(options, dict) and options.get("legacy_jobs") is False:
        raise Refused("the simulation has jobs with numbers only")


@method("core.get_jobs", *QUERY)
def _get_jobs(call: Call, filters: list[Any], options: Mapping[str, Any]) -> Any:
    user = call.user
    assert user
    rows = [job.record() for job in call.simulation.jobs.all() if user.may(("FULL_ADMIN",)) or job.owner == user.name]
    return queried(rows, filters, options)


@method(
    "core.get_methods",
    ("service", text(1).optional(None)),
    ("target", Field("str", default="WS", choices=("WS", "CLI", "REST"))),
)
def _get_methods(call: Call, service: str | None, target: str) -> dict[str, Any]:
    assert call.user
    release = call.state.dialect.release
    found = {}
    for name in METHODS:
        entry = find(name, release)
        if entry is None or entry.private or (service and name.rpartition(".")[0] != service):
            continue
        if call.user.may(entry.roles):
            found[name] = {"job": entry.job, "roles": list(entry.roles), "accepts": [], "returns": []}
    return found


@method(
    "core.download",
    ("method", NAME),
    ("args", Field("list", item=ANYTHING)),
    ("filename", NAME),
    ("buffered", Field("bool", default=False)),
)
def _download(call: Call, name: str, args: list[Any], filename: str, buffered: bool) -> list[Any]:
    if name != "filesystem.get":
        raise Refused(f"the simulation downloads files only, and not {name}")
    assert call.user
    found = find(name, call.state.dialect.release)
    assert found
    if not call.user.may(found.roles):
        raise Refused("Not authorized", 13)
    job = call.simulation.start_job(found, args, call)
    return [job.number, call.simulation.download_url(job)]


@method("filesystem.get", ("path", NAME), roles=("FULL_ADMIN",), job=True)
def _get(call: Call, path: str) -> None:
    assert call.job
    call.job.pipe = call.simulation.nas.read(path)


@method("system.version_short")
def _version_short(call: Call) -> str:
    return call.state.dialect.version


@method("system.version")
def _version(call: Call) -> str:
    return f"TrueNAS-{call.state.dialect.version}"


@method("system.info", roles=("READONLY_ADMIN",))
def _info(call: Call) -> dict[str, Any]:
    return {
        "version": call.state.dialect.version,
        "hostname": "simulation",
        "system_product": "a simulation for tests, no TrueNAS",
        "cores": call.state.cores,
        "physmem": call.state.memory,
    }


# -- virt


GLOBAL_READ = ("VIRT_GLOBAL_READ", "VIRT_GLOBAL_WRITE")
INSTANCE_READ = ("VIRT_INSTANCE_READ", "VIRT_INSTANCE_WRITE")
INSTANCE_WRITE = ("VIRT_INSTANCE_WRITE",)


@virt("virt.global.config", roles=GLOBAL_READ)
def _global_config(call: Call) -> dict[str, Any]:
    state = call.state
    pool = POOL if state.initialized else None
    return {
        "id": 1,
        "pool": pool,
        "dataset": f"{pool}/.ix-virt" if pool else None,
        "storage_pools": [POOL] if pool else [],
        "bridge": None,
        "v4_network": "10.66.0.1/24",
        "v6_network": None,
        "state": "INITIALIZED" if pool else "NO_POOL",
    }


@virt("virt.global.pool_choices", roles=GLOBAL_READ)
def _pool_choices(call: Call) -> dict[str, str]:
    return {"[DISABLED]": "[Disabled]", POOL: POOL}


@virt("virt.global.bridge_choices", roles=GLOBAL_READ)
def _bridge_choices(call: Call) -> dict[str, str]:
    return {"[AUTO]": "Automatic", **devices.nics("BRIDGED")}


@virt(
    "virt.instance.image_choices",
    (
        "virt_instance_image_choices",
        models.record(remote=Field("str", default="LINUX_CONTAINERS")).optional(
            {"remote": "LINUX_CONTAINERS"}, null=False
        ),
    ),
    roles=INSTANCE_READ,
)
def _image_choices(call: Call, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        alias: {
            "label": alias,
            "os": alias.split("/")[0],
            "release": alias,
            "archs": ["amd64"],
            "variant": "default",
            "instance_types": ["CONTAINER"],
            "secureboot": None,
        }
        for alias in call.state.engine.images()
    }


@virt("virt.device.nic_choices", ("nic_type", text(choices=("BRIDGED", "MACVLAN"))), roles=INSTANCE_READ)
def _nic_choices(call: Call, kind: str) -> dict[str, str]:
    return devices.nics(kind)


def entry(call: Call, instance: Instance, raw: bool = False) -> dict[str, Any]:
    """Return an instance as virt.instance.query has it."""
    state = call.state
    status = state.status(instance)
    disk = state.disk_of(instance)
    shown: dict[str, Any] = {
        "id": instance.name,
        "name": instance.name,
        "type": "CONTAINER",
        "status": status,
        "cpu": instance.cpu,
        "memory": instance.memory,
        "autostart": instance.autostart,
        "environment": dict(instance.environment),
        "aliases": state.engine.addresses(disk) if status == "RUNNING" else [],
        "image": {
            "architecture": "amd64",
            "description": instance.image,
            "os": None,
            "release": None,
            "serial": None,
            "type": None,
            "variant": None,
            "secureboot": None,
        },
        "userns_idmap": None,
        "raw": None,
        "vnc_enabled": False,
        "vnc_port": None,
        "vnc_password": None,
        "secure_boot": None,
        "root_disk_size": None,
        "root_disk_io_bus": None,
        "storage_pool": instance.pool,
    }
    if state.dialect.release >= GOLDEYE:
        shown["privileged_mode"] = instance.privileged
    if raw and disk:
        assert call.user
        shown["raw"] = state.raw(instance) if call.user.may(INSTANCE_WRITE) else "********"
    return shown


@virt("virt.instance.query", *QUERY, roles=INSTANCE_READ)
def _query_instances(call: Call, filters: list[Any], options: Mapping[str, Any]) -> Any:
    state = call.state
    with state.lock:
        found = list(state.instances.values()) if state.initialized else []
    raw = bool(options["extra"].get("raw"))
    return queried([entry(call, instance, raw) for instance in found], filters, options, "VirtInstance")


@virt(
    "virt.instance.get_instance",
    ("id", NAME),
    ("options", models.QUERY_OPTIONS.optional({}, null=False)),
    roles=INSTANCE_READ,
)
def _get_instance(call: Call, name: str, options: Mapping[str, Any]) -> Any:
    return entry(call, call.state.instance(name), bool(options["extra"].get("raw")))


def _of_instance(params: Sequence[Any]) -> str:
    first = params[0] if params else ""
    return f"instance:{first.get('name') if isinstance(first, dict) else first}"


def _check_limits(call: Call, where: str, values: Mapping[str, Any]) -> None:
    cpu, memory = values.get("cpu"), values.get("memory")
    wrong: Details = []
    if isinstance(cpu, str) and cpu.isdigit() and not 0 < int(cpu) <= call.state.cores:
        wrong.append([f"{where}.cpu", f"Maximum number of cores is {call.state.cores}", EINVAL])
    if isinstance(memory, int) and memory > call.state.memory:
        wrong.append([f"{where}.memory", "Cannot reserve more than system memory", EINVAL])
    for key, value in (values.get("environment") or {}).items():
        if not value.split("\n")[0].strip():
            wrong.append([f"{where}.environment.{key}", "Value must not be blank", EINVAL])
    if wrong:
        raise Invalid(wrong)


@virt(
    "virt.instance.create",
    ("virt_instance_create", models.VIRT_CREATE),
    roles=INSTANCE_WRITE,
    job=True,
    lock=_of_instance,
)
def _create_instance(call: Call, data: Mapping[str, Any]) -> dict[str, Any]:
    state = call.state
    state.need_virt()
    _check_limits(call, "virt_instance_create", data)
    if data["name"] in state.instances:
        raise Invalid([["virt_instance_create.name", f"Name {data['name']!r} already exists", EINVAL]])
    if data["storage_pool"] not in (None, POOL):
        raise Invalid([["virt_instance_create.storage_pool", "Not a valid pool", EINVAL]])
    instance = Instance(
        data["name"],
        data["image"],
        POOL,
        data["cpu"],
        data["memory"],
        dict(data["environment"] or {}),
        data["autostart"] is not False,
        privileged=bool(data.get("privileged_mode")),
    )
    for at, device in enumerate(data["devices"] or []):
        where = f"virt_instance_create.devices.{at}"
        instance.devices.append(devices.checked_device(call.state, instance, where, device, instance.devices))
    state.create(instance)
    if instance.autostart:
        state.start(instance)
    return entry(call, instance)


@virt(
    "virt.instance.update",
    ("id", NAME),
    ("virt_instance_update", models.VIRT_UPDATE),
    roles=INSTANCE_WRITE,
    job=True,
    lock=_of_instance,
)
def _update_instance(call: Call, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    instance = call.state.instance(name)
    changes = given(data)
    _check_limits(call, "virt_instance_update", changes)
    if "environment" in changes:
        instance.environment = dict(changes["environment"] or {})
    if "autostart" in changes:
        instance.autostart = bool(changes["autostart"])
    for field in ("cpu", "memory"):
        if field in changes:
            setattr(instance, field, changes[field])
    if "privileged_mode" in changes:
        instance.privileged = changes["privileged_mode"]
    call.state.configure(instance)
    return entry(call, instance)


@virt("virt.instance.start", ("id", NAME), roles=INSTANCE_WRITE, job=True, lock=_of_instance)
def _start_instance(call: Call, name: str) -> bool:
    instance = call.state.instance(name)
    if call.state.status(instance) not in ("RUNNING", "STOPPED", "ERROR"):
        raise Invalid([["virt.instance.start.id", f"{name}: instance may not be started", EINVAL]])
    try:
        call.state.start(instance)
    except Refused:
        assert call.job
        call.job.log = f"lxc {name} - start - Failed to run the container\n"
        raise
    return True


def _check_stop(where: str, data: Mapping[str, Any]) -> None:
    if not data["force"] and data["timeout"] == -1:
        raise Invalid([[f"{where}.timeout", "Timeout should be set if force is disabled", EINVAL]])


@virt(
    "virt.instance.stop",
    ("id", NAME),
    ("stop_args", models.VIRT_STOP.optional({}, null=False)),
    roles=INSTANCE_WRITE,
    job=True,
    lock=_of_instance,
)
def _stop_instance(call: Call, name: str, data: Mapping[str, Any]) -> bool:
    _check_stop("stop_args", data)
    call.state.need_virt()
    instance = call.state.instances.get(name)
    if instance is None:
        raise Refused("Instance not found")
    call.state.stop(instance, data["timeout"], data["force"])
    return True


@virt(
    "virt.instance.restart",
    ("id", NAME),
    ("stop_args", models.VIRT_STOP.optional({}, null=False)),
    roles=INSTANCE_WRITE,
    job=True,
    lock=_of_instance,
)
def _restart_instance(call: Call, name: str, data: Mapping[str, Any]) -> bool:
    _check_stop("stop_args", data)
    instance = call.state.instance(name)
    if call.state.status(instance) == "RUNNING":
        call.state.stop(instance, data["timeout"], data["force"])
    call.state.start(instance)
    return True


@virt("virt.instance.delete", ("id", NAME), roles=INSTANCE_WRITE, job=True, lock=_of_instance)
def _delete_instance(call: Call, name: str) -> bool:
    call.state.remove(call.state.instance(name))
    return True


@virt("virt.instance.device_list", ("id", NAME), roles=INSTANCE_READ)
def _device_list(call: Call, name: str) -> list[dict[str, Any]]:
    own = call.state.instance(name).devices
    names = {device["name"] for device in own}
    return [*own, *(device for device in devices.of_profile() if device["name"] not in names)]


@virt("virt.instance.device_add", ("id", NAME), ("device", ANYTHING), roles=INSTANCE_WRITE)
def _device_add(call: Call, name: str, device: Any) -> bool:
    instance = call.state.instance(name)
    found = devices.checked_device(call.state, instance, "virt_device_add", device, instance.devices)
    if any(other["name"] == found["name"] for other in instance.devices):
        raise Invalid([["virt_device_add.name", "Device name already exists", EINVAL]])
    instance.devices.append(found)
    call.state.configure(instance)
    return True


@virt("virt.instance.device_update", ("id", NAME), ("device", ANYTHING), roles=INSTANCE_WRITE)
def _device_update(call: Call, name: str, device: Any) -> bool:
    instance = call.state.instance(name)
    kept = device.get("name") if isinstance(device, dict) else None
    others = [other for other in instance.devices if other["name"] != kept]
    if len(others) == len(instance.devices):
        raise not_found(f"Device {kept} does not exist")
    found = devices.checked_device(call.state, instance, "virt_device_update", device, others)
    instance.devices = [*others, found]
    call.state.configure(instance)
    return True


@virt("virt.instance.device_delete", ("id", NAME), ("device", NAME), roles=("VIRT_INSTANCE_DELETE",))
def _device_delete(call: Call, name: str, device: str) -> bool:
    instance = call.state.instance(name)
    others = [other for other in instance.devices if other["name"] != device]
    if len(others) == len(instance.devices):
        raise not_found(f"Device {device} does not exist")
    instance.devices = others
    call.state.configure(instance)
    return True


# -- datasets


def _property(value: Any, source: str = "LOCAL") -> dict[str, Any]:
    return {"value": str(value), "rawvalue": str(value), "parsed": value, "source": source, "source_info": None}


def _dataset_entry(dataset: Dataset) -> dict[str, Any]:
    return {
        "id": dataset.name,
        "name": dataset.name,
        "type": "FILESYSTEM",
        "pool": dataset.name.split("/")[0],
        "encrypted": False,
        "mountpoint": dataset.mountpoint,
        "origin": _property(dataset.origin, "NONE"),
        "comments": _property(dataset.comments),
        "user_properties": {key: _property(value) for key, value in dataset.user_properties.items()},
        "children": [],
        "locked": False,
    }


DATASET_READ = ("DATASET_READ", "DATASET_WRITE")


@method("pool.dataset.query", *QUERY, roles=DATASET_READ)
def _query_datasets(call: Call, filters: list[Any], options: Mapping[str, Any]) -> Any:
    with call.state.lock:
        rows = [_dataset_entry(found) for found in call.state.datasets.values() if not found.hidden]
    return queried(rows, filters, options, "Dataset")


def _shown(call: Call, name: str) -> Dataset:
    found = call.state.datasets.get(name)
    if found is None or found.hidden:
        raise not_found(f"PoolDataset {name} does not exist")
    return found


@method(
    "pool.dataset.get_instance",
    ("id", NAME),
    ("options", models.QUERY_OPTIONS.optional({}, null=False)),
    roles=DATASET_READ,
)
def _get_dataset(call: Call, name: str, options: Mapping[str, Any]) -> Any:
    return _dataset_entry(_shown(call, name))


@method("pool.dataset.create", ("pool_dataset_create", models.DATASET_CREATE), roles=("DATASET_WRITE",))
def _create_dataset(call: Call, data: Mapping[str, Any]) -> Any:
    state, name = call.state, data["name"]
    where = "pool_dataset_create.name"
    with state.lock:
        if not re.fullmatch(r"[A-Za-z0-9_.: -]+(/[A-Za-z0-9_.: -]+)+", name):
            raise Invalid([[where, "Invalid dataset name", EINVAL]])
        if name in state.datasets:
            raise Invalid([[where, f"{name} already exists", EINVAL]])
        parent = name.rpartition("/")[0]
        if parent not in state.datasets:
            if not data["create_ancestors"] or name.split("/")[0] not in state.datasets:
                raise Invalid([[where, f"Parent dataset {parent} does not exist", EINVAL]])
            parts = parent.split("/")
            for count in range(2, len(parts) + 1):
                above = "/".join(parts[:count])
                state.datasets.setdefault(above, Dataset(above, mountpoint=f"/mnt/{above}"))
        users = {entry["key"]: entry["value"] for entry in data["user_properties"]}
        state.datasets[name] = made = Dataset(name, users, data["comments"], mountpoint=f"/mnt/{name}")
    return _dataset_entry(made)


@method(
    "pool.dataset.update",
    ("id", NAME),
    ("pool_dataset_update", models.DATASET_UPDATE),
    roles=("DATASET_WRITE",),
)
def _update_dataset(call: Call, name: str, data: Mapping[str, Any]) -> Any:
    changes = given(data)
    with call.state.lock:
        dataset = _shown(call, name)
        if "user_properties" in changes:
            dataset.user_properties = {entry["key"]: entry["value"] for entry in changes["user_properties"]}
        for change in changes["user_properties_update"]:
            if change["remove"]:
                if change["value"] is not None:
                    words = "When 'remove' is set, value should not be specified"
                    raise Invalid([["pool_dataset_update.user_properties_update", words, EINVAL]])
                dataset.user_properties.pop(change["key"], None)
            else:
                dataset.user_properties[change["key"]] = change["value"] or ""
        if "comments" in changes:
            dataset.comments = changes["comments"]
        return _dataset_entry(dataset)


@method(
    "pool.dataset.delete",
    ("id", NAME),
    ("options", models.DATASET_DELETE.optional({}, null=False)),
    roles=("DATASET_DELETE",),
)
def _delete_dataset(call: Call, name: str, options: Mapping[str, Any]) -> bool:
    _shown(call, name)
    call.state.destroy(name, options["recursive"])
    return True


@method(
    "pool.dataset.rename",
    ("id", NAME),
    ("pool_dataset_rename", models.DATASET_RENAME),
    roles=("DATASET_WRITE",),
    since=GOLDEYE,
)
def _rename_dataset(call: Call, name: str, data: Mapping[str, Any]) -> None:
    if not data["force"]:
        words = "No checks are made before a dataset is renamed: set this to go on"
        raise Invalid([["pool.dataset.rename.force", words, EINVAL]])
    call.state.rename(name, data["new_name"])


@method("pool.dataset.promote", ("id", NAME), roles=("DATASET_WRITE",))
def _promote_dataset(call: Call, name: str) -> None:
    call.state.promote(name)


@method(
    "zfs.dataset.delete",
    ("id", NAME),
    ("options", models.DATASET_DELETE.optional({}, null=False)),
    roles=("FULL_ADMIN",),
    private=True,
)
def _zfs_delete_dataset(call: Call, name: str, options: Mapping[str, Any]) -> None:
    call.state.destroy(name, options["recursive"])


@method(
    "zfs.dataset.rename",
    ("id", NAME),
    ("options", models.DATASET_RENAME),
    roles=("FULL_ADMIN",),
    private=True,
)
def _zfs_rename_dataset(call: Call, name: str, options: Mapping[str, Any]) -> None:
    call.state.rename(name, options["new_name"])


@method("zfs.dataset.query", *QUERY, roles=("FULL_ADMIN",), private=True)
def _zfs_query_datasets(call: Call, filters: list[Any], options: Mapping[str, Any]) -> Any:
    with call.state.lock:
        rows = []
        for dataset in call.state.datasets.values():
            values = {"mountpoint": dataset.mountpoint, "origin": dataset.origin, **dataset.user_properties}
            shown = {"id": dataset.name, "name": dataset.name, "pool": dataset.name.split("/")[0], "type": "FILESYSTEM"}
            rows.append({**shown, "properties": {key: _property(value) for key, value in values.items()}})
    return queried(rows, filters, options, "Dataset")


# -- snapshots: the same under two names, and for other roles


def _snapshot_entry(dataset: Dataset, snapshot: Snapshot, properties: bool) -> dict[str, Any]:
    identity = f"{dataset.name}@{snapshot.label}"
    shown: dict[str, Any] = {
        "id": identity,
        "name": identity,
        "pool": dataset.name.split("/")[0],
        "type": "SNAPSHOT",
        "dataset": dataset.name,
        "snapshot_name": snapshot.label,
        "createtxg": str(snapshot.txg),
    }
    if properties:
        created = int(snapshot.created)
        shown["properties"] = {
            "creation": {**_property(created, "NONE"), "parsed": {"$date": created * 1000}},
            "used": {**_property(65536, "NONE"), "value": "64K"},
            "referenced": {**_property(200 << 20, "NONE"), "value": "200M"},
            "createtxg": _property(str(snapshot.txg), "NONE"),
            "clones": _property("", "NONE"),
        }
    return shown


def _query_snapshots(call: Call, filters: list[Any], options: Mapping[str, Any]) -> Any:
    named_only = options["select"] == ["name"] or options["count"]
    with call.state.lock:
        rows = []
        for dataset in call.state.datasets.values():
            for snapshot in dataset.snapshots.values():
                row = _snapshot_entry(dataset, snapshot, not named_only)
                if not named_only:
                    row["properties"]["clones"] = _property(",".join(call.state.clones(row["id"])), "NONE")
                rows.append(row)
    return queried(rows, filters, options, "Snapshot")


def _get_snapshot(call: Call, identity: str, options: Mapping[str, Any]) -> Any:
    name, _at, label = identity.partition("@")
    dataset = call.state.datasets.get(name)
    if dataset is None or label not in dataset.snapshots:
        raise not_found(f"Snapshot {identity} does not exist")
    return _snapshot_entry(dataset, dataset.snapshots[label], True)


def _create_snapshot(call: Call, data: Mapping[str, Any]) -> Any:
    return _snapshot_entry(call.state.dataset(data["dataset"]), call.state.take(data["dataset"], data["name"]), True)


def _delete_snapshot(call: Call, identity: str, options: Mapping[str, Any]) -> bool:
    call.state.drop(identity, options["defer"])
    return True


def _rollback_snapshot(call: Call, identity: str, options: Mapping[str, Any]) -> None:
    recursive = options["recursive"] or options["recursive_clones"]
    call.state.roll_back(identity, recursive, options["recursive_clones"])


def _clone_snapshot(call: Call, data: Mapping[str, Any]) -> bool:
    call.state.clone(data["snapshot"], data["dataset_dst"], data["dataset_properties"])
    return True


def _register_snapshots(space: Mapping[str, Any]) -> None:
    """Register what a name space of snapshots has, for the versions and roles that have it."""
    rules = {key: space[key] for key in ("since", "until", "private") if key in space}

    def add(verb: str, work: Work, roles: tuple[str, ...], *params: tuple[str, Field]) -> None:
        method(f"{space['name']}.{verb}", *params, roles=space.get("all", roles), **rules)(work)

    identity = ("id", NAME)
    add("query", _query_snapshots, ("SNAPSHOT_READ", "SNAPSHOT_WRITE"), *QUERY)
    options = ("options", models.QUERY_OPTIONS.optional({}, null=False))
    add("get_instance", _get_snapshot, ("SNAPSHOT_READ", "SNAPSHOT_WRITE"), identity, options)
    add("create", _create_snapshot, ("SNAPSHOT_WRITE",), ("snapshot_create", models.SNAPSHOT_CREATE))
    options = ("options", models.SNAPSHOT_DELETE.optional({}, null=False))
    add("delete", _delete_snapshot, ("SNAPSHOT_DELETE",), identity, options)
    options = ("options", models.SNAPSHOT_ROLLBACK.optional({}, null=False))
    add("rollback", _rollback_snapshot, space.get("admin", ("SNAPSHOT_WRITE", "POOL_WRITE")), identity, options)
    clone = ("snapshot_clone", models.SNAPSHOT_CLONE)
    add("clone", _clone_snapshot, space.get("admin", ("SNAPSHOT_WRITE", "DATASET_WRITE")), clone)


for _space in (
    {"name": "zfs.snapshot", "until": GOLDEYE, "admin": ("FULL_ADMIN",)},
    {"name": "zfs.snapshot", "since": GOLDEYE, "private": True, "all": ("FULL_ADMIN",)},
    {"name": "pool.snapshot", "since": GOLDEYE},
):
    _register_snapshots(_space)


# -- files


@method(
    "filesystem.file_receive",
    ("path", NAME),
    ("content", models.CONTENT),
    ("options", models.FILE_RECEIVE.optional({}, null=False)),
    roles=("FULL_ADMIN",),
    private=True,
)
def _file_receive(call: Call, path: str, content: str, options: Mapping[str, Any]) -> bool:
    try:
        data = base64.b64decode(content, validate=True)
    except binascii.Error as exc:
        raise Refused(f"Invalid base64: {exc}", EINVAL) from exc
    mode = -1 if options["mode"] is None else options["mode"]
    call.simulation.nas.write(path, File(data, mode, options["uid"], options["gid"]), options["append"])
    return True


@method(
    "filesystem.put",
    ("path", NAME),
    (
        "options",
        models.record(append=models.flag(False), mode=integer(0, 0o7777).optional(None)).optional({}, null=False),
    ),
    roles=("FULL_ADMIN",),
    job=True,
)
def _put(call: Call, path: str, options: Mapping[str, Any]) -> bool:
    raise Refused("filesystem.put needs an upload, which the simulation does not have")


@method("filesystem.stat", ("path", NAME), roles=("FILESYSTEM_ATTRS_READ", "READONLY_ADMIN"))
def _stat(call: Call, path: str) -> dict[str, Any]:
    return call.simulation.nas.stat(path)


@method("filesystem.listdir", ("path", NAME), *QUERY, roles=("FILESYSTEM_ATTRS_READ", "READONLY_ADMIN"))
def _listdir(call: Call, path: str, filters: list[Any], options: Mapping[str, Any]) -> Any:
    return queried(call.simulation.nas.listed(path), filters, options)
