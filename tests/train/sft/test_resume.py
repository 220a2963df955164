"""What a training that goes on may change in its recipe, and what not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from train.config.errors import RecipeError
from train.data.dataset import Source
from train.grpo.recipe import GRPORecipe, PromptData
from train.rewards.turn import TurnSettings
from train.sft.resume import check_same_recipe

RECIPE = GRPORecipe(init=Path("start"), data=PromptData(train=(Source(Path("a.jsonl")),)), output=Path("run"))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE.to_dict()))
    return path


def changed(table, **values):
    old = getattr(RECIPE, table)
    new = old | values if isinstance(old, dict) else replace(old, **values)
    return replace(RECIPE, **{table: new}).to_dict()


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("rewards", {"turn": TurnSettings(tau=1.5)}),
        ("judge", {"kind": "fields"}),
        ("rollout", {"group": 3}),
        ("rollout", {"temperature": 0.7}),
        ("rollout", {"threshold": 0.4}),  # was the checkpoint's own
        ("optimizer", {"weight_decay": 0.3}),
        ("run", {"inner_epochs": 2}),
    ],
)
def test_what_decides_the_coming_steps_stays(saved, table, values):
    with pytest.raises(RecipeError, match=rf"trained with another {table}\b.*the same recipe"):
        check_same_recipe(saved, changed(table, **values))


@pytest.mark.parametrize(
    ("table", "values"),
    [("optimizer", {"lr": 1e-7}), ("rollout", {"rows": 8}), ("run", {"steps": 9}), ("judge", {"workers": 1})],
)
def test_the_rest_may_change(saved, table, values):
    check_same_recipe(saved, changed(table, **values))


def test_a_key_that_the_saved_recipe_does_not_know_is_no_difference(saved):
    known = json.loads(saved.read_text())
    del known["rollout"]["threshold"], known["optimizer"]
    saved.write_text(json.dumps(known))
    check_same_recipe(saved, changed("rollout", threshold=0.4))
