"""What to export, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from edge_runtime.bundle.stream_format import StreamFormat
from export.decoder.packed import PackedMatrix
from export.validation.parity_stream import Step
from train.models.base import StreamModel


@dataclass(frozen=True)
class Source:
    """A model in memory, with what belongs to it.

    ``backbone``: the vision network in front of the projector, the family's own when None; that of a compact
    model gives [N, 320, 7, 7] for pixels [N, 3, 224, 224]. ``training``: the manifest's section.
    """

    model: StreamModel
    tokenizer: Tokenizer
    stream_format: StreamFormat
    backbone: nn.Module | None = None
    backbone_name: str = "efficientnet-lite0"
    training: Mapping[str, Any] = field(default_factory=dict)
    knowledge: Mapping[str, Any] | None = None
    """What the model knows, as the manifest says it."""
    origin: Mapping[str, Any] | None = None
    """Where a published checkpoint comes from, the manifest's section."""
    licence: str | None = None
    """Of a published checkpoint; None: what the family says."""
    packed: Mapping[str, PackedMatrix] | None = None
    """Matrices of the decoder's graph that the authors quantized, see :mod:`export.decoder.packed`; the model
    in memory holds the same values."""


@dataclass(frozen=True)
class ExportOptions:
    """How a bundle is made; None stands for the usual choice of the target or of the checkpoint."""

    target: str = "ort-cpu"
    """See :mod:`export.decoder.targets`, also for ``precision`` and ``vision_precision``."""
    precision: str | None = None
    vision_precision: str | None = None
    calibration: Iterable[NDArray[np.uint8]] | None = None
    """Frames [H, W, 3] by which vision becomes int8; those of generated stories when None."""
    calibrate: Sequence[Path] = ()
    """Texts and clips by which int4 is rounded, see :mod:`export.quantization.gptq`; to nearest when
    empty."""
    kv: str | None = None
    """int8 for a cache in int8 (``ort-cpu``), see :mod:`export.quantization.cache`."""
    block_size: int | None = None
    """See :func:`export.quantization.weights.quantize_for_ort`."""
    lowerings: Sequence[str] | None = None
    """Fewer than the target's."""
    context_rows: int | None = None
    """Capacity of the cache, see :func:`export.bundle_writer.rows_for`."""
    name: str | None = None
    threshold: float | None = None
    """Decision threshold that the bundle carries."""
    queries_per_session: int | None = None
    """Most questions in a session, where those that training numbered disturb each other; None: as many."""
    parity_timesteps: int = 0
    """How long a stream to compare with PyTorch, 0 for none, see :mod:`export.validation.parity`."""
    parity_steps: Iterable[Step] | None = None
