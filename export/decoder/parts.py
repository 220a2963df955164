"""The parts that a decoder's graph is made of, whatever family it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from export.errors import ExportError
from train.models.qwen.model import QwenModel


@dataclass(frozen=True)
class DecoderParts:
    """``config``: of the text model; ``head`` [vocab, D]: the output matrix."""

    config: Any
    layers: Sequence[nn.Module]
    norm: nn.Module
    head: Tensor
    pair_axes: tuple[int, ...] = ()
    """M-RoPE: for each rotated pair [Dh / 2] the axis whose position turns it: 0 time, 1 height, 2 width.
    Empty where a token has one position."""
    deepstack: int = 0
    """Layers after which visual tokens of their own are added."""

    @property
    def axes(self) -> int:
        """Positions that a token has."""
        return 3 if self.pair_axes else 1


def decoder_parts(decoder: LlamaForCausalLM | QwenModel) -> DecoderParts:
    """Raises ExportError for a decoder whose layers the graph does not have."""
    if not isinstance(decoder, QwenModel):
        return DecoderParts(
            decoder.config, list(decoder.model.layers), decoder.model.norm, decoder.lm_head.weight
        )
    text = decoder.decoder
    if "sliding_attention" in (getattr(text.config, "layer_types", None) or ()):
        raise ExportError("decoder: layers with a sliding window cannot be exported")
    head = text.get_input_embeddings() if decoder.lm_head is None else decoder.lm_head
    return DecoderParts(
        text.config,
        list(text.layers),
        text.norm,
        head.weight,
        pair_axes=_pair_axes(text.rotary_emb),
        deepstack=len(decoder.projector) - 1,
    )


def _pair_axes(rotary: nn.Module) -> tuple[int, ...]:
    """Asked of transformers itself, because the families lay their axes out differently."""
    pairs = len(rotary.inv_freq)
    axes = torch.arange(3.0).view(3, 1, 1, 1).repeat(1, 1, 1, pairs)
    return tuple(int(axis) for axis in rotary.recomposition_frequencies(axes).flatten()[:pairs])
