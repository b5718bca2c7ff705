# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures as result data."""

from __future__ import annotations

import pytest
from ansible_collections.pixels.sandbox.plugins.module_utils._core import errors


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.ConnectionFailed, errors.DeadlineExceeded])
def test_failure_without_more_to_say_adds_nothing_to_the_result(kind: type[errors.PixelsError]) -> None:
    assert kind("why").result() == {}


def test_refusal_of_the_server_carries_its_number_and_what_was_asked() -> None:
    refusal = errors.Conflict("changed meanwhile", 412, "PUT", "/1.0/instances/px-box")
    assert refusal.result() == {"error_code": 412, "request": "PUT /1.0/instances/px-box"}


def test_failed_step_names_sandbox_step_cause_and_what_was_done_before() -> None:
    cause = errors.OperationFailed("no space left", 400, "POST", "/1.0/instances")
    failure = errors.StepFailed("box", "start box", ("create box",), cause)
    assert str(failure) == "box: could not start box: no space left"
    assert failure.result() == {
        "error_code": 400,
        "request": "POST /1.0/instances",
        "failed_step": "start box",
        "completed_steps": ["create box"],
    }


def test_missing_library_is_named() -> None:
    missing = errors.MissingDependency("pylxd", "Traceback …")
    assert (missing.library, missing.traceback) == ("pylxd", "Traceback …")
    assert "pylxd" in str(missing)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.Foreign, errors.ConfigError),
        (errors.Unsupported, errors.ConfigError),
        (errors.AuthenticationFailed, errors.ConnectionFailed),
        (errors.NotFound, errors.ApiError),
        (errors.Conflict, errors.ApiError),
        (errors.OperationFailed, errors.ApiError),
    ],
)
def test_failure_is_caught_as_its_broader_kind(kind: type[Exception], base: type[Exception]) -> None:
    assert issubclass(kind, base)
    assert issubclass(base, errors.PixelsError)
