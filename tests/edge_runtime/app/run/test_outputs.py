"""Outputs that fail while `edge-run` runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from PIL import Image

from tests.edge_runtime.app.process import CLIP_S, EDGE_RUN, environment, events, fails, start


@pytest.mark.gst
def test_a_reader_that_leaves_ends_the_run_quietly(tiny_bundle, clip, tmp_path):
    command = (
        f"{' '.join(EDGE_RUN)} {clip} --bundle {tiny_bundle} --ask What? --quiet --events e.jsonl | head -1"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert events((tmp_path / "e.jsonl").read_text())[0] == json.loads(done.stdout)


@pytest.mark.gst
def test_ctrl_c_that_also_ends_the_reader_is_still_ctrl_c(tiny_bundle, tmp_path):
    process = start(
        tiny_bundle, tmp_path, "test:", "--ask", "?", "--threshold", "1", "--json", "--events", "e.jsonl"
    )
    while json.loads(process.stdout.readline())["type"] != "query":
        pass
    process.stdout.close()  # from now on there is nothing to write before the end
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert json.loads(process.stderr.read())["ended"] == "stopped by Ctrl-C"
    process.stderr.close()
    assert events((tmp_path / "e.jsonl").read_text())[-1]["type"] == "stats"


@pytest.mark.gst
def test_a_full_disk_does_not_stop_the_run(edge_run, clip):
    done = edge_run(clip, "--ask", "What?", "--quiet", "--events", "/dev/full")
    assert done.returncode == 5
    count = len(events(done.stdout))
    warning, error = done.stderr.splitlines()
    assert warning.startswith("edge-run: warning: cannot write events to /dev/full: No space left")
    assert error == f"edge-run: error: {count} events could not be written to /dev/full and are lost"


@pytest.mark.gst
def test_an_event_file_that_cannot_be_written_is_said_before_the_run(edge_run, clip, tmp_path):
    message = fails(edge_run(clip, "--ask", "What?", "--events", "none/events.jsonl"), 5)
    assert "none/events.jsonl" in message


@pytest.mark.gst
def test_a_broken_image_is_said_and_leaves_the_others_alone(edge_run, clip, tmp_path):
    """Of another camera, too. Not all was watched: the exit code is that of a source that fails."""
    shots = tmp_path / "shots"
    shots.mkdir()
    for number in (1, 3):
        Image.new("RGB", (64, 48), (90 * number, 0, 0)).save(shots / f"{number}.jpg")
    (shots / "2.jpg").touch()
    os.mkfifo(shots / "4.jpg")
    said = "shots: skipped 2 of 4 images: 2.jpg (the file is empty), 4.jpg (it is not a regular file); remove"
    done = edge_run("shots", clip, "--ask", "What?", "--quiet")
    assert done.returncode == 4
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    told = {event["stream"]: event for event in events(done.stdout) if event["type"] == "stats"}
    assert (told["shots"]["timesteps"], told["shots"]["skipped"]) == (2, 1)
    assert told["clip.mp4"]["timesteps"] == CLIP_S
    again = edge_run("shots", "--ask", "What?", "--quiet")
    assert again.returncode == 4 and said in again.stderr
    assert again.stdout == edge_run("shots", "--ask", "What?", "--quiet").stdout
