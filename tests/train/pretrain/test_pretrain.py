"""Pretraining: what the truth says of a frame, start values that copy, and that both halves learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.bundle.stream_format import StreamFormat
from train.config.errors import RecipeError
from train.data.dataset import Source
from train.data.features import ClipFeatures, FeatureCache
from train.models.checkpoint import load_checkpoint
from train.models.chunked_attention import CHUNKED_CAUSAL
from train.models.compact.model import CompactConfig, CompactModel
from train.models.tokenizer import train_tokenizer
from train.pretrain.frame_captioning import (
    FrameCaptioningSettings,
    attention_layers,
    facts_of,
    train_frame_captioning,
)
from train.pretrain.regions import RegionSettings, pretrain_regions
from train.pretrain.run import run_pretraining
from train.sft.recipe import Data, SFTRecipe
from train.synthetic.sprites.generate import WorldConfig, generate, make_story
from train.synthetic.sprites.scenes.catalog import sprite_table
from train.synthetic.sprites.texts import corpus
from train.synthetic.sprites.truth import clip_truth, story_of, under_way

KEYS = {key: i for i, key in enumerate(sprite_table())}
CENTRES = [48.0, 112.0, 176.0]


def test_truth_names_what_is_visible_in_its_region():
    _, story = make_story(4, 0, "train")
    truth = clip_truth(story_of(Path("clips/train-4-00000.mp4")), tuple(range(20)), KEYS, CENTRES)
    names = {key: name for name, key in KEYS.items()}
    for frame, region, key in truth.where:
        actor = next(a for a in story.scene.actors if a.look(frame + 0.9) == names[int(key)])
        x = actor.x.at(frame + 0.9) - story.scene.camera_x.at(frame + 0.9)
        assert abs(x - CENTRES[region % 3]) <= 48
        assert abs(actor.y.at(frame + 0.9) - CENTRES[region // 3]) <= 48
    assert len(truth.where) > 10


def test_what_is_under_way_lies_between_a_frame_and_the_one_before():
    clips = (Path(f"clips/train-4-{i:05d}.mp4") for i in range(20))
    story = next(story for story in map(story_of, clips) if story.family == "stage")
    found = list(under_way(story, tuple(range(40))))
    assert {event.text for _, event in found} == {e.text for e in story.events if e.start < 39}
    for frame, event in found:
        assert event.start < frame + 0.9 and event.end > frame - 0.1


def test_a_region_sees_the_frame_before_but_not_across_streams():
    torch.manual_seed(0)
    projector = CompactModel(CompactConfig(num_layers=1, motion=True)).eval().projector
    frames = torch.randn(5, 320, 7, 7)
    apart = torch.cat([projector(frames[:2]), projector(frames[2:])])
    torch.testing.assert_close(projector(frames, [2, 3]), apart)
    assert not torch.allclose(projector(frames)[2], apart[2])
    trace = torch.zeros(1, 48, 7, 7)
    for frame, expected in zip(frames, projector(frames), strict=True):
        tokens, trace = projector.see(frame[None], trace)
        torch.testing.assert_close(tokens[0], expected, rtol=1e-4, atol=1e-5)


def test_subjects_are_asked_about_whether_they_are_there_or_not():
    clips = [Path(f"clips/train-4-{i:05d}.mp4") for i in range(30)]
    told: dict[str, list[bool]] = {"not there": [], "still": [], "acting": []}
    for clip in clips:
        story = story_of(clip)
        features = ClipFeatures(np.zeros((30, 320, 7, 7), np.float16), tuple(range(30)))
        for kind, fact in facts_of(0, clip, features, KEYS, True, CENTRES, np.random.default_rng(0)):
            if kind != "subjects":
                continue
            assert fact.subject in fact.query
            actor = next((a for a in story.scene.actors if a.name == fact.subject), None)
            there = actor is not None and actor.visible(fact.frame + 0.9)
            if fact.answers[0] in ("not there", "still"):  # who is just leaving may be out of sight
                assert there == (fact.answers[0] == "still")
            told.get(fact.answers[0], told["acting"]).append(fact.region >= 0)
    assert len(told["not there"]) > 100 and len(told["still"]) > 50 and len(told["acting"]) > 50
    assert not any(told["not there"]) and sum(told["still"]) > 0.9 * len(told["still"])


@pytest.mark.parametrize(("layers", "early", "late"), [(1, 0, 0), (2, 0, 1), (3, 1, 2), (6, 1, 3)])
def test_the_answer_looks_after_the_region_has_found_its_name(layers, early, late):
    assert attention_layers(layers) == (early, late)


def test_a_clip_of_another_origin_is_refused():
    with pytest.raises(RecipeError, match="not a generated clip"):
        clip_truth(story_of(Path("holiday.mp4")), (0,), KEYS, CENTRES)


def test_attention_starts_as_copying():
    model = CompactModel(CompactConfig(num_layers=1))
    attention = model.decoder.model.layers[0].self_attn
    values = torch.cat([v for v in attention.v_proj.weight.view(2, 64, 256).repeat_interleave(2, 0)])
    copied = attention.o_proj.weight @ values  # what a token that all heads look at adds to the stream
    token = torch.randn(256)
    assert torch.cosine_similarity(copied @ token, token, dim=0) > 0.5


def test_projector_keeps_its_input_statistics_in_training():
    model = CompactModel(CompactConfig(num_layers=1)).train()
    before = model.projector.norm.running_mean.clone()
    model.projector(torch.randn(4, 320, 7, 7))
    assert torch.equal(before, model.projector.norm.running_mean)


@pytest.mark.slow
def test_stage_zero_saves_its_parts_and_goes_on_after_the_last(tmp_path):
    annotations = generate(WorldConfig(seed=9, count=8, out=tmp_path / "data", watched_only=True))
    recipe = SFTRecipe(
        data=Data(train=(Source(annotations),), cache=tmp_path / "features"),
        output=tmp_path / "unused",
        protocol=StreamFormat(frame_tokens=9),
        model=CompactConfig(num_layers=1, motion=True),
    )
    lines: list[str] = []
    out = tmp_path / "pretrained"

    def stop_at_words(line: str) -> None:
        lines.append(line)
        if line.startswith("frame captioning"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pretraining(recipe, out, 1, 50, stop_at_words)
    assert any(line.startswith("motion 6/6") for line in lines)
    saved = load_checkpoint(out)
    assert set(saved.config["metrics"]) == {"motion", "regions"} and saved.model.config.motion

    lines.clear()
    with pytest.raises(KeyboardInterrupt):
        run_pretraining(recipe, out, 1, 50, stop_at_words)
    assert lines[:2] == ["motion: done before", "regions: done before"]
    with pytest.raises(RecipeError, match="another recipe"):
        run_pretraining(replace(recipe, seed=5), out, 1, 50, stop_at_words)


@pytest.mark.slow
def test_both_halves_learn(tmp_path):
    annotations = generate(WorldConfig(seed=9, count=10, out=tmp_path, watched_only=True))
    clips = sorted((annotations.parent / "clips").iterdir())
    cache = FeatureCache(tmp_path / "features", workers=2)
    cache.ensure(clips)
    tokenizer = train_tokenizer(corpus(), 2048)
    torch.manual_seed(0)
    model = CompactModel(CompactConfig(num_layers=2, motion=True))
    seen = pretrain_regions(
        model, tokenizer, clips, cache, RegionSettings(epochs=15, clips_per_step=1), lambda _: None
    )
    assert seen["recall"] > 0.1 and "doing_recall" in seen
    lines: list[str] = []
    settings = FrameCaptioningSettings(steps=120, names_first=70, batch_size=16)
    said = train_frame_captioning(model, tokenizer, StreamFormat(), clips, cache, settings, lines.append)
    assert said["names"] > 0.3 and set(said) >= {"names", "events", "subjects"} and len(lines) == 2
    assert model.decoder.config._attn_implementation == CHUNKED_CAUSAL
