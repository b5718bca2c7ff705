#!/bin/sh
# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# What is there shows what the base below has, and when this one was filled.
date +%s > /etc/begun
cat /etc/tool.read > /etc/docs 2> /dev/null || true
sleep 3
date +%s > /etc/ended
