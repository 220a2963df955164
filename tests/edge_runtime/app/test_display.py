"""What people see of several cameras on one terminal."""

from __future__ import annotations

import io
import re

import pytest

from edge_runtime.app.live_display import LiveDisplay
from edge_runtime.engine.decision import Decision
from edge_runtime.engine.decision_loop import Step
from edge_runtime.observability.console import Console


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def step(display: LiveDisplay, time_s: float, score: float, text: str | None = None) -> None:
    decision = Decision(time_s, (time_s - 1, time_s), score, text is not None, text)
    display.step(time_s, [Step("q1", decision, {"decision": 12.3})])


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal()


def shown(terminal: Terminal) -> str:
    """The line that stands at the end."""
    return terminal.getvalue().replace("\x1b[K", "").rpartition("\r")[2]


def test_cameras_share_the_line_that_is_written_over(terminal: Terminal) -> None:
    console, board = Console(terminal), {}
    door, hall = (LiveDisplay(console, name, board) for name in ("door", "hall"))
    step(door, 1.0, 0.1)
    step(hall, 7.0, 0.2)
    step(door, 2.0, 0.3)
    assert re.fullmatch(r"door +2s .* 0\.30  SILENT .*   hall +7s .* 0\.20  SILENT .*", shown(terminal))
    step(hall, 8.0, 0.9, "Somebody comes.")
    assert re.search(r"\rhall +8s .* 0\.90  Somebody comes\..*\n$", terminal.getvalue().replace("\x1b[K", ""))
    hall.state("ended", "end of the file")
    step(door, 3.0, 0.4)
    assert re.fullmatch(r"door +3s .* 0\.40  SILENT  +12\.3 ms", shown(terminal))


def test_the_only_camera_needs_no_name(terminal: Terminal) -> None:
    only = LiveDisplay(Console(terminal))
    step(only, 1.0, 0.1)
    step(only, 2.0, 0.3)
    assert re.fullmatch(r" +2s .* 0\.30  SILENT  +12\.3 ms", shown(terminal))
