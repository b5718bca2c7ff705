# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases that the simulation speaks, and the arguments that their models take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.truenas.schema import ANYTHING, Field, flag, integer, listed, mapping, record, text

FANGTOOTH = (25, 4)
GOLDEYE = (25, 10)
#: Of each release that the tests name, a version that was published.
VERSIONS: Mapping[str, str] = {
    "24.10": "24.10.2.4",
    "25.04": "25.04.2.6",
    "25.10": "25.10.1",
    "26": "26.0.0-BETA.1",
}


@dataclass(frozen=True)
class Dialect:
    """One version of TrueNAS, as far as clients can tell."""

    version: str

    @property
    def release(self) -> tuple[int, int]:
        """The first two numbers of the version."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        assert found, self.version
        return int(found[1]), int(found[2])

    @property
    def has_virt(self) -> bool:
        """Whether there is Incus behind the API."""
        return self.release in (FANGTOOTH, GOLDEYE)

    @property
    def model_versions(self) -> list[str]:
        """What C(GET /api/versions) lists."""
        old = ["v25.04.0", "v25.04.1", "v25.04.2"]
        return {FANGTOOTH: old, GOLDEYE: [*old, "v25.10.0", "v25.10.1"]}.get(self.release, [])


def dialect(name: str) -> Dialect:
    """Return the dialect of a release by its short name, or of a whole version."""
    return Dialect(VERSIONS.get(name, name))


NIC = record(
    dev_type=text(choices=("NIC",)),
    name=text(1).optional(),
    description=text().optional(),
    readonly=flag(False),
    network=text(1).optional(),
    nic_type=text(choices=("BRIDGED", "MACVLAN")).optional(),
    parent=text(1).optional(),
    mac=Field("str", default=None, null=True, since=GOLDEYE),
)
PROXY = record(
    dev_type=text(choices=("PROXY",)),
    name=text(1).optional(),
    description=text().optional(),
    readonly=flag(False),
    source_proto=text(choices=("TCP", "UDP")),
    source_port=integer(1, 65535),
    dest_proto=text(choices=("TCP", "UDP")),
    dest_port=integer(1, 65535),
)
DISK = record(
    dev_type=text(choices=("DISK",)),
    name=text(1).optional(),
    description=text().optional(),
    readonly=flag(False),
    source=text(1).optional(),
    destination=text(1).optional(),
    boot_priority=integer(0).optional(),
    io_bus=text(choices=("NVME", "VIRTIO-BLK", "VIRTIO-SCSI")).optional(),
    storage_pool=text(1).optional(),
)
DEVICES: Mapping[str, Field] = {"NIC": NIC, "PROXY": PROXY, "DISK": DISK}

ENVIRONMENT = mapping(text(), r"\w[\w/]*")
VIRT_CREATE = record(
    name=text(1, 200),
    source_type=Field("str", default="IMAGE", choices=("IMAGE",)),
    storage_pool=text(1).optional(),
    image=text(1, 200),
    # both are for virtual machines: the older release refuses them, the newer one ignores them for containers
    root_disk_size=Field("int", default=10, null=True, least=5, since=GOLDEYE),
    root_disk_io_bus=Field("str", default="NVME", since=GOLDEYE),
    iso_volume=Field("str", default=None, null=True, until=GOLDEYE),
    remote=Field("str", default="LINUX_CONTAINERS", choices=("LINUX_CONTAINERS",)),
    instance_type=Field("str", default="CONTAINER", choices=("CONTAINER",)),
    environment=ENVIRONMENT.optional(),
    autostart=Field("bool", default=True, null=True),
    cpu=text().optional(),
    devices=listed(ANYTHING).optional(),
    memory=integer(33554432).optional(),
    privileged_mode=Field("bool", default=False, since=GOLDEYE),
)
#: Fields of an update have no defaults: what is not given stays as it is.
VIRT_UPDATE = record(
    environment=ENVIRONMENT.optional(Ellipsis),
    autostart=Field("bool", default=Ellipsis, null=True),
    cpu=text().optional(Ellipsis),
    memory=integer(33554432).optional(Ellipsis),
    image_os=Field("str", default=Ellipsis, null=True, since=GOLDEYE),
    privileged_mode=Field("bool", default=Ellipsis, since=GOLDEYE),
)
VIRT_STOP = record(timeout=integer(-1).optional(-1, null=False), force=flag(False))

_USER_PROPERTY = {"key": text(1, 256, r"[a-z0-9._-]*:[a-z0-9:._-]*"), "value": text()}
DATASET_CREATE = record(
    name=text(1),
    type=Field("str", default="FILESYSTEM", choices=("FILESYSTEM",)),
    comments=text().optional("", null=False),
    readonly=Field("str", default="INHERIT", choices=("ON", "OFF", "INHERIT")),
    create_ancestors=flag(False),
    user_properties=listed(record(**_USER_PROPERTY)).optional([], null=False),
)
DATASET_UPDATE = record(
    comments=text().optional(Ellipsis, null=False),
    user_properties=listed(record(**_USER_PROPERTY)).optional(Ellipsis, null=False),
    user_properties_update=listed(
        record(key=_USER_PROPERTY["key"], value=text().optional(None), remove=flag(False))
    ).optional([], null=False),
)
DATASET_DELETE = record(recursive=flag(False), force=flag(False))
DATASET_RENAME = record(new_name=text(1), recursive=flag(False), force=flag(False))

SNAPSHOT_CREATE = record(
    dataset=text(1),
    name=text(1, 200),
    recursive=flag(False),
    properties=mapping(ANYTHING).optional({}, null=False),
    vmware_sync=flag(False),
    exclude=listed(text()).optional([], null=False),
    suspend_vms=Field("bool", default=False, until=GOLDEYE),
)
SNAPSHOT_DELETE = record(defer=flag(False), recursive=flag(False))
SNAPSHOT_ROLLBACK = record(
    recursive=flag(False), recursive_clones=flag(False), force=flag(False), recursive_rollback=flag(False)
)
SNAPSHOT_CLONE = record(
    snapshot=text(1),
    dataset_dst=text(1),
    dataset_properties=mapping(ANYTHING).optional({}, null=False),
)

QUERY_OPTIONS = record(
    get=flag(False),
    count=flag(False),
    select=listed(ANYTHING).optional([], null=False),
    order_by=listed(text()).optional([], null=False),
    limit=integer(0).optional(0, null=False),
    offset=integer(0).optional(0, null=False),
    extra=mapping(ANYTHING).optional({}, null=False),
    relationships=flag(True),
    force_sql_filters=flag(False),
    prefix=text().optional(None),
    extend=text().optional(None),
    extend_context=text().optional(None),
)
FILTERS = listed(ANYTHING).optional([], null=False)

FILE_RECEIVE = record(
    append=flag(False),
    mode=integer(0, 0o7777).optional(None),
    uid=integer(-1).optional(-1, null=False),
    gid=integer(-1).optional(-1, null=False),
)
#: Content is far longer than ordinary strings.
CONTENT = text(0, 4194304)
LOGIN = record(
    mechanism=text(choices=("API_KEY_PLAIN",)),
    username=text(1),
    api_key=text(1),
    login_options=record(user_info=flag(True)).optional({"user_info": True}, null=False),
)


def given(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an update that were given."""
    return {name: value for name, value in changes.items() if value is not Ellipsis}
