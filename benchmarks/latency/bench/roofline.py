"""How near a timestep comes to what the machine can do at best.

A step must at least read its weights and the rows of the cache, and do its multiplications. The floor is the
longer of the two times: bytes over the memory bandwidth and operations over the arithmetic rate, both
measured here and now. Weights that fit into the last cache may be read faster than from memory: the floor by
bytes is then no floor, which the report says.
"""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency.bench.report.statistics import NOT_MEASURED
from edge_runtime.bundle.manifest import Bundle, GraphSpec

_BUFFER = 64 << 20
_SIZES = {"float32": 4, "float16": 2}


def step_bytes(bundle: Bundle, decoder: GraphSpec, rows: int, chunk: int) -> dict[str, int]:
    """Bytes of one silent timestep of ``chunk`` rows with ``rows`` rows in the cache, activations left out.

    ``weights``: both graphs' files, which are nearly all weights. ``cache_read``: keys and values of all
    rows; ``cache_written``: those of the chunk. ``embedding``: its rows of the table (float16).
    """
    model = bundle.model
    row = 2 * model.num_layers * model.num_kv_heads * model.head_dim * _SIZES[decoder.input("past_k.0").dtype]
    parts = {
        "weights": sum(_file_bytes(bundle, graph) for graph in (bundle.vision, decoder)),
        "cache_read": rows * row,
        "cache_written": chunk * row,
        "embedding": chunk * model.hidden_size * 2,
    }
    return {**parts, "total": sum(parts.values())}


def cache_bytes(bundle: Bundle, decoder: GraphSpec) -> int:
    """Of one stream's whole cache."""
    model = bundle.model
    size = _SIZES[decoder.input("past_k.0").dtype]
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * size * model.context_rows


def step_flops(bundle: Bundle, decoder: GraphSpec, rows: int, chunk: int) -> dict[str, int] | str:
    """Operations of the same step: two for each multiplication and addition of matrix products and
    convolutions, all else left out. ``not measured`` without the package onnx, which reads the graphs.
    """
    try:
        import onnx
    except ImportError:
        return NOT_MEASURED
    model = bundle.model
    attention = 4 * chunk * rows * model.num_layers * model.num_heads * model.head_dim
    parts = {
        "vision": _vision_flops(onnx, bundle.path(bundle.vision.file)),
        "decoder": _decoder_flops(onnx, bundle.path(decoder.file), chunk, model.vocab_size),
        "attention": attention,
    }
    return {**parts, "total": sum(parts.values())}


def measure_bandwidth(threads: int, repeats: int = 8) -> float:
    """GB/s (10^9) that ``threads`` threads copy at, read and written together; the best of ``repeats``."""
    buffers = [(np.ones(_BUFFER, np.uint8), np.zeros(_BUFFER, np.uint8)) for _ in range(threads)]
    best = math.inf
    for _ in range(repeats):
        workers = [threading.Thread(target=np.copyto, args=(there, here)) for here, there in buffers]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - begin)
    return 2 * _BUFFER * threads / best / 1e9


def measure_arithmetic(repeats: int = 12, size: int = 768) -> float:
    """GFLOP/s of a float32 matrix product in numpy, with as many threads as its library takes."""
    one = np.ones((size, size), np.float32)
    other, out = one.copy(), one.copy()
    best = math.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        np.matmul(one, other, out=out)
        best = min(best, time.perf_counter() - begin)
    return float(2 * size**3 / best / 1e9)


def last_cache_bytes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    """Size of the processor's last cache; None where the system does not say."""
    sizes = []
    for path in root.glob("index*/size"):
        text = path.read_text(encoding="ascii", errors="replace").strip()
        unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        digits = text.rstrip("KM")
        if digits.isdigit():
            sizes.append(int(digits) * unit)
    return max(sizes, default=None)


def roofline(
    bundle: Bundle,
    decoder: GraphSpec,
    rows: int,
    chunk: int,
    measured_ms: float | None,
    threads: int,
    cpu: bool,
) -> dict[str, Any]:
    """The report's section. ``measured_ms``: vision and decoder of a step, p50. Without ``cpu`` the rates of
    the machine are not measured: those of its processor say nothing of an accelerator.
    """
    moved = step_bytes(bundle, decoder, rows, chunk)
    flops = step_flops(bundle, decoder, rows, chunk)
    figures: dict[str, Any] = {
        "rows_in_cache": rows,
        "rows_per_step": chunk,
        "bytes_per_step": moved,
        "flops_per_step": flops,
        **dict.fromkeys(
            ("bandwidth_gb_s", "arithmetic_gflop_s", "floor_ms", "floor_by", "share_of_floor"), NOT_MEASURED
        ),
        "measured_ms": NOT_MEASURED if measured_ms is None else round(measured_ms, 4),
        "achieved_gb_s": NOT_MEASURED,
        "weights_fit_last_cache": NOT_MEASURED,
    }
    if measured_ms:
        figures["achieved_gb_s"] = round(moved["total"] / measured_ms / 1e6, 3)
    if not cpu:
        return figures
    bandwidth, arithmetic = measure_bandwidth(threads), measure_arithmetic()
    floors = {"bytes": moved["total"] / bandwidth / 1e6}
    if isinstance(flops, dict):
        floors["operations"] = flops["total"] / arithmetic / 1e6
    by = max(floors, key=lambda name: floors[name])
    figures.update(
        bandwidth_gb_s=round(bandwidth, 2),
        arithmetic_gflop_s=round(arithmetic, 1),
        floor_ms=round(floors[by], 4),
        floor_by=by,
    )
    if measured_ms:
        figures["share_of_floor"] = round(floors[by] / measured_ms, 4)
    if (cache := last_cache_bytes()) is not None:
        figures["weights_fit_last_cache"] = moved["weights"] <= cache
    return figures


def _file_bytes(bundle: Bundle, graph: GraphSpec) -> int:
    """The graph's file and, of a decoder that keeps them apart, its weights."""
    names = {graph.file, "decoder.weights"} if graph.file != bundle.vision.file else {graph.file}
    return sum(spec.size for name, spec in bundle.files.items() if name in names)


def _vision_flops(onnx: Any, path: Path) -> int:
    graph = onnx.load(str(path), load_external_data=False)
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    shapes = {t.name: list(t.dims) for t in inferred.initializer}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        shapes.setdefault(value.name, [d.dim_value for d in value.type.tensor_type.shape.dim])
    total = 0
    for node in inferred.node:
        out = math.prod(shapes.get(node.output[0], [0]))
        if node.op_type == "Conv" and node.input[1] in shapes:
            total += 2 * out * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm") and node.input[1] in shapes:
            inner = shapes[node.input[1]]
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            total += 2 * out * inner[-1 if transposed else -2]
    return total


def _decoder_flops(onnx: Any, path: Path, chunk: int, vocab: int) -> int:
    """Products of rows with weights. The last one, onto the vocabulary, sees the chunk's last row alone."""
    graph = onnx.load(str(path), load_external_data=False).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            sizes = {a.name: a.i for a in node.attribute if a.name in ("K", "N")}
            inner, width = sizes["K"], sizes["N"]
        elif node.op_type in ("MatMul", "Gemm", "MatMulInteger") and len(shapes.get(node.input[1], [])) == 2:
            inner, width = shapes[node.input[1]]
        else:
            continue
        total += 2 * inner * width * (1 if vocab in (inner, width) else chunk)
    return total
