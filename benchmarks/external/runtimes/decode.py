"""The cached decoder against its peers on the same weights, in turns: a frame's chunk and decoding.

    python -m export runs/smol-base --out smol-int8 --context-rows 2304 --precision int8
    python -m benchmarks.external.runtimes.prepare --checkpoint runs/smol-base --out peers
    python -m benchmarks.external.runtimes.decode --ours smol-int8 --checkpoint runs/smol-base --genai
    peers/genai-int8 \\
        --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out decode.json --plot decode.png

Every engine lives in a process of its own and all are open at once. In each round all take their turn, in an
order that changes; a ratio is taken within a round, so what else the machine does falls on both sides of it.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from time import sleep
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from tqdm import tqdm

from benchmarks.external.runtimes.bandwidth import read_gb_per_s
from benchmarks.external.runtimes.decode_report import plot, render
from benchmarks.external.runtimes.engines.base import KINDS, EngineSpec
from benchmarks.external.runtimes.engines.worker import Worker
from benchmarks.latency.facts import machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.select import default_threads
from edge_runtime.backends.spinning import SPINNING, Spinning
from edge_runtime.bundle.manifest import TOKENIZER, load_bundle
from edge_runtime.bundle.tokenizer import Tokenizer
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import ConfigError, EdgeError

CHUNK = 16
"""Tokens of a frame: its label, its visual tokens, the decision before."""
KINDS_OF_STEP = {"chunk": CHUNK, "decode": 1}
REPEATS = 4
"""Steps of a turn. The first finds the caches of the engine before and is left out."""
REST_S = 0.05
"""Before each turn: threads of the engine before may poll for a while."""
PREFIX = 256
"""Tokens of the text before the positions whose logits are compared."""
_PATH: Any = click.Path(exists=True, path_type=Path)


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option(
    "--ours", multiple=True, required=True, type=_PATH, help="Bundle; may be repeated. The first is 1."
)
@click.option(
    "--spinning",
    type=click.Choice(SPINNING),
    multiple=True,
    help="Also the first bundle with threads that poll so; may be repeated.",
)
@click.option("--checkpoint", type=_PATH, help="Checkpoint of the same weights: eager PyTorch in fp32.")
@click.option("--genai", multiple=True, type=_PATH, help="Folder of onnxruntime-genai; may be repeated.")
@click.option("--gguf", multiple=True, type=_PATH, help="File for llama.cpp; may be repeated.")
@click.option(
    "--text", type=_PATH, required=True, help="A real text: contexts, and where logits are compared."
)
@click.option(
    "--context", "contexts", type=click.IntRange(1), multiple=True, default=(512, 2048), show_default=True
)
@click.option(
    "--positions", type=click.IntRange(1), default=96, show_default=True, help="Logits compared at."
)
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=default_threads, help="Of every engine.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Write a plot here (png, svg).")
def main(
    ours: tuple[Path, ...],
    spinning: tuple[Spinning, ...],
    checkpoint: Path | None,
    genai: tuple[Path, ...],
    gguf: tuple[Path, ...],
    text: Path,
    contexts: tuple[int, ...],
    positions: int,
    rounds: int,
    threads: int,
    out: Path | None,
    plot_path: Path | None,
) -> None:
    facts = machine_facts()
    rows = max(*contexts, PREFIX + positions) + CHUNK
    specs = [EngineSpec(_label(path), "ours", path, threads, rows) for path in ours]
    specs += [
        EngineSpec(f"{specs[0].label}, spinning {name}", "ours", ours[0], threads, rows, spinning=name)
        for name in spinning
    ]
    specs += [EngineSpec("torch eager fp32", "torch", path, threads, rows) for path in [checkpoint] if path]
    specs += [EngineSpec(path.name.replace("-", " "), "genai", path, threads, rows) for path in genai]
    specs += [
        EngineSpec(f"llama.cpp {path.stem.split('.')[-1]}", "llama.cpp", path, threads, rows) for path in gguf
    ]
    specs = numbered(specs)
    ids = _ids(ours[0], text, rows, PREFIX + positions)
    bandwidth = read_gb_per_s(threads)
    with ExitStack() as stack:
        workers, absent = open_workers(specs, stack)
        quality = compare_logits(workers, ids[: PREFIX + positions])
        times = {
            context: round_robin(workers, ids[: context + CHUNK], context, rounds) for context in contexts
        }
        bandwidth = max(bandwidth, read_gb_per_s(threads))  # other load only ever takes from it
        engines = [
            {
                "label": worker.spec.label,
                "kind": worker.spec.kind,
                **worker.facts,
                "peak_rss_mb": worker.peak_mb(),
                "quality": quality[worker.spec.label],
                "steps": [
                    _row(worker, times[context][kind], workers[0], context, kind, bandwidth)
                    for context in contexts
                    for kind in KINDS_OF_STEP
                ],
            }
            for worker in workers
        ]
    result = {
        "what": f"milliseconds of a step: {CHUNK} tokens appended (chunk), or one (decode)",
        "machine": facts,
        "threads": threads,
        "rounds": rounds,
        "read_gb_per_s": round(bandwidth, 2),
        "text": {"file": text.name, "prefix": PREFIX, "positions": positions},
        "engines": engines,
        "absent": absent,
    }
    Console(width=140).print(render(result))
    write_json(out, result)
    if plot_path is not None:
        plot(result, plot_path)


def _label(folder: Path) -> str:
    """Precision of a bundle, and who rounded it when that was not rounding to nearest."""
    bundle = load_bundle(folder)
    by = bundle.manifest.get("quantization", {}).get("by")
    return f"ours {bundle.precision} {by}" if by else f"ours {bundle.precision}"


def numbered(specs: Sequence[EngineSpec]) -> list[EngineSpec]:
    """Labels of their own for all, since results are kept by label: of equal ones the second gets a 2."""
    taken: dict[str, EngineSpec] = {}
    for spec in specs:
        labels = chain([spec.label], (f"{spec.label} ({n})" for n in count(2)))
        label = next(label for label in labels if label not in taken)
        taken[label] = replace(spec, label=label)
    return list(taken.values())


def open_workers(specs: Sequence[EngineSpec], stack: ExitStack) -> tuple[list[Worker], list[str]]:
    """Start every engine that is there; the lines say which are not and what brings them.

    The first is what the others are measured against: raises its error when it does not start.
    """
    named = {spec.kind for spec in specs}
    absent = [
        f"{kind}: not measured, no model was given" + ("" if find_spec(info.needs) else f"; {info.install}")
        for kind, info in KINDS.items()
        if kind not in named
    ]
    workers: list[Worker] = []
    for spec in tqdm(specs, desc="open", unit="engine", leave=False):
        try:
            worker = Worker(spec)
        except EdgeError as error:
            if not workers:
                raise
            absent.append(f"{spec.label}: not measured ({error})")
            continue
        stack.callback(worker.close)
        workers.append(worker)
    return workers, absent


def round_robin(
    workers: Sequence[Worker], ids: Sequence[int], context: int, rounds: int
) -> dict[str, dict[str, list[list[float]]]]:
    """{kind of step: {engine: milliseconds of each round's steps}} after ``context`` tokens of ``ids``."""
    for worker in workers:
        worker.fill(ids[:context])
    times: dict[str, dict[str, list[list[float]]]] = {
        kind: {worker.spec.label: [] for worker in workers} for kind in KINDS_OF_STEP
    }
    order = random.Random(context)
    for _ in tqdm(range(rounds), desc=f"context {context}", unit="round", leave=False):
        for kind, length in KINDS_OF_STEP.items():
            for worker in order.sample(list(workers), len(workers)):
                sleep(REST_S)
                step = worker.time(ids[context : context + length], REPEATS)
                times[kind][worker.spec.label].append(step[1:])
    return times


def compare_logits(workers: Sequence[Worker], ids: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Each engine's distributions over the text's next tokens against those of fp32: eager PyTorch's, or our
    own without it. Over the tokens that all engines have: some pad their vocabulary.
    """
    logits = {
        worker.spec.label: worker.logits(ids, PREFIX)
        for worker in tqdm(workers, desc="logits", unit="engine", leave=False)
    }
    exact = [w.spec.label for w in workers if w.spec.kind == "torch" or w.spec.label == "ours fp32"]
    if not exact:
        return {label: {"against": None, "kl_mean": None, "top1_agreement": None} for label in logits}
    reference = next((label for label in exact if label.startswith("torch")), exact[0])
    vocab = min(rows.shape[1] for rows in logits.values())
    return {
        label: {"against": reference} | agreement(logits[reference][:, :vocab], rows[:, :vocab])
        for label, rows in logits.items()
    }


def agreement(reference: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, float]:
    """Mean KL(reference || other) in nats and the top-1 agreement; logits [n, vocab]."""
    p, q = (_log_softmax(rows.astype(np.float64)) for rows in (reference, other))
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    same = p.argmax(axis=1) == q.argmax(axis=1)
    return {"kl_mean": float(kl.mean()), "top1_agreement": float(same.mean())}


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _row(
    worker: Worker,
    times: dict[str, list[list[float]]],
    first: Worker,
    context: int,
    kind: str,
    bandwidth: float,
) -> dict[str, Any]:
    """One engine at one context and kind of step. ``floor_ms``: reading its own weights and cache once."""
    mine = times[worker.spec.label]
    pairs = zip(mine, times[first.spec.label], strict=True)
    milliseconds = summarise([step for steps in mine for step in steps])
    floor = (worker.facts["weight_bytes"] + context * worker.facts["row_bytes"]) / bandwidth / 1e6
    return {
        "context": context,
        "step": kind,
        "ms": milliseconds,
        "ratio": summarise([statistics.median(a) / statistics.median(b) for a, b in pairs]),
        "floor_ms": round(floor, 3),
        "share_of_floor": round(floor / float(milliseconds["p50"] or 1), 3),
    }


def _ids(bundle: Path, text: Path, count: int, least: int) -> list[int]:
    """The first ``count`` tokens of ``text``, repeated when it is shorter; ``least`` of them it must have."""
    ids = Tokenizer(bundle / TOKENIZER).encode(text.read_text(encoding="utf-8"))
    if len(ids) < least:
        raise ConfigError(f"{text}: {len(ids)} tokens, at least {least} are needed; choose a longer text")
    return (ids * -(-count // len(ids)))[:count]


if __name__ == "__main__":
    run_command(main)
