"""The generator: same seed, same files; a stopped run goes on; splits differ; the files train a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metric.annotations import read_annotations
from train.models.perception.features import width
from train.models.perception.nanodet import CLASSES
from train.models.perception.tracker import TrackerConfig
from train.synthetic.detections.generate import SPLITS, GenerateConfig, generate
from train.synthetic.detections.stories import tell
from train.synthetic.detections.stories.stage import UNSEEN, USUAL


def made(folder: Path, split: str = "train", count: int = 4, seed: int = 3) -> GenerateConfig:
    config = GenerateConfig(split, seed, count, folder)
    generate(config)
    return config


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> GenerateConfig:
    return made(tmp_path_factory.mktemp("train"))


def test_the_same_seed_gives_the_same_files(written: GenerateConfig, tmp_path: Path) -> None:
    assert contents(made(tmp_path).out) == contents(written.out)


def test_a_stopped_run_goes_on(written: GenerateConfig, tmp_path: Path) -> None:
    config = made(tmp_path)
    (tmp_path / "annotations.jsonl").unlink()
    clips = sorted((tmp_path / "clips").iterdir())
    clips[1].unlink()
    kept = clips[2].stat().st_mtime_ns
    generate(config)
    assert contents(tmp_path) == contents(written.out)
    assert clips[2].stat().st_mtime_ns == kept


def test_what_is_written(written: GenerateConfig) -> None:
    records = [json.loads(line) for line in (written.out / "annotations.jsonl").read_text().splitlines()]
    read = read_annotations(written.out / "annotations.jsonl")
    assert len(read) == len(records) > 12
    assert any(not record["answers"] for record in records)
    for record in records:
        features = np.load(written.out / record["video"])
        assert features.dtype == np.float16 and np.isfinite(features).all()
        assert features.shape == (int(record["duration"]), TrackerConfig().slots + 1, width(len(CLASSES)))
        assert bool(record["rubric"]) == bool(record["answers"])


def test_no_two_clips_or_splits_share_a_stream(tmp_path: Path) -> None:
    config = GenerateConfig("train", 1, 1, tmp_path)
    drawn = {
        replace(config, split=split, seed=seed).rng(index).integers(2**60)
        for split in SPLITS
        for seed in (1, 2)
        for index in range(3)
    }
    assert len(drawn) == len(SPLITS) * 6


def test_hard_questions_alone(tmp_path: Path) -> None:
    config = made(tmp_path, "hard", 6)
    records = [json.loads(line) for line in (config.out / "annotations.jsonl").read_text().splitlines()]
    assert len(records) > 6 and all(record["hard"] and not record["answers"] for record in records)


def test_unseen_layouts_have_cameras_that_training_has_not() -> None:
    usual, unseen = (
        [tell(np.random.default_rng([5, i]), layout)[1].camera for i in range(60)]
        for layout in (USUAL, UNSEEN)
    )
    assert not {camera.aspect for camera in usual} & {camera.aspect for camera in unseen}
    assert max(camera.height_m for camera in unseen) > max(camera.height_m for camera in usual)


def test_two_timesteps_a_second(tmp_path: Path) -> None:
    generate(GenerateConfig("test", 1, 1, tmp_path, fps=2.0))
    (clip,) = (tmp_path / "clips").iterdir()
    record = json.loads((tmp_path / "annotations.jsonl").read_text().splitlines()[0])
    assert len(np.load(clip)) == int(record["duration"] * 2)


def test_captions_of_every_second_for_training_alone(tmp_path: Path) -> None:
    generate(GenerateConfig("train", 1, 3, tmp_path / "train"))
    captions = [json.loads(line) for line in (tmp_path / "train" / "captions.jsonl").read_text().splitlines()]
    assert [record["task"] for record in captions] == ["EC"] * 3
    for record in captions:
        assert len(record["answers"]) == int(record["duration"])
        assert all(answer["text"] for answer in record["answers"])
    questions = (tmp_path / "train" / "annotations.jsonl").read_text()
    assert '"captions"' not in questions
    generate(GenerateConfig("validation", 1, 1, tmp_path / "validation"))
    assert not (tmp_path / "validation" / "captions.jsonl").exists()
