"""Checkpoint -> bundle: a folder that the runtime loads, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from tokenizers import Tokenizer
from torch import nn

from edge_runtime.protocol import Protocol, TurnEncoder
from export.clip import Step
from export.decoder_graph import DecoderGraph
from export.errors import ExportError
from export.half_storage import store_in_half
from export.lowering_ort import OrtLowering, export_ort
from export.parity import TIMESTEPS, measure_parity
from export.quantize import PRECISIONS, quantize_int8
from export.quiet import quiet
from export.vision_graph import VisionGraph, export_vision
from train.model.checkpoint import CheckpointError, load_checkpoint
from train.model.compact import CompactModel
from train.model.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, load_lite0

FORMAT_VERSION = 1
KL_LIMIT = 0.1
"""Mean KL divergence from PyTorch above which something is broken, not rounded; int8 gives about 0.001."""

_QUERY_ROWS = 128
_LATE_TURN = 9_999
"""A timestep whose label is about as long as labels get in practice."""

Progress = Callable[[str], None]

_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
}


def export_bundle(
    checkpoint_folder: Path,
    out_folder: Path,
    precision: str = "int8",
    context_rows: int | None = None,
    *,
    name: str | None = None,
    threshold: float | None = None,
    parity_timesteps: int = TIMESTEPS,
    parity_steps: Iterable[Step] | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Bundle of a checkpoint folder (:mod:`train.model.checkpoint`). Raises ExportError.

    ``threshold``: the decision threshold that the bundle carries, the checkpoint's own when None.
    """
    progress("checkpoint")
    try:
        checkpoint = load_checkpoint(Path(checkpoint_folder))
        backbone = load_lite0()
    except (CheckpointError, ImportError, ValueError) as error:
        raise ExportError(str(error)) from error
    protocol = checkpoint.protocol
    if threshold is not None:
        protocol = replace(protocol, threshold=threshold)
    return export_model(
        checkpoint.model,
        checkpoint.tokenizer,
        protocol,
        out_folder,
        name=name,
        precision=precision,
        context_rows=context_rows,
        backbone=backbone,
        training={key: checkpoint.config.get(key) for key in ("tasks", "recipe", "metrics")},
        parity_timesteps=parity_timesteps,
        parity_steps=parity_steps,
        progress=progress,
    )


def export_model(
    model: CompactModel,
    tokenizer: Tokenizer,
    protocol: Protocol,
    out: Path,
    *,
    backbone: nn.Module | None = None,
    backbone_name: str = "efficientnet-lite0",
    name: str | None = None,
    precision: str = "int8",
    context_rows: int | None = None,
    training: Mapping[str, Any] | None = None,
    parity_timesteps: int = 0,
    parity_steps: Iterable[Step] | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Write the bundle ``out`` from a model in memory; a bundle that is there already is replaced at the end.

    ``backbone``: the vision network in front of the projector, pixels [N, 3, 224, 224] -> [N, 320, 7, 7];
    EfficientNet-Lite0 by default.
    ``context_rows``: capacity of the cache, see :func:`rows_for` for the default.
    ``parity_timesteps``: how long a stream to compare with PyTorch, 0 for none (see :mod:`export.parity`).
    Raises ExportError when the parts do not fit together, or when the bundle's logits are not the model's.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    encoder = _check_fit(model, tokenizer, protocol)
    rows = context_rows or rows_for(encoder)
    out = Path(out).absolute()
    if out.exists() and not (out / "bundle.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out}: exists and is no bundle; choose another place, it would be replaced")
    model.eval()
    backbone = backbone if backbone is not None else load_lite0()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "name": name or out.name,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": _commit(),
            "family": "compact",
            "backbone": {"decoder": "llama-scratch", "vision": backbone_name},
            "license": "Apache-2.0",
            "precision": precision,
            "protocol": protocol.to_dict(),
        }
        manifest |= _write_graphs(model, backbone, work, precision, rows, progress)
        table = model.decoder.get_input_embeddings().weight.detach().float().numpy()
        np.save(work / "embedding.npy", table.astype(np.float16), allow_pickle=False)
        tokenizer.save(str(work / "tokenizer.json"))
        manifest |= {"training": dict(training or {}), "files": _files(work)}
        _write_manifest(work, manifest)
        if parity_timesteps:
            progress(f"parity over {parity_timesteps} timesteps")
            parity = measure_parity(
                work, model, backbone, timesteps=parity_timesteps, steps=parity_steps
            )
            check_parity(parity)
            _write_manifest(work, manifest | {"parity": parity})
        _replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def rows_for(encoder: TurnEncoder) -> int:
    """Cache rows with which the window of turns, not the cache, decides what is forgotten.

    A quarter of the turns may hold the longest response. Memory is the only price: time depends on the rows
    in use.
    """
    protocol = encoder.protocol
    turns = protocol.window_turns * (len(encoder.turn_ids(_LATE_TURN)) + len(encoder.silence_ids()))
    responses = -(-protocol.window_turns // 4) * protocol.max_response_tokens
    rows = len(encoder.prefix_ids()) + _QUERY_ROWS + turns + responses
    return -(-rows // 128) * 128


def check_parity(parity: Mapping[str, Any]) -> None:
    """Raises ExportError for logits that rounding cannot explain, NaN among them."""
    if not parity["kl_mean"] < KL_LIMIT:
        raise ExportError(f"the bundle differs from the model, nothing was written: {dict(parity)}")


def _check_fit(model: CompactModel, tokenizer: Tokenizer, protocol: Protocol) -> TurnEncoder:
    try:
        encoder = TurnEncoder(protocol, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    except ValueError as error:
        raise ExportError(str(error)) from error
    tokens, rows = tokenizer.get_vocab_size(), model.config.vocab_size
    if tokens > rows:
        raise ExportError(f"the tokenizer has {tokens} tokens, the model embeds only {rows}")
    if protocol.frame_tokens != model.config.frame_tokens:
        raise ExportError(
            f"visual tokens per frame: {protocol.frame_tokens} in the protocol, "
            f"{model.config.frame_tokens} in the model"
        )
    return encoder


def _write_graphs(
    model: CompactModel,
    backbone: nn.Module,
    folder: Path,
    precision: str,
    rows: int,
    progress: Progress,
) -> dict[str, Any]:
    """``decoder.onnx`` and ``vision.onnx``; returns the manifest's sections about them."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    graph = DecoderGraph(model.decoder, OrtLowering(), rows)
    with quiet(), torch.no_grad():
        progress("decoder graph")
        decoder = export_ort(graph)
        if precision == "int8":
            progress("decoder weights to int8")
            decoder = quantize_int8(decoder)
        progress("vision graph")
        vision = store_in_half(export_vision(VisionGraph(backbone, model.projector), size))
    onnx.save(decoder, folder / "decoder.onnx")
    onnx.save(vision, folder / "vision.onnx")
    return {
        "model": {
            **graph.shape.to_dict(),
            "image_size": list(size),
            "image_mean": IMAGE_MEAN,
            "image_std": IMAGE_STD,
        },
        "graphs": {
            "vision": {"file": "vision.onnx", **_tensors(vision)},
            "decoder": {"file": "decoder.onnx", "lowering": graph.lowering.name, **_tensors(decoder)},
        },
    }


def _tensors(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    def spec(value: onnx.ValueInfoProto) -> dict[str, Any]:
        tensor = value.type.tensor_type
        shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        return {"name": value.name, "shape": shape, "dtype": _DTYPES[tensor.elem_type]}

    return {
        "inputs": [spec(value) for value in model.graph.input],
        "outputs": [spec(value) for value in model.graph.output],
    }


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, ensure_ascii=False, default=str)
    (folder / "bundle.json").write_text(text + "\n", encoding="utf-8")


def _replace(new: Path, out: Path) -> None:
    """Put ``new`` in ``out``'s place. A folder cannot be replaced in one step: the old one steps aside."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        os.replace(out, old)
    os.replace(new, out)
    shutil.rmtree(old, ignore_errors=True)


def _commit() -> str:
    """Commit of the code that writes the bundle; ``-dirty`` when changed since, ``unknown`` without git."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "export", "train/model", "edge_runtime")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
