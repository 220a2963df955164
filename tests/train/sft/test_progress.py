"""A long loop shows how far it is: plain lines where nobody watches a terminal, a bar where somebody does."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

from benchmarks.metric import progress
from benchmarks.metric.progress import Progress
from train.sft.run import run_sft

ROOT = Path(__file__).parents[3]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_at_the_first_step_now_and_then_and_at_the_end(monkeypatch):
    clock = iter(range(0, 10_000, 10))  # ten seconds a look at the clock
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    with Progress(10, "sft", stream=out) as shown:
        for step in range(10):
            shown.advance(loss=2.0 / (step + 1))
    lines = out.getvalue().splitlines()
    assert lines[0] == "sft 1/10  0.1 step/s  loss 2  1.5 min left"
    assert re.match(r"sft 10/10  .* loss 0\.2  0\.0 min left", lines[-1])
    assert 4 <= len(lines) <= 5


def test_the_time_limit_counts_where_it_is_nearer():
    out = io.StringIO()
    shown = Progress(10**9, "grpo", stream=out)
    shown.advance(limit_s=120.0)
    assert out.getvalue().strip().endswith("2.0 min left")


def test_a_loop_that_ends_early_says_where():
    out = io.StringIO()
    with Progress(100, "sft", stream=out) as shown:
        for _ in range(7):
            shown.advance()
    assert out.getvalue().splitlines()[-1].startswith("sft 7/100")


def test_ranks_that_stay_silent_do(capsys):
    with Progress(3, "sft", shown=False) as shown:
        shown.advance(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_loss_rate_and_time_left():
    out = Terminal()
    with Progress(4, "sft", stream=out) as shown:
        for _ in range(4):
            shown._bar.last_print_t = 0.0  # draw every step
            shown.advance(loss=0.5)
        drawn = out.getvalue()
    assert re.search(r"sft: .*\| [1-4]/4 \[.*step.*loss 0\.5  \d+\.\d min left", drawn), drawn
    assert "\n" not in drawn


def test_short_trainings_show_their_loss(sft_recipe, capsys):
    """Fewer steps than log_steps printed nothing."""
    assert run_sft(replace(sft_recipe, run=replace(sft_recipe.run, log_steps=50)))
    assert re.search(
        r"^sft 1/2  .* step/s  loss \d\S*  \d+\.\d min left$", capsys.readouterr().err, re.MULTILINE
    )


def test_a_line_does_not_break_the_bar():
    """In a real terminal: the bar is wiped before the line and drawn again below it."""
    code = (
        "from benchmarks.metric.progress import Progress, say\n"
        "with Progress(2, 'sft') as shown:\n"
        "    shown.advance(loss=1.0)\n"
        "    say('validation')\n"
        "    shown.advance(loss=1.0)\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert "sft" in seen and re.search(r"\r\s*\rvalidation\r?\n", seen), seen
