"""The help of ``edge-run``: examples first, then sources, then options by what they are for."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

EXAMPLES = (
    ("edge-run sample", "the clip that comes with the program"),
    ('edge-run camera0 --ask "Tell me when someone comes in."', ""),
    ('edge-run clip.mp4 --ask "Tell me each step." --events events.jsonl', ""),
    ("edge-run door yard", "two cameras of edge-run.toml"),
)
SOURCES = (
    ("sample", "the clip that comes with the program, with its question"),
    ("camera0, /dev/video0", "a camera of this machine; csi://0: one on a CSI connector"),
    ("rtsp://HOST/PATH", "a network camera; also http://, https:// (HLS, MJPEG) and srt://"),
    ("clip.mp4, FOLDER", "a video file, or a folder of images"),
    ("NAME", "a camera of edge-run.toml"),
    ("test:", "a test pattern"),
)
_GROUPS = (
    (
        "What to watch for",
        ("queries", "ask_at", "ask_anyway", "threshold", "min_gap", "fps", "still_skip", "duration"),
    ),
    ("The frame", ("masks", "crop", "rotate", "decoder")),
    ("Network cameras", ("transport", "connect_timeout", "stall_timeout", "give_up", "catch_up")),
    (
        "Output",
        (
            "events",
            "evidence",
            "web",
            "web_token_file",
            "metrics",
            "as_json",
            "quiet",
            "verbose",
            "log_level",
        ),
    ),
    ("Model and configuration", ("bundle", "endpoint", "model", "backend", "threads", "config", "no_reload")),
)
_RANGE = re.compile(r"\s*\[[^\[\]]*\bx\b[^\[\]]*\]$")
"""What click adds about a number: ``[x>=0]``. The error message says it when it matters."""


class RunCommand(click.Command):
    """A command whose options are shown in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = {param.name: param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        for title, names in _GROUPS:
            _section(ctx, formatter, title, [left.pop(name) for name in names if name in left])
        _section(ctx, formatter, "Other", left.values())


class Group(click.Group):
    """A group that answers a call without arguments with its help, on stderr and with exit code 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(self.short_help_text(ctx), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def short_help_text(self, ctx: click.Context) -> str:
        return self.get_help(ctx)


class Commands(Group):
    """A group whose command ``run`` may be left out: ``edge-run camera0`` is ``edge-run run camera0``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args == ["help"]:
            args = ["--help"]
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def short_help_text(self, ctx: click.Context) -> str:
        """The help without the options, for who does not know yet what to type."""
        formatter = ctx.make_formatter()
        self._format_start(ctx, formatter)
        self.format_commands(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text("edge-run --help lists the options.")
        return formatter.getvalue().rstrip("\n")

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self._format_start(ctx, formatter)
        self.commands["run"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def _format_start(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("edge-run", "SOURCE ... [OPTIONS]")
        formatter.write_usage("edge-run", "COMMAND [OPTIONS]", prefix="       ")
        self.format_help_text(ctx, formatter)
        with formatter.section("Examples"):
            for command, comment in EXAMPLES:
                line = f"{command:<34}# {comment}" if comment else command
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        with formatter.section("Sources, one or several"):
            formatter.write_dl(SOURCES)


def _section(
    ctx: click.Context, formatter: click.HelpFormatter, title: str, options: Iterable[click.Option]
) -> None:
    records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(title):
            formatter.write_dl([(name, _RANGE.sub("", text)) for name, text in records])
