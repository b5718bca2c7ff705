# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""How the shell of a guest is told what to run, and what to end: programs that never change, and data on their standard input."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import ConfigError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.model import ExecRequest

#: What other clients of a server, or a list of processes, may see of a command. The command itself comes as lines on standard
#: input: a letter, then text in which backslash sequences stand for what a line cannot hold. Without its last
#: line, X, nothing runs.
WRAPPER = r"""set -f
unset CDPATH
while IFS= read -r line; do
  text=${line#?}
  case $text in *\\*) text=$(printf '%b.' "$text"); text=${text%.} ;; esac
  case $line in
    E*) export "$text" ;;
    D*) cd "$text" || exit 126 ;;
    A*) set -- "$@" "$text" ;;
    X*) unset line text OLDPWD; exec "$@" ;;
  esac
done
exit 126
"""
#: Ends what carries the mark in its environment and all that came from it. Stopped first, so that nothing
#: forks away while the others are looked for.
KILLER = r"""set -f
IFS= read -r mark
case $mark in ''|*[!0-9a-f]*) exit 1 ;; esac
parents() {
  for pid in $(set +f; cd /proc && printf '%s ' [0-9]*); do
    stat=
    read -r stat 2>/dev/null < "/proc/$pid/stat" || [ -n "$stat" ] || continue
    set -- ${stat##*) }
    printf '%s %s\n' "$pid" "$2"
  done
}
round=0
while [ "$round" -lt 25 ]; do
  round=$((round + 1))
  found=' '
  for file in $(set +f; grep -las "PIXELS_EXEC_ID=$mark" /proc/[0-9]*/environ); do
    pid=${file#/proc/}
    found="$found${pid%/environ} "
  done
  more=1
  while [ "$more" = 1 ]; do
    more=0
    tree=$(parents)
    while read -r pid parent; do
      case $found in *" $pid "*) continue ;; esac
      case $found in *" $parent "*) found="$found$pid "; more=1 ;; esac
    done <<END
$tree
END
    for pid in $found; do kill -STOP "$pid" 2>/dev/null; done
  done
  [ "$found" = ' ' ] && exit 0
  for pid in $found; do kill -KILL "$pid" 2>/dev/null; done
  sleep 0.05 2>/dev/null || sleep 1
done
exit 1
"""
MARK = "PIXELS_EXEC_ID"


def header(request: ExecRequest, extra: Mapping[str, str]) -> bytes:
    """Return the lines that tell the wrapper what to run; ConfigError for what no process can be given."""
    lines = [f"E{_encoded('env', f'{name}={value}')}" for name, value in {**request.env, **extra}.items()]
    if request.cwd:
        # a relative path that begins with a hyphen would be an option of cd
        cwd = request.cwd if request.cwd.startswith("/") else f"./{request.cwd}"
        lines.append(f"D{_encoded('cwd', cwd)}")
    lines += [f"A{_encoded('argv', item)}" for item in request.argv]
    return "".join(f"{line}\n" for line in [*lines, "X"]).encode("utf-8", "surrogateescape")


def _encoded(option: str, text: str) -> str:
    if "\0" in text:
        raise ConfigError(f"{option} has a NUL character, which no process can be given")
    return text.replace("\\", "\\\\").replace("\n", "\\0012")
