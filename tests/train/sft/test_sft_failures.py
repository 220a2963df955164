"""What goes wrong with supervised training: each a line that says what, where and what is kept."""

import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from edge_runtime.command_line.exit import run_command
from train.__main__ import main
from train.config.errors import RecipeError
from train.data.dataset import EmptyData, Source
from train.data.features import FeatureCache, FeatureError, write_features
from train.errors import TrainingError
from train.models.checkpoint import load_checkpoint
from train.sft.callbacks import check_reporting
from train.sft.resume import last_state
from train.sft.run import prepare, run_sft

TURNS = 6


@pytest.fixture
def recipe(sft_recipe):
    return sft_recipe


def with_run(recipe, output="run", **changes):
    return replace(recipe, output=recipe.output.parent / output, run=replace(recipe.run, **changes))


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kept(recipe):
    """Everything that has to survive a failure."""
    return snapshot(recipe.output / "states"), snapshot(recipe.output / "checkpoint")


def spoil(recipe, clip):
    """The clip's features become NaN."""
    path = FeatureCache(recipe.data.cache).path(recipe.output.parent / f"{clip}.mp4")
    write_features(path, f"{clip}.mp4", 1.0, range(TURNS), np.full((TURNS, 320, 7, 7), np.nan, np.float16))


# Numbers that are no longer finite


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(recipe):
    spoil(recipe, 3)
    with pytest.raises(TrainingError, match=r"loss is nan at step \d, on the batch .*clip3"):
        run_sft(recipe)
    assert not (recipe.output / "checkpoint").exists()


def test_a_loss_that_is_not_finite_leaves_what_was_saved(recipe):
    run_sft(recipe)
    before = kept(recipe)
    spoil(recipe, 3)
    with pytest.raises(TrainingError, match="clip3"):
        run_sft(with_run(recipe, epochs=2), resume=True)
    assert kept(recipe) == before
    load_checkpoint(recipe.output / "checkpoint")


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(recipe):
    prepared = prepare(recipe)
    weight = prepared.trainer.model.model.projector.out.weight
    weight.register_hook(lambda gradient: gradient * float("nan"))
    before = weight.detach().clone()
    with pytest.raises(TrainingError, match=r"gradient is nan at step 1, on the batch clip\d"):
        prepared.trainer.train()
    assert weight.equal(before)


# Disks that are full


@contextmanager
def files_of_at_most(size):
    """The kernel refuses to let any file of this process grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fails", ["model.safetensors", "optimizer.pt"])
def test_a_state_that_can_not_be_written_leaves_the_old_one(recipe, fails):
    run_sft(recipe)
    before = kept(recipe)
    state = last_state(recipe.output / "states")
    limit = (state / fails).stat().st_size - 1000
    assert fails == "model.safetensors" or limit > (state / "model.safetensors").stat().st_size
    longer = with_run(recipe, epochs=2)
    with files_of_at_most(limit), pytest.raises(TrainingError) as caught:
        run_sft(longer, resume=True)
    message = str(caught.value)
    assert "state of step 4 could not be written" in message and "that of step 2 is intact" in message
    assert "--resume" in message and "\n" not in message
    assert kept(recipe) == before and not (recipe.output / "states" / ".saving").exists()
    assert run_sft(longer, resume=True)  # once there is room again
    assert last_state(recipe.output / "states").name == "checkpoint-4"


def test_a_first_state_that_can_not_be_written_says_so(recipe):
    room = Path(recipe.tokenizer).stat().st_size + 10_000  # for all but the weights
    with files_of_at_most(room), pytest.raises(TrainingError, match=r"state of step 2.*none from before"):
        run_sft(recipe)
    assert last_state(recipe.output / "states") is None


def test_only_the_newest_states_are_kept(recipe):
    run_sft(with_run(recipe, epochs=5, save_minutes=0.0))
    names = {path.name for path in (recipe.output / "states").iterdir()}
    assert names == {"checkpoint-9", "checkpoint-10"}


# Ctrl-C


@pytest.mark.slow
def test_an_interrupt_from_outside_leaves_a_state_to_go_on_from(recipe, as_toml):
    recipe = with_run(recipe, epochs=5000, log_steps=1)
    command = [sys.executable, "-m", "train", "sft", str(as_toml(recipe))]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3], start_new_session=True
    )
    log = recipe.output / "train.log"
    deadline = time.monotonic() + 200
    while not (log.is_file() and "step      3/" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for _ in range(2):  # a launcher hands on what the terminal sent already: still one interrupt
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "stopped; go on with --resume" in errors and "Traceback" not in errors
    state = last_state(recipe.output / "states")
    stopped_at = json.loads((state / "trainer_state.json").read_text())["global_step"]
    assert 3 <= stopped_at < 10000
    load_checkpoint(recipe.output / "checkpoint")
    assert run_sft(with_run(recipe, epochs=5000, max_minutes=1e-4), resume=True)
    state = last_state(recipe.output / "states")
    assert json.loads((state / "trainer_state.json").read_text())["global_step"] == stopped_at + 1


# Recipes that do not fit what they name


def test_no_questions(recipe):
    empty = recipe.output.parent / "empty.jsonl"
    empty.write_text("")
    for sources, words in (
        ((Source(empty),), "no questions in .*empty.jsonl"),
        ((Source(recipe.data.train[0].path, tasks=("TG",)),), "no questions of the tasks TG"),
        ((), "an empty list"),
        ((Source(recipe.data.train[0].path, weight=0.0),), "weights"),
    ):
        with pytest.raises(EmptyData, match=words):
            prepare(replace(recipe, data=replace(recipe.data, train=sources)))


def test_a_missing_clip(recipe):
    for name in ("2.mp4", "5.mp4"):
        (recipe.output.parent / name).unlink()
    with pytest.raises(FeatureError, match=r"2 of the clips can't be used: .*2\.mp4: No such file.*5\.mp4"):
        prepare(recipe)


def test_decision_tokens_that_a_tokenizer_does_not_have(recipe):
    path = Path(recipe.tokenizer)
    tokens = path.read_text().replace("</Silence>", "</Quiet>")
    Tokenizer.from_str(tokens).save(str(path))
    with pytest.raises(RecipeError, match=r"tokenizer: </Silence> must be one token.*choose another"):
        prepare(recipe)


@pytest.mark.parametrize(
    ("key", "value"),
    [("system_prompt", "Look."), ("fps", 2.0), ("turn_template", "{start}{end}{image}")],
)
def test_a_checkpoint_of_another_protocol(recipe, key, value):
    run_sft(recipe)
    second = replace(with_run(recipe, "second"), init=str(recipe.output / "checkpoint"))
    stream_format = replace(recipe.protocol, **{key: value})
    with pytest.raises(RecipeError, match=rf"run/checkpoint: was trained under another protocol: {key}"):
        prepare(replace(second, protocol=stream_format))
    prepare(replace(second, protocol=replace(recipe.protocol, window_turns=40, threshold=0.9)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2),
        ("run", {"batch_size": 2}),
        ("loss", {"beta": 0.5}),
        ("data", {"around_events": True}),
        ("optimizer", {"weight_decay": 0.5}),
    ],
)
def test_going_on_under_another_recipe(recipe, key, value):
    run_sft(recipe)
    old = getattr(recipe, key)
    changed = replace(recipe, **{key: replace(old, **value) if isinstance(value, dict) else value})
    with pytest.raises(RecipeError, match=f"trained with another {key}"):
        prepare(changed, resume=True)
    (recipe.output / "recipe.json").write_text('{"seed": 1, "run": {}}')  # of a version that knew less
    prepare(recipe, resume=True)


def test_wandb_that_is_not_installed():
    try:
        import wandb  # noqa: F401
    except ImportError:
        with pytest.raises(RecipeError, match="pip install wandb"):
            check_reporting(["tensorboard", "wandb"])
    else:
        check_reporting(["tensorboard", "wandb"])


def test_sharding_needs_several_processes(recipe):
    with pytest.raises(RecipeError, match="torchrun"):
        prepare(with_run(recipe, fsdp="full_shard"))


# How the command ends


def ending(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        run_command(main)
    return caught.value.code, capsys.readouterr().err.strip().splitlines()[-1]


def test_mistakes_end_in_one_line_and_a_status(recipe, as_toml, monkeypatch, capsys):
    good = as_toml(recipe)
    assert ending(monkeypatch, capsys, "sft", good.with_name("gone.toml"))[0] == 2
    code, line = ending(monkeypatch, capsys, "sft", good, "--resume")
    assert code == 2 and line.startswith("error: ") and "no state to go on from" in line
    code, line = ending(monkeypatch, capsys, "sft", as_toml(replace(recipe, init="nowhere"), "second"))
    assert code == 2 and "nowhere" in line
    (recipe.output.parent / "2.mp4").unlink()
    code, line = ending(monkeypatch, capsys, "sft", good)
    assert code == 4 and "2.mp4" in line
