"""StreamPro-F1 during training, and the checkpoint that was best at it."""

import json
from dataclasses import replace

import pytest

from train.config.errors import RecipeError
from train.models.checkpoint import load_checkpoint
from train.sft.optimizer import Optimizer
from train.sft.run import prepare, run_sft


@pytest.fixture
def recipe(sft_recipe):
    data = replace(sft_recipe.data, validation=sft_recipe.data.train)
    run = replace(sft_recipe.run, epochs=60, batch_size=8, eval_steps=20, f1_items=4)
    return replace(sft_recipe, data=data, run=run, optimizer=Optimizer(lr=1e-2, warmup_steps=5))


def test_the_best_checkpoint_is_kept_beside_the_last(recipe):
    run_sft(recipe)
    last, best = (load_checkpoint(recipe.output / name).config for name in ("checkpoint", "best"))
    f1 = best["metrics"]["f1"]
    # Every answer is right and a second after its change: three quarters of the score for time.
    assert f1["W-Avg"] == f1["OU"] == pytest.approx(75.0) and f1["step"] in (20, 40, 60)
    assert last["metrics"]["step"] == 60 and best["metrics"]["step"] == f1["step"]
    assert "StreamPro-F1 at step 20" in (recipe.output / "train.log").read_text()


def test_a_worse_one_does_not_take_its_place_even_in_a_run_that_goes_on(recipe, monkeypatch):
    found = iter([30.0, 50.0, 40.0, 45.0, 60.0])
    monkeypatch.setattr("train.sft.run.points", lambda report: {"W-Avg": next(found)})
    monkeypatch.setattr("train.sft.run.streampro_f1", lambda *arguments, **options: None)
    run_sft(recipe)  # 30, 50, 40
    best = recipe.output / "best" / "config.json"
    assert json.loads(best.read_text())["metrics"]["f1"] == {"step": 40, "W-Avg": 50.0}
    longer = replace(recipe, run=replace(recipe.run, epochs=100))
    prepared = prepare(longer, resume=True)
    prepared.trainer.train(resume_from_checkpoint=str(prepared.state))  # 45, 60
    assert json.loads(best.read_text())["metrics"]["f1"] == {"step": 100, "W-Avg": 60.0}


def test_f1_needs_questions(recipe):
    with pytest.raises(RecipeError, match=r"data\.validation"):
        prepare(replace(recipe, data=replace(recipe.data, validation=())))
