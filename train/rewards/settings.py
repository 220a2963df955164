"""Which judges a recipe of GRPO asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class JudgeSettings:
    """Who says how right a text is: a judge of benchmarks.metric.

    ``url``, ``model``: an OpenAI-compatible server for kind "llm", and for rubrics without checks under any
    kind; its key is read from the environment variable STREAMPRO_JUDGE_KEY. ``budget``: most requests and
    tokens. ``cache``: file that keeps replies.
    """

    kind: Literal["exact", "fields", "keywords", "llm"] = "exact"
    url: str | None = None
    model: str | None = None
    budget: str = "requests=100000"
    cache: Path | None = None
    workers: int = 8

    def __post_init__(self) -> None:
        if (self.url is None) != (self.model is None):
            raise ValueError("judge: url and model belong together")
        if self.kind == "llm" and self.url is None:
            raise ValueError('judge: kind "llm" needs url and model')
