"""Log records for people: ``edge-run: warning: ...`` on stderr, without secrets, between the live lines.

Modules log to ``logging.getLogger(__name__)``. The command line installs the handler here; a program that
embeds the runtime configures :mod:`logging` as it likes and may add :class:`Redaction` to its own handlers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_runtime.observability.console import RED, YELLOW, Console, printable
from edge_runtime.redaction import scrub

LEVELS = ("debug", "info", "warning", "error")
OURS = ("edge_runtime", "pipelines")
"""Loggers that a chosen level is for; those of other packages show warnings and errors."""

_PREFIX = {logging.WARNING: "warning: ", logging.ERROR: "error: ", logging.CRITICAL: "error: "}
_STYLE = {logging.WARNING: YELLOW, logging.ERROR: RED, logging.CRITICAL: RED}


class Redaction(logging.Filter):
    """Replaces registered secrets, and what looks like one in a URL, by ``***``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = scrub(record.getMessage()), ()
        return True


class ConsoleHandler(logging.Handler):
    """One line per record, in the place of a live line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.addFilter(Redaction())

    def emit(self, record: logging.LogRecord) -> None:
        text = f"edge-run: {_PREFIX.get(record.levelno, '')}{printable(record.getMessage())}"
        self._console.line(text, style=_STYLE.get(record.levelno, ""))


@contextmanager
def logging_to(console: Console) -> Iterator[None]:
    """Show records on ``console``, ours from ``info`` on; see :func:`set_level`."""
    handler = ConsoleHandler(console)
    before = {name: logging.getLogger(name).level for name in OURS}
    set_level("info")
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def set_level(level: str) -> None:
    """The least level (of :data:`LEVELS`) of our records that is shown."""
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())


@contextmanager
def lines_to(receive: Callable[[str], None], logger: str) -> Iterator[None]:
    """Give each message of ``logger`` from ``info`` on to ``receive``, and to no other handler."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            receive(record.getMessage())

    log, handler = logging.getLogger(logger), Handler()
    handler.addFilter(Redaction())
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
