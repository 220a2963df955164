"""StreamPro-F1 and false alarms of a model in training, over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from benchmarks.metric.annotations import Prediction
from benchmarks.metric.judges import Judge
from train.grpo.recipe import GRPORecipe
from train.models.base import StreamModel
from train.rollout.evaluation import grouped, predict, spread
from train.rollout.examination import figures
from train.rollout.token_constraints import TokenConstraints
from train.rollout.trajectory import Prompts

ALARMS = "false alarms per minute"


@dataclass(frozen=True)
class Measured:
    """``found``: F1 in points by task and, with questions that nothing answers, :data:`ALARMS`.

    ``responses``: per question. ``within``: whether the alarms keep the recipe's limit.
    """

    found: dict[str, float]
    responses: float
    within: bool


class Validation:
    """The validation questions of ``recipe``, asked as its rollouts ask them. Shares them among ranks."""

    def __init__(self, recipe: GRPORecipe, process: PartialState, prompts: Prompts, judge: Judge) -> None:
        self._run, self._rows, self._process = recipe.run, recipe.rollout.rows, process
        self._prompts, self._judge = prompts, judge
        self._together = recipe.data.queries_per_session
        most = -(-recipe.run.eval_questions // self._together)
        self._sessions = spread(grouped(prompts.annotations, self._together), most)

    @torch.no_grad()
    def __call__(
        self,
        model: StreamModel,
        constraints: TokenConstraints,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> Measured | None:
        """Figures of greedy trajectories; None on all ranks but the first."""
        process = self._process
        mine = self._sessions[process.process_index :: process.num_processes]
        with autocast():
            said = predict(
                model,
                constraints,
                self._prompts,
                [question for session in mine for question in session],
                rows=self._rows,
                together=self._together,
                progress="validation" if process.is_main_process else "",
            )
        everything: list[Prediction] = gather_object(said)
        if not process.is_main_process:
            return None
        asked = [question for session in self._sessions for question in session]
        measured = figures(asked, everything, self._judge)
        found: dict[str, float] = dict(measured.get("f1", {}))
        alarms = measured.get("false_alarms", {}).get("per_minute")
        if alarms is not None:
            found[ALARMS] = alarms
        limit = self._run.eval_false_alarms
        return Measured(
            found,
            sum(len(p.responses) for p in everything) / len(everything),
            alarms is None or limit is None or alarms <= limit,
        )
