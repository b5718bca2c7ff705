# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2154  # repo and PIXELS_CACHE are run's
# Virtual environments: each is made whole under a temporary name and then renamed, so that a killed run leaves no half one.

# The interpreter of a Python version: pyenv's real one, since its stand-ins answer only for the chosen version, else the system's.
find_python() {
  local version=$1 candidate
  for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python"$version" "/usr/bin/python$version" "/usr/local/bin/python$version"; do
    if [ -x "$candidate" ] && "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}

# The first of these versions that is here.
first_python() {
  local version
  for version in "$@"; do
    if find_python "$version"; then
      return 0
    fi
  done
  return 1
}

# environment NAME PYTHON REQUIREMENTS [PACKAGE...]: make the environment if its definition has changed; print its folder.
environment() {
  local name=$1 python=$2 requirements=$3
  shift 3
  local folder="$PIXELS_CACHE/venv/$name" mark temporary lock
  mark=$({ "$python" -VV; cat "$repo"/tests/requirements/*.txt; printf '%s\n' "$requirements" "$@"; } | sha256sum | cut -d' ' -f1)
  mkdir -p "$PIXELS_CACHE/venv" "$PIXELS_CACHE/log"
  # two runs at once make one environment
  exec {lock}> "$PIXELS_CACHE/venv/$name.lock"
  flock "$lock"
  if [ "$(cat "$folder/.definition" 2>/dev/null || true)" != "$mark" ] || ! "$folder/bin/python" -c '' 2>/dev/null; then
    say "making the environment $name"
    rm -rf "$folder" "$folder".new.*
    temporary="$folder.new.$$"
    "$python" -m venv "$temporary" >&2
    if ! "$temporary/bin/pip" install --disable-pip-version-check -r "$repo/tests/requirements/$requirements" "$@" \
      > "$PIXELS_CACHE/log/pip-$name.log" 2>&1; then
      tail -n 20 "$PIXELS_CACHE/log/pip-$name.log" >&2
      return 1
    fi
    # scripts carry the path of their interpreter in their first line
    grep -lrIZ --exclude-dir=lib "$temporary" "$temporary/bin" | xargs -0 sed -i "s|$temporary|$folder|g"
    printf '%s\n' "$mark" > "$temporary/.definition"
    mv "$temporary" "$folder"
  fi
  exec {lock}>&-
  printf '%s\n' "$folder"
}

runtime_environment() {
  environment runtime "$(first_python 3.12 3.11 3.13 3.10 3.14)" runtime.txt
}

dev_environment() {
  environment dev "$(first_python 3.11 3.12 3.13 3.10 3.14)" dev.txt
}

# core_environment VERSION PYTHON
core_environment() {
  environment "core-$1" "$2" core.txt "ansible-core==$1.*"
}

importer_environment() {
  environment importer "$(first_python 3.11 3.12 3.13 3.10)" importer.txt
}

# core_for WISH "CORE PYTHON"...: the first pair whose Python is here; said when it is not the one wished for.
core_for() {
  local wish=$1 pair
  shift
  for pair in "$@"; do
    if find_python "${pair#* }" > /dev/null; then
      [ "${pair% *}" = "$wish" ] || say "no Python here carries ansible-core $wish: checking with ${pair% *} on Python ${pair#* }"
      printf '%s\n' "$pair"
      return 0
    fi
  done
  say "no Python here carries an ansible-core that is supported"
  return 1
}

# The oldest and the newest ansible-core that a Python of this machine carries, as "VERSION PYTHON".
oldest_core() {
  core_for 2.17 "2.17 3.10" "2.17 3.11" "2.17 3.12" "2.18 3.13" "2.20 3.14"
}

newest_core() {
  core_for 2.21 "2.21 3.14" "2.21 3.13" "2.21 3.12" "2.19 3.11" "2.17 3.10"
}

# Let every tool find this checkout as a collection, and no other copy of it.
use_checkout() {
  local root variable
  # a hook of git hands its own repository over, which must not be mistaken for ours
  for variable in $(git rev-parse --local-env-vars); do
    unset "$variable"
  done
  # the clone may belong to somebody else than root
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="$repo"
  root="$PIXELS_CACHE/checkout-$(printf '%s' "$repo" | sha256sum | cut -c1-12)"
  mkdir -p "$root/ansible_collections/pixels"
  ln -sfn "$repo" "$root/ansible_collections/pixels/sandbox"
  export ANSIBLE_COLLECTIONS_PATH="$root" PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
  export ANSIBLE_HOME="$root/ansible" PYTHONDONTWRITEBYTECODE=1
}

# A copy of what would be committed, in a folder of the shape that ansible-test wants; print the folder.
copy_tree() {
  local tree="$PIXELS_CACHE/tree-$1/ansible_collections/pixels/sandbox"
  rm -rf "$PIXELS_CACHE/tree-$1"
  mkdir -p "$tree"
  (cd "$repo" && git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [ -e "$file" ] || [ -L "$file" ]; then
      printf '%s\0' "$file"
    fi
  done | tar -c --null -T - -f -) | tar -x -C "$tree" -f -
  # without a repository of its own ansible-test would look for one above it
  git -C "$tree" init --quiet >&2
  git -C "$tree" add --all
  printf '%s\n' "$tree"
}

# ansible-test fetches pip's installer from a host of the Ansible project unless it lies in its cache.
seed_pip_installer() {
  local python=$1 version
  version=$("$python" - <<'PYTHON'
import pathlib
import re

import ansible_test

text = (pathlib.Path(ansible_test.__path__[0]) / "_internal" / "python_requirements.py").read_text()
print(re.search(r"pip='([0-9.]+)'", text)[1].replace(".", "_"))
PYTHON
  )
  mkdir -p "$HOME/.ansible/test/cache"
  cp "$repo/tests/tools/get_pip.py" "$HOME/.ansible/test/cache/get_pip_$version.py"
}
