# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Files in a guest through the API; works for stopped sandboxes too."""

from __future__ import annotations

import io
import json
from typing import IO, Any, BinaryIO

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import NotFound, OperationFailed
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import FileInfo
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.wire import file_from_wire

#: More than any list of accounts or folder of keys that is one.
_SMALL_BYTES = 1 << 20


def _path(server_name: str) -> str:
    return f"/1.0/instances/{server_name}/files"


def read_file(client: Client, server_name: str, path: str, target: BinaryIO) -> FileInfo:
    """Copy a file out of the guest into an open binary file; NotFound when it is not there."""
    response = client.request("GET", _path(server_name), params={"path": path}, into=target)
    return file_from_wire(response.headers)


class _Small(io.BytesIO):
    """Takes a small file, and no more: it is the guest that says how much there is."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _SMALL_BYTES:
            raise OperationFailed(f"the guest sends more than {_SMALL_BYTES} bytes")
        return super().write(data)


def small_file(client: Client, server_name: str, path: str) -> bytes:
    """Return what is in a file of the guest; OperationFailed for one that is not as small as such a file is, NotFound."""
    target = _Small()
    read_file(client, server_name, path, target)
    return target.getvalue()


def has_file(client: Client, server_name: str, path: str) -> bool:
    """Say whether there is a file, folder or link at the path."""
    response = client.transport.request("HEAD", _path(server_name), params={"path": path})
    if response.status == 404:
        return False
    if response.status >= 400:
        # a HEAD has no body that would say why
        client.request("GET", _path(server_name), params={"path": path}, into=_Small())
    return True


def list_folder(client: Client, server_name: str, path: str) -> tuple[str, ...]:
    """Return the names in a folder, none where there is no such folder."""
    target = _Small()
    try:
        info = read_file(client, server_name, path, target)
    except NotFound:
        return ()
    return tuple(json.loads(target.getvalue())["metadata"] or ()) if info.type == "directory" else ()


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
