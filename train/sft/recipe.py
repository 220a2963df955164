"""Recipes of supervised training: TOML files read strictly into frozen dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_runtime.bundle.stream_format import StreamFormat
from train.config.reader import plain, read_recipe
from train.data.dataset import Source
from train.data.encode import OffsetSampling
from train.models.compact.model import CompactConfig
from train.models.inherit import inherited
from train.models.lora import LoraSettings
from train.sft.optimizer import Optimizer


@dataclass(frozen=True)
class Data:
    """What is trained on.

    ``cache``: folder of vision features; ``workers``: processes that compute them. ``max_turns``: a longer
    clip is learned in overlapping chunks of this many turns. ``around_events``: in one chunk instead, where
    this question or another about the clip has an answer. ``queries_per_session``: most questions of one
    clip that are asked in one trajectory, as a session with several queries has them. It is that of
    ``protocol``: a recipe file needs only one of them, and inherits it from ``init`` when it sets neither.
    """

    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    cache: Path = Path("runs/features")
    workers: int = 2
    max_turns: int = 200
    around_events: bool = False
    queries_per_session: int = 1

    def __post_init__(self) -> None:
        if self.max_turns < 2:
            raise ValueError(f"data: max_turns must be at least 2, got {self.max_turns}")


@dataclass(frozen=True)
class LossSettings:
    """``gamma`` is focal's; ``beta`` and ``lambda_text`` are CB-Stream's."""

    kind: Literal["cb-stream", "focal", "cross-entropy"] = "cb-stream"
    beta: float = 0.9999
    lambda_text: float = 2.0
    gamma: float = 2.0


@dataclass(frozen=True)
class AttentionSupervisionSettings:
    """Weights against the supervised loss: of attention targets, and of auxiliary targets.

    ``grounding``: of attention from an answer of temporal grounding to the ends of its interval.
    """

    attention: float = 0.15
    grounding: float = 0.15
    auxiliary: float = 0.15

    def __post_init__(self) -> None:
        if min(self.attention, self.grounding, self.auxiliary) < 0:
            raise ValueError("attention_supervision: weights must not be negative")


@dataclass(frozen=True)
class EventSupervisionSettings:
    """Weights against the supervised loss: of what a second shows, what a query waits for, and attention."""

    events: float = 0.05
    queries: float = 0.05
    attention: float = 0.05

    def __post_init__(self) -> None:
        if min(self.events, self.queries, self.attention) < 0:
            raise ValueError("event_supervision: weights must not be negative")


@dataclass(frozen=True)
class Run:
    """How long and how. ``batch_size`` is per device and micro-batch; ``max_minutes`` 0 means no limit, and
    ``steps`` 0 all of the epochs.

    With a time limit the learning rate follows the larger of the shares of steps and of time that have
    passed, so the schedule ends complete either way. ``threads`` 0 leaves the choice to torch.
    ``loader_workers``: processes that load batches; 0 suits a CPU, where they would only take its time.
    ``eval_items``: validation questions for the teacher-forced rates, ``f1_items``: those answered for
    StreamPro-F1, which decides which checkpoint is the best (0: none). ``fsdp``: how weights are sharded over
    the processes of torchrun.
    """

    epochs: int = 1
    steps: int = 0
    batch_size: int = 16
    accumulation: int = 1
    max_minutes: float = 0.0
    precision: Literal["bf16", "fp32"] = "bf16"
    threads: int = 0
    log_steps: int = 50
    eval_steps: int = 500
    eval_items: int = 400
    save_minutes: float = 5.0
    loader_workers: int = 0
    gradient_checkpointing: bool = False
    f1_items: int = 0
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
    fsdp: Literal["no", "full_shard", "shard_grad_op"] = "no"

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch_size": 1,
            "accumulation": 1,
            "log_steps": 1,
            "eval_steps": 1,
            "eval_items": 1,
        }
        least |= {
            "steps": 0,
            "max_minutes": 0,
            "threads": 0,
            "save_minutes": 0,
            "loader_workers": 0,
            "f1_items": 0,
        }
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"run: {name} must be at least {smallest}, got {getattr(self, name)}")


@dataclass(frozen=True)
class SFTRecipe:
    """One supervised training.

    ``init``: "scratch", or a checkpoint folder, whose model and tokenizer are taken and ``model`` and
    ``tokenizer`` ignored; a recipe file inherits from it each key of ``protocol`` it does not set.
    ``lora``: adapters of that model are trained instead of all of it. ``tokenizer``: "synthetic" (made from
    the texts of generated clips) or a tokenizer.json. ``detector``: the detector.onnx that goes into every
    checkpoint of a model with ``slots``, by default that of ``init``. ``attention_supervision``: the decoder
    is also shown what to attend to; for generated clips. ``event_supervision``: it is also told what each
    second shows; for clips of train.synthetic.detections.
    Paths are relative to where training is started.
    """

    data: Data
    output: Path
    init: str = "scratch"
    tokenizer: str = "synthetic"
    detector: Path | None = None
    seed: int = 1
    model: CompactConfig = field(default_factory=CompactConfig)
    lora: LoraSettings | None = None
    protocol: StreamFormat = field(default_factory=StreamFormat)
    offsets: OffsetSampling = field(default_factory=OffsetSampling)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)
    attention_supervision: AttentionSupervisionSettings | None = None
    event_supervision: EventSupervisionSettings | None = None

    def __post_init__(self) -> None:
        data, protocol = self.data.queries_per_session, self.protocol.queries_per_session
        if data != protocol:
            raise ValueError(
                f"data.queries_per_session is {data} and protocol.queries_per_session {protocol}; set one of "
                "them, or both to the same number"
            )

    @staticmethod
    def complete(tables: dict[str, Any]) -> dict[str, Any]:
        """What a recipe file does not say of the stream format it takes from its ``init``, and
        ``queries_per_session`` of either table from the other.
        """
        own = tables.get("protocol", {})
        result = inherited(tables)
        data, protocol = result.get("data", {}), result.get("protocol", {})
        if not (isinstance(own, dict) and isinstance(data, dict) and isinstance(protocol, dict)):
            return result  # the reader says what is wrong with them
        key = "queries_per_session"
        if key in data and key not in own:
            result["protocol"] = protocol | {key: data[key]}
        elif key in protocol and key not in data:
            result["data"] = data | {key: protocol[key]}
        return result

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it: paths as text."""
        return plain(asdict(self))


def load_recipe(path: Path) -> SFTRecipe:
    """Raises as :func:`read_recipe`."""
    return read_recipe(path, SFTRecipe)
