"""``python -m benchmarks.streampro run --openai-url``: a server's model answers a benchmark."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from benchmarks.metric.annotations import Annotation, Prediction, read_annotations
from benchmarks.metric.llm.budget import DEFAULT_REQUESTS, ApiBudget, Limits, Price
from benchmarks.metric.progress import Progress, say
from benchmarks.streampro.resume_log import ResumeLog
from benchmarks.streampro.run_metadata import write_metadata
from edge_runtime.bundle.verification import file_sha256
from edge_runtime.errors import EdgeError

KEY_VARIABLE = "STREAMPRO_MODEL_KEY"

OPTIONS = (
    click.option("--openai-url", help="Poll a model of this OpenAI-compatible server instead of a bundle."),
    click.option("--model", help=f"Polled: its name. The server's key is read from {KEY_VARIABLE}."),
    click.option(
        "--frames",
        default=32,
        show_default=True,
        type=click.IntRange(1),
        help="Polled: how many of the last frames a request holds.",
    ),
    click.option(
        "--frame-size",
        default=448,
        show_default=True,
        type=click.IntRange(16),
        help="Polled: longer side of a frame in pixels.",
    ),
    click.option(
        "--timeout",
        default=120.0,
        show_default=True,
        type=click.FloatRange(0.1),
        help="Polled: seconds to wait for a reply.",
    ),
    click.option(
        "--budget",
        default=f"requests={DEFAULT_REQUESTS}",
        show_default=True,
        help="Polled: most requests and tokens of this run, such as requests=500,tokens=200000.",
    ),
    click.option("--price", help="Polled: price of a million tokens in and out, such as 0.15,0.60."),
    click.option("--extra", help="Polled: JSON object merged into each request; null leaves a field out."),
)


@dataclass(frozen=True)
class Polling:
    """What the user said about the server and its model."""

    openai_url: str
    model: str
    frames: int
    frame_size: int
    timeout: float
    budget: str
    price: str | None
    extra: str | None


def polling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of polling; the command gets them as ``polling``, None when no server was given."""

    @functools.wraps(command)
    def collect(**arguments: Any) -> Any:
        mine = {field.name: arguments.pop(field.name) for field in fields(Polling)}
        source = click.get_current_context().get_parameter_source
        given = [name for name in mine if source(name) is ParameterSource.COMMANDLINE]
        if given and not (mine["openai_url"] and mine["model"]):
            raise click.UsageError("polling a server needs both --openai-url and --model")
        return command(polling=Polling(**mine) if given else None, **arguments)

    for option in reversed(OPTIONS):
        collect = option(collect)
    return collect


def run_polled(polling: Polling, annotations: Path, out: Path, workers: int) -> None:
    """Poll the model for every question; ``workers``: clips at a time.

    Questions answered are kept in OUT.partial and single replies in OUT.replies; both are gone when the
    predictions are complete. Standard error says what it cost, also after a failure.
    """
    from benchmarks.metric.llm.client import OpenAIClient, Retry, parse_extra, resumable
    from benchmarks.metric.llm.reply_cache import ReplyCache, content_key
    from benchmarks.streampro.polled import REQUEST_FIELDS, PolledRunner
    from edge_runtime.engine.endpoint.protocol import system_prompt

    questions = read_annotations(annotations)
    extra = {**REQUEST_FIELDS, **(parse_extra(polling.extra) if polling.extra else {})}
    api_budget = ApiBudget(
        Limits.parse(polling.budget), Price.parse(polling.price) if polling.price else None
    )
    settings = {
        "model": polling.model,
        "prompt_sha256": content_key({"system": system_prompt()}),
        "annotations_sha256": file_sha256(annotations),
        "frames": polling.frames,
        "frame_size": polling.frame_size,
        "extra": extra,
    }
    with ResumeLog(out, settings) as partial:
        replies = ReplyCache(out.with_name(out.name + ".replies"))
        client = OpenAIClient(
            polling.openai_url,
            polling.model,
            cache=replies,
            api_budget=api_budget,
            key_variable=KEY_VARIABLE,
            extra=extra,
            retry=Retry(timeout_s=polling.timeout),
            notice=say,
        )
        left = [question for question in questions if question.id not in partial.done]
        if partial.done:
            say(f"going on after {len(partial.done)} of {len(questions)} questions")
        try:
            with Progress(
                len(left), "run", unit="question", work=sum(q.duration for q in left), patient=True
            ) as progress:

                def keep(question: Annotation, prediction: Prediction) -> None:
                    partial.append(prediction)
                    progress.advance(work=question.duration)

                PolledRunner(
                    client, frames=polling.frames, frame_size=polling.frame_size, workers=workers
                ).run(left, keep)
        except EdgeError as error:
            kept = (
                f"{len(partial.done)} of {len(questions)} questions are answered and kept in {partial.path}"
            )
            raise resumable(error, kept) from error
        finally:
            client.close()
            say(f"{polling.model}: {api_budget}")
        write_metadata(out, settings)
        partial.finish(questions)
        replies.path.unlink()
