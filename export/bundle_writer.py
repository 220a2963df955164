"""Checkpoint -> bundle: a folder that the runtime loads, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from edge_runtime.atomic_write import replace_folder, sweep
from edge_runtime.bundle.manifest import CACHE_SCALES, FORMAT_VERSION, INT8_CACHE_VERSION, NUMBERED_VERSION
from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from export.bundle_folder import check_room, describe_files, write_manifest, write_table
from export.decoder.batch import write_batch_graph
from export.decoder.deferred import DeferredModel
from export.decoder.graph import DecoderGraph
from export.decoder.graph_files import save_graphs
from export.decoder.targets import LOWERINGS, Target, find_target
from export.decoder.to_onnx import export_decoder, to_opset_17
from export.errors import ExportError
from export.families.registry import family_of, open_backbone, reference_of
from export.options import ExportOptions, Source
from export.quantization.cache import cache_scales, quantize_cache
from export.quantization.four_bits import REST, FourBits, check_four_bits, four_bits
from export.quantization.fp16_weights import with_fp16_weights
from export.quantization.vision import quantize_vision, story_frames
from export.quantization.weights import BLOCK_SIZES, quantize_for_ort, quantize_for_tensorrt
from export.quiet import quiet
from export.validation.layers import Check, compare_layers
from export.validation.lint import check_graph
from export.validation.parity import TIMESTEPS, measure_parity
from train.models.base import StreamModel
from train.models.checkpoint import CheckpointError, load_checkpoint, read_knowledge
from train.models.stored import stored_of

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

_DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT8: "int8",
}


def export_bundle(
    folder: Path, out: Path, options: ExportOptions | None = None, progress: Progress = lambda _: None
) -> Path:
    """Write the bundle ``out`` from a folder (:mod:`train.models.checkpoint`). Raises ExportError."""
    options = options or ExportOptions(parity_timesteps=TIMESTEPS)
    resolve(options)  # before anything is loaded
    progress("checkpoint")
    source = replace(open_checkpoint(folder), knowledge=read_knowledge(Path(folder)))
    return export_model(source, out, options, progress)


def open_checkpoint(folder: Path) -> Source:
    """Load the checkpoint and its frozen vision network. Raises ExportError."""
    try:
        loaded = load_checkpoint(Path(folder))
    except (CheckpointError, ImportError, ValueError) as error:
        raise ExportError(str(error)) from error
    training = {key: loaded.config.get(key) for key in ("tasks", "recipe", "metrics")}
    model = loaded.model
    try:
        backbone = open_backbone(model)
    except ExportError as error:
        named = str(folder) in str(error)
        raise ExportError(str(error) if named else f"{folder}: {error}") from error
    name = model.vision.record()["name"]
    return Source(model, loaded.tokenizer, loaded.stream_format, backbone, name, training)


def export_model(
    source: Source, out: Path, options: ExportOptions | None = None, progress: Progress = lambda _: None
) -> Path:
    """Write the bundle ``out`` from a model in memory; a bundle that is there already is replaced at the end.

    Raises ExportError when the parts do not fit together, or when the bundle's logits are not the model's.
    """
    options = options or ExportOptions()
    model, stream_format = source.model, source.stream_format
    target, precision, vision = resolve(options, source)
    family = family_of(model)
    if vision not in family.vision_precisions:
        raise ExportError(
            f"target {target.name} cannot do vision in {vision} for family {model.family}, only fp32"
        )
    if options.threshold is not None:
        stream_format = replace(stream_format, threshold=options.threshold)
    encoder = _check_fit(model, source.tokenizer, stream_format)
    rows = options.context_rows or rows_for(encoder)
    out = Path(out).absolute()
    if out.exists() and not (out / "bundle.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out}: exists and is no bundle; choose another place, it would be replaced")
    model.float().eval()  # a base of Qwen is bf16, which NumPy lacks; parity compares with fp32
    backbone = source.backbone if source.backbone is not None else open_backbone(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out)
    check_room(out.parent, model, backbone, precision)
    work = out.with_name(f".{out.name}.{os.getpid()}")
    work.mkdir()
    try:
        manifest: dict[str, Any] = {
            **family.names(model, source.backbone_name),
            "name": options.name or out.name,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": _commit(),
            "target": target.name,
            "precision": precision,
            "protocol": stream_format.to_dict(),
        }
        if source.licence is not None:
            manifest["license"] = source.licence
        if source.origin is not None:
            manifest["origin"] = dict(source.origin)
        if source.knowledge is not None:
            manifest["knowledge"] = dict(source.knowledge)
        if options.queries_per_session is not None:
            manifest["queries_per_session"] = options.queries_per_session
        if stream_format.numbers_queries:  # an older runtime would hand numbers out as part of the text
            manifest["format_version"] = NUMBERED_VERSION
        if not stream_format.is_basic:
            manifest["format_version"] = FORMAT_VERSION
        calibration: Iterable[NDArray[np.uint8]] | None = None
        if vision == "int8":
            calibration = options.calibration or story_frames(stream_format.fps)
        packed = FourBits({})
        if precision == "int4":
            progress("weights in 4 bits")
            with quiet():
                packed = four_bits(source, backbone, encoder, options)
        if packed.record is not None:
            manifest["quantization"] = dict(packed.record)
        plan = _Graphs(target, precision, options, rows, calibration, packed, progress)
        manifest |= _write_graphs(model, backbone, work, plan)
        write_table(work / "embedding.npy", model.embedding)
        source.tokenizer.save(str(work / "tokenizer.json"))
        manifest |= {"training": dict(source.training), "files": describe_files(work)}
        write_manifest(work, manifest)
        if stored_of(model.embedding) is not None and target.name != "ort-cuda":  # it has no fp16 on a CPU
            progress("parity layer by layer")
            manifest |= {"layer_parity": _compare_layers(model, work, manifest, plan)}
            write_manifest(work, manifest)
        if options.kv == "int8":
            progress("scales of the cache")
            manifest = _with_small_cache(work, manifest)
            write_manifest(work, manifest)
        decoder = manifest["graphs"]["decoder"]
        if target.name == "ort-cpu" and decoder["lowering"] == "ort-gqa":
            progress("decoder graph for several questions")
            decoder |= {"batch": write_batch_graph(work, decoder["file"])}
            manifest |= {"files": describe_files(work, leave_out=("bundle.json",))}
            write_manifest(work, manifest)
        if timesteps := options.parity_timesteps:
            progress(f"parity over {timesteps} timesteps")
            parity = measure_parity(
                work,
                reference_of(model, backbone),
                timesteps=timesteps,
                steps=options.parity_steps,
                window_turns=window_for(timesteps, stream_format),
            )
            exact = source.packed is not None  # the model in memory has the same weights
            small_cache = options.kv == "int8" and precision == "fp32"
            check_parity(parity, "int8" if (exact and precision == "int4") or small_cache else precision)
            write_manifest(work, manifest | {"parity": parity})
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def resolve(options: ExportOptions, source: Source | None = None) -> tuple[Target, str, str]:
    """Return target, precision and precision of vision. Raises ExportError for what the target cannot do.

    ``source``: if it is known; weights that its authors quantized stay as they are where the target can keep
    them.
    """
    target = find_target(options.target)
    kept = source is not None and source.packed is not None and target.name.startswith("ort-")
    precision = options.precision or ("int4" if kept else target.default)
    target.lowerings(precision)
    check_four_bits(options, target, precision, source)
    target.check_kv(options.kv)
    target.check_block_size(options.block_size, precision)
    return target, precision, target.vision(precision, options.vision_precision)


def window_for(timesteps: int, stream_format: StreamFormat) -> int | None:
    """Return the turns of a window that so short a stream fills and evicts from; None for the model's own."""
    return max(timesteps // 2, 1) if timesteps <= stream_format.window_turns else None


def rows_for(encoder: TurnEncoder) -> int:
    """Cache rows with which the window of turns, not the cache, decides what is forgotten.

    A quarter of the turns may hold the longest answer to each query of a session. Memory is the only price:
    time depends on the rows in use.
    """
    stream_format = encoder.stream_format
    queries = stream_format.queries_per_session
    turns = stream_format.window_turns * (len(encoder.turn_ids(_LATE_TURN)) + len(encoder.silence_ids()))
    responses = -(-stream_format.window_turns // 4) * stream_format.max_response_tokens
    rows = len(encoder.prefix_ids()) + turns + queries * (_QUERY_ROWS + responses)
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
    tokens, rows = tokenizer.get_vocab_size(), len(model.embedding.weight)
    if tokens > rows:
        raise ExportError(f"the tokenizer has {tokens} tokens, the model embeds only {rows}")
    if stream_format.frame_tokens != model.frame_tokens:
        raise ExportError(
            f"visual tokens per frame: {stream_format.frame_tokens} in the stream format, "
            f"{model.frame_tokens} in the model"
        )
    return encoder


@dataclass(frozen=True)
class _Graphs:
    """What graphs to make. ``calibration``: frames for vision in int8; None: it stays floating point."""

    target: Target
    precision: str
    options: ExportOptions
    rows: int
    calibration: Iterable[NDArray[np.uint8]] | None
    packed: FourBits
    progress: Progress


def _write_graphs(model: StreamModel, backbone: nn.Module, folder: Path, plan: _Graphs) -> dict[str, Any]:
    """Write the decoder's graphs and ``vision.onnx``; returns the manifest's sections about them."""
    family, target, calibration = family_of(model), plan.target, plan.calibration
    image, dtype = family.image(model), target.dtype(plan.precision)
    decoders: dict[str, DeferredModel] = {}
    for lowering in plan.options.lowerings or target.lowerings(plan.precision):
        plan.progress(f"decoder graph, {lowering}")
        graph = DecoderGraph(
            family.decoder_parts(model),
            LOWERINGS[lowering],
            plan.rows,
            dtype,
            chooses_rows=target.chooses_rows,
        )
        with quiet(), torch.no_grad():
            decoders[lowering] = _quantize(export_decoder(graph), plan)
        check_graph(decoders[lowering].model, target.name, lowering)
    plan.progress("vision graph")
    with quiet(), torch.no_grad():
        vision = family.vision_graph(model, backbone, dtype)
        if calibration is not None:
            vision = DeferredModel(quantize_vision(vision.inline(), calibration))
    if target.name == "tensorrt":
        to_opset_17(vision.model)  # one file for every version
    elif target.name == "ort-cpu":
        vision = with_fp16_weights(vision)
    check_graph(vision.model, target.name)
    save_graphs({"vision.onnx": vision}, folder, "vision.weights")
    files = {name: "decoder.onnx" if i == 0 else f"decoder-{name}.onnx" for i, name in enumerate(decoders)}
    plan.progress("weights of the decoder")
    save_graphs({files[name]: decoder for name, decoder in decoders.items()}, folder, "decoder.weights")
    computes = "int8" if calibration is not None else str(dtype).replace("torch.float", "fp")
    first, *others = (
        {"file": files[name], "lowering": name, **_tensors(decoder.model)}
        for name, decoder in decoders.items()
    )
    return {
        "model": {**graph.shape.to_dict(), **image},
        "graphs": {
            "vision": {"file": "vision.onnx", "precision": computes, **_tensors(vision.model)},
            "decoder": first | ({"alternatives": others} if others else {}),
        },
    }


def _compare_layers(
    model: StreamModel, folder: Path, manifest: Mapping[str, Any], plan: _Graphs
) -> dict[str, Any]:
    """Compare the preferred decoder graph in ``folder``; returns the manifest's section about it."""
    decoder = manifest["graphs"]["decoder"]
    check = Check(
        model.decoder,
        family_of(model).decoder_parts(model),
        LOWERINGS[decoder["lowering"]],
        plan.precision,
        plan.target.dtype(plan.precision),
        lambda graph: _quantize(graph, plan),
    )
    return compare_layers(folder, decoder["file"], check, plan.progress)


def _with_small_cache(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """The bundle in ``folder`` with its cache in int8; returns its manifest."""
    np.save(folder / CACHE_SCALES, cache_scales(folder), allow_pickle=False)
    graphs = manifest["graphs"]
    file = graphs["decoder"]["file"]
    decoder = onnx.load(folder / file, load_external_data=False)  # weights beside it stay as they are
    quantize_cache(decoder)
    onnx.save(decoder, folder / file)
    return manifest | {
        "format_version": max(manifest["format_version"], INT8_CACHE_VERSION),
        "kv": "int8",
        "graphs": graphs | {"decoder": graphs["decoder"] | _tensors(decoder)},
        "files": describe_files(folder, leave_out=("bundle.json",)),
    }


def _quantize(decoder: DeferredModel, plan: _Graphs) -> DeferredModel:
    if plan.precision in ("fp32", "fp16"):
        return decoder
    if plan.target.name.startswith("ort"):
        packed, block_size = plan.packed.matrices, plan.options.block_size or BLOCK_SIZES[0]
        return quantize_for_ort(decoder, REST if packed else plan.precision, block_size, packed)
    return quantize_for_tensorrt(decoder, plan.precision)


def _tensors(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    def spec(value: onnx.ValueInfoProto) -> dict[str, Any]:
        tensor = value.type.tensor_type
        shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        return {"name": value.name, "shape": shape, "dtype": _DTYPES[tensor.elem_type]}

    optional = {tensor.name for tensor in model.graph.initializer}
    return {
        "inputs": [spec(value) for value in model.graph.input if value.name not in optional],
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
