"""Passwords on the command line: hide them in what is shown and in the list of processes (``ps``).

Until this has run, a fraction of a second after the start, other users of the machine can read them.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Sequence
from contextlib import suppress

from edge_runtime import redaction

_ADDRESS = re.compile(r"[^@]*:[^@]*@|[^@?]*://.*[?&]", re.S)
"""``user:password@host``, with or without a scheme, and a URL with a query."""


def hide_passwords(arguments: Sequence[str]) -> None:
    """Of every argument that looks like an address; questions are left alone."""
    replacements = {}
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if before != "--ask" and _ADDRESS.match(argument):
            with suppress(ImportError):  # without pipelines no source is opened
                redaction.register_url(argument)
                replacements[argument] = redaction.scrub(argument)
    if replacements:
        _overwrite(replacements)


def _overwrite(replacements: dict[str, str]) -> None:
    """Replace whole arguments in this process's memory, where /proc/PID/cmdline is read from."""
    if not sys.platform.startswith("linux"):
        return
    try:
        with open("/proc/self/stat", "rb") as file:
            # From the third field on: the second, a name in brackets, may hold anything. See proc(5).
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        with open("/proc/self/cmdline", "rb") as file:
            shown = file.read()
    except (OSError, ValueError, IndexError):
        return
    if not 0 < len(shown) <= end - start:
        return
    wanted = {old.encode(errors="surrogateescape"): new for old, new in replacements.items()}
    at = start
    for argument in shown.split(b"\0"):
        if argument in wanted:
            new = wanted[argument].encode(errors="surrogateescape")[: len(argument)]
            ctypes.memmove(at, new.ljust(len(argument), b"\0"), len(argument))
        at += len(argument) + 1
