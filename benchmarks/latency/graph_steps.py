"""What each thing the export does to a decoder graph is worth: the graph with one of them undone, in turns.

    python -m benchmarks.latency.graph_steps --bundle nano --rounds 20

Every variant computes the same numbers (that is checked first) in another order or in more nodes. Only for
bundles of ort-cpu with weights in few bits: their products are what can be taken apart.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tqdm import tqdm

from benchmarks.latency.facts import bundle_facts, machine_facts, write_json
from benchmarks.latency.quantiles import summarise
from edge_runtime.backends.ort import OrtDecoder, session_options
from edge_runtime.backends.select import default_threads
from edge_runtime.bundle.manifest import Bundle, load_bundle
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import ConfigError

CHUNK, REPEATS, REST_S = 16, 4, 0.03
TOLERANCE = 0.02
"""Largest difference of logits by their own root mean square: sums are in another order, and activations are
rounded to int8 after them."""
_FUSION = "SkipLayerNormFusion"
"""ONNX Runtime's own, which would put an addition and a norm together again."""


def qkv_apart(model: onnx.ModelProto) -> None:
    """Three products for queries, keys and values in place of one."""
    products = _products(model)
    for node in [n for n in model.graph.node if n.op_type == "GroupQueryAttention"]:
        numbers = {a.name: a.i for a in node.attribute}
        heads, kv_heads = numbers["num_heads"], numbers["kv_num_heads"]
        packed = products[node.input[0]]
        width = next(a.i for a in packed.attribute if a.name == "N") // (heads + 2 * kv_heads)
        parts = _take_apart(model, packed, [heads * width, kv_heads * width, kv_heads * width])
        node.input[0], node.input[1], node.input[2] = parts


def gate_and_up_apart(model: onnx.ModelProto) -> None:
    """Two products in place of one and a Split."""
    products = _products(model)
    for node in [n for n in model.graph.node if n.op_type == "Split" and n.input[0] in products]:
        packed = products[node.input[0]]
        half = next(a.i for a in packed.attribute if a.name == "N") // 2
        _take_apart(model, packed, [half, half], list(node.output))
        model.graph.node.remove(node)


def norms_apart(model: onnx.ModelProto) -> None:
    """An addition and a norm in place of one node for both."""
    for i, node in enumerate(list(model.graph.node)):
        if node.op_type != "SkipSimplifiedLayerNormalization":
            continue
        total = node.output[3] if len(node.output) > 3 and node.output[3] else f"{node.output[0]}.sum"
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        norm = helper.make_node(
            "SimplifiedLayerNormalization",
            [total, node.input[2]],
            [node.output[0]],
            name=f"norm.{i}",
            axis=-1,
            epsilon=epsilon,
            stash_type=1,
        )
        place = list(model.graph.node).index(node)
        model.graph.node.insert(place, norm)
        model.graph.node.insert(
            place, helper.make_node("Add", list(node.input[:2]), [total], name=f"add.{i}")
        )
        model.graph.node.remove(node)


VARIANTS: dict[str, Callable[[onnx.ModelProto], None] | None] = {
    "as exported": None,
    "q, k, v apart": qkv_apart,
    "gate, up apart": gate_and_up_apart,
    "norms apart": norms_apart,
}


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--bundle", required=True, help="Bundle name or folder.")
@click.option(
    "--context", "contexts", type=click.IntRange(1), multiple=True, help="512 and 2048, as far as they fit."
)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=default_threads)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(bundle: str, contexts: tuple[int, ...], rounds: int, threads: int, out: Path | None) -> None:
    facts = machine_facts()
    loaded = load_bundle(bundle)
    rows = loaded.model.context_rows
    contexts = contexts or tuple(context for context in (512, 2048) if context + CHUNK <= rows)
    caches = {name: open_variant(loaded, undo, threads).open_cache() for name, undo in VARIANTS.items()}
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((max(contexts) + CHUNK, loaded.model.hidden_size)).astype(np.float32)
    results = []
    for context in contexts:
        logits = {name: _fill(cache, inputs[: context + CHUNK], context) for name, cache in caches.items()}
        for name, got in logits.items():
            expected = logits["as exported"]
            difference = float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))
            if difference > TOLERANCE:
                raise ConfigError(f"{name}: its logits differ by {difference:.2%}; the rewriting is wrong")
        for length in (CHUNK, 1):
            times = _measure(caches, inputs[context : context + length], context, rounds)
            results += _rows(times, context, length)
    result = {"machine": facts, "bundle": bundle_facts(loaded), "threads": threads, "results": results}
    print("milliseconds, and how many times the exported graph's (in the same round)")
    for row in results:
        ms, ratio = row["ms"], row["ratio"]
        print(
            f"{row['variant']:>16} {row['rows']:>3} rows at {row['context']:>5}: "
            f"{ms['p50']:7.2f} ({ms['p25']:.2f}..{ms['p75']:.2f})  {ratio['p50']:.3f}"
        )
    write_json(out, result)


def open_variant(bundle: Bundle, undo: Callable[[onnx.ModelProto], None] | None, threads: int) -> OrtDecoder:
    """The bundle's decoder after ``undo``. Raises ConfigError for a bundle of another kind."""
    graph = bundle.decoder_for(("ort-gqa",))
    if graph is None or bundle.precision not in ("int8", "int4"):
        raise ConfigError(f"{bundle.name}: not an int8 or int4 bundle for ort-cpu; export one")
    model = onnx.load(bundle.path(graph.file))
    if undo is not None:
        undo(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(),
        session_options(threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[_FUSION],
    )
    return OrtDecoder(session, bundle, graph, "cpu")


def _products(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {node.output[0]: node for node in model.graph.node if node.op_type == "MatMulNBits"}


def _take_apart(
    model: onnx.ModelProto, packed: onnx.NodeProto, sizes: list[int], outputs: list[str] | None = None
) -> list[str]:
    """One product for each of ``sizes`` outputs of ``packed``; their names."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    total = sum(sizes)
    outputs = outputs or [f"{packed.output[0]}.{i}" for i in range(len(sizes))]
    place, start = list(model.graph.node).index(packed), 0
    for i, (size, output) in enumerate(zip(sizes, outputs, strict=True)):
        names = [packed.input[0]]
        for name in packed.input[1:]:
            whole = numpy_helper.to_array(stored[name])
            rows = whole.reshape(total, -1)[start : start + size]
            part = rows.reshape(size, *whole.shape[1:]) if whole.shape[0] == total else rows.reshape(-1)
            names.append(f"{name}.{i}")
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(part), names[-1]))
        attributes = {a.name: helper.get_attribute_value(a) for a in packed.attribute} | {"N": size}
        node = helper.make_node(
            "MatMulNBits", names, [output], f"{packed.name}.{i}", domain="com.microsoft", **attributes
        )
        model.graph.node.insert(place + i, node)
        start += size
    model.graph.node.remove(packed)
    for name in packed.input[1:]:
        model.graph.initializer.remove(stored[name])
    return outputs


def _fill(cache: Any, inputs: NDArray[np.float32], context: int) -> NDArray[np.float32]:
    """Fill the first rows; the logits after all of ``inputs``."""
    for start in range(0, context, 128):
        cache.step(np.ascontiguousarray(inputs[start : min(start + 128, context)]), start)
    logits: NDArray[np.float32] = cache.step(np.ascontiguousarray(inputs[context:]), context).copy()
    return logits


def _measure(
    caches: dict[str, Any], chunk: NDArray[np.float32], context: int, rounds: int
) -> dict[str, list[list[float]]]:
    times: dict[str, list[list[float]]] = {name: [] for name in caches}
    order = random.Random(0)
    for _ in tqdm(range(rounds), desc=f"{len(chunk)} rows at {context}", leave=False):
        for name in order.sample(list(caches), len(caches)):
            sleep(REST_S)
            steps = []
            for _ in range(REPEATS):
                begin = perf_counter()
                caches[name].step(chunk, context)
                steps.append((perf_counter() - begin) * 1e3)
            times[name].append(steps[1:])  # the first finds another variant's weights in the caches
    return times


def _rows(times: dict[str, list[list[float]]], context: int, length: int) -> list[dict[str, Any]]:
    whole = [statistics.median(steps) for steps in times["as exported"]]
    return [
        {
            "variant": name,
            "context": context,
            "rows": length,
            "ms": summarise([step for steps in rounds for step in steps]),
            "ratio": summarise(
                [statistics.median(a) / b for a, b in zip(rounds, whole, strict=True)],
            ),
        }
        for name, rounds in times.items()
    ]


if __name__ == "__main__":
    run_command(main)
