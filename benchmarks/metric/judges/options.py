"""The judge's part of a command line, for every command that scores."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from benchmarks.metric.judges import JUDGES, Judge, open_judge
from benchmarks.metric.llm.budget import DEFAULT_REQUESTS, ApiBudget, Limits, Price
from edge_runtime.errors import ConfigError

KEY_VARIABLE = "STREAMPRO_JUDGE_KEY"

OPTIONS = (
    click.option("--judge", "judge_name", default="exact", show_default=True, type=click.Choice(JUDGES)),
    click.option("--judge-url", help="llm: OpenAI-compatible server, such as http://127.0.0.1:8000/v1."),
    click.option("--judge-model", help=f"llm: name of the model. Its key is read from {KEY_VARIABLE}."),
    click.option(
        "--judge-cache",
        type=click.Path(dir_okay=False, path_type=Path),
        help="llm: keeps what was judged.  [default: streampro-edge/judge.jsonl in the user's cache]",
    ),
    click.option(
        "--judge-budget",
        default=f"requests={DEFAULT_REQUESTS}",
        show_default=True,
        help="llm: most requests and tokens of this run, such as requests=500,tokens=200000.",
    ),
    click.option("--judge-price", help="llm: price of a million tokens in and out, such as 0.15,0.60."),
    click.option("--judge-extra", help="llm: JSON object merged into each request; null leaves out."),
    click.option(
        "--judge-workers",
        default=8,
        show_default=True,
        type=click.IntRange(1, 256),
        help="llm: requests at a time.",
    ),
)


@dataclass(frozen=True)
class JudgeOptions:
    """What the user said about the judge."""

    name: str
    url: str | None
    model: str | None
    cache: Path | None
    budget: str
    price: str | None
    extra: str | None
    workers: int

    @contextmanager
    def open(self) -> Iterator[Judge]:
        """The judge. A server's judge reports its cost on standard error, also after a failure.

        Raises ConfigError for options that do not fit together.
        """
        if self.name != "llm":
            if self.url or self.model:
                raise ConfigError(f"--judge-url and --judge-model are for --judge llm, not for {self.name}")
            yield open_judge(self.name)
            return
        if not self.url or not self.model:
            raise ConfigError("--judge llm needs a server: give --judge-url and --judge-model")
        budget, price = Limits.parse(self.budget), Price.parse(self.price) if self.price else None

        from benchmarks.metric.judges import llm
        from benchmarks.metric.llm.client import OpenAIClient, parse_extra
        from benchmarks.metric.llm.reply_cache import ReplyCache
        from benchmarks.metric.progress import say

        api_budget = ApiBudget(budget, price)
        client = OpenAIClient(
            self.url,
            self.model,
            cache=ReplyCache(self.cache or default_cache()),
            api_budget=api_budget,
            key_variable=KEY_VARIABLE,
            extra={**llm.REQUEST_FIELDS, **(parse_extra(self.extra) if self.extra else {})},
            notice=say,
        )
        try:
            yield llm.LlmJudge(client, workers=self.workers, shown=True)
        finally:
            client.close()
            say(f"judge: {api_budget}")


def judge_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the judge; the command gets them as one argument, ``judge_options``."""

    @functools.wraps(command)
    def collect(**arguments: Any) -> Any:
        mine = {field.name: arguments.pop(f"judge_{field.name}") for field in fields(JudgeOptions)}
        return command(judge_options=JudgeOptions(**mine), **arguments)

    for option in reversed(OPTIONS):
        collect = option(collect)
    return collect


def default_cache() -> Path:
    """File that keeps replies when the user names none."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "streampro-edge" / "judge.jsonl"
