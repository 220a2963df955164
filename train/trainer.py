"""The supervised trainer: transformers' Trainer with losses counted over the whole optimizer batch."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler, Subset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.data.dataset import TrajectoryDataset
from train.data.encode import IGNORE
from train.losses import Counts, DecisionIds, Loss, count_tokens
from train.model.compact import CompactModel
from train.recipe import Optimizer
from train.teacher_forced import COUNTS, TaskCounts, count, count_by_task, rates, table

TIED_WEIGHT = "model.decoder.lm_head.weight"


class SupervisedPositions(nn.Module):
    """A compact model as the trainer sees it: a batch in, logits where something is supervised out.

    It also keeps the model's frozen ``config`` out of Trainer's sight, which would write into it.
    """

    def __init__(self, model: CompactModel, image_id: int) -> None:
        super().__init__()
        self.model = model
        self.image_id = image_id

    def forward(self, input_ids: Tensor, labels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """``input_ids``, ``labels`` [B, T], ``features`` [N, 320, 7, 7] -> logits [M, vocab], targets [M]."""
        supervised = torch.zeros_like(labels, dtype=torch.bool)
        supervised[:, :-1] = labels[:, 1:] != IGNORE  # position t predicts label t + 1
        logits = self.model(input_ids, features, self.image_id, supervised)
        return logits, labels[:, 1:][supervised[:, :-1]]


class TrainingError(RuntimeError):
    """Training can't go on; the message says where and on what."""


class TimedCosine:
    """Factor of the peak learning rate by step: linear warm-up, then a cosine over the share that has passed.

    That share is the larger of steps done and, with a time limit, of time spent, so training that is stopped
    by the clock has had its whole schedule. ``spent`` (seconds) is saved and restored with the scheduler.
    """

    def __init__(self, steps: int, warmup: int, final: float, limit_s: float) -> None:
        self.steps, self.warmup, self.final, self.limit_s = steps, warmup, final, limit_s
        self.spent = 0.0
        self._last: float | None = None

    def __call__(self, step: int) -> float:
        share = max(step / max(1, self.steps), self.spent / self.limit_s if self.limit_s else 0.0)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
        return min(1.0, (step + 1) / max(1, self.warmup)) * (self.final + (1.0 - self.final) * cosine)

    @property
    def over(self) -> bool:
        return bool(self.limit_s) and self.spent >= self.limit_s

    def start(self) -> None:
        """Time counts from now: called when training starts or goes on, after ``spent`` was restored."""
        self._last = time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        self.spent += now - (self._last if self._last is not None else now)
        self._last = now


class StreamTrainer(Trainer):
    """Class counts come from the whole optimizer batch, over accumulation steps and ranks.

    Trainer's own averaging of micro-batch means would weigh tokens by the micro-batch they fell into; here
    every micro-batch's loss is a sum over a common denominator, so the split changes nothing.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        loss: Loss,
        ids: DecisionIds,
        optimizer: Optimizer,
        max_minutes: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._loss, self._ids, self._settings = loss, ids, optimizer
        self.clock_limit_s = max_minutes * 60.0
        self.clock: TimedCosine | None = None
        self._counts = Counts(0, 0, 1)
        self._progress = torch.zeros(len(COUNTS), dtype=torch.float64)
        self._tokens = 0
        self._since = time.monotonic()
        self.last_eval: dict[str, dict[str, float]] = {}

    # What is optimised

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW; matrices decay, vectors do not; projector and embedding may have rates of their own."""
        if self.optimizer is None:
            s = self._settings
            rates = {"projector": s.projector_lr, "embed_tokens": s.embedding_lr}
            groups: dict[tuple[float, bool], list[Tensor]] = {}
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    own = next((rate for part, rate in rates.items() if part in name), None)
                    rate = s.lr if own is None else own
                    groups.setdefault((rate, parameter.ndim >= 2), []).append(parameter)
            self.optimizer = torch.optim.AdamW(
                [
                    {
                        "params": parameters,
                        "lr": rate,
                        "weight_decay": s.weight_decay if matrix else 0.0,
                    }
                    for (rate, matrix), parameters in groups.items()
                ],
                betas=(s.beta1, s.beta2),
                eps=1e-8,
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            s = self._settings
            self.clock = TimedCosine(num_training_steps, s.warmup_steps, s.final_lr_share, self.clock_limit_s)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self.clock)
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset)  # the dataset is already in training's order

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | None]:
        """The micro-batches of one optimizer step, and with them its token counts."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        if not batches:
            return batches, None
        counts = sum(count_tokens(batch["labels"], self._ids) for batch in batches)
        counts = self.accelerator.reduce(counts.to(device), reduction="sum")
        silence, response, total = counts.tolist()
        self._counts = Counts(silence, response, max(total, 1.0))
        return batches, counts[2]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits, targets = model(inputs["input_ids"], inputs["labels"], inputs["features"])
        # Ranks' gradients are averaged, but the loss is a sum over ranks: undo the division.
        loss = self._loss(logits, targets, self._counts) * self.accelerator.num_processes
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, on the batch "
                f"{', '.join(inputs['ids'])}; the last saved state is untouched: lower the learning rate, or "
                "look at these items, and go on from it"
            )
        with torch.no_grad():
            self._progress += count(logits, targets, self._ids).cpu()
            self._tokens += inputs["input_ids"].numel()
        return (loss, logits) if return_outputs else loss

    # What is said about it

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            progress = self.accelerator.reduce(self._progress.to(self.args.device), reduction="sum")
            logs.update({f"train_{k}": v for k, v in rates(progress).items() if k != "nll"})
            now = time.monotonic()
            logs["tokens_per_s"] = self._tokens * self.accelerator.num_processes / (now - self._since)
            self._progress.zero_()
            self._tokens, self._since = 0, now
        super().log(logs, start_time)

    @torch.no_grad()
    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Teacher-forced rates by task on the validation set; each rank takes its share of it."""
        dataset: Subset[Any] = self.eval_dataset
        whole: TrajectoryDataset = dataset.dataset  # type: ignore[assignment]
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        loader = DataLoader(
            Subset(dataset, range(rank, len(dataset), world)),
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
        )
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        counts = TaskCounts(whole.tasks)
        for batch in loader:
            inputs = self._prepare_inputs(batch)
            with self.accelerator.autocast():
                logits, _ = model(inputs["input_ids"], inputs["labels"], inputs["features"])
            counts.add(count_by_task(logits, inputs["labels"], inputs["tasks"], self._ids))
        model.train()
        stacked = self.accelerator.reduce(counts.stacked().to(self.args.device), reduction="sum").cpu()
        self.last_eval = counts.rates(stacked)
        flat = {f"eval_{task}/{k}": v for task, values in self.last_eval.items() for k, v in values.items()}
        self._since = time.monotonic()  # evaluation is not training time
        self.log(flat)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, flat)
        return flat

    # What is kept

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Weights of a resumable state. Refuses to put broken weights in place of good ones."""
        if not self.args.should_save:
            return
        state = state_dict if state_dict is not None else self.model.state_dict()
        broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
        if broken:
            raise TrainingError(
                f"weights are not finite after step {self.state.global_step}: {', '.join(broken[:3])}; the "
                "last saved state is untouched: lower the learning rate and go on from it"
            )
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        kept = {name: value.contiguous() for name, value in state.items() if name != TIED_WEIGHT}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        weights = load_file(Path(resume_from_checkpoint) / "model.safetensors")
        target = model if model is not None else self.model
        missing, unexpected = target.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {TIED_WEIGHT}:
            raise TrainingError(f"{resume_from_checkpoint}: the saved weights belong to another model")


class Keeper(TrainerCallback):
    """Stops by the clock or by a signal, saves every few minutes, tells people how it goes.

    The first SIGINT or SIGTERM ends training after the running step, with its state saved; a second one
    interrupts at once. ``export`` writes the current model as a checkpoint folder.
    """

    def __init__(
        self, trainer: StreamTrainer, save_s: float, say: Callable[[str], None], export: Any
    ) -> None:
        self._trainer, self._save_s, self.say, self._export = trainer, save_s, say, export
        self._saved = time.monotonic()
        self._handlers: dict[int, Any] = {}
        self.stopped = False

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True
        self.say("stopping after this step; interrupt again to stop at once")

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self._trainer.clock is not None
        self._trainer.clock.limit_s = self._trainer.clock_limit_s  # may differ from the saved one
        self._trainer.clock.start()
        self._saved = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        clock = self._trainer.clock
        assert clock is not None
        clock.tick()
        # Ranks run on clocks of their own; all must do the same thing, so one tick of the slowest decides.
        flags = torch.tensor(
            [float(self.stopped), float(clock.over), float(time.monotonic() - self._saved >= self._save_s)],
            device=args.device,
        )
        stopped, over, due = (self._trainer.accelerator.reduce(flags, reduction="sum") > 0).tolist()
        self.stopped = stopped
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
        if state.is_world_process_zero:
            self._export()

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.say(f"validation at step {state.global_step}\n{table(self._trainer.last_eval)}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kwargs: Any
    ) -> None:
        if "loss" not in logs or self._trainer.clock is None:
            return
        self.say(
            f"step {state.global_step:>6}/{state.max_steps}  {self._trainer.clock.spent / 60:6.1f} min  "
            f"loss {logs['loss']:.4f}  lr {logs['learning_rate']:.2e}  "
            f"grad {logs.get('grad_norm', 0.0):.2f}  "
            f"responses {logs.get('train_recall', math.nan):.3f}  "
            f"precision {logs.get('train_precision', math.nan):.3f}  "
            f"silence {logs.get('train_silence_recall', math.nan):.3f}  "
            f"text {logs.get('train_text', math.nan):.3f}  {logs['tokens_per_s']:.0f} tokens/s"
        )
