"""Clips of photographs: what is asked, what is true when, and what the H.264 shows at these times."""

from itertools import pairwise

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.external import real_photos
from benchmarks.metric.annotations import read_annotations
from edge_runtime.errors import ConfigError

COLOURS = {"cat": (220, 30, 30), "orange": (30, 200, 40), "house": (40, 60, 220), "plane": (230, 230, 40)}


@pytest.fixture
def plain_photographs(tmp_path, monkeypatch):
    """Photographs of one colour each in place of the packages'."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (400, 350), colour).save(tmp_path / f"{name}.png")
    monkeypatch.setattr(real_photos, "OPENCV", tmp_path)
    monkeypatch.setattr(real_photos, "PHOTOGRAPHS", {name: f"opencv/{name}.png" for name in COLOURS})


def test_things_are_in_view_when_the_annotations_say_so(plain_photographs, tmp_path):
    arguments = ["--out", str(tmp_path / "out"), "--count", "2", "--shots", "3"]
    assert CliRunner().invoke(real_photos.main, arguments, catch_exceptions=False).exit_code == 0
    asked = read_annotations(tmp_path / "out" / "annotations.jsonl")
    assert [len(a.answers) for a in asked] == [1, 1, 0] * 2
    for question in asked:
        with av.open(str(question.video_path)) as container:
            frames = {f.time: f.to_ndarray(format="rgb24").mean((0, 1)) for f in container.decode(video=0)}
        assert max(frames) == pytest.approx(question.duration - 0.1)

        def shown(time, frames=frames):
            mean = frames[min(frames, key=lambda at: abs(at - time))]
            return min(COLOURS, key=lambda name: np.abs(mean - COLOURS[name]).sum())

        for text in (question.query.text, *(answer.text for answer in question.answers)):
            assert (" an " in text) == (question.extra["object"] == "orange")
        for answer in question.answers:
            assert question.extra["object"] in question.query.text and question.extra["object"] in answer.text
            assert shown(answer.start + 0.1) == shown(answer.end - 0.1) == question.extra["object"]
            assert shown(answer.start - 1.0) != question.extra["object"]
        if not question.answers:
            assert question.extra["object"] not in {shown(t) for t in frames if t % 1 == 0}


def test_the_same_seed_gives_the_same_plan():
    plans = [real_photos.plan(list(COLOURS), np.random.default_rng(5)) for _ in range(2)]
    assert plans[0] == plans[1]
    starts = [(shot.start, shot.end) for shot in plans[0]]
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(starts)]
    assert gaps == [real_photos.PAN_S] * 3


def test_a_missing_package_is_named(plain_photographs, tmp_path):
    (tmp_path / "cat.png").unlink()
    with pytest.raises(ConfigError, match=r"a cat is not there.*opencv-doc"):
        real_photos.photograph("cat")
