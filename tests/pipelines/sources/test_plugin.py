"""A kind of source from another package: found through its entry point, used from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import Frame, open_camera
from pipelines.sources.registry import parse_source

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

ROOT = Path(__file__).resolve().parents[3]
QUESTION = "What does the person do?"
MODULE = '''
"""Frames counted out by videotestsrc: counter://COLOUR/FRAMES, or COLOUR*FRAMES."""

import re
from dataclasses import dataclass

from edge_runtime.errors import SourceError
from pipelines.gst import caps_filter, load, make
from pipelines.sources.base import Source
from pipelines.sources.errors import Problem


@dataclass(frozen=True)
class CounterSource(Source):
    colour: str
    frames: int
    kind = "counter"
    decoder = "none"

    @property
    def label(self):
        return f"counter://{self.colour}/{self.frames}"

    def check(self):
        nothing = Problem("there is nothing to count", "give a number from 1", "permanent")
        return None if self.frames else nothing

    def event_identity(self, *more):
        return repr((self, *more))

    def exclusive_key(self):
        return ("counter", self.colour)

    def make_elements(self, context):
        element = make("videotestsrc", num_buffers=self.frames)
        load().Gst.util_set_object_arg(element, "pattern", self.colour)
        return [element, caps_filter("video/x-raw, width=(int)64, height=(int)64, framerate=(fraction)4/1")]

    def explain(self, error):
        return Problem(f"the counter is broken ({error.detail})", "count by hand")


def parse(text):
    match = re.fullmatch(r"(?:counter://)?([a-z]+)[/*](\\d+)", text)
    if match is None:
        if text.startswith("counter://"):
            raise SourceError(f"{text}: write counter://COLOUR/FRAMES", permanent=True)
        return None
    return CounterSource(match[1], int(match[2]))
'''


def install(folder: Path, name: str, target: str) -> None:
    """What pip would leave in site-packages."""
    info = folder / f"{name}_source-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-source\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[streampro_edge.sources]\n{name} = {target}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "counter_source.py").write_text(MODULE)
    install(folder, "counter", "counter_source:parse")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("counter_source", None)


def edge_run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "XDG_CONFIG_HOME": str(site)}
    command = [sys.executable, "-m", "edge_runtime.app.cli", *arguments]
    return subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, timeout=120)


def test_edge_run_from_end_to_end(site: Path) -> None:
    """Twice: a recording's events are the same again, except for the time of the run."""
    results = [edge_run(site, "counter://red/20", "--ask", QUESTION, "--threshold", "0") for _ in range(2)]
    assert [result.returncode for result in results] == [0, 0], results[0].stderr
    runs = [[json.loads(line) for line in result.stdout.splitlines()] for result in results]
    states = [event["state"] for event in runs[0] if event["type"] == "stream"]
    assert states[0] == "connecting" and "live" in states and states[-1] == "ended"
    assert {event["stream"] for event in runs[0]} == {"counter://red/20"}
    ids = [[event["id"] for event in run if event["type"] == "response"] for run in runs]
    assert ids[0] and ids[0] == ids[1]


def test_the_frames_are_those_of_the_source(site: Path) -> None:
    with open_camera("counter://green/12", fps=1.0) as camera:
        frames = [item for item in camera if isinstance(item, Frame)]
        assert camera.description == "counter counter://green/12, raw 64x64"
        assert camera.decoder == "none" and not camera.live
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].image[112, 112].tolist() == pytest.approx([0, 255, 0], abs=8)


def test_check_asks_the_source(site: Path) -> None:
    ask = f'[[camera.ask]]\ntext = "{QUESTION}"\n'
    camera = '[[camera]]\nname = "{}"\nsource = "{}"\n' + ask
    file = site / "edge-run.toml"
    file.write_text(camera.format("one", "counter://red/0") + camera.format("two", "counter://red"))
    done = edge_run(site, "check")
    assert done.returncode == 4
    assert "counter://red/0: there is nothing to count; give a number from 1" in done.stdout
    assert "counter://red: write counter://COLOUR/FRAMES" in done.stdout
    file.write_text(camera.format("one", "counter://red/1") + camera.format("two", "counter://red/2"))
    assert "one and two are the same camera" in edge_run(site, "check").stdout


def test_an_address_without_a_scheme(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_source("red*7").label == "counter://red/7"
    monkeypatch.chdir(site)
    (site / "red*7").touch()
    assert parse_source("red*7").kind == "file"  # what exists comes first
    assert parse_source("clip.mp4").kind == "file"


def test_what_is_accepted_names_it(site: Path) -> None:
    with pytest.raises(SourceError, match=r"test: or counter://\.\.\."):
        parse_source("gopher://x/y")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module:parse", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:loads", "JSONDecodeError: "),
    ],
)
def test_a_broken_package_is_named(site: Path, target: str, reason: str) -> None:
    install(site, "broken", target)
    with pytest.raises(SourceError) as caught:
        parse_source("broken://x")
    assert "the source broken of the package broken-source fails" in str(caught.value)
    assert reason in str(caught.value)
    assert parse_source("rtsp://cam/live").kind == "rtsp"
    assert parse_source("counter://red/1").kind == "counter"
