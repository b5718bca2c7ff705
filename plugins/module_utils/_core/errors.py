# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The failures a user can meet, each able to render itself as result data."""

from __future__ import annotations


class PixelsError(Exception):
    """A failure with a message for the user: what was tried, on what, what the server said."""

    def result(self) -> dict[str, object]:
        """Return what goes beside C(msg) into a failed result."""
        return {}


class ConfigError(PixelsError):
    """What was asked for is contradictory, malformed or refused by a rule of ours; nothing was changed."""


class Foreign(ConfigError):
    """The object exists and is not ours: it is never changed or deleted."""


class Unsupported(ConfigError):
    """The backend, or the server behind it, cannot do what was asked for."""


class MissingDependency(PixelsError):
    """A Python library is not there."""

    def __init__(self, library: str, traceback: str = "") -> None:
        super().__init__(f"the Python library {library} is missing")
        self.library = library
        self.traceback = traceback


class ConnectionFailed(PixelsError):
    """The server could not be reached, or what answered is not the server that was asked for."""


class AuthenticationFailed(ConnectionFailed):
    """The server answered, and does not trust us."""


class OutcomeUnknown(PixelsError):
    """A change was asked for and its answer never came: it may have been made, and is not asked for again."""


class DeadlineExceeded(PixelsError):
    """The time given was over before the work was."""


class ApiError(PixelsError):
    """The server refused a request.

    code is the server's number; method and path say what was refused.
    """

    def __init__(self, message: str, code: int = 0, method: str = "", path: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.method = method
        self.path = path

    def result(self) -> dict[str, object]:
        """Return the number of the refusal and what was asked."""
        return {"error_code": self.code, "request": f"{self.method} {self.path}".strip()}


class NotFound(ApiError):
    """The object is not there (404)."""


class Conflict(ApiError):
    """Somebody else changed, made or is changing the object (409, 412)."""


class OperationFailed(ApiError):
    """The server accepted the work and failed at it."""


class StepFailed(PixelsError):
    """A step of a plan failed after others had been done."""

    def __init__(self, name: str, step: str, done: tuple[str, ...], cause: PixelsError) -> None:
        super().__init__(f"{name}: could not {step}: {cause}")
        self.name = name
        self.step = step
        self.done = done
        self.cause = cause

    def result(self) -> dict[str, object]:
        """Return the failed step, the completed ones, and what the cause adds."""
        return {**self.cause.result(), "failed_step": self.step, "completed_steps": list(self.done)}
