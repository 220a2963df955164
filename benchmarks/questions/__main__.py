"""``python -m benchmarks.questions RECORD --data DATA/annotations.jsonl``: how often the check is wrong."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import click

from benchmarks.metric.annotations import read_annotations
from edge_runtime.bundle.knowledge import Knowledge, read_knowledge
from edge_runtime.errors import BundleError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@click.command()
@click.argument("record", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Annotations of generated clips: their questions are known, but for those of kind `unknown`.",
)
@click.option("--show", is_flag=True, help="Print each question that the check gets wrong.")
def main(record: Path, data: tuple[Path, ...], show: bool) -> None:
    """RECORD: knowledge.json of a checkpoint, or bundle.json."""
    try:
        known = _knowledge(record)
    except (BundleError, ValueError) as error:
        raise click.ClickException(f"{record}: {error}") from error
    for path in data:
        questions = [
            (item.query.text, item.extra.get("kind") == "unknown") for item in read_annotations(path)
        ]
        _report(str(path), known, [text for text, outside in questions if not outside], False, show)
        _report(f"{path}, unknown", known, [text for text, outside in questions if outside], True, show)
    _report("outside.toml", known, list(_read("outside.toml")["questions"]), True, show)
    fifty = _read("fifty.toml")["question"]
    for outside in (False, True):
        texts = [one["text"] for one in fifty if bool(one.get("outside")) == outside]
        _report(f"fifty.toml, {'outside' if outside else 'answerable'}", known, texts, outside, show)


def _report(name: str, known: Knowledge, texts: list[str], outside: bool, show: bool) -> None:
    wrong = [text for text in texts if bool(known.unknown_words(text)) != outside]
    share = 100 * len(wrong) / len(texts) if texts else 0.0
    what = "accepted though outside" if outside else "refused though known"
    click.echo(f"{name}: {len(wrong)} of {len(texts)} {what} ({share:.2f} %)")
    for text in wrong if show else ():
        words = ", ".join(known.unknown_words(text))
        click.echo(f"    {text}" + (f"  [{words}]" if words else ""))


def _knowledge(path: Path) -> Knowledge:
    data = json.loads(path.read_text(encoding="utf-8"))
    found = read_knowledge(data if "knowledge" in data else {"knowledge": data}, str(path))
    assert found is not None
    if not found.checks:
        raise ValueError("it has no classes or no kinds, so no question is checked")
    return found


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("benchmarks.questions").joinpath(name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
