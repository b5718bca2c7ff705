# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Files in a guest through the API; works for stopped sandboxes too."""

from __future__ import annotations

import io
from typing import IO, BinaryIO

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import NotFound
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import FileInfo
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.wire import file_from_wire


def _path(server_name: str) -> str:
    return f"/1.0/instances/{server_name}/files"


def read_file(client: Client, server_name: str, path: str, target: BinaryIO) -> FileInfo:
    """Copy a file out of the guest into an open binary file; NotFound when it is not there."""
    response = client.request("GET", _path(server_name), params={"path": path}, into=target)
    return file_from_wire(response.headers)


def has_file(client: Client, server_name: str, path: str) -> bool:
    """Say whether there is a file, folder or link at the path."""
    response = client.transport.request("HEAD", _path(server_name), params={"path": path})
    if response.status == 404:
        return False
    if response.status >= 400:
        # a HEAD has no body that would say why
        client.request("GET", _path(server_name), params={"path": path}, into=io.BytesIO())
    return True


def list_folder(client: Client, server_name: str, path: str) -> tuple[str, ...]:
    """Return the names in a folder, none where there is no such folder."""
    try:
        response = client.request("GET", _path(server_name), params={"path": path})
    except NotFound:
        return ()
    if file_from_wire(response.headers).type != "directory":
        return ()
    return tuple(response.json()["metadata"] or ())


def write_file(
    client: Client,
    server_name: str,
    path: str,
    source: IO[bytes] | bytes,
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
) -> None:
    """Copy an open binary file or bytes into the guest; mode is kept, or 0644 for a new file, when it is not given."""
    headers = {
        "X-Incus-type": "file",
        "X-Incus-write": "overwrite",
        "X-Incus-uid": str(uid),
        "X-Incus-gid": str(gid),
        "Content-Type": "application/octet-stream",
    }
    if mode is not None:
        headers["X-Incus-mode"] = f"{mode:04o}"
    client.request("POST", _path(server_name), params={"path": path}, data=source, headers=headers)


def delete_file(client: Client, server_name: str, path: str) -> None:
    """Delete a file in the guest; one that is not there is success."""
    try:
        client.request("DELETE", _path(server_name), params={"path": path})
    except NotFound:
        return
