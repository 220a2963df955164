"""Tokens per second of responses with looked-up drafts, against one token a step.

    python -m benchmarks.latency.speculation --bundle SMOL --prose docs/training.md

Texts are given, so that the figure does not depend on what the model has learned: after each step its logits
are changed so that the next token of the text wins. All else is what a session does. Each kind of text is one
stream of responses: *captions* say each second what simulated detections show, *events* tell in a few words
what happens in generated stories, and *prose*, sentences of a file, hardly repeats itself. Each response is
written both ways, one after the other in changing order, at the same slots.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import edge_runtime
from benchmarks.latency.facts import bundle_facts, machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.select import default_threads
from edge_runtime.command_line.exit import run_command
from edge_runtime.engine.drafts import Drafts
from edge_runtime.engine.model import Model

QUERY = "Tell me everything that happens."
_CERTAIN = 1e4
"""Added to the logit of the next token."""
_FILL = 128
_SHORTEST = 6
"""Words of a sentence."""


class ScriptedDecoder:
    """A decoder that writes given texts, at the same speed as its own."""

    def __init__(self, model: Model, context: int) -> None:
        self._model, self._context = model, context
        self.decoder = model.open_decoder()
        if self.decoder.most_rows == 1:
            raise click.UsageError(f"{model.bundle.name}: its graph cannot verify drafts; export it again")
        step, verify = self.decoder._cache.step, self.decoder._cache.verify
        self._text: list[int] = []

        def scripted(logits: NDArray[np.float32], first: int) -> NDArray[np.float32]:
            for row, place in zip(np.atleast_2d(logits), range(first, first + len(logits)), strict=False):
                row[self._text[min(max(place, 0), len(self._text) - 1)]] += _CERTAIN
            return logits

        self.decoder._cache.step = lambda x, start, *rest: scripted(  # type: ignore[method-assign]
            step(x, start, *rest), start + len(x) - 1 - context
        )
        self.decoder._cache.verify = lambda x, start, *rest: scripted(  # type: ignore[method-assign]
            verify(x, start, *rest), start - context
        )
        self._fill()

    def write(self, text: Sequence[int], drafts: Drafts | None) -> float:
        """Write ``text`` behind the context. Returns seconds."""
        model = self._model
        self._text = [*text, model.encoder.stop_id]
        begin = perf_counter()
        generated = self.decoder.generate(
            [model.encoder.response_id],
            self._context,
            stop_id=model.encoder.stop_id,
            max_tokens=len(text) + 1,
            bias=model.text_bias,
            is_blank=lambda ids: not model.decode(ids),
            drafts=drafts,
        )
        elapsed = perf_counter() - begin
        assert generated.ids == tuple(text)
        return elapsed

    def _fill(self) -> None:
        ids = self._model.tokenizer.encode(QUERY)
        self._text = [ids[0]]
        for start in range(0, self._context, _FILL):
            count = min(_FILL, self._context - start)
            self.decoder.append((ids * _FILL)[:count], start)


def captions(count: int) -> list[str]:
    """What is there and what happens, each second."""
    from train.synthetic.detections.captions import captions as caption
    from train.synthetic.detections.facts import Facts
    from train.synthetic.detections.scene import look
    from train.synthetic.detections.stories import tell
    from train.synthetic.detections.stories.stage import USUAL

    texts: list[str] = []
    for seed in range(count):
        family, scene = tell(np.random.default_rng([7, seed]), USUAL)
        texts += [answer.text for answer in caption(Facts.of(family, scene, look(scene))).answers]
        if len(texts) >= count:
            break
    return texts[:count]


def events(count: int) -> list[str]:
    """What happens, each time something does."""
    from train.synthetic.sprites.generate import make_story

    texts: list[str] = []
    for index in range(count * 10):
        texts += [event.text for event in make_story(1, index, "test")[1].events]
        if len(texts) >= count:
            break
    return texts[:count]


def sentences(path: Path, count: int) -> list[str]:
    """Sentences of a text, without its code, tables and headings."""
    prose = re.sub(r"```.*?```|^[|#].*?$", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    found = [" ".join(text.split()) for text in re.split(r"(?<=[.:?])\s", prose)]
    return [text for text in found if len(text.split()) >= _SHORTEST][:count]


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option(
    "--prose",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="A text in plain language.",
)
@click.option("--context", type=click.IntRange(1), default=512, show_default=True, help="Slots in use.")
@click.option(
    "--responses", type=click.IntRange(1), default=60, show_default=True, help="Of each kind, at most."
)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=default_threads)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    bundle: str, prose: Path, context: int, responses: int, rounds: int, threads: int, out: Path | None
) -> None:
    model = edge_runtime.load(bundle, threads=threads)
    most, slots = model.stream_format.max_response_tokens, model.bundle.model.context_rows
    if context + most + 2 > slots:
        raise click.UsageError(f"--context {context}: the cache of {model.bundle.name} has {slots} slots")
    decoder = ScriptedDecoder(model, context)
    kinds = {"captions": captions(responses), "events": events(responses)}
    kinds["prose"] = sentences(prose, responses)
    encode = model.tokenizer.encode
    texts = {kind: [encode(text)[: most - 1] for text in found] for kind, found in kinds.items()}
    measured: dict[str, dict[str, list[float]]] = {
        kind: {"ratio": [], "plain": [], "drafted": []} for kind in texts
    }
    order = random.Random(0)
    for _ in tqdm(range(rounds), desc="rounds", leave=False):
        for kind, found in texts.items():
            _one_round(decoder, found, measured[kind], order, encode(QUERY))
    result: dict[str, Any] = {
        "machine": machine_facts(),
        "bundle": bundle_facts(model.bundle),
        "backend": model.backend,
        "context": context,
        "kinds": {
            kind: {name: summarise(values) for name, values in found.items()}
            for kind, found in measured.items()
        },
    }
    print("tokens per second: one a step, with drafts; and how many times as fast, p50 (quartiles)")
    for kind, found in result["kinds"].items():
        ratio = found["ratio"]
        tokens = sum(len(text) + 1 for text in texts[kind])
        print(
            f"{kind:>10}: {found['plain']['p50']:7.1f} {found['drafted']['p50']:7.1f}  "
            f"{ratio['p50']:.2f} ({ratio['p25']:.2f} to {ratio['p75']:.2f}), n = {rounds} x {tokens} tokens"
        )
    write_json(out, result)


def _one_round(
    decoder: ScriptedDecoder,
    texts: Sequence[Sequence[int]],
    measured: dict[str, list[float]],
    order: random.Random,
    query: Sequence[int],
) -> None:
    """Add the tokens per second of one stream, and the ratio of the two ways."""
    seconds = {"plain": 0.0, "drafted": 0.0}
    tokens = 0
    drafts = Drafts(query)
    for text in texts:
        drafts.begin([query])
        for way in order.sample(list(seconds), 2):
            seconds[way] += decoder.write(text, drafts if way == "drafted" else None)
        drafts.remember(text)
        tokens += len(text) + 1
    for way, elapsed in seconds.items():
        measured[way].append(tokens / elapsed)
    measured["ratio"].append(seconds["plain"] / seconds["drafted"])


if __name__ == "__main__":
    run_command(main)
