"""Event supervision: labels that fit the answers, and a decoder that learns to hold them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.metric.annotations import read_annotations
from tests.train.tiny_config import ONE_LAYER
from train.config.errors import RecipeError
from train.data.dataset import Source
from train.data.targets import target_time
from train.models.checkpoint import load_checkpoint
from train.models.perception.nanodet import CLASSES
from train.models.tokenizer import train_tokenizer
from train.sft.recipe import EventSupervisionSettings, SFTRecipe
from train.sft.run import run_sft
from train.synthetic.detections.event_labels import QUESTION_KINDS, labels_beside
from train.synthetic.detections.generate import GenerateConfig, generate
from train.synthetic.detections.language import event_kinds

EVENTS = {"enter": ("enters",), "leave": ("leaves",), "stop": ("stops",), "falls": ("falls",)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(GenerateConfig("train", 1, 12, tmp_path_factory.mktemp("scout")))


def test_labels_hold_what_the_answers_say(data: Path) -> None:
    checked = 0
    for question in read_annotations(data):
        assert question.extra["kind"] in QUESTION_KINDS
        if question.extra["kind"] not in EVENTS or question.task not in ("OU", "AA"):
            continue
        labels = np.load(labels_beside(question.video_path))
        for answer in question.answers:
            row = labels[int(target_time(question.task, question.query.time, answer)) - 1]
            assert any(row[event_kinds().index(kind)] for kind in EVENTS[question.extra["kind"]])
            assert any(row[len(event_kinds()) + CLASSES.index(name)] for name in question.extra["about"])
            checked += 1
    assert checked > 5


def recipe_of(sft_recipe: SFTRecipe, data: Path, folder: Path, **changes: object) -> SFTRecipe:
    texts = [json.loads(line)["query"]["text"] for line in data.read_text().splitlines()]
    tokenizer = folder / "slots.json"
    train_tokenizer(texts, 1300).save(str(tokenizer))
    recipe = replace(
        sft_recipe,
        tokenizer=str(tokenizer),
        model=replace(ONE_LAYER, slots=10, slots_per_token=2, zones=4),
        protocol=replace(sft_recipe.protocol, frame_tokens=6, max_response_tokens=8, queries_per_session=2),
        data=replace(
            sft_recipe.data, train=(Source(data),), queries_per_session=2, max_turns=8, around_events=True
        ),
        run=replace(sft_recipe.run, batch_size=2, steps=3, log_steps=1),
        event_supervision=EventSupervisionSettings(),
    )
    return replace(recipe, **changes)


def test_a_run_is_supervised_and_leaves_an_ordinary_model(
    sft_recipe: SFTRecipe, data: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(sft_recipe, data, tmp_path)
    assert run_sft(recipe)
    log = (recipe.output / "train.log").read_text()
    shown = [
        float(line.split("supervision ")[1].split()[0]) for line in log.splitlines() if "supervision " in line
    ]
    assert len(shown) == 3 and all(value > 0 for value in shown)
    model = load_checkpoint(recipe.output / "checkpoint").model
    assert not any("shown" in name or "asked" in name for name, _ in model.named_parameters())
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_models_without_slots_are_refused(sft_recipe: SFTRecipe, data: Path, tmp_path: Path) -> None:
    recipe = replace(sft_recipe, event_supervision=EventSupervisionSettings())
    with pytest.raises(RecipeError, match="models with slots"):
        run_sft(recipe)
    with pytest.raises(ValueError, match="must not be negative"):
        EventSupervisionSettings(events=-1)
