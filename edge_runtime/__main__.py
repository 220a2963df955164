"""``edge-run`` and ``python -m edge_runtime``: the command line, which Ctrl-C ends quietly from the start.

Only what is needed for that is imported before the handler is set: the rest takes some tenths of a second.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """The console script. Never returns."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored: nohup, &
        signal.signal(signal.SIGINT, _interrupt)
    from edge_runtime.command_line.own_packages import prefer_own_packages

    prefer_own_packages()
    from edge_runtime.app import cli

    cli.main()


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """End at once in the midst of an import, which may hide the exception or report it as its own failure;
    nothing is lost then. Elsewhere KeyboardInterrupt, as ever.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
