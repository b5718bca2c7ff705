# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module says of check mode, diff and idempotence. Private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of modules that change something, and of those that only read."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in check mode and say what it would change.
    support: full
  diff_mode:
    description: Returns what changed, or would change in check mode, when run in diff mode.
    support: full
  action_group:
    description: Use C(group/pixels.sandbox.pixels) in C(module_defaults) to set the connection options once.
    support: full
    membership:
      - pixels.sandbox.pixels
"""

    IDEMPOTENT = r"""
attributes:
  idempotent:
    description: When run again with the same options, changes nothing.
    support: full
"""

    INFO = r"""
attributes:
  check_mode:
    description: Can run in check mode and changes nothing.
    support: full
  diff_mode:
    description: Has nothing to show in diff mode, since it changes nothing.
    support: N/A
  idempotent:
    description: Changes nothing, however often it is run.
    support: full
  action_group:
    description: Use C(group/pixels.sandbox.pixels) in C(module_defaults) to set the connection options once.
    support: full
    membership:
      - pixels.sandbox.pixels
"""
