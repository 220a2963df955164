"""What a terminal shows of a run, in real processes."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from tests.edge_runtime.app.process import CLIP_S, EDGE_RUN, environment, events


@pytest.fixture
def on_terminal(tiny_bundle, clip, tmp_path):
    """What a terminal shows of a run; ``stdout`` and ``stderr`` lead there unless they are given."""

    def run(*args: str, term: str = "xterm", **streams) -> str:
        primary, secondary = pty.openpty()
        process = subprocess.Popen(
            [*EDGE_RUN, str(clip), "--bundle", str(tiny_bundle), "--ask", "What?", *args],
            **{"stdout": secondary, "stderr": secondary, **streams},
            cwd=tmp_path,
            env=environment(tmp_path, TERM=term, COLUMNS="80", NO_COLOR="1"),
        )
        os.close(secondary)
        shown = b""
        while True:
            try:
                shown += os.read(primary, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait(timeout=60) == 0, shown.decode()
        os.close(primary)
        return shown.decode()

    return run


@pytest.mark.gst
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_on_a_terminal_people_read_lines_and_no_json(on_terminal, tmp_path, term):
    text = on_terminal("--threshold", "0", "--min-gap", "3", "--events", "e.jsonl", term=term)
    told = events((tmp_path / "e.jsonl").read_text())
    said = [event for event in told if event["type"] == "response"]
    assert len(said) == 3
    for event in said:  # once, and the lines that are held back say so
        line = rf"^ +{event['time']:g}s  .*{re.escape(event['text'])}  [\d.]+ ms\r?$"
        assert len(re.findall(line, text.replace("\r\x1b[K", "\n"), re.M)) == 1
        assert not re.search(rf"^{event['time']:g}s  ", text, re.M)
    assert re.search(r"responses +3, held back 5", text)
    assert '"type"' not in text and "{" not in text


@pytest.mark.gst
def test_what_the_terminal_shows_counts_as_sent(on_terminal):
    """No other sink takes the events: the gap between two responses is kept all the same."""
    assert re.search(r"responses +3, held back 5", on_terminal("--threshold", "0", "--min-gap", "3"))


@pytest.mark.gst
@pytest.mark.parametrize("hidden", [["--quiet"], []])
def test_a_terminal_without_live_lines_shows_the_responses_alone(on_terminal, hidden):
    """Asked for with --quiet, or because stderr leads elsewhere."""
    streams = {} if hidden else {"stderr": subprocess.DEVNULL}
    lines = on_terminal("--threshold", "0", "--duration", "3", *hidden, **streams).splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(rf"{n}s  .+", line) for n, line in enumerate(lines, start=1))


@pytest.mark.gst
def test_json_on_a_terminal_is_json_alone(on_terminal):
    told = events(on_terminal("--json", "--duration", "3"))
    assert [event["type"] for event in told[:2]] == ["stream", "stream"]
    assert told[-1]["timesteps"] == 3 and "decision_ms" in told[-1]


@pytest.mark.gst
def test_on_a_terminal_silence_is_written_over(on_terminal):
    text = on_terminal("--threshold", "1", stdout=subprocess.DEVNULL)
    assert text.count("\r\x1b[K") >= CLIP_S
    steps = re.findall(r"\d+s  [█░]{10} [\d.]+  SILENT[^\r\n]*(\r\n)?", text)
    assert len(steps) == CLIP_S and not any(steps)
