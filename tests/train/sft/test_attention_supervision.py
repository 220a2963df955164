"""Attention supervision: the truth of turns, the attention targets, the loss, and a training."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from benchmarks.metric.annotations import Annotation, read_annotations
from edge_runtime.bundle.stream_format import StreamFormat
from tests.train.tiny_config import TINY
from train.config.errors import RecipeError
from train.data.encode import IGNORE, TimelineEncoder, turn_encoder
from train.data.features import FeatureCache, write_features
from train.data.timeline import build_timeline, cut
from train.models.checkpoint import save_checkpoint
from train.models.compact.model import CompactModel
from train.models.lora import LoraSettings
from train.models.tokenizer import train_tokenizer
from train.sft.attention_supervision import (
    HEADS,
    AttentionSupervision,
    AttentionTarget,
    AuxiliaryTargetWriter,
    of_the_turn_before,
)
from train.sft.attention_targets import DOINGS, NAMES, turn_truth
from train.sft.recipe import AttentionSupervisionSettings
from train.sft.run import initial_model, prepare, run_sft
from train.synthetic.sprites.generate import clip_name, make_story
from train.synthetic.sprites.negatives import negative_questions
from train.synthetic.sprites.questions import ask_all
from train.synthetic.sprites.texts import corpus

CENTRES = [48.0, 112.0, 176.0]
SEED = 4


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Annotation]:
    """About a dozen clips that were never rendered: the world knows what they would show."""
    folder = tmp_path_factory.mktemp("world")
    lines = []
    for index in range(12):
        clip = clip_name("train", SEED, index)
        rng, story = make_story(SEED, index, "train")
        (folder / f"{clip}.mp4").touch()
        lines += ask_all(rng, story, clip, f"{clip}.mp4", training=True)
        lines += negative_questions(rng, story, clip, f"{clip}.mp4")
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_annotations(folder / "a.jsonl")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*corpus(), "Watch."], 1300)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return turn_encoder(StreamFormat(system_prompt="Watch."), tokenizer)


def timesteps(question: Annotation) -> tuple[int, ...]:
    return tuple(range(int(question.duration)))


def truth_of(question: Annotation):
    return turn_truth(question, timesteps(question), CENTRES)


def of_task(questions: list[Annotation], task: str, words: str = "") -> list[Annotation]:
    return [q for q in questions if q.task == task and words in q.query.text and q.answers]


def test_what_an_actor_does_is_known_while_it_does_it(questions):
    asked = [q for q in of_task(questions, "EU", "the ") if truth_of(q).subject]
    assert asked
    for question in asked:
        truth = truth_of(question)
        assert truth.subject in question.query.text
        verbs = {text: kind for kind, text in _kinds(question)}
        for answer in question.answers:
            middle = int((answer.start + answer.end) / 2)
            assert DOINGS[truth.doing[middle]] == verbs[answer.text]
        assert set(truth.name) == set(truth.phase) == {IGNORE}


def _kinds(question: Annotation) -> list[tuple[str, str]]:
    index = int(question.video_path.stem.rsplit("-", 1)[1])
    return [(event.kind, event.text) for event in make_story(SEED, index, "train")[1].events]


def test_one_that_never_comes_is_absent_all_the_time(questions):
    quiet = [q for q in questions if q.task == "EU" and not q.answers]
    assert len(quiet) > 4
    for question in quiet:
        truth = truth_of(question)
        assert truth.subject and {DOINGS[i] for i in truth.doing} == {"absent"}
        assert (truth.region == -1).all()


def test_a_new_state_is_known_from_its_first_frame_on(questions):
    for question in of_task(questions, "OU"):
        truth, name = truth_of(question), truth_of(question).subject
        for answer in question.answers:
            state = answer.text.split(" is now ")[1].rstrip(".")
            turn = int(np.ceil(answer.start - 0.9 + 1e-6))
            assert DOINGS[truth.doing[turn]] == f"{name}/{state}"
            assert DOINGS[truth.doing[turn - 1]] != f"{name}/{state}"


def test_the_event_that_is_waited_for_comes_is_there_and_is_over(questions):
    for question in of_task(questions, "TG"):
        truth, answer = truth_of(question), question.answers[0]
        begin, end = map(int, answer.text.replace("s", "").split("-"))
        assert truth.interval == (begin, end)
        assert truth.phase[max(0, begin - 1)] == (0 if begin else 1)
        assert list(truth.phase) == sorted(truth.phase) and truth.phase[-1] == 2
    for question in of_task(questions, "TP"):
        answer, phase = question.answers[0], truth_of(question).phase
        assert phase[int((answer.start + answer.end) / 2)] == 1 and truth_of(question).interval is None


def test_the_event_after_which_something_is_asked_for_is_known(questions):
    asked = of_task(questions, "TP")
    assert asked
    for question in asked:
        truth = truth_of(question)
        events = make_story(SEED, int(question.video_path.stem.rsplit("-", 1)[1]), "train")[1].events
        first = next(event for event in events if event.text in question.query.text)
        assert truth.first_event is not None and int((first.start + first.end) / 2) in truth.first_event
        assert all(first.start < turn + 1 and turn < first.end + 1 for turn in truth.first_event)
    assert all(truth_of(q).first_event is None for q in of_task(questions, "EU"))


def test_attention_targets_are_the_tokens_that_hold_the_reasons(questions, encoder, tokenizer):
    writer, timelines = AuxiliaryTargetWriter(encoder, tokenizer), TimelineEncoder(encoder)
    seen = dict.fromkeys(HEADS, 0)
    for question, offset in zip(questions, count(step=17), strict=False):
        encoded = timelines.encode(build_timeline(question, timesteps(question), 1.0), offset)
        truth = truth_of(question) if question.task != "EC" else None
        if truth is None:
            continue
        found, ids = writer.targets(truth, encoded), encoded.input_ids
        name = tokenizer.encode(f" {truth.subject}", add_special_tokens=False).ids
        turn_of = {at: t for t, (start, end) in enumerate(encoded.turns) for at in range(start, end)}
        for head, targets in found.attention.items():
            seen[head] += len(targets)
            for target in targets:
                assert all(at <= target.at for at in target.attend_to)
                if head == "name":
                    assert ids[target.at] == encoder.image_id and [ids[t] for t in target.attend_to] == name
                elif head == "region":
                    turn = turn_of[target.attend_to[0]]
                    assert ids[target.attend_to[0]] == encoder.image_id
                    assert 0 <= target.at - (encoded.turns[turn][1] - 1) < 4
                elif head == "before":
                    assert turn_of[target.at] == turn_of[target.attend_to[0]] + 1
                elif head == "verb":
                    said = tokenizer.decode([ids[t] for t in target.attend_to])
                    assert f"{truth.subject}{said}." in question.query.text.lower()
                elif head == "event":
                    assert {turn_of[t] for t in target.attend_to} <= set(truth.first_event)
                    assert max(target.attend_to) < target.at and turn_of[target.at] > min(truth.first_event)
                else:
                    assert (
                        ids[target.at + 1] == ids[target.attend_to[0]]
                    )  # what is said next is what it looks at
        supervised = [turn for turn, (_, end) in enumerate(encoded.turns) if encoded.labels[end] != IGNORE]
        assert (found.known[supervised, 0] == torch.from_numpy(truth.doing[supervised])).all()
        earlier, now = found.known_before[supervised], found.known[supervised, :2]
        assert (earlier[1:] == now[:-1]).all() and (earlier[0] == IGNORE).all()
    assert all(seen.values()), seen


def test_a_chunk_has_the_targets_of_its_own_turns(questions, encoder, tokenizer):
    question = next(q for q in of_task(questions, "TG") if np.diff(truth_of(q).interval)[0] >= 4)
    timeline, truth = build_timeline(question, timesteps(question), 1.0), truth_of(question)
    first = truth.interval[0] + 1  # after the begin, which is then nowhere to be seen
    most = truth.interval[1] - first + 2
    chunk = cut(timeline, first, most)
    encoded = TimelineEncoder(encoder).encode(chunk)
    targets = AuxiliaryTargetWriter(encoder, tokenizer).targets(
        truth.part(first, len(encoded.turns)), encoded
    )
    ends = [encoded.turns[truth.interval[1] - first]]
    assert targets.attention["time"]
    assert all(ends[0][0] <= target.attend_to[0] < ends[0][1] for target in targets.attention["time"])
    assert len(targets.known) == len(chunk.timesteps) <= most


def tiny_model() -> CompactModel:
    torch.manual_seed(0)
    return CompactModel(replace(TINY, num_layers=3, num_heads=4, num_kv_heads=2, hidden_size=64)).eval()


@pytest.mark.parametrize("head", HEADS)
def test_its_loss_is_that_of_the_attention_the_decoder_has(head):
    model = tiny_model()
    supervision = AttentionSupervision(model.decoder, AttentionSupervisionSettings())
    model.decoder.set_attn_implementation("eager")
    ids = torch.randint(0, 1200, (2, 12))
    seen = model.decoder.model(input_ids=ids, output_attentions=True, use_cache=False)
    targets = [AttentionTarget(5, (2,)), AttentionTarget(9, (0, 1)), AttentionTarget(11, (11,))]
    layer, number = {
        "name": (1, 0),
        "verb": (1, 2),
        "region": (2, 0),
        "before": (2, 1),
        "time": (2, 0),
        "event": (2, 2),
    }[head]
    for row in range(2):
        given = seen.attentions[layer][row, number]
        expected = torch.stack([given[target.at, list(target.attend_to)].sum() for target in targets])
        torch.testing.assert_close(supervision.attention_loss(head, row, targets), -expected.log().mean())
        assert supervision.attention_loss(head, row, []) == 0


def test_of_the_turn_before_is_asked_above_all_where_it_was_another():
    logits = torch.randn(4, 6)
    was, now = torch.tensor([IGNORE, 2, 2, 3]), torch.tensor([2, 2, 3, 3])
    each = -logits.log_softmax(-1)[[1, 2, 3], [2, 2, 3]]
    expected = (each * torch.tensor([0.15, 1.0, 0.15])).sum() / 1.3
    torch.testing.assert_close(of_the_turn_before(logits, was, now), expected)
    assert of_the_turn_before(logits, torch.full((4,), IGNORE), now) == 0


def write_world(folder: Path, clips: int = 4) -> Path:
    """Questions about clips whose features are noise."""
    cache, lines, rng = FeatureCache(folder / "cache"), [], np.random.default_rng(0)
    for index in range(clips):
        name = clip_name("train", SEED, index)
        clip = folder / f"{name}.mp4"
        clip.write_bytes(bytes([index]))
        own, story = make_story(SEED, index, "train")
        turns = int(story.scene.duration)
        noise = rng.normal(size=(turns, 320, 7, 7)).astype(np.float16)
        write_features(cache.path(clip), clip.name, 1.0, range(turns), noise)
        lines += ask_all(own, story, name, clip.name, training=False)
    (folder / "world.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "world.jsonl"


@pytest.fixture
def recipe(sft_recipe, tmp_path, tokenizer):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    data = replace(sft_recipe.data, train=(replace(sft_recipe.data.train[0], path=write_world(tmp_path)),))
    return replace(sft_recipe, data=data, attention_supervision=AttentionSupervisionSettings())


def run_of(recipe, name, **changes):
    return replace(recipe, output=recipe.output.parent / name, run=replace(recipe.run, **changes))


def test_training_learns_to_look_and_keeps_nothing_of_it(recipe):
    guided = run_of(recipe, "guided", epochs=8, batch_size=4, log_steps=5)
    assert run_sft(guided)
    log = (guided.output / "train.log").read_text()
    shown = [
        float(line.split("supervision ")[1].split()[0]) for line in log.splitlines() if "supervision " in line
    ]
    assert shown[-1] < 0.8 * shown[0]
    names = set(load_file(guided.output / "checkpoint" / "model.safetensors"))
    plain = replace(run_of(recipe, "plain", epochs=1, batch_size=4), attention_supervision=None)
    assert run_sft(plain) and "attention supervision" not in (plain.output / "train.log").read_text()
    assert names == set(load_file(plain.output / "checkpoint" / "model.safetensors"))


class KeepGradients(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_how_a_batch_is_split_changes_nothing(recipe):
    everything = len(read_annotations(recipe.data.train[0].path))
    found = []
    for name, batch, accumulation in (("one", everything, 1), ("many", 1, everything)):
        trainer = prepare(run_of(recipe, name, batch_size=batch, accumulation=accumulation)).trainer
        keep = KeepGradients()
        trainer.add_callback(keep)
        trainer.train()
        found.append(keep.gradients)
    assert any("supervision" in name and gradient.abs().max() > 1e-3 for name, gradient in found[0].items())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6, msg=name)


def test_bad_recipes_are_told(recipe, sft_recipe, tmp_path):
    with pytest.raises(RecipeError, match="queries_per_session 1"):
        several = {
            part: replace(getattr(recipe, part), queries_per_session=2) for part in ("data", "protocol")
        }
        prepare(replace(recipe, **several))
    with pytest.raises(RecipeError, match="gradient_checkpointing"):
        prepare(run_of(recipe, "x", gradient_checkpointing=True))
    save_checkpoint(tmp_path / "start", *initial_model(recipe), recipe.protocol, [], {}, {})
    with pytest.raises(RecipeError, match="lora"):
        prepare(replace(recipe, init=str(tmp_path / "start"), lora=LoraSettings(rank=2)))
    with pytest.raises(RecipeError, match="not a generated clip"):
        run_sft(replace(sft_recipe, attention_supervision=AttentionSupervisionSettings()))


def test_names_and_doings_are_all_there_is():
    assert len(set(DOINGS)) == len(DOINGS) and len(set(NAMES)) == len(NAMES)
    assert {"absent", "still", "enters", "lock/open"} <= set(DOINGS) and NAMES[0] == "nobody"
