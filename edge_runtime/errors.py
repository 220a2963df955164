"""Errors a user can cause or mend. Each message is one line: what happened, which input, what to do next."""

from __future__ import annotations


class EdgeError(Exception):
    """Base of all errors shown to a user as one line; ``exit_code`` is what the process ends with."""

    exit_code = 1


class ConfigError(EdgeError):
    """A setting, option or configuration file that cannot be used."""

    exit_code = 2


class BundleError(EdgeError):
    """A model bundle that is missing, damaged, tampered with or too new."""

    exit_code = 3


class SourceError(EdgeError):
    """A camera, stream or file that gives no frames. ``permanent``: trying again cannot help."""

    exit_code = 4

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class SinkError(EdgeError):
    """An output that cannot be written."""

    exit_code = 5


class BackendError(EdgeError):
    """An inference engine that is missing or fails."""

    exit_code = 6


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says, at most 200 characters, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
