"""A tiny model with random weights watches real clips, and answers as a session fed frame by frame does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import edge_runtime
from benchmarks.metric.annotations import (
    Annotation,
    Prediction,
    Query,
    Response,
    read_predictions,
    write_annotations,
)
from benchmarks.metric.delivery import delivered
from benchmarks.streampro.clips import timestep_frames
from benchmarks.streampro.run_metadata import read_metadata
from benchmarks.streampro.runner import Runner
from edge_runtime.errors import SourceError

ROOT = Path(__file__).resolve().parents[3]
RATE = 10
LENGTH_S = 20
THRESHOLD = 0.1
"""Random weights speak now and then from here."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 20 s at 10 frames a second, each frame a grey of its own."""
    folder = tmp_path_factory.mktemp("clips")
    for name, slope in (("up", 1), ("down", -1)):
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=RATE)
            stream.width, stream.height, stream.bit_rate = 64, 48, 2_000_000
            stream.time_base = Fraction(1, RATE)
            for number in range(LENGTH_S * RATE):
                level = grey(number) if slope > 0 else 255 - grey(number)
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
                picture.pts = number
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    return folder


def grey(frame_number: int) -> int:
    return 30 + frame_number


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> edge_runtime.Model:
    return edge_runtime.load(tiny_bundle, threads=1)


def questions(clips: Path, per_clip: int = 3) -> list[Annotation]:
    """Questions of two clips, mixed; the last of each clip is asked after its end."""
    return [
        Annotation(
            id=f"{name}/q{i}",
            video=f"{name}.mp4",
            duration=float(LENGTH_S),
            task="EU",
            query=Query(10.0 * i + 0.5, f"What does the person do? {i}"),
            answers=(),
            path=clips / "a.jsonl",
        )
        for i in range(per_clip)
        for name in ("up", "down")
    ]


def answer_all(model: edge_runtime.Model, asked: list[Annotation], workers: int) -> dict[str, Prediction]:
    answers: dict[str, Prediction] = {}

    def keep(question: Annotation, prediction: Prediction) -> None:
        assert question.id == prediction.id and question.id not in answers
        answers[question.id] = prediction

    Runner(model, threshold=THRESHOLD, workers=workers).run(asked, keep)
    return answers


def test_each_timestep_has_the_frame_that_closes_it(clips: Path) -> None:
    steps = list(timestep_frames(clips / "up.mp4", 1.0))
    assert [index for index, _ in steps] == list(range(LENGTH_S))
    for index, picture in steps:
        assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8
        # The first frame at or after the interval's end, less 0.15 s: number 10 (k + 1) - 1 at 10 a second.
        assert abs(picture.mean() - grey(RATE * (index + 1) - 1)) < 2


def test_other_rates(clips: Path) -> None:
    # At 2 a second the last interval would need a frame at 19.925 s, and the last frame is at 19.9 s.
    assert [index for index, _ in timestep_frames(clips / "up.mp4", 2.0)] == list(range(2 * LENGTH_S - 1))
    assert [index for index, _ in timestep_frames(clips / "up.mp4", 0.5)] == list(range(LENGTH_S // 2))


def test_bad_clips_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    for clip in (broken, tmp_path / "missing.mp4"):
        with pytest.raises(SourceError, match=clip.name) as caught:
            list(timestep_frames(clip, 1.0))
        assert caught.value.permanent
        assert "\n" not in str(caught.value)


def test_same_answers_as_a_session_fed_with_frames(clips: Path, model: edge_runtime.Model) -> None:
    asked = questions(clips)
    answers = answer_all(model, asked, workers=2)
    spoken, silent = 0, 0
    for question in asked:
        expected: list[Response] = []
        scores: list[list[float]] = []
        with model.session(threshold=THRESHOLD) as session, av.open(str(question.video_path)) as container:
            put = False
            for frame in container.decode(video=0):
                assert frame.time is not None
                if not put and frame.time > question.query.time:
                    session.ask(question.query.text)
                    put = True
                decision = session.push(frame.to_ndarray(format="rgb24"), frame.time)
                if decision and put:
                    score = round(decision.score, 4)
                    scores.append([decision.time, score])
                    if decision.speak:
                        expected.append(Response(decision.time, decision.text or "", {"score": score}))
        said = delivered(Prediction(question.id, tuple(expected))).responses
        assert answers[question.id].responses == said
        assert answers[question.id].extra == {"scores": scores}
        assert all(r.time >= question.query.time and r.text for r in expected)
        spoken += len(expected)
        silent += LENGTH_S - len(expected)
    assert spoken and silent
    assert answers["up/q2"].responses == ()


def test_number_of_workers_does_not_matter(clips: Path, model: edge_runtime.Model) -> None:
    asked = questions(clips)
    assert answer_all(model, asked, workers=1) == answer_all(model, asked, workers=3)


def test_failing_clip_loses_no_other_answer(clips: Path, model: edge_runtime.Model) -> None:
    bad = Annotation("bad", "none.mp4", 9.0, "EU", Query(0.0, "?"), (), path=clips / "a.jsonl")
    answers: list[str] = []
    with pytest.raises(SourceError, match=r"none\.mp4"):
        Runner(model, workers=1).run([*questions(clips), bad], lambda q, p: answers.append(q.id))
    assert sorted(answers) == sorted(q.id for q in questions(clips))


@pytest.mark.slow
def test_killed_run_goes_on(clips: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    annotations, out = clips / "many.jsonl", tmp_path / "p.jsonl"
    asked = questions(clips, per_clip=60)
    write_annotations(annotations, asked)
    command = [
        *(sys.executable, "-m", "benchmarks.streampro", "run", "--bundle", str(tiny_bundle)),
        *("--annotations", str(annotations), "--workers", "1", "--threshold", str(THRESHOLD), "--out"),
    ]
    partial = tmp_path / "p.jsonl.partial"

    def lines() -> int:
        return partial.read_bytes().count(b"\n") if partial.exists() else 0

    process = subprocess.Popen([*command, str(out)], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while lines() < 10 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert 10 <= lines() < len(asked) and not out.exists()
    before = partial.read_bytes()

    # Ctrl-C next: it ends with 130 and keeps every answer it had.
    process = subprocess.Popen([*command, str(out)], cwd=ROOT, stderr=subprocess.PIPE)
    while lines() < 30 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130, message
    assert b"Traceback" not in message
    whole = before[: before.rfind(b"\n") + 1]
    assert partial.read_bytes().startswith(whole)

    subprocess.run([*command, str(out)], cwd=ROOT, check=True)
    subprocess.run([*command, str(tmp_path / "straight.jsonl")], cwd=ROOT, check=True)
    assert [p.id for p in read_predictions(out)] == [q.id for q in asked]
    assert out.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()
    assert not partial.exists()
    facts = read_metadata(out)
    assert facts and facts["run"]["threshold"] == THRESHOLD and facts["bundle"]["bytes"] > 0
    assert json.loads(out.read_text().splitlines()[0])["id"] == asked[0].id
