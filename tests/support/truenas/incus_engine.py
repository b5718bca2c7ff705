# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of the simulated TrueNAS that runs real containers: on the local Incus, in a project of the test's own.

Guests boot, get an address of the bridge, and are reached by SSH. What a real NAS would do and must not happen on the machine of
the tests is left out, and said: published ports listen on 127.0.0.1, disks of the NAS and its interfaces are not attached.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import NotFound, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.endpoint import endpoint_from
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.transport import DirectTransport
from support.truenas.engine import Engine, EngineError, File

SECONDS = 180
_OURS = re.compile(r"(environment\..+|limits\.(cpu|memory)|security\.privileged)")
#: The number is the process that the project belongs to.
_PROJECT = re.compile(r"pxt-truenas-(\d+)-[0-9a-f]+")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_KINDS = {"file": "FILE", "directory": "DIRECTORY", "symlink": "SYMLINK"}


@contextlib.contextmanager
def incus_words() -> Iterator[None]:
    """Turn what the client raises into what the middleware sees of Incus: its words."""
    try:
        yield
    except PixelsError as exc:
        raise EngineError(str(exc)) from exc


def _fresh(project: str) -> Client:
    """Return a client for one change: a connection that was kept may have been idle for too long, and a change is not sent twice."""
    return Client(DirectTransport(endpoint_from({"incus_project": project})))


class IncusEngine(Engine):
    """Containers of one project; without a name of one it makes its own, and removes it at its end."""

    def __init__(self, project: str = "", pool: str = "", network: str = "") -> None:
        whole = _fresh("")
        self._owns = not project
        self._pool = pool or sorted(found["name"] for found in whole.get("/1.0/storage-pools", recursion="1"))[0]
        self._network = network or self._bridge(whole)
        self._whole = whole
        if self._owns:
            self._sweep()
            project = f"pxt-truenas-{os.getpid()}-{secrets.token_hex(3)}"
            config = {"features.images": "false", "features.profiles": "true", "features.storage.volumes": "true"}
            whole.request("POST", "/1.0/projects", json={"name": project, "config": config})
        self.project = project
        self._client = _fresh(project)

    @staticmethod
    def _bridge(whole: Client) -> str:
        found = whole.get("/1.0/networks", recursion="1")
        names = sorted(
            network["name"]
            for network in found
            if network["managed"]
            and network["type"] == "bridge"
            and network["config"].get("ipv4.address", "none") != "none"
            and "user.pixels.project" not in network["config"]
        )
        if not names:
            raise EngineError("the local Incus has no bridge with addresses")
        return names[0]

    def _sweep(self) -> None:
        """Remove the projects of runs that were killed."""
        for found in self._whole.get("/1.0/projects", recursion="1"):
            match = _PROJECT.fullmatch(found["name"])
            if match and not Path(f"/proc/{match[1]}").exists():
                self._remove_project(found["name"])

    def _remove_project(self, project: str) -> None:
        client = _fresh(project)
        for found in client.get("/1.0/instances", recursion="1"):
            path = f"/1.0/instances/{found['name']}"
            if found["status"] != "Stopped":
                body = {"action": "stop", "force": True, "timeout": 30}
                client.run("PUT", f"{path}/state", body, Deadline(SECONDS), "stop")
            client.run("DELETE", path, None, Deadline(SECONDS), "delete")
        _fresh("").request("DELETE", f"/1.0/projects/{project}")

    def close(self) -> None:
        if self._owns:
            self._remove_project(self.project)

    def _run(self, method: str, path: str, body: object, what: str) -> None:
        with incus_words():
            _fresh(self.project).run(method, path, body, Deadline(SECONDS), what)

    def _record(self, name: str) -> dict[str, Any]:
        with incus_words():
            record: dict[str, Any] = self._client.get(f"/1.0/instances/{name}")
        return record

    def images(self) -> tuple[str, ...]:
        with incus_words():
            found = self._client.get("/1.0/images", recursion="1")
        return tuple(sorted(alias["name"] for image in found for alias in image["aliases"] or ()))

    def create(self, name: str, image: str) -> None:
        body = {
            "name": name,
            "type": "container",
            "profiles": [],
            "source": {"type": "image", "fingerprint" if _FINGERPRINT.fullmatch(image) else "alias": image},
            "config": {},
            "devices": self._devices([]),
        }
        self._run("POST", "/1.0/instances", body, "create")

    def _devices(self, wanted: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
        devices = {
            "root": {"type": "disk", "path": "/", "pool": self._pool},
            "eth0": {"type": "nic", "name": "eth0", "network": self._network},
        }
        for device in wanted:
            if device["dev_type"] != "PROXY":
                raise EngineError(f"the simulation does not attach a {device['dev_type']} of the NAS")
            devices[device["name"]] = {
                "type": "proxy",
                "listen": f"{device['source_proto'].lower()}:127.0.0.1:{device['source_port']}",
                "connect": f"{device['dest_proto'].lower()}:127.0.0.1:{device['dest_port']}",
            }
        return devices

    def configure(self, name: str, settings: Mapping[str, Any]) -> None:
        record = self._record(name)
        config = {key: value for key, value in record["config"].items() if not _OURS.fullmatch(key)}
        config.update({f"environment.{key}": value for key, value in settings["environment"].items()})
        if settings["cpu"] is not None:
            config["limits.cpu"] = settings["cpu"]
        if settings["memory"] is not None:
            config["limits.memory"] = f"{settings['memory'] >> 20}MiB"
        if settings["privileged"]:
            raise EngineError("the simulation runs no privileged containers")
        self._put(name, {**record, "config": config, "devices": self._devices(settings["devices"])})

    def _put(self, name: str, record: Mapping[str, Any]) -> None:
        fields = ("architecture", "config", "devices", "ephemeral", "profiles", "description")
        self._run("PUT", f"/1.0/instances/{name}", {field: record[field] for field in fields}, "configure")

    def _power(self, name: str, action: str, timeout: int, force: bool) -> None:
        body = {"action": action, "timeout": timeout, "force": force}
        self._run("PUT", f"/1.0/instances/{name}/state", body, action)

    def start(self, name: str) -> None:
        self._power(name, "start", 60, False)

    def stop(self, name: str, timeout: int, force: bool) -> None:
        self._power(name, "stop", timeout, force)

    def status(self, name: str) -> str:
        return str(self._record(name)["status"]).upper()

    def addresses(self, name: str) -> list[dict[str, Any]]:
        with incus_words():
            network = self._client.get(f"/1.0/instances/{name}/state")["network"] or {}
        return [
            {"type": entry["family"].upper(), "address": entry["address"], "netmask": int(entry["netmask"])}
            for interface in network.values()
            for entry in interface["addresses"]
            if entry["scope"] == "global"
        ]

    def raw(self, name: str) -> dict[str, Any]:
        with incus_words():
            # the middleware hands on what it got with the state in it
            record: dict[str, Any] = self._client.get(f"/1.0/instances/{name}", recursion="1")
        return record

    def delete(self, name: str) -> None:
        self._run("DELETE", f"/1.0/instances/{name}", None, "delete")

    def snapshot(self, name: str, label: str) -> None:
        self._run("POST", f"/1.0/instances/{name}/snapshots", {"name": label, "stateful": False}, "snapshot")

    def drop_snapshot(self, name: str, label: str) -> None:
        self._run("DELETE", f"/1.0/instances/{name}/snapshots/{label}", None, "drop")

    def rollback(self, name: str, label: str) -> None:
        self._run("PUT", f"/1.0/instances/{name}", {"restore": label}, "roll back")

    def copy(self, name: str, label: str, new: str) -> None:
        body = {"name": new, "source": {"type": "copy", "source": f"{name}/{label}"}, "profiles": []}
        self._run("POST", "/1.0/instances", body, "copy")
        # a clone of ZFS changes nothing inside: no template of the image is filled in at its first start
        self._fill_in(new, None)

    def _fill_in(self, name: str, when: str | None) -> None:
        """Set what a container fills in templates of its image for at its next start."""
        record = self._record(name)
        if record["config"].pop("volatile.apply_template", None) != when:
            if when:
                record["config"]["volatile.apply_template"] = when
            self._put(name, record)

    def rename(self, name: str, new: str) -> None:
        # nor does renaming a dataset
        when = self._record(name)["config"].get("volatile.apply_template")
        self._run("POST", f"/1.0/instances/{name}", {"name": new}, "rename")
        self._fill_in(new, when)

    def look(self, name: str, path: str) -> File | None:
        try:
            with_headers = self._client.request("GET", f"/1.0/instances/{name}/files", params={"path": path})
        except NotFound:
            return None
        except PixelsError as exc:
            raise EngineError(str(exc)) from exc
        headers = with_headers.headers
        kind = _KINDS[headers["x-incus-type"]]
        content = with_headers.content if kind != "DIRECTORY" else b""
        mode, uid, gid = int(headers["x-incus-mode"], 8), int(headers["x-incus-uid"]), int(headers["x-incus-gid"])
        return File(content.rstrip(b"\n") if kind == "SYMLINK" else content, mode & 0o7777, uid, gid, kind)

    def write(self, name: str, path: str, file: File) -> None:
        headers = {
            "X-Incus-type": file.kind.lower(),
            "X-Incus-write": "overwrite",
            "X-Incus-mode": f"{file.mode:04o}",
            "X-Incus-uid": str(max(file.uid, 0)),
            "X-Incus-gid": str(max(file.gid, 0)),
            "Content-Type": "application/octet-stream",
        }
        with incus_words():
            _fresh(self.project).request(
                "POST",
                f"/1.0/instances/{name}/files",
                params={"path": path},
                data=file.content if file.kind == "FILE" else b"",
                headers=headers,
            )

    def names(self, name: str, path: str) -> list[str]:
        with incus_words():
            response = self._client.request("GET", f"/1.0/instances/{name}/files", params={"path": path})
            return sorted(response.json()["metadata"] or ())
