"""Checkpoint -> bundle: a folder that the runtime loads, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from edge_runtime.bundle.manifest import CACHE_SCALES, FORMAT_VERSION
from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from export.bundle_folder import check_room, describe_files, replace_folder, sweep, write_manifest
from export.decoder.graph import DecoderGraph
from export.decoder.targets import LOWERINGS, Target, find_target
from export.decoder.to_onnx import export_decoder, to_opset_17
from export.errors import ExportError
from export.families.registry import exporter_of, open_vision
from export.fp16_weights import store_in_half
from export.quantization.cache import cache_scales, quantize_cache
from export.quantization.vision import quantize_vision, world_frames
from export.quantization.weights import BLOCK_SIZES, quantize_for_ort, quantize_for_tensorrt
from export.quiet import quiet
from export.validation.lint import check_graph
from export.validation.parity import TIMESTEPS, measure_parity
from export.validation.parity_stream import Step
from export.vision.compact import export_vision
from export.weights import save_graphs
from train.models.base import StreamModel
from train.models.checkpoint import Checkpoint, CheckpointError, load_checkpoint

KL_LIMITS = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-2, "fp8": 0.1, "int4": 1.0}
"""Mean KL divergence from PyTorch above which something is broken, not rounded. int8 gives about 0.001; int4
rounded to nearest 0.3 for a decoder of 135 M."""
AGREEMENT = 0.995
"""Share of decisions that have to be PyTorch's in every precision but int4 and fp8, whose users choose to
pay in quality."""

_QUERY_ROWS = 128
_LATE_TURN = 9_999
"""A timestep whose label is about as long as labels get in practice."""

Progress = Callable[[str], None]

_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT8: "int8",
}


def export_bundle(
    checkpoint_folder: Path,
    out_folder: Path,
    precision: str | None = None,
    context_rows: int | None = None,
    *,
    target: str = "ort-cpu",
    vision_precision: str | None = None,
    calibration: Iterable[NDArray[np.uint8]] | None = None,
    kv: str | None = None,
    block_size: int | None = None,
    name: str | None = None,
    threshold: float | None = None,
    parity_timesteps: int = TIMESTEPS,
    parity_steps: Iterable[Step] | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Bundle of a checkpoint folder (:mod:`train.models.checkpoint`). Raises ExportError.

    ``target``, ``precision``, ``vision_precision``: see :mod:`export.decoder.targets`; the target's usual
    ones when
    None. ``calibration``: frames uint8 [H, W, 3] for vision in int8; those of generated stories when None.
    ``kv``: int8 for a cache in int8 (``ort-cpu``), the type of the activations when None.
    ``block_size``: see :func:`export.quantization.weights.quantize_for_ort`; 32 when None.
    ``threshold``: the decision threshold that the bundle carries, the checkpoint's own when None.
    """
    engine = find_target(target)
    engine.lowerings(precision or engine.default)  # before anything is loaded
    engine.check_kv(kv)
    engine.check_block_size(block_size, precision or engine.default)
    wanted = vision_precision
    vision_precision = engine.vision(precision or engine.default, wanted)
    progress("checkpoint")
    checkpoint, backbone = open_checkpoint(checkpoint_folder)
    stream_format = checkpoint.stream_format
    exporter = exporter_of(checkpoint.model)
    vision_precision = exporter.vision_precision(checkpoint.model, engine.name, vision_precision, wanted)
    if vision_precision != "int8":
        calibration = None
    elif calibration is None:
        calibration = world_frames(stream_format.fps)
    if threshold is not None:
        stream_format = replace(stream_format, threshold=threshold)
    return export_model(
        checkpoint.model,
        checkpoint.tokenizer,
        stream_format,
        out_folder,
        name=name,
        target=target,
        precision=precision,
        calibration=calibration,
        kv=kv,
        block_size=block_size,
        context_rows=context_rows,
        backbone=backbone,
        training={key: checkpoint.config.get(key) for key in ("tasks", "recipe", "metrics")},
        parity_timesteps=parity_timesteps,
        parity_steps=parity_steps,
        progress=progress,
    )


def open_checkpoint(folder: Path) -> tuple[Checkpoint, nn.Module]:
    """The checkpoint and its frozen vision network. Raises ExportError."""
    try:
        checkpoint = load_checkpoint(Path(folder))
    except (CheckpointError, ImportError, ValueError) as error:
        raise ExportError(str(error)) from error
    return checkpoint, open_vision(checkpoint.model)


def export_model(
    model: StreamModel,
    tokenizer: Tokenizer,
    stream_format: StreamFormat,
    out: Path,
    *,
    backbone: nn.Module | None = None,
    backbone_name: str = "efficientnet-lite0",
    name: str | None = None,
    target: str = "ort-cpu",
    precision: str | None = None,
    calibration: Iterable[NDArray[np.uint8]] | None = None,
    kv: str | None = None,
    block_size: int | None = None,
    lowerings: Sequence[str] | None = None,
    context_rows: int | None = None,
    training: Mapping[str, Any] | None = None,
    parity_timesteps: int = 0,
    parity_steps: Iterable[Step] | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Write the bundle ``out`` from a model in memory; a bundle that is there already is replaced at the end.

    ``backbone``: the vision network in front of the projector; the family's own by default. For a compact
    model pixels [N, 3, 224, 224] -> [N, 320, 7, 7], called ``backbone_name``.
    ``target``, ``precision``: see :mod:`export.decoder.targets`; ``lowerings``: fewer than the target's.
    ``calibration``: frames uint8 [H, W, 3] by which vision becomes int8; it stays floating point when None.
    ``kv``: int8 for a cache in int8, see :mod:`export.quantization.cache`.
    ``block_size``: of weights in few bits, see :mod:`export.quantization.weights`.
    ``context_rows``: capacity of the cache, see :func:`rows_for` for the default.
    ``parity_timesteps``: how long a stream to compare with PyTorch, 0 for none (see
    :mod:`export.validation.parity`).
    Raises ExportError when the parts do not fit together, or when the bundle's logits are not the model's.
    """
    engine = find_target(target)
    engine.check_kv(kv)
    precision = precision or engine.default
    engine.check_block_size(block_size, precision)
    lowerings = lowerings or engine.lowerings(precision)
    encoder = _check_fit(model, tokenizer, stream_format)
    rows = context_rows or rows_for(encoder)
    out = Path(out).absolute()
    if out.exists() and not (out / "bundle.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out}: exists and is no bundle; choose another place, it would be replaced")
    model.float().eval()  # a base of Qwen is bf16, which NumPy lacks; parity compares with fp32
    backbone = backbone if backbone is not None else open_vision(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out)
    check_room(out.parent, model)
    work = out.with_name(f".{out.name}.{os.getpid()}")
    work.mkdir()
    try:
        manifest: dict[str, Any] = {
            **exporter_of(model).names(model, backbone_name),
            "name": name or out.name,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": _commit(),
            "target": target,
            "precision": precision,
            "protocol": stream_format.to_dict(),
        }
        manifest |= _write_graphs(
            model, backbone, work, engine, precision, block_size, lowerings, rows, calibration, progress
        )
        table = model.decoder.get_input_embeddings().weight.detach().float().numpy()
        np.save(work / "embedding.npy", table.astype(np.float16), allow_pickle=False)
        tokenizer.save(str(work / "tokenizer.json"))
        manifest |= {"training": dict(training or {}), "files": describe_files(work)}
        write_manifest(work, manifest)
        if kv == "int8":
            progress("scales of the cache")
            manifest = _with_small_cache(work, manifest)
            write_manifest(work, manifest)
        if parity_timesteps:
            progress(f"parity over {parity_timesteps} timesteps")
            parity = measure_parity(work, model, backbone, timesteps=parity_timesteps, steps=parity_steps)
            check_parity(parity, "int8" if kv == "int8" and precision == "fp32" else precision)
            write_manifest(work, manifest | {"parity": parity})
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def rows_for(encoder: TurnEncoder) -> int:
    """Cache rows with which the window of turns, not the cache, decides what is forgotten.

    A quarter of the turns may hold the longest response. Memory is the only price: time depends on the rows
    in use.
    """
    stream_format = encoder.stream_format
    turns = stream_format.window_turns * (len(encoder.turn_ids(_LATE_TURN)) + len(encoder.silence_ids()))
    responses = -(-stream_format.window_turns // 4) * stream_format.max_response_tokens
    rows = len(encoder.prefix_ids()) + _QUERY_ROWS + turns + responses
    return -(-rows // 128) * 128


def check_parity(parity: Mapping[str, Any], precision: str) -> None:
    """Raises ExportError for logits and decisions that rounding cannot explain, NaN among them."""
    # A short stream has too few decisions for a share of them to mean anything: one may always differ.
    allowed = max((1 - AGREEMENT) * parity["timesteps"], 1)
    differing = (1 - parity["decision_agreement"]) * parity["timesteps"]
    decides = precision in ("int4", "fp8") or differing <= allowed + 0.5
    if not (parity["kl_mean"] <= KL_LIMITS[precision] and decides):
        raise ExportError(f"the bundle differs from the model, nothing was written: {dict(parity)}")


def _check_fit(model: StreamModel, tokenizer: Tokenizer, stream_format: StreamFormat) -> TurnEncoder:
    try:
        encoder = TurnEncoder(
            stream_format, lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        )
    except ValueError as error:
        raise ExportError(str(error)) from error
    tokens, rows = tokenizer.get_vocab_size(), len(model.decoder.get_input_embeddings().weight)
    if tokens > rows:
        raise ExportError(f"the tokenizer has {tokens} tokens, the model embeds only {rows}")
    if stream_format.frame_tokens != model.frame_tokens:
        raise ExportError(
            f"visual tokens per frame: {stream_format.frame_tokens} in the protocol, "
            f"{model.frame_tokens} in the model"
        )
    return encoder


def _write_graphs(
    model: StreamModel,
    backbone: nn.Module,
    folder: Path,
    target: Target,
    precision: str,
    block_size: int | None,
    lowerings: Sequence[str],
    rows: int,
    calibration: Iterable[NDArray[np.uint8]] | None,
    progress: Progress,
) -> dict[str, Any]:
    """The decoder's graphs and ``vision.onnx``; returns the manifest's sections about them.

    ``calibration``: frames for vision in int8, None for the type the decoder computes in.
    """
    exporter = exporter_of(model)
    seen = exporter.frame(model)
    decoders: dict[str, onnx.ModelProto] = {}
    for lowering in lowerings:
        progress(f"decoder graph, {lowering}")
        graph = DecoderGraph(exporter.decoder(model), LOWERINGS[lowering], rows, target.dtype(precision))
        with quiet(), torch.no_grad():
            decoders[lowering] = _quantize(export_decoder(graph), target, precision, block_size)
        check_graph(decoders[lowering], target.name, lowering)
    progress("vision graph")
    with quiet(), torch.no_grad():
        vision = export_vision(
            exporter.vision_graph(model, backbone, target.dtype(precision)), tuple(seen["image_size"])
        )
        if calibration is not None:
            vision = quantize_vision(vision, calibration)
    if target.name == "tensorrt":
        to_opset_17(vision)  # one file for every version
    elif target.name == "ort-cpu":
        vision = store_in_half(vision)
    check_graph(vision, target.name)
    onnx.save(vision, folder / "vision.onnx")
    files = {name: "decoder.onnx" if i == 0 else f"decoder-{name}.onnx" for i, name in enumerate(decoders)}
    save_graphs({files[name]: decoder for name, decoder in decoders.items()}, folder, "decoder.weights")
    computes = (
        "int8" if calibration is not None else str(target.dtype(precision)).replace("torch.float", "fp")
    )
    first, *others = (
        {"file": files[name], "lowering": name, **_tensors(decoder)} for name, decoder in decoders.items()
    )
    return {
        "model": {**graph.shape.to_dict(), **seen},
        "graphs": {
            "vision": {"file": "vision.onnx", "precision": computes, **_tensors(vision)},
            "decoder": first | ({"alternatives": others} if others else {}),
        },
    }


def _with_small_cache(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """The bundle in ``folder`` with its cache in int8; returns its manifest."""
    np.save(folder / CACHE_SCALES, cache_scales(folder), allow_pickle=False)
    graphs = manifest["graphs"]
    file = graphs["decoder"]["file"]
    decoder = onnx.load(folder / file, load_external_data=False)  # weights beside it stay as they are
    quantize_cache(decoder)
    onnx.save(decoder, folder / file)
    return manifest | {
        "format_version": FORMAT_VERSION,
        "kv": "int8",
        "graphs": graphs | {"decoder": graphs["decoder"] | _tensors(decoder)},
        "files": describe_files(folder, leave_out=("bundle.json",)),
    }


def _quantize(
    decoder: onnx.ModelProto, target: Target, precision: str, block_size: int | None
) -> onnx.ModelProto:
    if precision in ("fp32", "fp16"):
        return decoder
    if target.name.startswith("ort"):
        return quantize_for_ort(decoder, precision, block_size or BLOCK_SIZES[0])
    return quantize_for_tensorrt(decoder, precision)


def _tensors(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    def spec(value: onnx.ValueInfoProto) -> dict[str, Any]:
        tensor = value.type.tensor_type
        shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        return {"name": value.name, "shape": shape, "dtype": _DTYPES[tensor.elem_type]}

    return {
        "inputs": [spec(value) for value in model.graph.input],
        "outputs": [spec(value) for value in model.graph.output],
    }


def _commit() -> str:
    """Commit of the code that writes the bundle; ``-dirty`` when changed since, ``unknown`` without git."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "export", "train/models", "edge_runtime")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
