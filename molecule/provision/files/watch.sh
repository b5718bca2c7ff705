#!/bin/sh
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Asks a guest all the time whether its user can become root, until the instance says that the watch is over.
# watch.sh PROJECT INSTANCE
set -u
asked=0
user=0
root=0
while [ "$(incus --project "$1" config get "local:$2" user.watch 2>/dev/null)" != over ] && [ "$asked" -lt 5000 ]; do
  asked=$((asked + 1))
  for words in '-n id -u' '-n -u root id -u' '-n bash -c id\ -u'; do
    # shellcheck disable=SC2086  # words
    said=$(incus --project "$1" exec "local:$2" --user 1000 --group 1000 --env HOME=/home/pixel -- sh -c "id -un; sudo $words" 2>/dev/null </dev/null)
    case $said in pixel*) user=$((user + 1)) ;; esac
    case $said in pixel*0) root=$((root + 1)) ;; esac
  done
  sleep 0.5
done
echo "asked $asked, of these as the user $user, root $root"
