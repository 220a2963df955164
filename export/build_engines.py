"""Engines built ahead of time, on a machine that need not have a GPU: TensorRT-RTX alone can do that.

They are written as the device's own engine cache keeps them. On the device the user takes them over with
``python -m export import-engines``, which vouches for them: nothing is loaded that was only found there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_runtime.backends.tensorrt.api import BuildRequest, TensorRT
from edge_runtime.backends.tensorrt.backend import chunk_lengths, engine_key, engine_slot
from edge_runtime.backends.tensorrt.engine_cache import EngineCache
from edge_runtime.bundle.manifest import GraphSpec, load_bundle
from export.errors import ExportError
from export.validation.lint import lint, load_graph

_FP8_FROM = 89


def build_engines(
    bundle_folder: Path,
    out: Path,
    sms: Sequence[int],
    *,
    module: Any = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Plans and sidecars of a bundle's two graphs in ``out``, one engine for all of ``sms``.

    ``sms``: compute capabilities, 89 for 8.9. ``module``: tensorrt_rtx, imported when None.
    Raises ExportError for a graph that TensorRT-RTX must not be given, BackendError when a build fails.
    """
    api = TensorRT(_import_rtx() if module is None else module)
    bundle = load_bundle(bundle_folder)
    decoder = bundle.decoder_for(["native-kv"])
    if decoder is None:
        raise ExportError(
            f"{bundle_folder}: holds no graph for TensorRT; export it with --target tensorrt-rtx"
        )
    if bundle.precision == "fp8" and min(sms) < _FP8_FROM:
        raise ExportError(f"fp8 runs on SM{_FP8_FROM} and later, not on SM{min(sms)}; choose int8 or int4")
    graphs: list[tuple[str, GraphSpec, tuple[int, int, int]]] = [
        ("vision", bundle.vision, (1, 1, 1)),
        ("decoder", decoder, chunk_lengths(bundle)),
    ]
    for _, graph, _ in graphs:
        findings = lint(load_graph(bundle.path(graph.file)), "tensorrt-rtx")
        if findings:
            raise ExportError(f"{bundle.path(graph.file)}: {findings[0]}")
    plans = []
    cache = EngineCache(out)
    for role, graph, lengths in graphs:
        progress(f"{role} engine for {', '.join(f'SM{sm}' for sm in sms)}")
        built = api.build(BuildRequest(bundle.path(graph.file), bundle.precision, lengths, tuple(sms)))
        key = engine_key(api, bundle, graph, lengths) | {"cuda_major": 0, "gpu": "", "sm": sorted(sms)}
        plans.append(cache.write(engine_slot(api, bundle, role), key, built))
        progress(f"{role} engine, {len(built.plan) / 1e6:.1f} MB")
    return plans


def _import_rtx() -> Any:
    try:
        return import_module("tensorrt_rtx")
    except ImportError as error:
        raise ExportError(
            f"tensorrt_rtx cannot be imported ({error}); pip install 'streampro-edge[rtx]' "
            "(classic tensorrt builds on the device alone)"
        ) from error
