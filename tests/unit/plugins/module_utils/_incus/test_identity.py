# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identities of clones: SSH host keys that OpenSSH can read, and nothing where there was nothing."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core.deadline import Deadline
from ansible_collections.pixels.sandbox.plugins.module_utils._core.identity import host_key
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.client import Client
from ansible_collections.pixels.sandbox.plugins.module_utils._incus.identity import give_identity
from cryptography.hazmat.primitives import serialization
from support.fake_guest import FOLDER, FakeDisk, FakeFile
from support.fake_incus import FakeIncus

CREATE = {
    "name": "px-one",
    "source": {"type": "image", "alias": "debian/13"},
    "devices": {"root": {"type": "disk", "path": "/", "pool": "pixels"}},
}


@pytest.fixture
def server() -> FakeIncus:
    """A server with a stopped sandbox."""
    found = FakeIncus()
    Client(found.transport()).run("POST", "/1.0/instances", CREATE, Deadline(5), "create")
    return found


def identified(server: FakeIncus) -> FakeDisk:
    """Give the sandbox an identity and return its disk."""
    give_identity(Client(server.transport()), "px-one")
    return server.instance("px-one").disk


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_host_key_is_a_pair_in_the_format_of_openssh(kind: str) -> None:
    private, public = host_key(kind, "px-one")
    read = serialization.load_ssh_private_key(private, None)
    shown = read.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert public == shown + b" root@px-one\n"


def test_no_two_host_keys_are_the_same() -> None:
    assert host_key("ed25519", "px-one")[0] != host_key("ed25519", "px-one")[0]


def test_private_host_keys_are_for_root_alone(server: FakeIncus) -> None:
    files = identified(server).files
    key = files["/etc/ssh/ssh_host_ed25519_key"]
    assert (key.mode, key.uid, key.gid) == (0o600, 0, 0)
    assert b"the key of the image" not in key.content
    assert files["/etc/ssh/ssh_host_ed25519_key.pub"].content.startswith(b"ssh-ed25519 ")


def test_keys_of_a_kind_that_is_no_longer_made_are_removed(server: FakeIncus) -> None:
    assert "/etc/ssh/ssh_host_dsa_key" not in identified(server).files


def test_other_files_of_the_ssh_server_stay(server: FakeIncus) -> None:
    disk = server.instance("px-one").disk
    disk.files["/etc/ssh/sshd_config"] = FakeFile(b"Port 22\n")
    disk.files["/etc/ssh/ssh_host_rsa_key.bak"] = FakeFile(b"mine\n")
    assert identified(server).files["/etc/ssh/sshd_config"].content == b"Port 22\n"
    assert disk.files["/etc/ssh/ssh_host_rsa_key.bak"].content == b"mine\n"


def test_a_guest_without_an_ssh_server_gets_no_keys(server: FakeIncus) -> None:
    disk = server.instance("px-one").disk
    disk.files = {path: file for path, file in disk.files.items() if not path.startswith("/etc/ssh")}
    assert not any(path.startswith("/etc/ssh") for path in identified(server).files)


def test_a_guest_that_has_no_machine_id_gets_none(server: FakeIncus) -> None:
    del server.instance("px-one").disk.files["/etc/machine-id"]
    assert "/etc/machine-id" not in identified(server).files


def test_the_machine_id_is_emptied_and_the_name_is_the_servers(server: FakeIncus) -> None:
    files = identified(server).files
    assert files["/etc/machine-id"].content == b""
    assert files["/etc/hostname"].content == b"px-one\n"


def test_a_folder_where_a_key_should_be_is_not_followed_into(server: FakeIncus) -> None:
    server.instance("px-one").disk.files["/etc/ssh/moduli.d"] = FOLDER
    assert identified(server).files["/etc/ssh/moduli.d"] == FOLDER
