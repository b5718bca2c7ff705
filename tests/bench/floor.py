# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor: the same work with nothing but the API, through pylxd, with the same parallelism."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pylxd

ENDPOINT = "http+unix://%2Fvar%2Flib%2Fincus%2Funix.socket"


class Floor:
    """Raw requests of one project, a client per thread as pylxd's sessions want it."""

    def __init__(self, project: str, parallel: int = 8) -> None:
        self.project = project
        self.parallel = parallel
        self._local = threading.local()

    @property
    def api(self) -> Any:
        """The requests session's root of this thread."""
        if not hasattr(self._local, "api"):
            self._local.api = pylxd.Client(endpoint=ENDPOINT, project=self.project).api
        return self._local.api

    def each(self, work: Callable[[str], None], names: Iterable[str]) -> None:
        """Do the work for all names, so many at a time."""
        with ThreadPoolExecutor(self.parallel) as pool:
            list(pool.map(work, names))

    def clone(self, source: str, name: str) -> None:
        """Copy a snapshot, start the copy and wait until it has an address."""
        answer = self.api.instances.post(
            json={"name": name, "source": {"type": "copy", "source": source, "instance_only": True}}
        )
        self._finish(answer)
        self._finish(self.api.instances[name].state.put(json={"action": "start", "timeout": 60}))
        while not self.address(name):
            time.sleep(0.1)

    def address(self, name: str) -> str:
        """Return the IPv4 address of eth0, empty before there is one."""
        network = self.api.instances[name].state.get().json()["metadata"]["network"] or {}
        for entry in network.get("eth0", {}).get("addresses", []):
            if entry["family"] == "inet" and entry["scope"] == "global":
                return str(entry["address"])
        return ""

    def delete(self, name: str) -> None:
        """Stop by force and delete."""
        self._finish(self.api.instances[name].state.put(json={"action": "stop", "force": True, "timeout": 60}))
        self._finish(self.api.instances[name].delete())

    def names(self) -> list[str]:
        """Return the instances of the project."""
        return [url.rsplit("/", 1)[1].split("?")[0] for url in self.api.instances.get().json()["metadata"]]

    def _finish(self, answer: Any) -> None:
        operation = answer.json()["operation"].rsplit("/", 1)[1].split("?")[0]
        ended = self.api.operations[operation].wait.get(params={"timeout": 50}).json()["metadata"]
        if ended["status_code"] != 200:
            raise RuntimeError(ended["err"])


def main() -> None:
    """Run C(floor.py PROJECT clone SOURCE NAME…) or C(floor.py PROJECT delete NAME…) and print the seconds it took."""
    project, verb, *names = sys.argv[1:]
    floor = Floor(project)
    assert floor.api is not None
    begin = time.monotonic()
    if verb == "clone":
        source, *names = names
        floor.each(lambda name: floor.clone(source, name), names)
    else:
        floor.each(floor.delete, names)
    print(f"{time.monotonic() - begin:.3f}")


if __name__ == "__main__":
    main()
