#!/bin/sh
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Called by mmdebstrap with the folder of the new root file system.
set -eu
root=$1
here=$(dirname "$0")

install -m 0644 "$here/eth0.network" "$root/etc/systemd/network/eth0.network"
chroot "$root" systemctl enable systemd-networkd systemd-resolved
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

for authority in "$here"/authorities/*.crt; do
    [ -e "$authority" ] || continue
    install -m 0644 "$authority" "$root/usr/local/share/ca-certificates/"
done
chroot "$root" update-ca-certificates

# What tells machines apart is made at the first start of each.
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root"/etc/ssh/ssh_host_*
