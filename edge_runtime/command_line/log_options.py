"""The options ``-v`` and ``--log-level`` of a command."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from edge_runtime.observability.log import LEVELS, set_level


def log_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add both options to a click command. ``--quiet`` and ``--json`` alone show warnings and errors."""

    @click.option("-v", "--verbose", is_flag=True, help="Log details, as --log-level debug does.")
    @click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        help="Least level of messages on stderr.  [default: info; with --quiet or --json: warning]",
    )
    @wraps(function)
    def command(*args: Any, verbose: bool, log_level: str | None, **options: Any) -> int:
        quiet = options.get("quiet") or options.get("as_json")
        set_level(log_level or ("debug" if verbose else "warning" if quiet else "info"))
        return function(*args, **options)

    return command
