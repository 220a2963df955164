"""Recipes of GRPO: TOML files read strictly into frozen dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from train.config.errors import RecipeError
from train.config.reader import build_recipe, plain
from train.config.toml import read_toml
from train.data.dataset import Source
from train.data.encode import OffsetSampling
from train.grpo.loss import PolicyLossSettings
from train.models.lora import LoraSettings
from train.rewards.base import RewardSettings
from train.rewards.settings import JudgeSettings
from train.rewards.weighted_sum import PAPER
from train.sft.optimizer import AdamW


@dataclass(frozen=True)
class PromptData:
    """``cache``: folder of vision features; ``workers``: processes that compute them.

    ``queries_per_session``: most questions of one trajectory, all about its clip; above 1 the checkpoint must
    have been trained with numbered questions. How many, and which, is drawn for each prompt.
    """

    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    cache: Path = Path("runs/features")
    workers: int = 2
    queries_per_session: int = 1

    def __post_init__(self) -> None:
        if self.queries_per_session < 1:
            raise ValueError(f"queries_per_session must be at least 1, got {self.queries_per_session}")


@dataclass(frozen=True)
class RolloutSettings:
    """``prompts`` questions a step, over all ranks, with ``group`` trajectories each.

    ``constrained``: only the two decision tokens where a decision is due and no special tokens in texts, as
    the runtime has it; false leaves everything open. ``threshold``: score from which the runtime will speak
    and on which sampling is centred, the checkpoint's own when absent. ``rows``: most trajectories in one
    lock-step batch of a rank.

    ``refills``: a group without variance teaches nothing; so many times a step such groups are replaced by
    those of other prompts, until every one has variance. 0 keeps them, as the paper does.
    """

    prompts: int = 8
    group: int = 8
    temperature: float = 1.0
    constrained: bool = True
    threshold: float | None = None
    rows: int = 64
    refills: int = 0

    def __post_init__(self) -> None:
        if self.prompts < 1 or self.group < 2 or self.rows < self.group:
            raise ValueError("prompts must be at least 1, group at least 2, rows at least a group")
        if self.refills < 0:
            raise ValueError(f"refills must not be negative, got {self.refills}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {self.threshold}")


@dataclass(frozen=True)
class PolicyOptimizer(AdamW):
    """Smaller steps than supervised training takes."""

    lr: float = 1e-6
    warmup_steps: int = 5
    final_lr_share: float = 0.1
    weight_decay: float = 0.0
    beta2: float = 0.999


@dataclass(frozen=True)
class GRPORun:
    """How long and how. ``steps`` 0: one epoch. ``max_minutes`` 0: no limit; else the learning rate follows
    the larger of the shares of steps and of time that have passed.

    ``inner_epochs``: passes over a step's trajectories; ``minibatches``: optimizer steps in each of them;
    ``micro_batch_size``: trajectories in one forward pass of a rank; ``threads`` 0: as many as torch likes.
    ``gradient_checkpointing``: compute activations again in the backward pass instead of keeping them.
    ``eval_steps`` 0: no evaluation; ``eval_questions`` 0: all of them; ``eval_thresholds``: thresholds to
    compare, the rollouts' own when empty; the best one goes into the best checkpoint. ``eval_false_alarms``:
    most false alarms per minute of a checkpoint that may be the best; no limit when absent.
    """

    steps: int = 0
    max_minutes: float = 0.0
    inner_epochs: int = 1
    minibatches: int = 1
    micro_batch_size: int = 8
    precision: Literal["bf16", "fp32"] = "bf16"
    threads: int = 0
    gradient_checkpointing: bool = False
    eval_steps: int = 20
    eval_questions: int = 0
    eval_thresholds: tuple[float, ...] = ()
    eval_false_alarms: float | None = None
    save_minutes: float = 5.0

    def __post_init__(self) -> None:
        if min(self.inner_epochs, self.minibatches, self.micro_batch_size) < 1:
            raise ValueError("inner_epochs, minibatches and micro_batch_size must be at least 1")


@dataclass(frozen=True)
class GRPORecipe:
    """One reinforcement learning. ``init``: the checkpoint folder it starts from. ``lora``: adapters of that
    model are trained instead of all of it. ``rewards``: by name; the paper's are always among them. Paths are
    relative to where training is started.
    """

    init: Path
    data: PromptData
    output: Path
    seed: int = 1
    lora: LoraSettings | None = None
    offsets: OffsetSampling = field(default_factory=OffsetSampling)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    rewards: dict[str, RewardSettings] = field(default_factory=dict)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    loss: PolicyLossSettings = field(default_factory=PolicyLossSettings)
    optimizer: PolicyOptimizer = field(default_factory=PolicyOptimizer)
    run: GRPORun = field(default_factory=GRPORun)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rewards", PAPER | self.rewards)

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it: paths as text."""
        tables: dict[str, Any] = plain(asdict(self))
        return tables


def load_grpo_recipe(path: Path) -> GRPORecipe:
    """Read a recipe. Raises RecipeError for anything it does not know, and for values of the wrong kind."""
    data = read_toml(path)
    if isinstance(data.get("run"), dict) and "fsdp" in data["run"]:
        raise RecipeError(
            f"{path}: run.fsdp: GRPO does not shard weights, rollouts need them whole in each process; "
            "remove the key, and add [lora] for a model that does not fit"
        )
    return build_recipe(GRPORecipe, data, path)
