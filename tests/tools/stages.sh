# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034,SC2164  # its variables are run's, and so is errexit
# The stages of `./run test`, each run as a process of its own, where a failing command ends it.

# In an order that lets those that compute run beside those that wait for guests.
STAGES=(sanity-oldest incus lint live sanity-newest unit units-oldest docs package units-newest
  story-provision live-egress story-lifecycle story-checkpoint story-connection story-inventory story-bases story-fleet story-truenas story-egress verify)

# How many stages may still run when one begins: the first on the real Incus needs what was set up before, and attacks need a quiet
# machine. Two projects on one bridge cannot both have a running sandbox of one name: the live tests share names, stories have their own.
# The longest comes first of those that may have company.
stage_beside() {
  case $1 in
    live | live-egress | story-fleet | verify) echo 0 ;;
    *) echo 1 ;;
  esac
}

# How many minutes a stage may take.
stage_limit() {
  case $1 in
    live | story-provision) echo 30 ;;
    *) echo 20 ;;
  esac
}

stage_lint() {
  local venv tree
  venv=$(dev_environment)
  PATH="$venv/bin:$PATH"
  ruff check .
  ruff format --check .
  codespell --skip .git,.cache,COPYING,LICENSES --ignore-words-list iif,nin,rin .
  yamllint --strict .
  shellcheck run .ci/run tests/tools/*.sh
  ansible-lint
  antsibull-changelog lint
  tree=$(copy_tree mypy)
  MYPYPATH=roles/gateway/files:roles/nftables/files mypy --config-file .mypy.ini roles/*/files/*.py
  (cd "${tree%/ansible_collections/*}" && mypy --config-file "$tree/.mypy.ini" ansible_collections/pixels/sandbox/plugins)
}

stage_unit() {
  local venv
  venv=$(dev_environment)
  "$venv/bin/pytest" -q --import-mode=importlib -p no:cacheprovider --junitxml="$junit/unit.xml" \
    --cov="$ANSIBLE_COLLECTIONS_PATH/ansible_collections/pixels/sandbox/plugins" --cov=plugins --cov-branch --cov-report=term-missing:skip-covered \
    --cov-fail-under=90 tests/unit
}

stage_docs() {
  local venv
  venv=$(dev_environment)
  PATH="$venv/bin:$PATH" antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck --validate-collection-refs self .
  PATH="$venv/bin:$PATH" ansible-doc --list pixels.sandbox --type module
  [ "$(wc -l < README.md)" -lt 150 ]
}

# documented TYPE FILE...: the documentation of each is found and shown. One program for all of them.
documented() {
  local type=$1 names
  shift
  names=("${@##*/}")
  names=("${names[@]%.py}")
  "$venv/bin/ansible-doc" -t "$type" "${names[@]/#/pixels.sandbox.}" > shown
  [ "$(grep -c '^> ' shown)" -eq "$#" ]
}

stage_package() {
  local venv tree dist installed
  venv=$(dev_environment)
  tree=$(copy_tree package)
  dist="$PIXELS_CACHE/dist"
  installed="$PIXELS_CACHE/installed"
  rm -rf "$dist" "$installed"
  (cd "$tree" && "$venv/bin/ansible-galaxy" collection build --force --output-path "$dist" .)
  "$venv/bin/ansible-galaxy" collection install --force --offline -p "$installed" "$dist"/pixels-sandbox-*.tar.gz
  (
    # nothing but the installed artifact may be found
    unset PYTHONPATH
    export ANSIBLE_COLLECTIONS_PATH="$installed"
    cd "$installed"
    "$venv/bin/ansible-galaxy" collection verify --offline pixels.sandbox
    for type in module connection inventory lookup; do
      documented "$type" "$repo/plugins/${type/%module/modules}"/*.py
    done
    documented role "$repo"/roles/*
    # it runs, and says what is wrong in words
    "$venv/bin/ansible" localhost -e ansible_python_interpreter="$venv/bin/python" \
      -m pixels.sandbox.pixels_instance_info -a incus_socket=/nonexistent > answer 2>&1 && exit 1
    cat answer
    grep -q 'socket /nonexistent is not there' answer
  )
  venv=$(importer_environment)
  (cd "$dist" && PATH="$venv/bin:$PATH" PYTHONPATH='' "$venv/bin/python" -m galaxy_importer.main "$dist"/pixels-sandbox-*.tar.gz)
}

# ansible_test VERSION PYTHON COMMAND...: run ansible-test in a copy of the tree. It clears the environment and cannot use pyenv's stand-ins.
ansible_test() {
  local version=$1 python=$2 venv tree path='' candidate status=0 lock
  shift 2
  # its own environments are shared by all that run of it
  exec {lock}> "$PIXELS_CACHE/ansible-test.lock"
  flock "$lock"
  venv=$(core_environment "$version" "$(find_python "$python")")
  tree=$(copy_tree "core-$version-$1")
  seed_pip_installer "$venv/bin/python"
  for candidate in 3.10 3.11 3.12 3.13; do
    if candidate=$(find_python "$candidate"); then
      path="$path:$(dirname "$candidate")"
    fi
  done
  (cd "$tree" && unset PYTHONPATH ANSIBLE_COLLECTIONS_PATH && PATH="$venv/bin$path:$PATH" "$venv/bin/ansible-test" "$@") || status=$?
  if [ -d "$tree/tests/output/junit" ]; then
    for candidate in "$tree"/tests/output/junit/*.xml; do
      cp "$candidate" "$junit/$version-$1-$(basename "$candidate")"
    done
  fi
  return "$status"
}

stage_sanity-oldest() {
  local pair core
  pair=$(oldest_core)
  read -ra core <<< "$pair"
  # what the other Pythons say, the newest one says too
  ansible_test "${core[@]}" sanity --local --python "${core[1]}"
}

stage_sanity-newest() {
  local pair core
  pair=$(newest_core)
  read -ra core <<< "$pair"
  ansible_test "${core[@]}" sanity --local
}

# The oldest and the newest Python of a core; those between add time and no news. What is about the tree and its tools says the same in
# each: the stage unit has it.
units_of_the_core() {
  ansible_test "$@" units --venv --python "$2" --exclude tests/unit/tools/ --exclude tests/unit/test_runner.py \
    --exclude tests/unit/test_architecture.py
}

stage_units-oldest() {
  local pair core
  pair=$(oldest_core)
  read -ra core <<< "$pair"
  units_of_the_core "${core[@]}"
}

stage_units-newest() {
  local pair core
  pair=$(newest_core)
  read -ra core <<< "$pair"
  units_of_the_core "${core[@]}"
}

# The second set-up finds nothing that is left to do.
stage_incus() {
  local again
  setup
  again=$(setup)
  printf '%s\n' "$again"
  if ! grep -qE '^localhost +: ok=[0-9]+ +changed=0 ' <<< "$again"; then
    echo "the second set-up has changed something" >&2
    return 1
  fi
}

# The first size of a disk turns quotas on for the whole pool, for good, and makes all that follows slow. Where nothing of
# anybody can depend on them, they are turned off again, before anything else runs.
drop_quotas() {
  if [ -z "$(incus list --all-projects --format csv --columns n)" ]; then
    btrfs quota disable /var/lib/incus/storage-pools/pixels 2> /dev/null || true
  fi
}

# What needs the one internet of the tests.
egress=(tests/live/egress tests/live/test_internet.py)

# live_tests NAME [OPTION...] PATH...
live_tests() {
  local venv name=$1
  shift
  venv=$(dev_environment)
  PATH="$venv/bin:$PATH" PIXELS_TEST_INCUS=1 "$venv/bin/pytest" -q -ra --durations=15 --import-mode=importlib -p no:cacheprovider \
    --junitxml="$junit/$name.xml" "$@"
}

stage_live() {
  drop_quotas
  live_tests live "${egress[@]/#/--ignore=}" tests/unit/contract tests/live
}

stage_live-egress() {
  live_tests live-egress "${egress[@]}"
}

# Attacks confined sandboxes on the local Incus.
stage_verify() {
  local venv
  venv=$(dev_environment)
  drop_quotas
  PATH="$venv/bin:$PATH" ANSIBLE_PIPELINING=true PIXELS_VERIFY_REPORT="${PIXELS_VERIFY_REPORT:-$PIXELS_CACHE/egress-report}" \
    "$venv/bin/python" tests/tools/verify.py
}

# run_scenario NAME: one story against the real Incus, verified by at least one test.
run_scenario() {
  local venv report="$junit/molecule-$1.xml" log="$PIXELS_CACHE/log/molecule-$1.log"
  venv=$(dev_environment)
  # molecule remembers what it once made, in spite of what became of it
  rm -rf "$ANSIBLE_HOME/story-$1" "$report"
  mkdir -p "$(dirname "$log")"
  ANSIBLE_HOME="$ANSIBLE_HOME/story-$1" PATH="$venv/bin:$PATH" PYTEST_ADDOPTS="-p no:cacheprovider --junitxml=$report" ANSIBLE_FORCE_COLOR=false \
    "$venv/bin/molecule" test --scenario-name "$1" 2>&1 | tee "$log"
  if grep -q 'Missing playbook' "$log"; then
    echo "scenario $1: a playbook is missing" >&2
    return 1
  fi
  if [ ! -s "$report" ]; then
    echo "scenario $1: nothing was verified" >&2
    return 1
  fi
}
