"""``python -m train rubrics``: checkpoints for the trajectory reward, by an OpenAI-compatible server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from benchmarks.metric.llm.budget import DEFAULT_REQUESTS

KEY_VARIABLE = "STREAMPRO_RUBRICS_KEY"
PATH = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("annotations", type=PATH)
@click.option("--out", required=True, type=PATH, help="Annotations with their rubrics; may be the same file.")
@click.option("--endpoint", required=True, help="OpenAI-compatible server, such as http://127.0.0.1:8000/v1.")
@click.option("--model", required=True, help=f"Name of the model. Its key is read from {KEY_VARIABLE}.")
@click.option("--replace", "anew", is_flag=True, help="Write rubrics for questions that have one, too.")
@click.option("--cache", type=PATH, help="Keeps the replies.  [default: OUT with .replies.jsonl added]")
@click.option(
    "--budget",
    default=f"requests={DEFAULT_REQUESTS}",
    show_default=True,
    help="Most requests and tokens of this run, such as requests=500,tokens=200000.",
)
@click.option("--price", help="Price of a million tokens in and out, such as 0.15,0.60.")
@click.option("--extra", help="JSON object merged into each request; null leaves out.")
@click.option(
    "--workers", default=4, show_default=True, type=click.IntRange(1, 64), help="Requests at a time."
)
def rubrics(
    annotations: Path,
    out: Path,
    endpoint: str,
    model: str,
    anew: bool,
    cache: Path | None,
    budget: str,
    price: str | None,
    extra: str | None,
    workers: int,
) -> None:
    """Have a language model write the checkpoints of the trajectory reward for each question."""

    from benchmarks.metric.annotations import read_annotations, write_annotations
    from benchmarks.metric.llm.budget import ApiBudget, Limits, Price
    from benchmarks.metric.llm.client import OpenAIClient, parse_extra
    from benchmarks.metric.llm.reply_cache import ReplyCache
    from benchmarks.metric.progress import say
    from train.data.rubric_writer import REQUEST_FIELDS, write_rubrics

    questions = read_annotations(annotations)
    api_budget = ApiBudget(Limits.parse(budget), Price.parse(price) if price else None)
    client = OpenAIClient(
        endpoint,
        model,
        cache=ReplyCache(cache or out.with_name(f"{out.name}.replies.jsonl")),
        api_budget=api_budget,
        key_variable=KEY_VARIABLE,
        extra={**REQUEST_FIELDS, **(parse_extra(extra) if extra else {})},
        notice=say,
    )
    try:
        wanted = [question for question in questions if anew or not question.rubric]
        written = write_rubrics(wanted, client, workers=workers, shown=True)
    finally:
        client.close()
        say(f"rubrics: {api_budget}")
    write_annotations(out, [replace(q, rubric=written.get(q.id, q.rubric)) for q in questions])
    click.echo(f"{out}: {len(written)} rubrics written, {len(questions) - len(wanted)} kept")
