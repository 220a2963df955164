"""What a step of GRPO asks: groups that are replaced, several questions at once, quiet ones in validation."""

import json
from dataclasses import replace

import pytest
import torch

from tests.train.tiny_config import TINY_FORMAT
from train.config.errors import RecipeError
from train.data.features import FeatureCache
from train.grpo.groups import DrawnGroups, draw_groups
from train.grpo.run import run_grpo
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.rewards.weighted_sum import PAPER
from train.rollout.trajectory import Prompts


def test_groups_without_variance_are_replaced_within_a_bound():
    asked = []

    def draw(turn, count):
        asked.append((turn, count))
        varied = torch.zeros(count, 2)
        varied[0] = torch.tensor([1.0, -1.0])  # the first group of each turn alone has variance
        return DrawnGroups([f"{turn}.{i}.{j}" for i in range(count) for j in range(2)], [], varied)

    drawn = draw_groups(3, 5, draw)
    assert asked == [(0, 3), (1, 2), (2, 1)]
    assert drawn.refills == 3
    assert drawn.advantages.shape == (6, 2)
    assert int((drawn.advantages != 0).any(1).sum()) == 3
    assert len(drawn.trajectories) == 12
    asked.clear()
    assert draw_groups(3, 1, draw).refills == 2
    assert asked == [(0, 3), (1, 2)]


def test_refills_are_logged_and_taken_from_places_of_their_own(recipe, rewards, monkeypatch):
    places = []
    one = Prompts.__getitem__
    monkeypatch.setattr(Prompts, "__getitem__", lambda self, i: (places.append(i), one(self, i))[1])
    nothing = {
        name: type(kept)(0.0) for name, kept in PAPER.items()
    }  # no group has variance, so every refill is used
    rollouts = replace(recipe.rollout, refills=2)
    assert run_grpo(replace(recipe, rewards=nothing, rollout=rollouts, run=replace(recipe.run, steps=2)))
    assert [found.refills for found in rewards] == [pytest.approx(2 / 3)] * 2
    assert places == list(range(24))


def test_several_questions_in_one_session(recipe, rewards, tmp_path):
    checkpoint = load_checkpoint(recipe.init)
    numbered = replace(TINY_FORMAT, queries_per_session=3, max_response_tokens=3)
    start = tmp_path / "numbered"
    save_checkpoint(start, checkpoint.model, checkpoint.tokenizer, numbered, ["OU"], {}, {})
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    later = [{**line, "id": f"{line['id']}/later", "query": {"time": 2.0, "text": "When?"}} for line in lines]
    quiet = [{**line, "id": f"{line['id']}/quiet", "answers": []} for line in lines]
    written = "\n".join(json.dumps(line) for line in [*lines, *later, *quiet])
    (tmp_path / "a.jsonl").write_text(written)
    together = replace(recipe.data, queries_per_session=3)
    recipe = replace(recipe, init=start, data=together, run=replace(recipe.run, steps=2, eval_steps=2))
    assert run_grpo(recipe)
    assert len(rewards) == 2
    metrics = load_checkpoint(recipe.output / "best").config["metrics"]
    assert "false alarms per minute" in metrics["f1"]

    prompts = Prompts(together.train, FeatureCache(together.cache), seed=1, queries_per_session=3)
    sizes = set()
    for place in range(30):
        prompt = prompts[place]
        asked = [query.annotation for query in prompt.queries]
        sizes.add(len(asked))
        assert len({a.id for a in asked}) == len(asked) and len({a.video for a in asked}) == 1
        turns = [query.turn for query in prompt.queries]
        assert turns == sorted(turns)
        assert [q.annotation.id for q in prompts[place].queries] == [a.id for a in asked]
    assert sizes == {1, 2, 3}
    with pytest.raises(RecipeError, match="at most 1 a session, not 3"):
        run_grpo(replace(recipe, init=tmp_path / "start", output=tmp_path / "other"))


def test_the_best_checkpoint_keeps_within_the_limit_of_false_alarms(recipe, tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    quiet = [{**line, "id": f"{line['id']}/quiet", "answers": []} for line in lines]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in [*lines, *quiet]))
    run = replace(recipe.run, steps=1, eval_steps=1, eval_thresholds=(1e-6,), eval_false_alarms=0.0)
    assert run_grpo(replace(recipe, run=run))
    assert not (recipe.output / "best").exists()  # an untrained model always speaks from there on
    assert run_grpo(replace(recipe, run=replace(run, eval_false_alarms=100.0), output=tmp_path / "other"))
    assert (tmp_path / "other" / "best").is_dir()
