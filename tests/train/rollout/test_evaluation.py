"""StreamPro-F1 in training: what is asked, said and scored."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.metric.judges import ExactJudge
from benchmarks.metric.score import score
from edge_runtime.bundle.stream_format import TurnEncoder
from train.data.dataset import Source
from train.data.features import FeatureCache, write_features
from train.rollout.evaluation import points, predict, spread, streampro_f1
from train.rollout.play_back import play_back
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts


@pytest.fixture
def prompts(tmp_path):
    """Four questions on clips of unlike length."""
    cache, lines = FeatureCache(tmp_path / "cache"), []
    for i in range(4):
        clip, turns = tmp_path / f"{i}.mp4", 7 - i
        clip.write_bytes(bytes([i]))
        pictures = np.random.default_rng(i).normal(size=(turns, 320, 7, 7)).astype(np.float16)
        write_features(cache.path(clip), clip.name, 1.0, range(turns), pictures)
        answers = [{"start": 2.0, "end": 3.0, "text": "nothing"}]
        record = {
            "id": f"q{i}",
            "video": clip.name,
            "duration": float(turns),
            "task": "OU",
            "answers": answers,
        }
        lines.append(json.dumps({**record, "query": {"time": 1.5, "text": "What?"}}))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    return Prompts((Source(tmp_path / "a.jsonl"),), cache, shuffle=False)


@pytest.fixture
def rules_at(tiny_model):
    tokenizer = tiny_model.tokenizer
    encoder = TurnEncoder(
        tiny_model.stream_format, lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    )
    return lambda threshold: TokenConstraints(
        encoder, tokenizer, tiny_model.model.config.vocab_size, threshold=threshold
    )


def test_silence_scores_nothing(tiny_model, rules_at, prompts):
    report = streampro_f1(tiny_model.model, rules_at(1.0), prompts)
    assert [q.responses for q in report.questions] == [0] * 4
    assert points(report) == {"W-Avg": 0.0, "OU": 0.0}


def test_score_is_that_of_the_benchmark(tiny_model, rules_at, prompts):
    constraints = rules_at(0.0)
    said = predict(tiny_model.model, constraints, prompts, prompts.annotations, rows=3)
    by_id = {prediction.id: prediction for prediction in said}
    assert set(by_id) == {"q0", "q1", "q2", "q3"}
    # A threshold of 0 speaks at every timestep from the query on: those that end at 2 s and later.
    assert [r.time for r in by_id["q0"].responses] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    truth = {  # let the model be right in its first words
        a.id: by_id[a.id].responses[0].text for a in prompts.annotations
    }
    prompts.annotations = [_answered(a, truth[a.id]) for a in prompts.annotations]
    report = streampro_f1(tiny_model.model, constraints, prompts, rows=3)
    assert report == score(prompts.annotations, said, ExactJudge(), bootstrap=0)
    assert 0 < points(report)["OU"] <= 100
    assert len(streampro_f1(tiny_model.model, constraints, prompts, questions=2).questions) == 2


def test_targets_played_back_score_what_they_deserve(prompts):
    said = play_back(prompts, prompts.annotations)
    assert [[(r.time, r.text) for r in p.responses] for p in said] == [[(3.0, "nothing")]] * 4
    report = score(prompts.annotations, said, ExactJudge(), bootstrap=0)
    assert points(report)["W-Avg"] == 75.0  # a change at 2 s is seen in the frame that ends at 3 s


def _answered(annotation, text):
    return replace(annotation, answers=tuple(replace(a, text=text) for a in annotation.answers))


def test_model_keeps_its_mode(tiny_model, rules_at, prompts):
    tiny_model.model.train()
    try:
        predict(tiny_model.model, rules_at(1.0), prompts, prompts.annotations[:1])
        assert tiny_model.model.training
    finally:
        tiny_model.model.eval()
    assert not any(p.grad is not None for p in tiny_model.model.parameters())
    assert torch.is_grad_enabled()


def test_spread(prompts):
    numbers = list(range(10))
    assert spread(numbers, 0) == spread(numbers, 10) == spread(numbers, 99) == numbers
    assert spread(numbers, 4) == [0, 2, 5, 7]
