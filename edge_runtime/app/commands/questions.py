"""``edge-run questions``: what a bundle was trained for, so which questions work."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict

import click

from edge_runtime.app.config_file import find_config
from edge_runtime.bundle.knowledge import Knowledge
from edge_runtime.command_line.log_options import log_options

_WIDTH = 100
_SYNONYMS = 5


@click.command("questions")
@click.option(
    "--bundle", metavar="NAME|FOLDER", help="The model.  [default: the configuration's, or the usual]"
)
@click.option("--config", metavar="FILE", help="Configuration.  [default: ./edge-run.toml, then the user's]")
@click.option("--json", "as_json", is_flag=True, help="The whole record as one JSON object.")
@log_options
def questions(bundle: str | None, config: str | None, as_json: bool) -> int:
    """Show what the model recognises and which questions work."""
    from edge_runtime.bundle.manifest import load_bundle

    loaded = load_bundle(bundle or find_config(config).runtime.bundle)
    if as_json:
        known = asdict(loaded.knowledge) if loaded.knowledge is not None else None
        click.echo(json.dumps({"bundle": loaded.name, "knowledge": known}, indent=2, ensure_ascii=False))
    elif loaded.knowledge is None:
        click.echo(f"{loaded.name} does not say what it was trained for; every question is asked")
    else:
        click.echo("\n".join(_page(loaded.name, loaded.knowledge)))
    return 0


def _page(name: str, known: Knowledge) -> list[str]:
    lines = textwrap.wrap(f"{name}: {known.domain}", _WIDTH)
    if known.classes:
        called = [
            one.name + (f" ({', '.join(one.synonyms[:_SYNONYMS])} ...)" if one.synonyms else "")
            for one in known.classes
        ]
        lines += ["", "It recognises"]
        lines += textwrap.wrap(
            ", ".join(called), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )
    if known.kinds:
        lines += ["", "Questions that work"]
        lines += [f"  {example}" for kind in known.kinds for example in kind.examples]
    if known.not_examples:
        lines += ["", "Questions that do not"]
        lines += [f"  {example}" for example in known.not_examples]
    if known.checks:
        lines += [
            "",
            "edge-run does not ask what lies outside this, and says so; --ask-anyway asks it nevertheless.",
        ]
    return lines
