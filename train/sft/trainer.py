"""The supervised trainer: transformers' Trainer with losses counted over the whole optimizer batch."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, SequentialSampler, Subset
from transformers import PreTrainedModel, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from benchmarks.metric.progress import Progress
from train.data.encode import IGNORE
from train.errors import TrainingError
from train.models.base import StreamModel
from train.sft.attention_supervision import AttentionSupervision
from train.sft.event_supervision import EventSupervision
from train.sft.losses import Counts, DecisionIds, Loss, count_tokens
from train.sft.optimizer import Optimizer
from train.sft.resume import disk_errors, put_in_place, temporary
from train.sft.schedule import TimedCosine
from train.sft.sharding import gather_optimizer, gather_weights, scatter_optimizer, shard_on_cpu
from train.sft.teacher_forced import COUNTS, TaskCounts, count, count_by_task, rates

KEPT_STATES = 2

Scorer = Callable[[StreamModel], dict[str, float]]
"""StreamPro-F1 of a model on validation questions: ``W-Avg`` and one value a task, in points."""


class SupervisedPositions(nn.Module):
    """A model as the trainer sees it: a batch in, logits where something is supervised out.

    It also keeps the model's frozen ``config`` out of Trainer's sight, which would write into it.
    """

    def __init__(
        self,
        model: StreamModel,
        image_id: int,
        supervision: AttentionSupervision | EventSupervision | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.image_id = image_id
        self.supervision = supervision

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        features: Tensor,
        auxiliary: Sequence[Any] = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``input_ids``, ``labels`` [B, T], ``features`` of N frames -> logits [M, vocab], targets [M], and
        the loss of ``auxiliary``, a sum over rows; 0 without supervision of that kind.
        """
        supervised = torch.zeros_like(labels, dtype=torch.bool)
        supervised[:, :-1] = labels[:, 1:] != IGNORE  # position t predicts label t + 1
        logits = self.model(input_ids, features, self.image_id, supervised)
        shown = logits.new_zeros(())
        if self.supervision is not None and auxiliary:
            shown = self.supervision.loss([row for row in auxiliary if row is not None])
        return logits, labels[:, 1:][supervised[:, :-1]], shown

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Of every transformers model inside: activations of its layers are computed again, not kept."""
        for module in self.modules():
            if not isinstance(module, PreTrainedModel) or module.is_activation_checkpointing:
                continue  # a model may lie within one that is done
            if module.supports_gradient_checkpointing:
                module.activation_checkpointing_enable(**options)


class StreamTrainer(Trainer):
    """Class counts come from the whole optimizer batch, over accumulation steps and ranks.

    Trainer's own averaging of micro-batch means would weigh tokens by the micro-batch they fell into; here
    every micro-batch's loss is a sum over a common denominator, so the split changes nothing.
    """

    loss_is_scaled_for_ga = True
    # Optional in transformers' annotations, but set whenever a method here uses them.
    model: Any
    optimizer: Any
    lr_scheduler: Any
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        *,
        loss: Loss,
        ids: DecisionIds,
        optimizer: Optimizer,
        max_minutes: float,
        scorer: Scorer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._scorer = scorer  # of the main process
        self._scores = bool(broadcast_object_list([scorer is not None])[0])
        self._loss, self._ids, self._settings = loss, ids, optimizer
        self.clock_limit_s = max_minutes * 60.0
        self.clock: TimedCosine | None = None
        self._counts = Counts(0, 0, 1)
        self._trajectories = 1  # of the optimizer batch
        self._progress = torch.zeros(len(COUNTS), dtype=torch.float64)
        self._tokens = 0
        self._shown: list[float] = []
        self.step_loss = 0.0
        """Of the running optimizer step, as far as this process has come."""
        self._since = time.monotonic()
        self._tied = tied_weights(self.model)
        self._batch_ids: list[str] = []
        self._saving = False
        self._gathered: nn.Module | None = None
        if self.is_fsdp_enabled and self.args.should_save:
            self._gathered = copy.deepcopy(
                self.model
            )  # before it is sharded; filled when it is to be written
        self.last_eval: dict[str, dict[str, float]] = {}
        self.last_f1: dict[str, float] = {}
        """``step`` of the last measurement and what the scorer gave."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp_plugin_args and not self.is_fsdp_enabled:
            shard_on_cpu(self.accelerator, self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    # What is optimised

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW; matrices decay, vectors do not; projector and embedding may have rates of their own."""
        if self.optimizer is None:
            self.optimizer = self._settings.build(self.model.named_parameters())
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            self.clock = self._settings.clock(num_training_steps, self.clock_limit_s)
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
        self.step_loss = 0.0
        self._batch_ids = [name for batch in batches for name in batch["ids"]]
        counts = torch.stack([count_tokens(batch["labels"], self._ids) for batch in batches]).sum(0)
        counts = torch.cat([counts, counts.new_tensor([len(self._batch_ids)])])
        counts = self.accelerator.reduce(counts.to(device), reduction="sum")
        silence, response, total, self._trajectories = counts.tolist()
        self._counts = Counts(silence, response, max(total, 1.0))
        return batches, counts[2]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits, targets, shown = model(
            inputs["input_ids"], inputs["labels"], inputs["features"], inputs["auxiliary"]
        )
        # Ranks' gradients are averaged, but the loss is a sum over ranks: undo the division.
        loss = self._loss(logits, targets, self._counts) * self.accelerator.num_processes
        loss = loss + shown * self.accelerator.num_processes / self._trajectories
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, on the batch "
                f"{', '.join(inputs['ids'])}; the last saved state is untouched: lower the learning rate, or "
                "look at these items, and go on from it"
            )
        self.step_loss += loss.item()
        with torch.no_grad():
            self._progress += count(logits, targets, self._ids).cpu()
            self._tokens += inputs["input_ids"].numel()
            self._shown.append(float(shown) / len(inputs["ids"]))
        return (loss, logits) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not math.isfinite(norm):  # one step on, the weights would be lost
            batch = ", ".join(self._batch_ids)
            raise TrainingError(
                f"the gradient is {float(norm)} at step {self.state.global_step + 1}, on the batch {batch}; "
                "the last saved state is untouched: lower the learning rate, or look at these items, and go "
                "on from it"
            )
        return norm

    # What is said about it

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            progress = self.accelerator.reduce(self._progress.to(self.args.device), reduction="sum")
            logs.update({f"train_{k}": v for k, v in rates(progress).items() if k != "nll"})
            now = time.monotonic()
            logs["tokens_per_s"] = self._tokens * self.accelerator.num_processes / (now - self._since)
            if self._shown and any(self._shown):
                logs["train_supervision"] = sum(self._shown) / len(self._shown)  # of this process
            self._shown.clear()
            self._progress.zero_()
            self._tokens, self._since = 0, now
        super().log(logs, start_time)

    @torch.no_grad()
    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Teacher-forced rates by task on the validation set, of which each rank takes its share, and
        StreamPro-F1 where a scorer was given.
        """
        dataset: Subset[Any] = self.eval_dataset
        whole: Any = dataset.dataset
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        shares = [range(r, len(dataset), world) for r in range(world)]
        mine, size = len(shares[rank]), len(shares[0])
        # Ranks of a sharded model must run as many batches each: a short share is filled up, but not counted.
        filled = [*shares[rank], *[0] * (size - mine)]
        batch_size = self.args.per_device_eval_batch_size
        loader = DataLoader(Subset(dataset, filled), batch_size=batch_size, collate_fn=self.data_collator)
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        counts = TaskCounts(whole.row_tasks)
        progress = Progress(len(loader), "validation", unit="batch", shown=self.accelerator.is_main_process)
        for i, batch in enumerate(loader):
            inputs: dict[str, Any] = self._prepare_inputs(batch)
            with self.accelerator.autocast():
                logits, *_ = model(inputs["input_ids"], inputs["labels"], inputs["features"])
            tasks = inputs["tasks"][: max(0, mine - i * batch_size)]
            counts.add(count_by_task(logits, inputs["labels"], tasks, self._ids))
            progress.advance()
        progress.close()
        model.train()
        stacked = self.accelerator.reduce(counts.stacked().to(self.args.device), reduction="sum").cpu()
        self.last_eval = counts.rates(stacked)
        flat = {f"eval_{task}/{k}": v for task, values in self.last_eval.items() for k, v in values.items()}
        flat |= {f"eval_f1/{task}": value for task, value in self._score().items()}
        self._since = time.monotonic()  # evaluation is not training time
        self.log(flat)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, flat)
        return flat

    def _score(self) -> dict[str, float]:
        """StreamPro-F1, measured by the main process while the others wait."""
        if not self._scores:
            return {}
        model = self.whole_model()
        f1: list[dict[str, float]] = [{}]
        if self._scorer is not None:
            model.to(self.args.device).eval()
            f1[0] = self._scorer(model)
            model.train()
            if self._gathered is not None:
                model.to("cpu")
        broadcast_object_list(f1)
        self.last_f1 = {"step": self.state.global_step, **f1[0]}
        return f1[0]

    def whole_model(self) -> Any:
        """The model with all of its weights; of a sharded one a copy on the CPU, on the main process only.

        All ranks must call it.
        """
        if not self.is_fsdp_enabled:
            return self.accelerator.unwrap_model(self.model).model
        state = gather_weights(self.model, keep=self._gathered is not None)
        if self._gathered is None:
            return None
        self._gathered.load_state_dict(state)
        return self._gathered.model

    # What is kept

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(str(super()._get_output_dir(trial)))
        return str(temporary(folder) if self._saving else folder)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        """A state, written under another name until it is whole; the oldest one goes after that."""
        folder = Path(str(self.args.output_dir))
        self._saving = True
        with disk_errors(f"the state of step {self.state.global_step}", folder):
            try:
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    put_in_place(folder, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}", KEPT_STATES)
            except BaseException:
                shutil.rmtree(temporary(folder), ignore_errors=True)
                raise
            finally:
                self._saving = False
        self.accelerator.wait_for_everyone()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self.is_fsdp_enabled:
            self._save(output_dir, gather_weights(self.model, keep=self.args.should_save))
        else:
            self._save(output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """As without sharding, so that a state is good for any number of processes."""
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = gather_optimizer(self.optimizer.optimizer, keep=self.args.should_save)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        peaks = list(self.lr_scheduler.base_lrs)
        if checkpoint is None or not self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            states = [
                torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True)
                for name in (OPTIMIZER_NAME, SCHEDULER_NAME)
            ]
            scatter_optimizer(self.optimizer.optimizer, states[0])
            self.lr_scheduler.load_state_dict(states[1])
        self.lr_scheduler.base_lrs = peaks  # the recipe's: who goes on may lower them

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
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        kept = {name: value.contiguous() for name, value in state.items() if name not in self._tied}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        weights = load_file(Path(resume_from_checkpoint) / "model.safetensors")
        target: Any = model if model is not None else self.model
        if self.is_fsdp_enabled:
            options = StateDictOptions(full_state_dict=True, strict=False)
            missing, unexpected = set_model_state_dict(target, dict[str, Any](weights), options=options)
        else:
            missing, unexpected = target.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - self._tied:
            raise TrainingError(f"{resume_from_checkpoint}: the saved weights belong to another model")


def tied_weights(model: nn.Module) -> set[str]:
    """Names under which a state dict holds a weight again that it holds under an earlier name."""
    seen: set[int] = set()
    again = set()
    for name, value in model.state_dict().items():
        if value.numel() and value.data_ptr() in seen:
            again.add(name)
        seen.add(value.data_ptr())
    return again
