"""Messages on stderr: their look, their level, and no secret in them."""

from __future__ import annotations

import io
import logging

import click
import pytest
from click.testing import CliRunner

from edge_runtime import redaction
from edge_runtime.command_line.log_options import log_options
from edge_runtime.observability.console import Console
from edge_runtime.observability.log import logging_to, set_level


def log_all() -> None:
    for name in ("edge_runtime.sinks.remote", "pipelines.camera", "somebody.else"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(level, "%s has %d", name.partition(".")[0], level)


@pytest.mark.parametrize(
    ("level", "ours"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1), (None, 3)]
)
def test_levels_are_for_our_messages(level, ours):
    stream = io.StringIO()
    with logging_to(Console(stream)):
        if level is not None:
            set_level(level)
        log_all()
    shown = stream.getvalue().splitlines()
    for name in ("edge_runtime", "pipelines"):
        lines = [line for line in shown if f"{name} has" in line]
        everything = [
            f"edge-run: {name} has 10",
            f"edge-run: {name} has 20",
            f"edge-run: warning: {name} has 30",
            f"edge-run: error: {name} has 40",
        ]
        assert lines == everything[-ours:]
    assert [line for line in shown if "somebody" in line] == [
        "edge-run: warning: somebody has 30",
        "edge-run: error: somebody has 40",
    ]
    log_all()
    assert stream.getvalue().splitlines() == shown  # nothing more afterwards


def test_secrets_and_what_terminals_obey_are_replaced():
    redaction.register("s3cret-of-the-log")
    stream = io.StringIO()
    with logging_to(Console(stream)):
        log = logging.getLogger("edge_runtime.x")
        log.warning("%s and %s", "s3cret-of-the-log", "rtsp://me:never-seen@host/a")
        log.warning("\x1b[2Jcleared")
    assert stream.getvalue() == (
        "edge-run: warning: *** and rtsp://***@host/a\nedge-run: warning: \ufffd[2Jcleared\n"
    )


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ([], "INFO"),
        (["-v"], "DEBUG"),
        (["--quiet"], "WARNING"),
        (["--quiet", "-v"], "DEBUG"),
        (["-v", "--log-level", "error"], "ERROR"),
    ],
)
def test_the_options_choose_the_level(arguments, level):
    @click.command()
    @click.option("--quiet", is_flag=True)
    @log_options
    def command(quiet: bool) -> int:
        click.echo(logging.getLevelName(logging.getLogger("edge_runtime").level))
        return 0

    with logging_to(Console(None)):
        done = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert done.output == f"{level}\n"
