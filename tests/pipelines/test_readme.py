"""The camera loop of the README, run as it stands there: on the sample clip and on a camera on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_runtime
from edge_runtime.events.policy import PolicySettings
from edge_runtime.video.samples import SAMPLES
from pipelines.camera import open_camera

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "rtsp://192.0.2.7/stream"
sample = pytest.mark.skipif(not (SAMPLES / "sample.mp4").is_file(), reason="needs the sample clip")


def loop(source: str) -> str:
    """The README's text with another source."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (text,) = (block for block in blocks if "open_camera" in block)
    assert text.count(ADDRESS) == 1
    return text.replace(ADDRESS, source)


@sample
def test_on_the_sample_it_says_what_edge_run_says(tmp_path: Path) -> None:
    clip, question = str(SAMPLES / "sample.mp4"), "Tell me everything that happens."
    command = [sys.executable, "-m", "edge_runtime.app.cli", clip, "--ask", question, "--bundle", "nano"]
    command.append("--quiet")
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    said = [(event["time"], event["text"]) for event in events if event["type"] == "response"]
    assert len(said) > 2

    printed: list[tuple[object, ...]] = []
    with edge_runtime.watch("nano") as watcher:
        watcher.ask(question)
        exec(loop(clip), {"watcher": watcher, "print": lambda *a: printed.append(a)})
    assert [line for line in printed if isinstance(line[0], float)] == said
    assert [line[0] for line in printed if isinstance(line[0], str)] == ["connecting", "live", "ended"]


class Enough(Exception):
    """Ends a loop that a camera would keep going for ever."""


@pytest.mark.slow
def test_on_a_network_camera(start_rtsp: Callable[..., object], tiny_bundle: Path) -> None:
    printed: list[tuple[object, ...]] = []

    def note(*words: object) -> None:
        printed.append(words)
        if len([line for line in printed if isinstance(line[0], float)]) == 2:
            raise Enough

    with edge_runtime.watch(tiny_bundle, threads=1) as watcher:
        watcher.ask("What does the person do?", policy=PolicySettings(threshold=0.0, repeat_s=0.0))
        with pytest.raises(Enough):
            exec(loop(start_rtsp().url), {"watcher": watcher, "print": note})
    assert [line[0] for line in printed] == ["connecting", "live", 1.0, 2.0]


@sample
def test_a_path_is_a_source() -> None:
    with open_camera(SAMPLES / "sample.mp4") as camera:
        assert camera.description.startswith("file ") and not camera.live
