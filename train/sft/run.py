"""Stage 1: supervised fine-tuning of a compact model with CB-Stream Loss (streampro.md section 2).

A run's folder holds ``checkpoint/`` (the model as of the last save, for export), ``states/`` (to go on from),
``tokenizer.json``, ``recipe.json``, ``train.log`` and ``tensorboard/``.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from tokenizers import Tokenizer
from torch.utils.data import Subset
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from train.config.errors import RecipeError
from train.data.dataset import Collator, DatasetOptions, TrajectoryDataset
from train.data.encode import TimelineEncoder, turn_encoder
from train.data.features import FeatureCache
from train.errors import TrainingError
from train.models.base import StreamModel
from train.models.checkpoint import Checkpoint, load_checkpoint, read_knowledge, save_checkpoint
from train.models.compact.model import CompactModel
from train.models.inherit import changes
from train.models.lora import LoraSettings, start_adapters
from train.models.tokenizer import train_tokenizer
from train.rollout.evaluation import points, streampro_f1
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts
from train.run_log import RunLog
from train.sft.callbacks import TrainingCallback, check_reporting, reporters
from train.sft.detector import with_detector
from train.sft.losses import DecisionIds, Loss, cb_stream, cross_entropy, focal
from train.sft.recipe import LossSettings, SFTRecipe
from train.sft.resume import disk_errors, state_to_go_on_from
from train.sft.sharding import sharding_arguments
from train.sft.supervision import make_auxiliary, supervision
from train.sft.trainer import Scorer, StreamTrainer, SupervisedPositions


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to start. ``state``: the saved state it goes on from, if any."""

    trainer: StreamTrainer
    callback: TrainingCallback
    state: Path | None


def run_sft(recipe: SFTRecipe, *, resume: bool = False) -> bool:
    """Train by ``recipe``; with ``resume`` go on from the last state of its output folder.

    Returns False when a signal stopped training early. Raises RecipeError when the output folder holds states
    and ``resume`` is not set, or the reverse; TrainingError when loss or weights are no longer finite.
    """
    prepared = prepare(recipe, resume=resume)
    try:
        prepared.trainer.train(resume_from_checkpoint=str(prepared.state) if prepared.state else None)
    except OSError as error:  # such as a log on a disk that is full
        states = recipe.output / "states"
        raise TrainingError(f"{recipe.output}: {error}; the states in {states} are intact") from error
    finally:
        prepared.callback.close()
    accelerator = prepared.trainer.accelerator
    accelerator.wait_for_everyone()  # a rank that left while another still saves would break the connection
    accelerator.end_training()
    stopped = prepared.callback.stopped
    prepared.callback.say(
        "stopped; go on with --resume" if stopped else f"done: {recipe.output / 'checkpoint'}"
    )
    return not stopped


def prepare(recipe: SFTRecipe, *, resume: bool = False) -> Prepared:
    """Everything up to the first step: checks, features, model, trainer. Raises as :func:`run_sft` does."""
    output = recipe.output
    state = state_to_go_on_from(output, recipe.to_dict(), resume=resume)
    check_reporting(recipe.run.report_to)
    process = PartialState(cpu=not torch.cuda.is_available())
    if recipe.run.fsdp != "no" and process.num_processes == 1:
        raise RecipeError("run.fsdp shards over several processes; start with torchrun or leave it out")
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    # Autocast hands bf16 to norms whose weights stay fp32; torch then takes the slower of two right ways.
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)
    set_seed(recipe.seed)
    output.mkdir(parents=True, exist_ok=True)
    say = RunLog(output / "train.log", process.is_main_process)

    model, tokenizer = initial_model(recipe, output / "tokenizer.json" if resume else None, say)
    if model.frame_tokens != recipe.protocol.frame_tokens:
        has, asks = model.frame_tokens, recipe.protocol.frame_tokens
        raise RecipeError(f"protocol.frame_tokens is {asks}, the model makes {has} visual tokens a frame")
    encoder = turn_encoder(recipe.protocol, tokenizer)
    ids = DecisionIds(encoder.silence_id, encoder.response_id)
    with process.main_process_first():  # one process computes the features, the others find them
        training, validation = _datasets(recipe, TimelineEncoder(encoder), model, tokenizer)
    _check_steps(recipe, len(training), process.num_processes)
    if process.is_main_process:
        with disk_errors("the run's settings", output / "states"):
            (output / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
            recipe_text = json.dumps(recipe.to_dict(), indent=2) + "\n"
            (output / "recipe.json").write_text(recipe_text, encoding="utf-8")
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    say(
        f"{parameters:.1f} M parameters, vocabulary of {tokenizer.get_vocab_size()}, "
        f"{len(training.annotations)} questions, tasks {' '.join(training.tasks)}"
    )

    trainer = StreamTrainer(
        model=SupervisedPositions(model, encoder.image_id, supervision(recipe, model)),
        args=_arguments(recipe, model, validation is not None),
        train_dataset=training,
        eval_dataset=validation,
        data_collator=Collator(encoder.stop_id),  # any token: nothing looks at what follows a row
        loss=_loss(recipe.loss, ids),
        ids=ids,
        optimizer=recipe.optimizer,
        max_minutes=recipe.run.max_minutes,
        scorer=_scorer(recipe, model, encoder, tokenizer) if process.is_main_process else None,
    )

    knowledge = _knowledge(recipe)

    def export(folder: Path, model: StreamModel, metrics: dict[str, Any]) -> None:
        about = training.tasks, recipe.to_dict(), metrics, knowledge
        save_checkpoint(folder, model, tokenizer, recipe.protocol, *about)

    callback = TrainingCallback(
        trainer, output, export, say, save_s=recipe.run.save_minutes * 60.0, best=_best_f1(output / "best")
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    if process.is_main_process:
        for reporter in reporters(recipe.run.report_to, output):
            trainer.add_callback(reporter)
    return Prepared(trainer, callback, state)


def _knowledge(recipe: SFTRecipe) -> dict[str, Any] | None:
    """What the model will know: what the first of its training data says that has a knowledge.json."""
    folders = [Path(data.path).parent for data in recipe.data.train]
    return next((found for folder in folders if (found := read_knowledge(folder)) is not None), None)


def initial_model(
    recipe: SFTRecipe, saved: Path | None = None, say: Callable[[str], None] = lambda _: None
) -> tuple[StreamModel, Tokenizer]:
    """The model that training starts from, and its tokenizer; ``saved``: the tokenizer of a run gone on with.

    ``say`` gets each key of the checkpoint's stream format that the recipe changes.

    Raises RecipeError for a tokenizer or a checkpoint's protocol that does not fit, CheckpointError.
    """
    if recipe.init != "scratch":
        model, tokenizer = _from_checkpoint(recipe, say)
        return with_detector(model, recipe), tokenizer
    if recipe.lora is not None:
        raise RecipeError("lora needs a pretrained model to adapt: give its checkpoint as init")
    if saved is not None:  # the texts it was made from may have changed since this run began
        tokenizer = Tokenizer.from_file(str(saved))
    elif recipe.tokenizer == "synthetic":
        from train.synthetic.sprites.texts import corpus

        tokenizer = train_tokenizer([*corpus(), recipe.protocol.system_prompt], recipe.model.vocab_size)
    else:
        path = Path(recipe.tokenizer)
        if not path.is_file():
            raise RecipeError(f'tokenizer: {path} is not there; give a tokenizer.json or "synthetic"')
        tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.get_vocab_size() > recipe.model.vocab_size:
        have, need = recipe.model.vocab_size, tokenizer.get_vocab_size()
        raise RecipeError(f"model.vocab_size is {have}, the tokenizer has {need} tokens")
    model = CompactModel(recipe.model)
    model.name_concepts(tokenizer)
    return with_detector(model, recipe), tokenizer


def _from_checkpoint(recipe: SFTRecipe, say: Callable[[str], None]) -> tuple[StreamModel, Tokenizer]:
    folder = Path(recipe.init)
    checkpoint = start_from(folder, recipe.lora)
    _check_stream_format(folder, checkpoint.stream_format, recipe.protocol)
    for line in changes(checkpoint.stream_format, recipe.protocol):
        say(f"{folder}: the recipe changes {line}")
    _add_zones(checkpoint.model, recipe, say)
    return checkpoint.model.train(), checkpoint.tokenizer


def _add_zones(model: StreamModel, recipe: SFTRecipe, say: Callable[[str], None]) -> None:
    """Let a model that was trained without zones learn them, if the recipe says so."""
    zones = recipe.model.zones
    if not zones or zones == getattr(model.config, "zones", 0):
        return
    if recipe.lora is not None or not isinstance(model, CompactModel) or not model.config.slots:
        raise RecipeError(
            f"model.zones is {zones}: only a model with slots, trained without lora, can learn zones"
        )
    model.add_zones(zones)
    say(f"{recipe.init}: learns {zones} zones; their weights start at zero")


def start_from(folder: Path, lora: LoraSettings | None) -> Checkpoint:
    """The checkpoint ``folder``, its model ready to be trained: all of it in float32, or ``lora`` adapters.

    With ``lora`` the adapters of a checkpoint that has some go on, any other is their base. Raises
    RecipeError for adapters that do not fit, CheckpointError.
    """
    checkpoint = load_checkpoint(folder, merge=lora is None)
    model = checkpoint.model
    if lora is None:
        model.float()  # a step may be smaller than what half precision can add
    elif model.adapters is None:
        encoder = turn_encoder(checkpoint.stream_format, checkpoint.tokenizer)
        try:
            start_adapters(model, lora, folder, (encoder.silence_id, encoder.response_id))
        except ValueError as error:
            raise RecipeError(f"lora: {error}") from error
    elif model.adapters.settings != lora:
        raise RecipeError(
            f"{folder}: was trained with {model.adapters.settings}; give the same lora, or none"
        )
    return checkpoint


def _check_stream_format(folder: Path, found: StreamFormat, wanted: StreamFormat) -> None:
    """Raise RecipeError when ``found`` turns a stream into other token ids than ``wanted`` does.

    Numbers of queries are the exception: a model that knows one query a session learns to watch for several.
    """
    free = {"window_turns", "evict_turns", "max_response_tokens", "threshold", "queries_per_session"}
    for name in (field.name for field in fields(StreamFormat) if field.name not in free):
        has, asks = getattr(found, name), getattr(wanted, name)
        if has != asks:
            raise RecipeError(
                f"{folder}: was trained under another protocol: {name} is {has!r} there and {asks!r} in the "
                "recipe; set protocol." + name + " to the checkpoint's value, or choose another checkpoint"
            )


def _datasets(
    recipe: SFTRecipe, encoder: TimelineEncoder, model: StreamModel, tokenizer: Tokenizer
) -> tuple[TrajectoryDataset, Subset[Any] | None]:
    data, run = recipe.data, recipe.run
    cache = FeatureCache(data.cache, recipe.protocol.fps, data.workers, model.vision)
    options = DatasetOptions(
        epochs=run.epochs,
        batch_size=run.batch_size,
        seed=recipe.seed,
        offsets=recipe.offsets,
        max_turns=data.max_turns,
        around_events=data.around_events,
        queries_per_session=data.queries_per_session,
    )
    auxiliary = make_auxiliary(recipe, encoder.encoder, model, tokenizer)
    training = TrajectoryDataset(data.train, cache, encoder, options, auxiliary)
    if not data.validation:
        return training, None
    validation = TrajectoryDataset(
        data.validation,
        cache,
        encoder,
        DatasetOptions(shuffle=False, max_turns=data.max_turns, queries_per_session=data.queries_per_session),
    )
    step = max(1, len(validation) // run.eval_items)  # spread over the file, whatever its order
    return training, Subset(validation, range(0, len(validation), step)[: run.eval_items])


def _check_steps(recipe: SFTRecipe, trajectories: int, processes: int) -> None:
    """Raise RecipeError when ``run.steps`` asks for more than the epochs hold: data would come again in the
    same order.
    """
    run = recipe.run
    held = trajectories // (run.batch_size * run.accumulation * processes)
    if run.steps > held:
        raise RecipeError(f"run.steps is {run.steps}, but {run.epochs} epochs hold {held}: raise run.epochs")


def _loss(settings: LossSettings, ids: DecisionIds) -> Loss:
    if settings.kind == "cross-entropy":
        return cross_entropy
    if settings.kind == "focal":
        return functools.partial(focal, ids=ids, gamma=settings.gamma)
    return functools.partial(cb_stream, ids=ids, beta=settings.beta, lambda_text=settings.lambda_text)


def _scorer(
    recipe: SFTRecipe, model: StreamModel, encoder: TurnEncoder, tokenizer: Tokenizer
) -> Scorer | None:
    """Measures StreamPro-F1 on a spread of the validation questions; None when the recipe asks for none."""
    data, questions = recipe.data, recipe.run.f1_items
    if not questions:
        return None
    if not data.validation:
        raise RecipeError("run.f1_items needs questions to ask: give data.validation, or leave it out")
    cache = FeatureCache(data.cache, recipe.protocol.fps, data.workers, model.vision)
    prompts = Prompts(data.validation, cache, shuffle=False)
    together = data.queries_per_session
    vocabulary = model.embedding.num_embeddings
    constraints = TokenConstraints(encoder, tokenizer, vocabulary, threshold=recipe.protocol.threshold)
    return lambda trained: points(
        streampro_f1(trained, constraints, prompts, questions=questions, together=together)
    )


def _best_f1(folder: Path) -> float | None:
    """F1 of the best checkpoint so far, of a run that goes on."""
    try:
        return float(
            json.loads((folder / "config.json").read_text(encoding="utf-8"))["metrics"]["f1"]["W-Avg"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _arguments(recipe: SFTRecipe, model: StreamModel, evaluates: bool) -> TrainingArguments:
    run = recipe.run
    return TrainingArguments(
        output_dir=str(recipe.output / "states"),
        per_device_train_batch_size=run.batch_size,
        per_device_eval_batch_size=run.batch_size,
        gradient_accumulation_steps=run.accumulation,
        num_train_epochs=1,  # the dataset holds all epochs
        max_steps=run.steps or -1,
        max_grad_norm=recipe.optimizer.grad_clip,
        bf16=run.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=recipe.seed,
        logging_steps=run.log_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=run.eval_steps,
        save_strategy="no",  # TrainingCallback saves by time
        activation_checkpointing=run.gradient_checkpointing,
        ddp_find_unused_parameters=False,  # each one has a part in each batch's logits
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=run.loader_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        label_names=["labels"],
        **sharding_arguments(run.fsdp, model),
    )
