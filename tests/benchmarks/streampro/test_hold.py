"""Clips that stand still before and after what happens, and runs that leave that out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edge_runtime
from benchmarks.metric.annotations import Annotation, Answer, Query
from benchmarks.streampro.clips import timestep_frames
from benchmarks.streampro.hold import moved, write_held
from benchmarks.streampro.runner import Runner

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a square that moves, held for eight before and ten after."""
    folder = tmp_path_factory.mktemp("held")
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 224, 224, "yuv420p"
        for index in range(30):
            image = np.full((224, 224, 3), 90, np.uint8)
            image[100:120, 5 * index : 5 * index + 20] = (220, 180, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    write_held(folder / "clip.mp4", folder / "held.mp4", (8, 10), 2.0, 23)
    return folder / "held.mp4"


def question(clip: Path) -> Annotation:
    asked = Query(1.0, "What does the person do?")
    return Annotation("c/q", clip.name, 6.0, "EU", asked, (Answer(2.0, 3.0, "Done."),), path=clip)


def test_what_stands_still_has_the_image_before(held: Path) -> None:
    frames = list(timestep_frames(held, 1.0, compare=True))
    same = [one is before for (_, one), (_, before) in zip(frames[1:], frames, strict=False)]
    assert len(frames) >= 23
    assert all(same[:6]) and not any(same[8:12]) and all(same[15:])
    assert len({id(image) for _, image in timestep_frames(held, 1.0)}) > 1


def test_questions_move_with_their_clip(held: Path) -> None:
    found = moved(question(held), 8, 10)
    assert (found.video, found.duration, found.query.time) == ("clips/held.mp4", 24.0, 9.0)
    assert [(answer.start, answer.end) for answer in found.answers] == [(10.0, 11.0)]


def test_a_run_counts_what_it_leaves_out(held: Path, tiny_bundle: Path) -> None:
    model = edge_runtime.load(tiny_bundle, threads=1)
    predictions = {}
    for skip_s in (0.0, 5.0):
        runner = Runner(model, threshold=1.0, still_skip_s=skip_s)
        [(_, predictions[skip_s])] = runner.answer_clip(held, [moved(question(held), 8, 10)])
    assert "left_out" not in predictions[0.0].extra
    left_out = predictions[5.0].extra["left_out"]
    assert left_out > 4
    asked = len(predictions[0.0].extra["scores"])
    assert asked - left_out <= len(predictions[5.0].extra["scores"]) < asked
