# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options, for modules and for plugins. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """The table of _glue/options.py in words; a test compares the two."""

    DOCUMENTATION = r"""
options:
  backend:
    description:
      - What runs the sandboxes.
      - If it is not given, the environment variable E(PIXELS_BACKEND) is used.
    type: str
    choices:
      - incus
      - truenas
    default: incus
  incus_socket:
    description:
      - Path of the server's Unix socket, for a server on the machine where the task runs.
      - If it is not given, the environment variable E(PIXELS_INCUS_SOCKET) is used, then
        C(/var/lib/incus/unix.socket), then C(/run/incus/unix.socket).
    type: path
  incus_remote:
    description:
      - Address of a server, as V(https://incus.example.com:8443). The port is 8443 if none is given.
      - It is stronger than O(incus_socket), and needs O(incus_client_cert) and O(incus_client_key).
      - If it is not given, the environment variable E(PIXELS_INCUS_REMOTE) is used.
    type: str
  incus_client_cert:
    description:
      - Path of the certificate that the server trusts, in PEM.
      - If it is not given, the environment variable E(PIXELS_INCUS_CLIENT_CERT) is used.
    type: path
  incus_client_key:
    description:
      - Path of the key that belongs to O(incus_client_cert), in PEM.
      - If it is not given, the environment variable E(PIXELS_INCUS_CLIENT_KEY) is used.
    type: path
  incus_server_cert:
    description:
      - Path of the one certificate that the server may show, in PEM. Any other, and this one after its end, is refused.
      - Without it the server is verified by O(incus_ca_cert), or else by the authorities that the system trusts. There is no way to
        leave the verification out.
      - If it is not given, the environment variable E(PIXELS_INCUS_SERVER_CERT) is used.
    type: path
  incus_ca_cert:
    description:
      - Path of the certificates of the authorities that may vouch for the server, in PEM.
      - Mutually exclusive with O(incus_server_cert).
      - If it is not given, the environment variable E(PIXELS_INCUS_CA_CERT) is used.
    type: path
  incus_project:
    description:
      - Project of the server. The server's own default if it is not given.
      - If it is not given, the environment variable E(PIXELS_INCUS_PROJECT) is used.
    type: str
  truenas_host:
    description:
      - Host name or address of a TrueNAS 25.04 or 25.10, for O(backend=truenas).
      - If it is not given, the environment variable E(PIXELS_TRUENAS_HOST) is used.
    type: str
  truenas_port:
    description:
      - Port of its web interface. The default is 443.
      - If it is not given, the environment variable E(PIXELS_TRUENAS_PORT) is used.
    type: int
  truenas_username:
    description:
      - User that the API key belongs to. The default is V(root).
      - If it is not given, the environment variable E(PIXELS_TRUENAS_USERNAME) is used.
    type: str
  truenas_api_key:
    description:
      - API key of that user, which is sent over verified TLS only and shown nowhere.
      - If it is not given, the environment variable E(PIXELS_TRUENAS_API_KEY) is used.
    type: str
  truenas_ca_cert:
    description:
      - Path of the certificates of the authorities that may vouch for the server, in PEM.
      - Mutually exclusive with O(truenas_fingerprint). Without both, the authorities that the system trusts count.
      - If it is not given, the environment variable E(PIXELS_TRUENAS_CA_CERT) is used.
    type: path
  truenas_fingerprint:
    description:
      - SHA-256 of the one certificate that the server may show, as 64 hexadecimal digits.
      - If it is not given, the environment variable E(PIXELS_TRUENAS_FINGERPRINT) is used.
    type: str
  truenas_insecure_skip_verify:
    description:
      - Whether any certificate is taken. Anybody in between can read the API key then.
      - If it is not given, the environment variable E(PIXELS_TRUENAS_INSECURE_SKIP_VERIFY) is used.
    type: bool
  truenas_pool:
    description:
      - ZFS pool for the datasets C(pixels/NAME), in whose properties the collection keeps what it knows of its sandboxes.
      - The default is the pool of the instances.
      - If it is not given, the environment variable E(PIXELS_TRUENAS_POOL) is used.
    type: str
  truenas_ssh_key:
    description:
      - Path of the private key that lets the controller into sandboxes, with its public key in a file of the same name with C(.pub).
      - Without it, sandboxes can be made, started and removed, and nothing can be done inside of them.
      - If it is not given, the environment variable E(PIXELS_TRUENAS_SSH_KEY) is used.
    type: path
requirements:
  - pylxd >= 2.4
  - requests
  - websocket-client
"""

    PLUGIN = r"""
options:
  backend:
    description: What runs the sandboxes.
    type: str
    choices:
      - incus
      - truenas
    default: incus
    env:
      - name: PIXELS_BACKEND
    vars:
      - name: ansible_pixels_backend
  incus_socket:
    description:
      - Path of the server's Unix socket, for a server on the controller.
      - If it is not given, C(/var/lib/incus/unix.socket) is used, then C(/run/incus/unix.socket).
    type: path
    env:
      - name: PIXELS_INCUS_SOCKET
    vars:
      - name: ansible_pixels_incus_socket
  incus_remote:
    description:
      - Address of a server, as V(https://incus.example.com:8443). The port is 8443 if none is given.
      - It is stronger than O(incus_socket), and needs O(incus_client_cert) and O(incus_client_key).
    type: str
    env:
      - name: PIXELS_INCUS_REMOTE
    vars:
      - name: ansible_pixels_incus_remote
  incus_client_cert:
    description: Path of the certificate that the server trusts, in PEM.
    type: path
    env:
      - name: PIXELS_INCUS_CLIENT_CERT
    vars:
      - name: ansible_pixels_incus_client_cert
  incus_client_key:
    description: Path of the key that belongs to O(incus_client_cert), in PEM.
    type: path
    env:
      - name: PIXELS_INCUS_CLIENT_KEY
    vars:
      - name: ansible_pixels_incus_client_key
  incus_server_cert:
    description:
      - Path of the one certificate that the server may show, in PEM. Any other, and this one after its end, is refused.
      - Without it the server is verified by O(incus_ca_cert), or else by the authorities that the system trusts.
    type: path
    env:
      - name: PIXELS_INCUS_SERVER_CERT
    vars:
      - name: ansible_pixels_incus_server_cert
  incus_ca_cert:
    description:
      - Path of the certificates of the authorities that may vouch for the server, in PEM.
      - Mutually exclusive with O(incus_server_cert).
    type: path
    env:
      - name: PIXELS_INCUS_CA_CERT
    vars:
      - name: ansible_pixels_incus_ca_cert
  incus_project:
    description: Project of the server. The server's own default if it is not given.
    type: str
    env:
      - name: PIXELS_INCUS_PROJECT
    vars:
      - name: ansible_pixels_incus_project
  truenas_host:
    description:
      - Host name or address of a TrueNAS 25.04 or 25.10, for O(backend=truenas).
    type: str
    env:
      - name: PIXELS_TRUENAS_HOST
    vars:
      - name: ansible_pixels_truenas_host
  truenas_port:
    description:
      - Port of its web interface. The default is 443.
    type: int
    env:
      - name: PIXELS_TRUENAS_PORT
    vars:
      - name: ansible_pixels_truenas_port
  truenas_username:
    description:
      - User that the API key belongs to. The default is V(root).
    type: str
    env:
      - name: PIXELS_TRUENAS_USERNAME
    vars:
      - name: ansible_pixels_truenas_username
  truenas_api_key:
    description:
      - API key of that user, which is sent over verified TLS only and shown nowhere.
    type: str
    env:
      - name: PIXELS_TRUENAS_API_KEY
    vars:
      - name: ansible_pixels_truenas_api_key
  truenas_ca_cert:
    description:
      - Path of the certificates of the authorities that may vouch for the server, in PEM.
      - Mutually exclusive with O(truenas_fingerprint). Without both, the authorities that the system trusts count.
    type: path
    env:
      - name: PIXELS_TRUENAS_CA_CERT
    vars:
      - name: ansible_pixels_truenas_ca_cert
  truenas_fingerprint:
    description:
      - SHA-256 of the one certificate that the server may show, as 64 hexadecimal digits.
    type: str
    env:
      - name: PIXELS_TRUENAS_FINGERPRINT
    vars:
      - name: ansible_pixels_truenas_fingerprint
  truenas_insecure_skip_verify:
    description:
      - Whether any certificate is taken. Anybody in between can read the API key then.
    type: bool
    env:
      - name: PIXELS_TRUENAS_INSECURE_SKIP_VERIFY
    vars:
      - name: ansible_pixels_truenas_insecure_skip_verify
  truenas_pool:
    description:
      - ZFS pool for the datasets C(pixels/NAME), in whose properties the collection keeps what it knows of its sandboxes.
      - The default is the pool of the instances.
    type: str
    env:
      - name: PIXELS_TRUENAS_POOL
    vars:
      - name: ansible_pixels_truenas_pool
  truenas_ssh_key:
    description:
      - Path of the private key that lets the controller into sandboxes, with its public key in a file of the same name with C(.pub).
      - Without it, sandboxes can be made, started and removed, and nothing can be done inside of them.
    type: path
    env:
      - name: PIXELS_TRUENAS_SSH_KEY
    vars:
      - name: ansible_pixels_truenas_ssh_key
requirements:
  - websocket-client
"""
