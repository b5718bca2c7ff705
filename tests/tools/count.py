# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count what JUnit files say: prints the passed and the failed tests of all files given."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

passed = failed = 0
for path in sys.argv[1:]:
    # files that our own test runners have just written
    for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed += 1
        elif "skipped" not in outcomes:
            passed += 1
print(passed, failed)
