"""Checkpoint -> bundle: a folder that the runtime loads, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from edge_runtime.protocol import Protocol, TurnEncoder
from tokenizers import Tokenizer
from torch import nn
from train.model.checkpoint import CheckpointError, load_checkpoint
from train.model.compact import CompactModel
from train.model.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, load_lite0

from export.decoder_graph import DecoderGraph
from export.errors import ExportError
from export.half_storage import store_in_half
from export.lowering_ort import OrtLowering, export_ort
from export.quantize import PRECISIONS, quantize_int8
from export.quiet import quiet
from export.vision_graph import VisionGraph, export_vision

FORMAT_VERSION = 1
CONTEXT_ROWS = 1536
_NUMPY_NAMES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.INT64: "int64"}

Progress = Callable[[str], None]


def export_model(
    model: CompactModel,
    tokenizer: Tokenizer,
    protocol: Protocol,
    out: Path,
    *,
    name: str | None = None,
    precision: str = "int8",
    context_rows: int = CONTEXT_ROWS,
    backbone: nn.Module | None = None,
    backbone_name: str = "efficientnet-lite0",
    training: Mapping[str, Any] | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Write the bundle ``out`` from a model in memory; a bundle that is there already is replaced at the end.

    ``backbone`` is the vision network in front of the projector, EfficientNet-Lite0 by default.
    Raises ExportError when the parts do not fit together.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    _check_fit(model, tokenizer, protocol)
    out = Path(out).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        manifest = _write_parts(
            model.eval(), tokenizer, protocol, work, precision, context_rows, backbone or load_lite0(), progress
        )
        manifest = {
            "format_version": FORMAT_VERSION,
            "name": name or out.name,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": _commit(),
            "family": "compact",
            "backbone": {"decoder": "llama-scratch", "vision": backbone_name},
            "license": "Apache-2.0",
            "precision": precision,
            "protocol": protocol.to_dict(),
            **manifest,
            "training": dict(training or {}),
        }
        _write_manifest(work, manifest)
        _replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def export_bundle(
    checkpoint_folder: Path,
    out_folder: Path,
    precision: str = "int8",
    context_rows: int = CONTEXT_ROWS,
    *,
    name: str | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Bundle of a checkpoint folder (:mod:`train.model.checkpoint`). Raises ExportError."""
    try:
        checkpoint = load_checkpoint(Path(checkpoint_folder))
    except CheckpointError as error:
        raise ExportError(str(error)) from error
    return export_model(
        checkpoint.model,
        checkpoint.tokenizer,
        checkpoint.protocol,
        out_folder,
        name=name,
        precision=precision,
        context_rows=context_rows,
        training={key: checkpoint.config.get(key) for key in ("tasks", "recipe", "metrics")},
        progress=progress,
    )


def _check_fit(model: CompactModel, tokenizer: Tokenizer, protocol: Protocol) -> None:
    try:
        TurnEncoder(protocol, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    except ValueError as error:
        raise ExportError(str(error)) from error
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        raise ExportError(
            f"the tokenizer has {tokenizer.get_vocab_size()} tokens, the model only {model.config.vocab_size}"
        )
    if protocol.frame_tokens != model.config.frame_tokens:
        raise ExportError(
            f"the protocol has {protocol.frame_tokens} visual tokens per frame, the model {model.config.frame_tokens}"
        )


def _write_parts(
    model: CompactModel,
    tokenizer: Tokenizer,
    protocol: Protocol,
    folder: Path,
    precision: str,
    context_rows: int,
    backbone: nn.Module,
    progress: Progress,
) -> dict[str, Any]:
    """Every file but the manifest; returns the manifest's sections about them."""
    graph = DecoderGraph(model.decoder, OrtLowering(), context_rows)
    with quiet():
        progress("decoder graph")
        decoder = export_ort(graph)
        if precision == "int8":
            progress("decoder to int8")
            decoder = quantize_int8(decoder)
        progress("vision graph")
        vision = store_in_half(export_vision(VisionGraph(backbone, model.projector), (IMAGE_SIZE, IMAGE_SIZE)))

    onnx.save(decoder, folder / "decoder.onnx")
    onnx.save(vision, folder / "vision.onnx")
    table = model.decoder.get_input_embeddings().weight.detach().to(torch.float32).numpy()
    np.save(folder / "embedding.npy", table.astype(np.float16), allow_pickle=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return {
        "model": {
            **graph.shape.to_dict(),
            "image_size": [IMAGE_SIZE, IMAGE_SIZE],
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
        return {"name": value.name, "shape": shape, "dtype": _NUMPY_NAMES[tensor.elem_type]}

    return {
        "inputs": [spec(value) for value in model.graph.input],
        "outputs": [spec(value) for value in model.graph.output],
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """``bundle.json`` with the hash and size of every other file of the folder."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != "bundle.json"
    }
    text = json.dumps({**manifest, "files": files}, indent=2, ensure_ascii=False)
    (folder / "bundle.json").write_text(text + "\n", encoding="utf-8")


def _replace(new: Path, out: Path) -> None:
    """Put ``new`` in ``out``'s place. A folder cannot be replaced in one step: the old one steps aside."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        os.replace(out, old)
    os.replace(new, out)
    shutil.rmtree(old, ignore_errors=True)


def _commit() -> str:
    """Commit of the code that writes the bundle; ``-dirty`` when it was changed since, ``unknown`` without git."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "export", "train/model", "edge_runtime")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
