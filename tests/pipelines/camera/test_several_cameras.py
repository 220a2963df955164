"""`edge-run` with several cameras: real processes, RTSP servers on loopback and files, a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gst
pytest.importorskip("gi")

ROOT = Path(__file__).resolve().parents[3]
QUESTION = '[[camera.ask]]\ntext = "What does the person do?"\n'
PATIENCE_S = 90.0


class Run:
    """An edge-run that is going on; its events and what it tells people are collected."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.app.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder)},
        )
        self.events: list[dict[str, Any]] = []
        self.told: list[str] = []
        self._readers = [
            threading.Thread(target=self._collect, args=(self.process.stdout, self.events, json.loads)),
            threading.Thread(target=self._collect, args=(self.process.stderr, self.told, str.rstrip)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _collect(stream: Any, into: list[Any], read: Callable[[str], Any]) -> None:
        for line in stream:
            into.append(read(line))

    def until(self, what: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < end and self.process.poll() is None, (self.told, self.events)
            time.sleep(0.05)

    def end(self, number: int | None = None) -> int:
        """Wait for the end, after this signal; the exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join()
        return code

    def of(self, stream: str, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events.copy() if (event["stream"], event["type"]) == (stream, kind)]

    def states(self, stream: str) -> list[str]:
        return [event["state"] for event in self.of(stream, "stream")]

    def responses(self, stream: str) -> int:
        return len(self.of(stream, "response"))


@pytest.fixture
def start(tiny_bundle: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(*arguments: str) -> Run:
        runs.append(Run(tmp_path, *arguments, "--bundle", str(tiny_bundle), "--threads", "1"))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.end()


def write(folder: Path, *cameras: str) -> None:
    """edge-run.toml, in one go, as editors do."""
    new = folder / "edge-run.toml.new"
    new.write_text("\n".join(f"[[camera]]\n{camera}\n{QUESTION}" for camera in cameras))
    new.replace(folder / "edge-run.toml")


def test_of_two_cameras_one_dies_and_one_is_given_up_and_the_last_goes_on(
    start, start_rtsp, make_clip, tmp_path
):
    """One goes away, one's file is cut, one was never there; the good one notices nothing."""
    dying, good = start_rtsp(), start_rtsp()
    whole = make_clip(seconds=4).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    always = "threshold = 0\nrepeat = 0\nfps = 4"
    write(
        tmp_path,
        f'name = "dying"\nsource = "{dying.url}"\ngive_up = 1\n{always}',
        f'name = "good"\nsource = "{good.url}"\n{always}',
    )
    run = start("dying", "good", "cut.mp4", "none.mp4", "--json", "--ask", "What does the person do?")
    run.until(lambda: run.responses("dying") > 2 and run.responses("good") > 2)
    dying.kill()
    run.until(lambda: run.states("dying")[-1] == "failed")
    told = run.responses("good")
    run.until(lambda: run.responses("good") > told + 2)
    assert run.end(signal.SIGINT) == 130

    assert run.states("good") == ["connecting", "live", "ended"]
    assert run.states("none.mp4") == ["failed"]
    assert run.states("cut.mp4")[-1] in ("ended", "failed")
    errors = [line for line in run.told if line.startswith("edge-run: error: ")]
    assert len(errors) == 3 and {e.split(": ")[2] for e in errors} >= {"dying", "cut.mp4", "none.mp4"}
    figures = json.loads(run.told[-1])
    assert [camera["stream"] for camera in figures["cameras"]] == ["dying", "good", "cut.mp4", "none.mp4"]
    assert figures["total"]["timesteps"] == sum(camera["timesteps"] for camera in figures["cameras"])
    for name in ("dying", "good", "cut.mp4", "none.mp4"):
        times = [event["time"] for event in run.of(name, "response")]
        assert times == sorted(set(times))
        assert len(run.of(name, "stats")) >= 1
    assert len({event["id"] for event in run.events}) == len(run.events)


def test_files_say_together_what_they_say_alone_and_the_first_failure_is_the_exit_code(
    start, make_clip, tmp_path
):
    one, two = make_clip("one.mp4", seconds=4), make_clip("two.mp4", seconds=3, size=(320, 240))
    question = ("--ask", "What does the person do?", "--threshold", "0.4", "--quiet")
    alone = {}
    for clip in (one, two):
        run = start(str(clip), *question)
        assert run.end() == 0
        alone[clip.name] = run.events
    run = start(str(one), str(two), *question)
    assert run.end() == 0 and run.told == []
    for name, events in alone.items():
        assert [event for event in run.events if event["stream"] == name] == events
    run = start(str(one), "none.mp4", *question)
    assert run.end() == 4 and len(run.told) == 1
    assert [event for event in run.events if event["stream"] == one.name] == alone[one.name]


def test_people_see_each_camera_and_the_total(start, make_clip):
    clips = [str(make_clip(name, seconds=2)) for name in ("one.mp4", "two.mp4")]
    run = start(*clips, "--ask", "What does the person do?")
    assert run.end() == 0
    names = [Path(clip).name for clip in clips]
    assert f"{names[0]}  q1: What does the person do?" in run.told
    assert any(line.startswith(f"{names[1]}  ") and "    2s  " in line for line in run.told)
    table = run.told[run.told.index("") + 1 :]
    assert [line.split()[0] for line in table] == ["stream", *names, "total", "engine"]
    assert table[3].split()[3] == "4"  # timesteps of both


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (("door", "door"), "door is given twice"),
        (("test:", "test:ball"), "two cameras are called test:ball"),
        (("a/clip.mp4", "b/clip.mp4"), "two cameras are called clip.mp4"),
        (("srt://:9710?mode=listener", "caller"), "and caller are the same camera"),
        (("csi://0", "board"), "csi://0 and board are the same camera"),
    ],
)
def test_what_cannot_be_watched_twice_is_refused_in_one_line(start, tmp_path, make_clip, sources, said):
    cameras = {"door": "test:", "board": "csi://0", "caller": "srt://127.0.0.1:9710?mode=listener"}
    write(tmp_path, *(f'name = "{name}"\nsource = "{source}"' for name, source in cameras.items()))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "clip.mp4").write_bytes(make_clip().read_bytes())
    run = start(*sources, "--ask", "What?")
    assert run.end() == 2
    assert run.events == [] and len(run.told) == 1
    assert said in run.told[0]


def test_the_file_is_taken_over_while_cameras_run(start, start_rtsp, tmp_path):
    """Written anew, then SIGHUP: masks, threshold and question change on the connection that is there."""
    server = start_rtsp()

    def door(*lines: str) -> str:
        return "\n".join(['name = "door"', f'source = "{server.url}"', "fps = 4", "repeat = 0", *lines])

    hall = 'name = "hall"\nsource = "test:"\nthreshold = 1.0'
    write(tmp_path, door("threshold = 1.0"), hall)
    run = start("door", "hall")
    run.until(lambda: run.of("door", "query") and run.of("hall", "query"))

    write(tmp_path, door("threshold = 0.0", "mask = [[[0, 0], [1, 0], [1, 1], [0, 1]]]"), hall)
    run.until(lambda: run.responses("door") > 3)
    assert any(
        line.endswith("edge-run.toml taken over: door: q1 changed, masks changed") for line in run.told
    )

    write(tmp_path, door("treshold = 0.0"), hall)
    run.process.send_signal(signal.SIGHUP)
    run.until(lambda: any("the configuration in use stays" in line for line in run.told))
    spoken = next(line for line in run.told if "the configuration in use stays" in line)
    assert "edge-run.toml:6: camera.treshold: unknown key; did you mean threshold?" in spoken
    before = run.responses("door")
    run.until(lambda: run.responses("door") > before + 1)

    write(tmp_path, door("threshold = 1.0").replace(server.url, "test:"), hall)
    run.process.send_signal(signal.SIGHUP)
    run.until(lambda: any("door: source takes effect after a restart" in line for line in run.told))
    assert run.end(signal.SIGINT) == 130
    for name in ("door", "hall"):
        assert run.states(name) == ["connecting", "live", "ended"]
        assert run.of(name, "stats")[-1]["reconnects"] == 0
    assert [event["action"] for event in run.of("door", "query")] == ["asked", "changed", "changed"]
    assert [event["action"] for event in run.of("hall", "query")] == ["asked"]


def test_without_reload_the_file_is_left_alone(start, tmp_path):
    write(tmp_path, 'name = "door"\nsource = "test:"\nfps = 4\nthreshold = 1.0')
    run = start("door", "--no-reload")
    run.until(lambda: run.of("door", "query"))
    write(tmp_path, 'name = "door"\nsource = "test:"\nfps = 4\nthreshold = 0.0')
    time.sleep(4)
    assert run.responses("door") == 0
    run.process.send_signal(signal.SIGHUP)
    run.until(lambda: run.responses("door"))
    assert run.end(signal.SIGTERM) == -signal.SIGTERM
