# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: incus
short_description: Run tasks in a sandbox through the API of Incus
version_added: 1.0.0
description:
  - Runs commands and copies files in a sandbox through the API of an Incus server, local or remote. It needs no SSH in the sandbox
    and no C(incus) program on the controller.
  - Connects to sandboxes that this collection made, to its gateway and to builders of bases that are open, and to nothing else.
author:
  - the pixels.sandbox authors (@pixels-sandbox)
extends_documentation_fragment:
  - pixels.sandbox._connection.plugin
options:
  remote_addr:
    description: Name of the sandbox.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_pixels_name
  remote_user:
    description: User in the sandbox that tasks run as, by name or number.
    type: str
    default: root
    vars:
      - name: ansible_user
      - name: ansible_pixels_user
    ini:
      - section: defaults
        key: remote_user
    env:
      - name: ANSIBLE_REMOTE_USER
    keyword:
      - name: remote_user
notes:
  - The names of these options as variables of a host begin with C(ansible_pixels_).
  - A task runs with the primary group of its user and no other groups, since the API of the server takes no others.
seealso:
  - plugin: pixels.sandbox.pixels
    plugin_type: inventory
"""

EXAMPLES = r"""
# An inventory in which two sandboxes are hosts
all:
  hosts:
    task1:
    task2:
  vars:
    ansible_connection: pixels.sandbox.incus
    ansible_python_interpreter: /usr/bin/python3
"""

import os
from typing import Any, cast

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import (
    ConfigError,
    ConnectionFailed,
    NotFound,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import (
    BUILD,
    GATEWAY,
    GATEWAY_NAME,
    KEY_BASE,
    RUNNING,
    SANDBOX,
    ExecRequest,
)
from ansible_collections.pixels.sandbox.plugins.module_utils._core.names import builder_name, guest_name
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.backend import IncusBackend, incus_backend
from ansible_collections.pixels.sandbox.plugins.plugin_utils._session import connection_options, translated

display = Display()


class Connection(ConnectionBase):
    """A sandbox as a host."""

    transport = "pixels.sandbox.incus"
    has_pipelining = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open: IncusBackend | None = None
        self._name = ""

    def _connect(self) -> Connection:
        if self._open is None:
            with self._failing():
                self._name = guest_name(self.get_option("remote_addr"))
                options = connection_options(self)
                if options.get("backend") == "truenas":
                    raise ConfigError("this connection goes through Incus: on a TrueNAS a sandbox is reached over SSH")
                backend = incus_backend(options, direct=True)
                self._check(backend)
            self._open = backend
            self._connected = True
        return self

    def _check(self, backend: IncusBackend) -> None:
        """Raise ConfigError unless the name is that of a sandbox of ours that runs, or of a gateway or a builder."""
        found = backend.get_instance(self._name)
        if found is None:
            raise ConfigError("there is no such sandbox")
        special = {GATEWAY_NAME: GATEWAY, builder_name(found.keys.get(KEY_BASE, "")): BUILD}
        if found.kind != special.get(self._name, SANDBOX):
            raise ConfigError(f"the instance {found.server_name} is no sandbox of this collection")
        if found.status != RUNNING:
            raise ConfigError(f"it is {found.status}")

    def _failing(self) -> Any:
        return translated(AnsibleConnectionFailure, f"sandbox {self.get_option('remote_addr')}: ")

    @property
    def _backend(self) -> IncusBackend:
        self._connect()
        return cast(IncusBackend, self._open)

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command of Ansible's and return its exit code and what it printed."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)  # type: ignore[safe-super]  # it connects
        backend = self._backend
        display.vvv(f"EXEC {to_text(cmd)}", host=self._name)
        request = ExecRequest(
            ("/bin/sh", "-c", to_text(cmd, errors="surrogate_or_strict")),
            user=self.get_option("remote_user"),
            stdin=in_data or b"",
            gate=self._become_gate if sudoable and self.become and self.become.expect_prompt() else None,
        )
        with self._failing():
            result = backend.execute(self._name, request, Deadline(float("inf")))
        if request.gate and self._is_refused(result.stdout + result.stderr):
            name = self.become.name if self.become else "become"
            raise AnsibleAuthenticationFailure(f"{name} in sandbox {self._name} does not take the password")
        return result.rc, result.stdout, result.stderr

    def _become_gate(self, printed: bytes) -> bytes | None:
        """Return the password once it is asked for, nothing once it is not needed, None before either."""
        become = self.become
        if become is None or become.check_success(printed):
            return b""
        if become.check_password_prompt(printed):
            return to_bytes(become.get_option("become_pass", playcontext=self._play_context) or "") + b"\n"
        return None

    def _is_refused(self, printed: bytes) -> bool:
        """Say whether become asked for a password and did not take the one that it got."""
        become = self.become
        return (
            become is not None
            and not become.check_success(printed)
            and (become.check_incorrect_password(printed) or become.check_missing_password(printed))
        )

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the controller into the sandbox."""
        super().put_file(in_path, out_path)  # type: ignore[safe-super]  # it connects
        backend = self._backend
        display.vvv(f"PUT {in_path} TO {out_path}", host=self._name)
        if not os.path.isfile(to_bytes(in_path, errors="surrogate_or_strict")):
            raise AnsibleFileNotFound(f"{in_path} is no file of the controller")
        with self._failing(), open(to_bytes(in_path, errors="surrogate_or_strict"), "rb") as source:
            account = backend.account(self._name, self.get_option("remote_user"))
            backend.write_file(
                self._name, self._absolute(out_path, account.home), source, None, account.uid, account.gid
            )

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the sandbox to the controller."""
        super().fetch_file(in_path, out_path)  # type: ignore[safe-super]  # it connects
        backend = self._backend
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self._name)
        try:
            with self._failing(), open(to_bytes(out_path, errors="surrogate_or_strict"), "wb") as target:
                account = backend.account(self._name, self.get_option("remote_user"))
                path = self._absolute(in_path, account.home)
                try:
                    info = backend.read_file(self._name, path, target)
                except NotFound as exc:
                    raise AnsibleFileNotFound(f"{in_path} is not there in sandbox {self._name}") from exc
                if info.type != "file":
                    raise ConnectionFailed(f"{in_path} is a {info.type}, no file")
        except AnsibleError:
            os.unlink(to_bytes(out_path, errors="surrogate_or_strict"))
            raise

    @staticmethod
    def _absolute(path: str, home: str) -> str:
        return path if path.startswith("/") else f"{home.rstrip('/')}/{path}"

    def reset(self) -> None:
        """Drop the session; the next use opens a new one and looks at the sandbox again."""
        self.close()
        self._connect()

    def close(self) -> None:
        """Close the session."""
        if self._open is not None:
            self._open.close()
            self._open = None
        self._connected = False
