"""Where the decoder's matrices in 4 bits come from: the authors' own, calibration, or rounding to nearest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from edge_runtime.bundle.stream_format import TurnEncoder
from export.decoder.packed import PackedMatrix
from export.decoder.targets import Target
from export.errors import ExportError
from export.families.registry import family_of, reference_of
from export.options import ExportOptions, Source
from export.quantization.calibration import Eyes, read_streams
from export.quantization.gptq import calibrated, check_installed
from export.quantization.weights import BLOCK_SIZES

REST = "int8"
"""Precision of what is not packed, the output matrix above all."""


@dataclass(frozen=True)
class FourBits:
    """``matrices``: by the name of their weight in the graph; empty: all are rounded to nearest. ``record``:
    how they were made, the manifest's section ``quantization``."""

    matrices: Mapping[str, PackedMatrix]
    record: Mapping[str, Any] | None = None


def check_four_bits(
    options: ExportOptions, target: Target, precision: str, source: Source | None = None
) -> None:
    """Raises ExportError for a choice that cannot be made, before anything is computed."""
    quantized = source is not None and source.packed is not None
    if options.calibrate:
        if precision != "int4" or not target.name.startswith("ort-"):
            raise ExportError(
                "--calibrate rounds weights to int4 for ort-cpu and ort-cuda, not to "
                f"{precision} for {target.name}; add --precision int4, or leave it out"
            )
        if quantized:
            raise ExportError("--calibrate: the authors have quantized these weights already; leave it out")
        check_installed()
    if quantized and precision == "int4" and not target.name.startswith("ort-"):
        raise ExportError(
            f"target {target.name} cannot keep the authors' int4 weights as they are; "
            "choose --target ort-cuda, or another --precision"
        )


def four_bits(source: Source, backbone: nn.Module, encoder: TurnEncoder, options: ExportOptions) -> FourBits:
    """Return the matrices that are known in 4 bits; none when all are to be rounded to nearest."""
    if source.packed is not None:
        return FourBits(source.packed, {"by": "authors"})
    if not options.calibrate:
        return FourBits({})
    model, family = source.model, family_of(source.model)
    image = family.image(model)
    height, width = image["image_size"]
    eyes = Eyes(
        reference_of(model, backbone)(encoder.image_id),
        (height, width),
        image["image_mean"],
        image["image_std"],
    )
    inputs = model.embedding.weight.shape[1]
    streams = read_streams(options.calibrate, source.tokenizer, encoder, eyes, inputs)
    matrices = calibrated(
        model,
        streams,
        encoder.image_id,
        options.block_size or BLOCK_SIZES[0],
        lambda copied: family.decoder_parts(copied).layers,
    )
    return FourBits(
        matrices,
        {
            "by": "gptq",
            "calibration": [path.name for path in options.calibrate],
            "tokens": sum(len(stream.ids) for stream in streams),
        },
    )
