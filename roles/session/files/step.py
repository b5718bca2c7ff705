# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long steps of provisioning, as units of systemd: they go on when the one who started them is gone.

px-step run NAME        run a step, or join it where it runs, and wait for its end; ends with 0 when the step did well, and else
                        prints the end of its log. Standard input is JSON: argv, user, env (a map), chdir, timeout (seconds).
px-step list [LINES]    the steps as JSON, with so many lines of the end of their logs

What a step was told lies in a folder that only root reads, until it is over. Its log and how it ended stay.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

TOLD, KEPT, LOGS = Path("/run/pixels-steps"), Path("/var/lib/pixels/steps"), Path("/var/log/pixels")
NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
LOG_BYTES = 1 << 18


def now() -> str:
    """Return the time in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def active(name: str) -> bool:
    """Say whether the unit of a step runs."""
    asked = ["systemctl", "show", "--property=ActiveState", "--value", f"px-step-{name}"]
    state = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return state in ("activating", "active", "deactivating", "reloading")


def record(name: str) -> dict[str, Any]:
    """Return what is known of a step."""
    try:
        return dict(json.loads((KEPT / f"{name}.json").read_text()))
    except FileNotFoundError:
        return {}


def keep(name: str, told: dict[str, Any]) -> None:
    """Keep what is known of a step."""
    new = KEPT / f".{name}.new"
    new.write_text(json.dumps(told))
    new.replace(KEPT / f"{name}.json")


def tail(name: str, lines: int) -> str:
    """Return the last lines of the log of a step."""
    path = LOGS / f"{name}.log"
    if not lines or not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def shown(name: str, lines: int) -> dict[str, Any]:
    """Return a step as the list shows it."""
    told = record(name)
    if told.get("ended_at"):
        state = "done" if told.get("result") == "success" else "failed"
    elif active(name):
        state = "running"
    else:
        # the guest went down in the middle of it
        state, told["result"] = "failed", "interrupted"
    return {**told, "name": name, "state": state, "log": tail(name, lines)}


def start(name: str, told: dict[str, Any]) -> None:
    """Start the unit of a step."""
    for folder in (TOLD, KEPT, LOGS):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    TOLD.chmod(0o700)
    log = LOGS / f"{name}.log"
    log.touch(mode=0o600)
    os.truncate(log, 0)
    path = TOLD / f"{name}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(told))
    keep(name, {"began_at": now()})
    me = ["/usr/bin/python3", "-I", os.path.realpath(__file__)]
    properties = (
        "Type=oneshot",
        "CollectMode=inactive-or-failed",
        f"TimeoutStartSec={int(told['timeout'])}",
        f"StandardOutput=append:{log}",
        "StandardError=inherit",
        f"ExecStopPost=+{' '.join(me)} _ended {name}",
    )
    options = ["--quiet", "--no-block", f"--unit=px-step-{name}", *(f"--property={item}" for item in properties)]
    subprocess.run(["systemd-run", *options, *me, "_run", name], check=True)


def run(name: str) -> None:
    """Be the program of a step."""
    told = json.loads((TOLD / f"{name}.json").read_text())
    account = pwd.getpwnam(told["user"])
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.chdir(told.get("chdir") or account.pw_dir)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    home = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "SHELL": account.pw_shell}
    os.execvpe(told["argv"][0], told["argv"], {"PATH": path, "LANG": "C.UTF-8", **home, **told.get("env", {})})


def ended(name: str) -> None:
    """Keep how a step ended, as systemd says it."""
    code = os.environ.get("EXIT_STATUS", "")
    exited = os.environ.get("EXIT_CODE") == "exited" and code.isdigit()
    result = os.environ.get("SERVICE_RESULT", "unknown")
    keep(name, {**record(name), "ended_at": now(), "result": result, "exit_code": int(code) if exited else None})
    (TOLD / f"{name}.json").unlink(missing_ok=True)


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    verb, name = [*arguments, "", ""][:2]
    if verb == "list":
        found = sorted(path.stem for path in KEPT.glob("*.json")) if KEPT.is_dir() else []
        print(json.dumps([shown(entry, int(name or 0)) for entry in found]))
        return
    if verb not in ("run", "_run", "_ended") or not NAME.fullmatch(name):
        sys.exit(__doc__)
    if verb == "_run":
        run(name)
    if verb == "_ended":
        ended(name)
        return
    told = json.load(sys.stdin)
    if active(name):
        print(f"joining step {name}, which runs", flush=True)
    else:
        start(name, told)
    while active(name):
        time.sleep(0.3)
    last = shown(name, 60)
    if last["state"] != "done":
        print(last["log"])
        how = f"{last['result']}, exit code {last.get('exit_code')}"
        sys.exit(f"px-step: step {name} ended with {how}; its log is {LOGS / name}.log")


if __name__ == "__main__":
    main(sys.argv[1:])
