"""Callbacks of a training: when it stops, when it is saved, what it logs."""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, WandbCallback

from benchmarks.metric.progress import Progress
from train.config.errors import RecipeError
from train.models.base import StreamModel
from train.sft.interrupt import Interrupt
from train.sft.resume import disk_errors
from train.sft.teacher_forced import table
from train.sft.trainer import StreamTrainer

Export = Callable[[Path, StreamModel, dict[str, Any]], None]


class TrainingCallback(TrainerCallback):
    """Stops by the clock or by a signal, saves every few minutes, logs progress.

    The first SIGINT or SIGTERM ends training after the running step, with its state saved; a second one
    interrupts at once. ``export`` writes a model with its metrics as a checkpoint folder: after every save
    ``output``/checkpoint, after a validation with the best StreamPro-F1 so far ``output``/best. ``best``: the
    F1 of what lies there already.
    """

    def __init__(
        self,
        trainer: StreamTrainer,
        output: Path,
        export: Export,
        say: Callable[[str], None],
        *,
        save_s: float,
        best: float | None = None,
    ) -> None:
        self._trainer, self._output, self._export, self.say = trainer, output, export, say
        self._save_s, self._best = save_s, best
        self._saved = time.monotonic()
        self._interrupt = Interrupt(say)
        self._progress: Progress | None = None

    @property
    def stopped(self) -> bool:
        """Whether a signal ended training early, here or in another process."""
        return self._interrupt.asked

    def close(self) -> None:
        """Signals do again what they did before, the bar goes; needed where training ended in an error."""
        self._interrupt.close()
        if self._progress is not None:
            self._progress.close()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self._trainer.clock is not None
        self._trainer.clock.limit_s = self._trainer.clock_limit_s  # may differ from the saved one
        self._trainer.clock.start()
        self._saved = time.monotonic()
        self._progress = Progress(
            state.max_steps, "sft", done=state.global_step, shown=state.is_world_process_zero
        )
        self._interrupt.open()

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.close()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        clock = self._trainer.clock
        assert clock is not None
        clock.tick()
        if self._progress is not None:
            left = clock.limit_s - clock.spent if clock.limit_s else None
            self._progress.advance(loss=self._trainer.step_loss, limit_s=left)
        # Ranks run on clocks of their own; all must do the same thing, so one tick of the slowest decides.
        flags = torch.tensor(
            [
                float(self._interrupt.asked),
                float(clock.over),
                float(time.monotonic() - self._saved >= self._save_s),
            ],
            device=args.device,
        )
        stopped, over, due = (self._trainer.accelerator.reduce(flags, reduction="sum") > 0).tolist()
        self._interrupt.asked = stopped
        if over and state.global_step < state.max_steps:
            self.say(f"time is up after {clock.spent / 60:.1f} minutes, at step {state.global_step}")
        last = stopped or over or state.global_step >= state.max_steps
        if last:
            control.should_training_stop = True
        if last and not stopped and args.eval_strategy != "no":
            control.should_evaluate = True
        if last or due:
            control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._saved = time.monotonic()
        self._write(self._output / "checkpoint", state)

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.say(f"validation at step {state.global_step}\n{table(self._trainer.last_eval)}")
        f1 = self._trainer.last_f1
        if f1.get("step") != state.global_step:
            return
        score = f1["W-Avg"]
        by_task = "  ".join(f"{name} {value:.1f}" for name, value in f1.items() if name != "step")
        better = self._best is None or score > self._best
        verdict = "  (the best so far)" if better else ""
        self.say(f"StreamPro-F1 at step {state.global_step}: {by_task}{verdict}")
        if better:
            self._best = score
            self._write(self._output / "best", state)

    def _write(self, folder: Path, state: TrainerState) -> None:
        model = self._trainer.whole_model()  # on all ranks, or a sharded model can't be gathered
        if not state.is_world_process_zero:
            return
        metrics: dict[str, Any] = {"step": state.global_step, "teacher_forced": self._trainer.last_eval}
        if self._trainer.last_f1:
            metrics["f1"] = self._trainer.last_f1
        with disk_errors(str(folder.name), self._output / "states"):
            self._export(folder, model, metrics)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs: dict[str, float] = kwargs["logs"]
        if "loss" not in logs or self._trainer.clock is None:
            return
        supervision = logs.get("train_supervision")
        shown = "" if supervision is None else f"supervision {supervision:.3f}  "
        self.say(
            f"step {state.global_step:>6}/{state.max_steps}  {self._trainer.clock.spent / 60:6.1f} min  "
            f"loss {logs['loss']:.4f}  lr {logs['learning_rate']:.2e}  "
            f"{shown}grad {logs.get('grad_norm', 0.0):.2f}  "
            f"responses {logs.get('train_recall', math.nan):.3f}  "
            f"precision {logs.get('train_precision', math.nan):.3f}  "
            f"silence {logs.get('train_silence_recall', math.nan):.3f}  "
            f"text {logs.get('train_text', math.nan):.3f}  {logs['tokens_per_s']:.0f} tokens/s"
        )


_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


def check_reporting(names: Iterable[str]) -> None:
    """Raise RecipeError when a package that is asked for is not installed."""
    for name in names:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise RecipeError(f'run.report_to: "{name}" is not installed; run: pip install {_PACKAGES[name]}')


def reporters(names: Iterable[str], output: Path) -> list[TrainerCallback]:
    """Callbacks of transformers; to be added on the main process.

    Weights & Biases takes key, project and mode from its own environment variables (``WANDB_MODE=offline``
    writes to ``output``/wandb only) and names the run after the output folder.
    """
    made: list[TrainerCallback] = []
    for name in names:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            made.append(TensorBoardCallback(SummaryWriter(str(output / "tensorboard"))))
        else:
            os.environ.setdefault("WANDB_DIR", str(output))
            os.environ.setdefault("WANDB_NAME", output.name)
            made.append(WandbCallback())
    return made
