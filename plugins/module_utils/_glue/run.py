# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The Ansible edge of every module: the only exit, the only test of check mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.base import Backend
from ansible_collections.pixels.sandbox.plugins.module_utils._backend.select import backend_from
from ansible_collections.pixels.sandbox.plugins.module_utils._core.errors import MissingDependency, PixelsError
from ansible_collections.pixels.sandbox.plugins.module_utils._core.plan import Plan, Work, apply
from ansible_collections.pixels.sandbox.plugins.module_utils._glue.options import connection_spec

Params = Mapping[str, Any]


def run_module(
    spec: Mapping[str, object], planner: Callable[[Backend, Params], Work], noun: str | None, **rules: Any
) -> None:
    """Run a module that changes something.

    noun names the objects in the result (C(<noun>s) always, C(<noun>) too for a single name); with None the
    single object's fields are the result themselves. rules are those of AnsibleModule.
    """
    module = _module(spec, rules)
    _guarded(module, lambda backend: _carry_out(module, planner(backend, module.params), noun))


def run_info(
    spec: Mapping[str, object], reader: Callable[[Backend, Params], Mapping[str, object]], **rules: Any
) -> None:
    """Run a module that only reads."""
    module = _module(spec, rules)
    _guarded(module, lambda backend: {"changed": False, **reader(backend, module.params)})


def _module(spec: Mapping[str, object], rules: Mapping[str, Any]) -> AnsibleModule:
    return AnsibleModule(argument_spec={**spec, **connection_spec()}, **{"supports_check_mode": True, **rules})


def _guarded(module: AnsibleModule, work: Callable[[Backend], Mapping[str, object]]) -> NoReturn:
    """Turn what the work returns, or the failure it raises, into the module's one exit."""
    try:
        backend = backend_from(module.params)
        for text in backend.warnings:
            module.warn(text)
        try:
            result: dict[str, Any] = dict(work(backend))
        finally:
            backend.close()
    except MissingDependency as exc:
        result = {"failed": True, "msg": missing_required_lib(exc.library), "exception": exc.traceback}
    except PixelsError as exc:
        result = {"failed": True, "msg": str(exc), **exc.result()}
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


def _carry_out(module: AnsibleModule, work: Work, noun: str | None) -> dict[str, object]:
    plans = work.plans
    failed: dict[str, PixelsError] = {}
    unread: PixelsError | None = None
    seen: Mapping[str, Mapping[str, object]] = {plan.name: {**plan.seen, **plan.after} for plan in plans}
    if not module.check_mode and any(plan.steps for plan in plans):
        failed = apply(work)
        try:
            seen = work.observe()
        except PixelsError as exc:
            # a server that is gone by now: what was done and what failed is still told, over what there was before
            seen, unread = {}, exc
    results = [_result(plan, seen.get(plan.name, plan.seen), failed.get(plan.name)) for plan in plans]
    diffs = [
        {"before_header": plan.name, "after_header": plan.name, "before": dict(plan.before), "after": dict(plan.after)}
        for plan in plans
    ]
    result: dict[str, object] = {
        "changed": any(plan.changed for plan in plans),
        "actions": [action for plan in plans for action in plan.actions],
        "diff": diffs if work.many else diffs[0],
    }
    if noun is None:
        result = {**result, **results[0]}
    else:
        result[f"{noun}s"] = results
        result["failed_names"] = [plan.name for plan in plans if plan.name in failed]
        if not work.many:
            result[noun] = results[0]
    if failed:
        result.update(failed=True, msg="; ".join(str(exc) for exc in failed.values()))
        if len(failed) == 1:
            result.update(next(iter(failed.values())).result())
    elif unread:
        result.update(failed=True, msg=f"all was done, but what is there now could not be read: {unread}")
    return result


def _result(plan: Plan, seen: Mapping[str, object], failure: PixelsError | None) -> dict[str, object]:
    result = {"name": plan.name, **seen, "changed": plan.changed, "actions": plan.actions}
    if failure:
        result.update(failure.result(), failed=True, msg=str(failure))
    return result
