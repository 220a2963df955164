"""Stage 2: GRPO with multi-grained rewards (streampro.md section 3), from a supervised checkpoint.

A step: each rank takes its share of the step's prompts, rolls out a group of trajectories for each in
lock-step, rewards them, and all ranks together take one optimizer step (or several) on the advantages within
the groups. Everything random is drawn from the seed, the step and the rank, so a run taken up again goes on
as it would have.

A run's folder holds ``checkpoint/`` (the model as of the last save), ``best/`` (the one with the best
StreamPro-F1 on the validation questions), ``states/`` (to go on from), ``recipe.json``, ``train.log`` and
``tensorboard/``.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from safetensors.torch import load_model, save_model
from torch import Tensor

from benchmarks.metric.progress import Progress
from edge_runtime.errors import first_line
from train.config.errors import RecipeError
from train.data.encode import turn_encoder
from train.data.features import FeatureCache
from train.errors import TrainingError
from train.grpo.groups import DrawnGroups, draw_groups
from train.grpo.loss import group_advantages
from train.grpo.memory import check_memory
from train.grpo.recipe import GRPORecipe
from train.grpo.report import StepReporter, step_report
from train.grpo.update import PolicySample, PolicyUpdate, UpdateStats, sum_over_ranks
from train.grpo.validation import Validation
from train.models.checkpoint import save_checkpoint
from train.models.inherit import changes
from train.rewards.base import Judges
from train.rewards.judges import open_judge, open_rubric_judge
from train.rewards.weighted_sum import WeightedSum
from train.rollout.rollout import rollout
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts, Trajectory
from train.sft.interrupt import Interrupt
from train.sft.resume import disk_errors, last_state, put_in_place, state_to_go_on_from, temporary
from train.sft.run import start_from


def run_grpo(recipe: GRPORecipe, *, resume: bool = False) -> bool:
    """Train by ``recipe``; with ``resume`` go on from the last state of its output folder.

    Returns False when a signal stopped training early. Raises RecipeError when the output folder holds states
    and ``resume`` is not set, or the reverse; TrainingError when a loss is not finite or the disk is full.
    """
    process = PartialState(cpu=not torch.cuda.is_available())
    state = state_to_go_on_from(recipe.output, recipe.to_dict(), resume=resume)
    if recipe.rollout.prompts % process.num_processes:
        raise RecipeError(
            f"rollout.prompts: {process.num_processes} processes can't share {recipe.rollout.prompts} prompts"
        )
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    set_seed(recipe.seed)
    recipe.output.mkdir(parents=True, exist_ok=True)
    reporter = StepReporter(recipe.output, process.is_main_process)
    try:
        with open_judge(recipe.judge) as judge, open_rubric_judge(recipe.judge) as rubric_judge:
            trainer = GRPOTrainer(recipe, process, Judges(judge, rubric_judge), reporter)
            if state is not None:
                trainer.load_state()
            finished = trainer.train()
    finally:
        reporter.close()
    process.wait_for_everyone()  # a rank that left while another still saves would break the connection
    reporter.say(f"done: {recipe.output / 'checkpoint'}" if finished else "stopped; go on with --resume")
    process.destroy_process_group()
    return finished


class GRPOTrainer:
    """A training that is ready to start. Raises what reading checkpoint, questions and features raises."""

    def __init__(
        self, recipe: GRPORecipe, process: PartialState, judges: Judges, reporter: StepReporter
    ) -> None:
        self._recipe, self._process, self._judge, self._reporter = recipe, process, judges.text, reporter
        self._device: torch.device = process.device
        checkpoint = start_from(recipe.init, recipe.lora)
        check_memory(recipe, checkpoint.model, self._device)
        self.model = checkpoint.model.to(self._device).train()
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):  # of adapters: rollouts and updates must agree
                module.p = 0.0
        if recipe.run.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        self._tokenizer, self._knowledge = checkpoint.tokenizer, checkpoint.knowledge
        threshold = recipe.rollout.threshold
        self._stream_format = replace(
            checkpoint.stream_format,
            threshold=checkpoint.stream_format.threshold if threshold is None else threshold,
        )
        for line in changes(checkpoint.stream_format, self._stream_format):
            reporter.say(f"{recipe.init}: rollout.threshold changes {line}")
        self._constraints = self._constraints_at(self._stream_format.threshold, recipe.rollout.constrained)
        self._load_prompts()
        self._rewards = WeightedSum(recipe.rewards, judges)
        self._rewards.check(self._prompts.annotations)

        o, run = recipe.optimizer, recipe.run
        self._steps = run.steps or math.ceil(len(self._prompts) / recipe.rollout.prompts)
        self._clock = o.clock(self._steps, run.max_minutes * 60.0)
        self._optimizer = o.build(self.model.named_parameters())
        reference = copy.deepcopy(self.model).requires_grad_(False) if recipe.loss.kl else None
        self._update = PolicyUpdate(
            self.model,
            self._optimizer,
            self._constraints,
            recipe.loss,
            micro_batch_size=run.micro_batch_size,
            grad_clip=o.grad_clip,
            autocast=self._autocast,
            reference=reference,
        )
        self._step = 0
        self._best: dict[str, Any] = {}
        self._last: dict[str, Any] = {}

    # The loop

    def train(self) -> bool:
        """Steps until the recipe's end, the time limit or a signal; False for the last."""
        recipe, run = self._recipe, self._recipe.run
        self._reporter.say(
            f"{sum(p.numel() for p in self.model.parameters()) / 1e6:.1f} M parameters, "
            f"{len(self._prompts.annotations)} questions, tasks {' '.join(self._prompts.tasks)}; "
            f"{self._steps} steps of {recipe.rollout.prompts} x {recipe.rollout.group} trajectories"
        )
        if self._process.is_main_process:
            text = json.dumps(recipe.to_dict(), indent=2) + "\n"
            (recipe.output / "recipe.json").write_text(text, encoding="utf-8")
        if self._step == 0 and run.eval_steps:
            self._evaluate()
        self._clock.start()
        saved, stopped = time.monotonic(), False
        shown = self._process.is_main_process
        progress = Progress(self._steps, "grpo", done=self._step, shown=shown)
        with progress, Interrupt(self._reporter.say) as interrupt:
            while self._step < self._steps:
                self._train_step()
                self._clock.tick()
                limit = self._clock.limit_s
                progress.advance(
                    reward=self._last["reward"],
                    loss=self._last["loss"],
                    limit_s=limit - self._clock.spent if limit else None,
                )
                # Ranks run on clocks of their own; all must do the same thing.
                flags = [interrupt.asked, self._clock.over, time.monotonic() - saved >= run.save_minutes * 60]
                stopped, over, due = (sum_over_ranks(self._tensor(flags)) > 0).tolist()
                last = over or stopped or self._step >= self._steps
                if over and self._step < self._steps:
                    self._reporter.say(f"time is up after {self._clock.spent / 60:.1f} minutes")
                if run.eval_steps and not stopped and (last or self._step % run.eval_steps == 0):
                    self._evaluate()
                    self._clock.start()  # evaluation is not training time
                if last or due:
                    self._save()
                    saved = time.monotonic()
                if last:
                    break
        return not stopped

    def _train_step(self) -> None:
        try:
            self._try_step()
        except TrainingError as error:
            state = last_state(self._recipe.output / "states")
            kept = f"{state} is untouched, go on from it" if state else "no state was saved yet, start again"
            raise TrainingError(
                f"step {self._step + 1}: {error}; {kept} with a lower learning rate"
            ) from error
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"step {self._step + 1}: {self._device} is out of memory: lower rollout.rows and "
                "run.micro_batch_size, set run.gradient_checkpointing, or add [lora]; saved states are intact"
            ) from error

    def _try_step(self) -> None:
        recipe, rank = self._recipe, self._process.process_index
        started = time.monotonic()
        share = recipe.rollout.prompts // self._process.num_processes
        generator = torch.Generator(self._device).manual_seed(self._seed(rank))
        drawn = draw_groups(
            share,
            recipe.rollout.refills,
            lambda turn, count: self._rewarded(self._places(turn, count), generator),
        )
        rolled_out = time.monotonic()

        rate = recipe.optimizer.lr * self._clock(self._step)
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = rate
        samples = [
            PolicySample(t, float(a))
            for t, a in zip(drawn.trajectories, drawn.advantages.flatten(), strict=True)
            if a != 0
        ]
        stats = self._update(
            samples,
            epochs=recipe.run.inner_epochs,
            minibatches=recipe.run.minibatches,
            generator=torch.Generator().manual_seed(self._seed(rank)),
        )
        self._step += 1
        self._report(drawn, stats, rate, rolled_out - started, started)

    def _places(self, turn: int, count: int) -> list[int]:
        """Places of ``count`` prompts for this rank; ``turn`` 0 of a step, then its refills.

        Each step has places of its own for all that it may draw, so they depend on nothing but the step.
        """
        settings, process = self._recipe.rollout, self._process
        share = settings.prompts // process.num_processes
        first = (self._step * (1 + settings.refills) + turn) * settings.prompts
        return [first + process.process_index * share + i for i in range(count)]

    def _rewarded(self, places: Sequence[int], generator: torch.Generator) -> DrawnGroups:
        groups = self._rollouts(places, generator)
        trajectories = [t for group in groups for t in group]
        rewards = self._rewards(trajectories)
        totals = torch.tensor([r.total for r in rewards]).view(len(groups), -1)  # [P, G]
        return DrawnGroups(trajectories, rewards, group_advantages(totals, self._recipe.loss.epsilon))

    def _rollouts(self, places: Sequence[int], generator: torch.Generator) -> list[list[Trajectory]]:
        group, count = self._recipe.rollout.group, len(places)
        prompts = [self._prompts[place] for place in places]
        size = max(1, self._recipe.rollout.rows // group)
        groups: list[list[Trajectory]] = []
        self.model.eval()  # in training mode some versions of transformers drop the cache here
        for i in range(0, count, size):
            with self._autocast():
                groups += rollout(
                    self.model, self._constraints, prompts[i : i + size], group=group, generator=generator
                )
        self.model.train()
        return groups

    def _report(
        self,
        drawn: DrawnGroups,
        stats: UpdateStats,
        rate: float,
        rollout_s: float,
        started: float,
    ) -> None:
        seconds = time.monotonic() - started
        found = step_report(drawn, stats, rate, rollout_s, seconds, self._device)
        self._last = found.to_dict()
        minutes = (self._clock.spent + seconds) / 60
        self._reporter.step(self._step, self._steps, minutes, found)

    # What is measured

    def _evaluate(self) -> None:
        """StreamPro-F1 and false alarms at each threshold; the best model is kept with its best threshold."""
        if self._validation is None:
            return
        for threshold in self._recipe.run.eval_thresholds or (self._stream_format.threshold,):
            constraints = self._constraints_at(threshold, constrained=True)
            measured = self._validation(self.model, constraints, self._autocast)
            if measured is None:
                continue
            found = measured.found
            better = measured.within and found.get("W-Avg", 0.0) > self._best.get("W-Avg", -1.0)
            self._reporter.evaluation(self._step, threshold, found, measured.responses, better)
            if better:
                self._best = {"step": self._step, "threshold": threshold, **found}
                chosen_at = replace(self._stream_format, threshold=threshold)
                for line in changes(self._stream_format, chosen_at):
                    self._reporter.say(f"best: run.eval_thresholds changes {line}")
                self._export("best", threshold)

    # What is kept

    def _export(self, name: str, threshold: float) -> None:
        if not self._process.is_main_process:
            return
        metrics = {"step": self._step, "grpo": self._last, "f1": self._best}
        folder = self._recipe.output / name
        with disk_errors(name, self._recipe.output / "states"):
            save_checkpoint(
                folder,
                self.model,
                self._tokenizer,
                replace(self._stream_format, threshold=threshold),
                self._prompts.tasks,
                self._recipe.to_dict(),
                metrics,
                self._knowledge,
            )

    def _save(self) -> None:
        """State to go on from and checkpoint; the ones before stay until these are whole."""
        if not self._process.is_main_process:
            return
        broken = [name for name, value in self.model.named_parameters() if not torch.isfinite(value).all()]
        if broken:
            raise TrainingError(
                f"weights are not finite after step {self._step}: {', '.join(broken[:3])}; what was saved "
                "before is untouched: lower the learning rate and go on from it"
            )
        states, name = self._recipe.output / "states", f"checkpoint-{self._step}"
        folder = temporary(states) / name
        with disk_errors(name, states):
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.model, str(folder / "model.safetensors"))
            torch.save(self._optimizer.state_dict(), folder / "optimizer.pt")
            facts = {"step": self._step, "spent_s": self._clock.spent}
            (folder / "trainer_state.json").write_text(json.dumps(facts), encoding="utf-8")
            put_in_place(states, name, keep=1)
        self._export("checkpoint", self._best.get("threshold", self._stream_format.threshold))

    def load_state(self) -> None:
        """Go on from the newest state. Raises TrainingError when it can't be read."""
        folder = last_state(self._recipe.output / "states")
        assert folder is not None
        try:
            load_model(self.model, folder / "model.safetensors", device=str(self._device))
            optimizer = torch.load(folder / "optimizer.pt", map_location=self._device, weights_only=True)
            self._optimizer.load_state_dict(optimizer)
            facts = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            self._step, self._clock.spent = int(facts["step"]), float(facts["spent_s"])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise TrainingError(f"{folder}: can't be read ({first_line(error)})") from error
        best = self._recipe.output / "best" / "config.json"
        if best.is_file():
            self._best = json.loads(best.read_text(encoding="utf-8"))["metrics"]["f1"]

    # Small things

    def _load_prompts(self) -> None:
        data = self._recipe.data
        most = self._stream_format.queries_per_session
        if data.queries_per_session > most:
            raise RecipeError(
                f"data.queries_per_session: {self._recipe.init} was trained with at most {most} a session, "
                f"not {data.queries_per_session}; train it with more (python -m train sft) or ask fewer"
            )
        cache = FeatureCache(data.cache, self._stream_format.fps, data.workers, self.model.vision)
        with self._process.main_process_first():  # one process computes the features, the others find them
            self._prompts = Prompts(
                data.train,
                cache,
                seed=self._recipe.seed,
                offsets=self._recipe.offsets,
                queries_per_session=data.queries_per_session,
            )
            asked = Prompts(data.validation, cache, shuffle=False) if data.validation else None
        self._validation = (
            Validation(self._recipe, self._process, asked, self._judge) if asked is not None else None
        )

    def _constraints_at(self, threshold: float, constrained: bool) -> TokenConstraints:
        vocabulary = self.model.embedding.num_embeddings
        return TokenConstraints(
            turn_encoder(self._stream_format, self._tokenizer),
            self._tokenizer,
            vocabulary,
            constrained=constrained,
            threshold=threshold,
            temperature=self._recipe.rollout.temperature,
        )

    def _autocast(self) -> AbstractContextManager[object]:
        if self._recipe.run.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _seed(self, rank: int) -> int:
        """A seed of its own for every step and rank."""
        return (self._recipe.seed * 1_000_003 + self._step) * 1_009 + rank

    def _tensor(self, values: list[Any]) -> Tensor:
        return torch.tensor([float(v) for v in values], dtype=torch.float64, device=self._device)
