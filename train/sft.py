"""Stage 1: supervised fine-tuning of a compact model with CB-Stream Loss (streampro.md section 2).

A run's folder holds ``checkpoint/`` (the model as of the last save, for export), ``states/`` (to go on from),
``tokenizer.json``, ``recipe.json``, ``train.log`` and ``tensorboard/``.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from tokenizers import Tokenizer
from torch.utils.data import Subset
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from edge_runtime.protocol import TurnEncoder
from train.data.dataset import Collator, TrajectoryDataset
from train.data.encode import TimelineEncoder
from train.data.features import FeatureCache
from train.losses import DecisionIds, Loss, cb_stream, cross_entropy, focal
from train.model.checkpoint import load_checkpoint, save_checkpoint
from train.model.compact import CompactModel
from train.model.tokenizer import PAD, train_tokenizer
from train.recipe import LossSettings, RecipeError, SFTRecipe
from train.trainer import Keeper, StreamTrainer, SupervisedPositions


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to start. ``state``: the saved state it goes on from, if any."""

    trainer: StreamTrainer
    keeper: Keeper
    state: Path | None


def run_sft(recipe: SFTRecipe, *, resume: bool = False) -> bool:
    """Train by ``recipe``; with ``resume`` go on from the last state of its output folder.

    Returns False when a signal stopped training early. Raises RecipeError when the output folder holds states
    and ``resume`` is not set, or the reverse; TrainingError when loss or weights are no longer finite.
    """
    prepared = prepare(recipe, resume=resume)
    prepared.trainer.train(resume_from_checkpoint=str(prepared.state) if prepared.state else None)
    accelerator = prepared.trainer.accelerator
    accelerator.wait_for_everyone()  # a rank that left while another still saves would break the connection
    accelerator.end_training()
    stopped = prepared.keeper.stopped
    prepared.keeper.say(
        "stopped; go on with --resume" if stopped else f"done: {recipe.output / 'checkpoint'}"
    )
    return not stopped


def prepare(recipe: SFTRecipe, *, resume: bool = False) -> Prepared:
    """Everything up to the first step: checks, features, model, trainer. Raises as :func:`run_sft` does."""
    process = PartialState(cpu=not torch.cuda.is_available())
    output = recipe.output
    state = _last_state(output / "states")
    if state is not None and not resume:
        raise RecipeError(f"{output}: holds a training already; go on with --resume or choose another output")
    if state is None and resume:
        raise RecipeError(f"{output}: holds no state to go on from; start without --resume")
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    set_seed(recipe.seed)
    output.mkdir(parents=True, exist_ok=True)
    say = _speaker(output / "train.log", process.is_main_process)

    model, tokenizer = initial_model(recipe, output / "tokenizer.json" if resume else None)
    if model.config.frame_tokens != recipe.protocol.frame_tokens:
        has, asks = model.config.frame_tokens, recipe.protocol.frame_tokens
        raise RecipeError(f"protocol.frame_tokens is {asks}, the model makes {has} visual tokens a frame")
    encoder = TurnEncoder(recipe.protocol, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    ids = DecisionIds(encoder.silence_id, encoder.response_id)
    with process.main_process_first():  # one process computes the features, the others find them
        training, validation = _datasets(recipe, TimelineEncoder(encoder))
    if process.is_main_process:
        tokenizer.save(str(output / "tokenizer.json"))
        (output / "recipe.json").write_text(json.dumps(recipe.to_dict(), indent=2) + "\n", encoding="utf-8")
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    say(
        f"{parameters:.1f} M parameters, vocabulary of {tokenizer.get_vocab_size()}, "
        f"{len(training.annotations)} questions, tasks {' '.join(training.tasks)}"
    )

    trainer = StreamTrainer(
        model=SupervisedPositions(model, encoder.image_id),
        args=_arguments(recipe, validation is not None),
        train_dataset=training,
        eval_dataset=validation,
        data_collator=Collator(tokenizer.token_to_id(PAD)),
        loss=_loss(recipe.loss, ids),
        ids=ids,
        optimizer=recipe.optimizer,
        max_minutes=recipe.run.max_minutes,
    )

    def export() -> None:
        folder, metrics = output / "checkpoint", {"step": trainer.state.global_step}
        metrics |= {"teacher_forced": trainer.last_eval}
        save_checkpoint(folder, model, tokenizer, recipe.protocol, training.tasks, recipe.to_dict(), metrics)

    keeper = Keeper(trainer, recipe.run.save_minutes * 60.0, say, export)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(keeper)
    if process.is_main_process:
        trainer.add_callback(TensorBoardCallback(SummaryWriter(str(output / "tensorboard"))))
    return Prepared(trainer, keeper, state)


def initial_model(recipe: SFTRecipe, saved: Path | None = None) -> tuple[CompactModel, Tokenizer]:
    if recipe.init != "scratch":
        checkpoint = load_checkpoint(Path(recipe.init))
        return checkpoint.model.train(), checkpoint.tokenizer
    if saved is not None:  # the texts it was made from may have changed since this run began
        tokenizer = Tokenizer.from_file(str(saved))
    elif recipe.tokenizer == "world":
        from train.world.texts import corpus

        tokenizer = train_tokenizer([*corpus(), recipe.protocol.system_prompt], recipe.model.vocab_size)
    else:
        path = Path(recipe.tokenizer)
        if not path.is_file():
            raise RecipeError(f'tokenizer: {path} is not there; give a tokenizer.json or "world"')
        tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.get_vocab_size() > recipe.model.vocab_size:
        have, need = recipe.model.vocab_size, tokenizer.get_vocab_size()
        raise RecipeError(f"model.vocab_size is {have}, the tokenizer has {need} tokens")
    return CompactModel(recipe.model), tokenizer


def _datasets(recipe: SFTRecipe, encoder: TimelineEncoder) -> tuple[TrajectoryDataset, Subset[Any] | None]:
    data, run = recipe.data, recipe.run
    cache = FeatureCache(data.cache, recipe.protocol.fps, data.workers)
    training = TrajectoryDataset(
        data.train,
        cache,
        encoder,
        epochs=run.epochs,
        batch_size=run.batch_size,
        seed=recipe.seed,
        offsets=recipe.offsets,
    )
    if not data.validation:
        return training, None
    validation = TrajectoryDataset(data.validation, cache, encoder, shuffle=False)
    step = max(1, len(validation) // run.eval_items)  # spread over the file, whatever its order
    return training, Subset(validation, range(0, len(validation), step)[: run.eval_items])


def _loss(settings: LossSettings, ids: DecisionIds) -> Loss:
    if settings.kind == "cross-entropy":
        return cross_entropy
    if settings.kind == "focal":
        return functools.partial(focal, ids=ids, gamma=settings.gamma)
    return functools.partial(cb_stream, ids=ids, beta=settings.beta, lambda_text=settings.lambda_text)


def _arguments(recipe: SFTRecipe, evaluates: bool) -> TrainingArguments:
    run = recipe.run
    return TrainingArguments(
        output_dir=str(recipe.output / "states"),
        per_device_train_batch_size=run.batch_size,
        per_device_eval_batch_size=run.batch_size,
        gradient_accumulation_steps=run.accumulation,
        num_train_epochs=1,  # the dataset holds all epochs
        max_grad_norm=recipe.optimizer.grad_clip,
        bf16=run.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=recipe.seed,
        logging_steps=run.log_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=run.eval_steps,
        save_strategy="no",  # Keeper saves by time
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=run.loader_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        label_names=["labels"],
    )


def _last_state(folder: Path) -> Path | None:
    """The newest state that was written to its end: the trainer writes trainer_state.json last."""
    states = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(states, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _speaker(path: Path, speaks: bool) -> Callable[[str], None]:
    """Lines for people: to stderr and, with the time of day, to a file."""

    def say(text: str) -> None:
        if speaks:
            print(text, file=sys.stderr, flush=True)
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    return say
