"""Training with several questions in one session, from the recipe to the figures."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from benchmarks.metric.annotations import read_annotations
from train.__main__ import main
from train.config.errors import RecipeError
from train.models.checkpoint import load_checkpoint
from train.rollout.evaluation import grouped
from train.rollout.examination import Examination, drawn
from train.sft.recipe import Optimizer, load_recipe
from train.sft.run import prepare, run_sft

TEXTS = {"When?": "It is on.", "Is it?": "On."}


@pytest.fixture
def recipe(sft_recipe, tmp_path):
    """Each clip has two questions: one is told of the change, the other in every second clip."""
    path = tmp_path / "a.jsonl"
    lines = []
    for i, line in enumerate(path.read_text().splitlines()):
        for k, (query, text) in enumerate(TEXTS.items()):
            record = json.loads(line)
            record |= {"id": f"{record['id']}/{k}", "query": {"time": 0.0, "text": query}}
            record["answers"] = [a | {"text": text} for a in record["answers"]] if k == 0 or i % 2 else []
            lines.append(json.dumps(record))
    path.write_text("\n".join(lines))
    data = replace(sft_recipe.data, validation=sft_recipe.data.train, queries_per_session=2)
    protocol = replace(sft_recipe.protocol, queries_per_session=2, max_response_tokens=8)
    run = replace(sft_recipe.run, epochs=2, batch_size=8, eval_steps=1000, f1_items=4)
    optimizer = Optimizer(lr=1e-2, warmup_steps=5)
    return replace(sft_recipe, data=data, protocol=protocol, run=run, optimizer=optimizer)


@pytest.mark.slow
def test_a_model_learns_to_name_the_question_it_answers(recipe, tmp_path):
    prepared = prepare(replace(recipe, run=replace(recipe.run, epochs=80)))
    prepared.trainer.train()
    prepared.callback.close()
    assert prepared.trainer.last_eval["OU"]["exact"] == 1.0

    examination = Examination(
        load_checkpoint(recipe.output / "checkpoint"), [tmp_path / "a.jsonl"], tmp_path / "cache"
    )
    texts = {question.id: TEXTS[question.query.text] for question in examination.annotations}
    for together, least in ((None, 10), (1, 7)):  # of twelve with an answer; together is what was validated
        said = {p.id: p.responses for p in examination.ask(examination.annotations, 0.5, together)}
        assert set(said) == set(texts)
        right = sum(bool(said[name]) and {r.text for r in said[name]} <= {texts[name]} for name in texts)
        assert right >= least


def test_checkpoint_and_figures_know_the_mode(recipe, tmp_path):
    assert run_sft(recipe)
    checkpoint = recipe.output / "checkpoint"
    assert load_checkpoint(checkpoint).stream_format.queries_per_session == 2
    arguments = ["score", str(checkpoint), str(tmp_path / "a.jsonl"), "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(main, [*arguments, "--json", "--threshold", "0"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)[str(tmp_path / "a.jsonl")]["0"]
    assert found["queries_per_session"] == 2 and found["apart"]["questions"] == found["questions"] == 16
    table = CliRunner().invoke(main, [*arguments, "--questions", "4", "--bootstrap", "0"]).output
    assert "questions a session" in table and "4 questions" in table


def test_questions_that_share_a_session_are_drawn_together(recipe, tmp_path):
    questions = read_annotations(tmp_path / "a.jsonl")
    chosen = drawn(questions, 6, 1, together=2)
    assert len(chosen) == 6 and all(len(group) == 2 for group in grouped(chosen, 2))


@pytest.mark.parametrize("table", ["data", "protocol"])
def test_a_recipe_says_it_once(recipe, as_toml, table):
    said = replace(recipe, **{table: replace(getattr(recipe, table), queries_per_session=2)})
    path = as_toml(said)
    other = {"data": "protocol", "protocol": "data"}[table]
    lines = path.read_text().splitlines()
    start = lines.index(f"[{other}]")
    at = next(i for i in range(start, len(lines)) if lines[i].startswith("queries_per_session"))
    del lines[at]
    path.write_text("\n".join(lines))
    loaded = load_recipe(path)
    assert loaded.data.queries_per_session == loaded.protocol.queries_per_session == 2


def test_a_recipe_that_contradicts_itself_is_refused(recipe, as_toml):
    path = as_toml(recipe)
    text = path.read_text()
    path.write_text(text.replace("queries_per_session = 2", "queries_per_session = 3", 1))
    with pytest.raises(RecipeError, match="set one of them"):
        load_recipe(path)


def test_a_model_of_one_question_goes_on_with_several(sft_recipe, recipe, capsys):
    run_sft(replace(sft_recipe, output=sft_recipe.output / "single"))
    start = str(sft_recipe.output / "single" / "checkpoint")
    run = replace(recipe.run, epochs=1, f1_items=0)
    assert run_sft(replace(recipe, init=start, run=run))
    assert "protocol.queries_per_session: 1 -> 2" in capsys.readouterr().err
    assert load_checkpoint(recipe.output / "checkpoint").stream_format.queries_per_session == 2
