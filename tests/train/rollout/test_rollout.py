"""Rollouts in lock-step: the same trajectories as one at a time, as without a cache, as the runtime's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import edge_runtime
from benchmarks.metric.annotations import Annotation, Answer, Query
from edge_runtime.bundle.stream_format import TurnEncoder
from tests.train.models.test_qwen import Tiny
from train.data.encode import TimelineEncoder
from train.data.timeline import build_timeline
from train.grpo.loss import policy_log_probs
from train.grpo.rollout_speed import WithoutCache
from train.models.qwen.model import QWEN2_5, QWEN3
from train.rollout.rollout import rollout
from train.rollout.token_constraints import Place, TokenConstraints
from train.rollout.trajectory import Prompt, shifted

QUERY = "What does the person do?"


def make_prompt(seed, turns=9, query_turn=2, offset=0, task="EU", answers=()):
    """A clip of random features in which timestep 4 has no frame."""
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(turns, 320, 7, 7))).float()
    timesteps = tuple(i if i < 4 else i + 1 for i in range(turns))
    query = Query(timesteps[query_turn] + 0.5, QUERY)  # in force from the timestep that ends after it
    annotation = Annotation(f"clip{seed}", f"{seed}.mp4", float(timesteps[-1] + 1), task, query, answers)
    return Prompt(annotation, features, timesteps, query_turn, offset, 1.0)


@pytest.fixture
def rules_at(tiny_model):
    encoder = TurnEncoder(
        tiny_model.stream_format, lambda text: tiny_model.tokenizer.encode(text, add_special_tokens=False).ids
    )

    def make(threshold=0.5, kind=TokenConstraints, **options):
        vocabulary = tiny_model.model.config.vocab_size
        return kind(encoder, tiny_model.tokenizer, vocabulary, threshold=threshold, **options)

    return make


def middle_threshold(tiny_model, constraints):
    """One at which the random model speaks at some timesteps and not at others."""
    silent = rollout(tiny_model.model, constraints, [make_prompt(0)])[0][0]
    scores = torch.sigmoid(-_margins(tiny_model, constraints, silent)).sort().values
    middle = len(scores) // 2
    return float((scores[middle - 1] + scores[middle]) / 2)  # between two, so that rounding decides nothing


def _margins(tiny_model, constraints, trajectory):
    """Logit of silence minus logit of response at each decision."""
    model, encoder = tiny_model.model, constraints.encoder
    visual = model.visual(trajectory.prompt.features)
    logits = model.logits(model.hidden(trajectory.ids[None], visual, encoder.image_id))[0]
    at = trajectory.sampled[trajectory.places == Place.DECISION] - 1
    return (logits[at, encoder.silence_id] - logits[at, encoder.response_id]).detach()


def said(trajectory):
    return [(r.time, r.text) for r in trajectory.responses]


def test_says_what_the_runtime_says(tiny_model, tiny_bundle_fp32, rules_at):
    threshold = middle_threshold(tiny_model, rules_at(0.999999))
    prompts = [make_prompt(0), make_prompt(1, turns=6, query_turn=0), make_prompt(2, query_turn=5)]
    found = [group[0] for group in rollout(tiny_model.model, rules_at(threshold), prompts)]
    runtime = edge_runtime.load(tiny_bundle_fp32)
    for prompt, trajectory in zip(prompts, found, strict=True):
        expected = []
        tokens = tiny_model.model.visual(prompt.features).tokens.detach().numpy()
        with runtime.session(threshold=threshold) as session:
            for turn, index in enumerate(prompt.timesteps):
                if turn == prompt.query_turn:
                    session.ask(QUERY)
                decision = session.push_tokens(tokens[turn : turn + 1], index)
                if decision.speak:
                    expected.append((decision.time, decision.text))
        assert said(trajectory) == expected
    counts = [len(t.responses) for t in found]
    turns = sum(len(p.timesteps) - p.query_turn for p in prompts)
    assert 0 < sum(counts) < turns, "the threshold decides nothing here"


def test_cache_changes_nothing(tiny_model, rules_at):
    constraints = rules_at(middle_threshold(tiny_model, rules_at(0.999999)))
    prompt = make_prompt(0, query_turn=1)
    with torch.no_grad():
        [[expected]] = WithoutCache(tiny_model.model, constraints, [prompt], 1, None).run()
    found = rollout(tiny_model.model, constraints, [prompt])[0][0]
    assert found.ids.tolist() == expected.ids.tolist()
    assert said(found) == said(expected) != []
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=1e-4, rtol=0)


def test_rows_do_not_see_each_other(tiny_model, rules_at):
    constraints = rules_at(middle_threshold(tiny_model, rules_at(0.999999)))
    prompts = [make_prompt(0), make_prompt(1, turns=4, query_turn=1), make_prompt(2, offset=700)]
    together = [group[0] for group in rollout(tiny_model.model, constraints, prompts)]
    for prompt, found in zip(prompts, together, strict=True):
        alone = rollout(tiny_model.model, constraints, [prompt])[0][0]
        assert found.ids.tolist() == alone.ids.tolist()
        assert said(found) == said(alone)
        torch.testing.assert_close(found.log_probs, alone.log_probs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("constrained", [True, False])
def test_log_probs_are_those_of_one_teacher_forced_pass(tiny_model, rules_at, constrained):
    constraints = rules_at(0.3, constrained=constrained, temperature=0.8)
    prompts = [make_prompt(0), make_prompt(1, turns=5, query_turn=0, offset=900)]
    generator = torch.Generator().manual_seed(1)
    groups = rollout(tiny_model.model, constraints, prompts, group=4, generator=generator)
    trajectories = [t for group in groups for t in group]
    with torch.no_grad():
        teacher_forced = policy_log_probs(tiny_model.model, constraints, trajectories)
    sampled = torch.cat([t.log_probs for t in trajectories])
    assert len(sampled) > 40
    torch.testing.assert_close(sampled, teacher_forced, atol=1e-4, rtol=0)
    assert len({tuple(t.ids.tolist()) for t in groups[0]}) == 4, "sampling gave the same trajectory twice"


@pytest.mark.parametrize("family", [QWEN2_5, QWEN3])
def test_backbones_of_the_paper(family, tmp_path):
    """M-RoPE, whose positions are not row numbers, and deepstack: cached and teacher-forced agree."""
    tiny = Tiny(family, True, tmp_path)
    encoder = TurnEncoder(replace(tiny.stream_format, max_response_tokens=4), tiny.encoder._encode)
    vocabulary = tiny.model.decoder.get_input_embeddings().num_embeddings
    constraints = TokenConstraints(encoder, tiny.tokenizer, vocabulary, threshold=0.5)
    pictures = tiny.pictures(4)
    annotation = Annotation("a", "a.mp4", 4.0, "EU", Query(1.5, QUERY), ())
    features = tiny.features(pictures, tmp_path)
    prompts = [
        Prompt(annotation, features, (0, 1, 2, 3), 1, 0, 1.0),
        Prompt(annotation, features[1:].clone(), (1, 2, 3), 0, 90, 1.0),
    ]
    generator = torch.Generator().manual_seed(0)
    groups = rollout(tiny.model, constraints, prompts, group=3, generator=generator)
    trajectories = [t for group in groups for t in group]
    with torch.no_grad():
        teacher_forced = policy_log_probs(tiny.model, constraints, trajectories)
    sampled = torch.cat([t.log_probs for t in trajectories])
    assert any(t.responses for t in trajectories)
    torch.testing.assert_close(sampled, teacher_forced, atol=1e-4, rtol=0)


def test_same_seed_same_trajectories(tiny_model, rules_at):
    runs = [
        rollout(
            tiny_model.model,
            rules_at(),
            [make_prompt(3)],
            group=3,
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    ]
    assert [t.ids.tolist() for t in runs[0][0]] == [t.ids.tolist() for t in runs[1][0]]


def silent_ids(constraints, prompt):
    timeline = build_timeline(prompt.annotation, prompt.timesteps, 1.0)  # no answers
    assert timeline.query_turn == prompt.query_turn
    return TimelineEncoder(constraints.encoder).encode(timeline, prompt.offset).input_ids


def test_layout_is_that_of_supervised_training(tiny_model, rules_at):
    constraints, prompt = rules_at(1.0), make_prompt(0, offset=30)
    trajectory = rollout(tiny_model.model, constraints, [prompt])[0][0]
    assert trajectory.ids.tolist() == silent_ids(constraints, prompt)
    assert len(trajectory.sampled) == len(prompt.timesteps) - prompt.query_turn  # none before the query
    assert trajectory.valid == (True,) * len(trajectory.sampled)
    assert trajectory.responses == ()


def test_a_response_of_blanks_is_taken_back(tiny_model, rules_at):
    class Mute(TokenConstraints):
        def text(self, ids):
            return ""

    constraints, prompt = rules_at(0.0, Mute), make_prompt(0)
    trajectory = rollout(tiny_model.model, constraints, [prompt])[0][0]
    assert trajectory.ids.tolist() == silent_ids(constraints, prompt)
    assert len(trajectory.sampled) == len(trajectory.places) == len(trajectory.log_probs) == 0


def test_what_is_no_decision_is_a_format_error(tiny_model, rules_at):
    constraints = rules_at(constrained=False)
    generator = torch.Generator().manual_seed(0)
    [group] = rollout(tiny_model.model, constraints, [make_prompt(0)], group=4, generator=generator)
    allowed = {constraints.encoder.silence_id, constraints.encoder.response_id}
    seen = set()
    for trajectory in group:
        chosen = trajectory.ids[trajectory.sampled].tolist()
        first, valid = 0, []
        while first < len(chosen):  # a turn: one token, or </Response> and its text up to the end
            last = first
            if chosen[first] == constraints.encoder.response_id:
                last = first + 1
                while chosen[last] != constraints.encoder.stop_id and last - first < 8:
                    last += 1
            text = constraints.text(
                [i for i in chosen[first + 1 : last + 1] if i != constraints.encoder.stop_id]
            )
            valid.append(chosen[first] == constraints.encoder.silence_id or bool(text))
            first = last + 1
        assert list(trajectory.valid) == valid
        seen |= {chosen[0] in allowed}
        assert constraints.encoder.image_id not in chosen
    assert False in seen


def test_policy_masks_and_threshold(tiny_model, rules_at):
    constraints = rules_at(0.2)
    logits = torch.zeros(3, tiny_model.model.config.vocab_size)
    found = constraints.log_probs(logits, torch.tensor([Place.DECISION, Place.TEXT_START, Place.TEXT])).exp()
    encoder = constraints.encoder
    assert found[0, encoder.response_id] == pytest.approx(0.8, abs=1e-5)  # a score of 0.5 against 0.2
    assert found[0, encoder.silence_id] == pytest.approx(0.2, abs=1e-5)
    special = [encoder.silence_id, encoder.response_id, encoder.image_id]
    assert found[1:, special].abs().max() == 0
    assert found[1, encoder.stop_id] == 0 < found[2, encoder.stop_id]
    assert found[:, tiny_model.tokenizer.get_vocab_size() :].sum() == 0
    with pytest.raises(ValueError, match="temperature"):
        rules_at(temperature=0.0)


def test_truth_moves_with_the_clock():
    check = {"kind": "mentions", "text": "3s-8s"}
    rubric = ({"rubric_id": 0, "dimension": "coverage", "rubric": "It says 3s-8s.", "check": check},)
    answers = (Answer(3.0, 8.0, "3s-8s"),)
    prompt = make_prompt(0, task="TG", answers=answers, offset=100)
    prompt = replace(prompt, annotation=replace(prompt.annotation, rubric=rubric))
    truth = prompt.truth
    assert (truth.answers[0].start, truth.answers[0].end, truth.answers[0].text) == (
        103.0,
        108.0,
        "103s-108s",
    )
    assert truth.query.time == prompt.annotation.query.time + 100
    assert truth.rubric[0]["check"] == {"kind": "mentions", "text": "103s-108s"}
    other = replace(prompt.annotation, task="EU")
    assert shifted(other, 100.0).answers[0].text == "3s-8s"  # only grounding speaks of the clock
