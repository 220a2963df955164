"""The parts that a decoder's graph is made of, whatever family it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class DecoderParts:
    """``config``: of the text model; ``head``: the module whose weight [vocab, D] is the output matrix."""

    config: Any
    layers: Sequence[Any]
    norm: Any
    head: nn.Module
    pair_axes: tuple[int, ...] = ()
    """M-RoPE: for each rotated pair [Dh / 2] the axis whose position rotates it: 0 time, 1 height, 2 width.
    Empty where a token has one position."""
    deepstack: int = 0
    """Layers after which visual tokens of their own are added."""

    @property
    def axes(self) -> int:
        """Positions that a token has."""
        return 3 if self.pair_axes else 1


def llama_parts(decoder: LlamaForCausalLM) -> DecoderParts:
    """Return the parts of a decoder in which every token has one position."""
    return DecoderParts(decoder.config, list(decoder.model.layers), decoder.model.norm, decoder.lm_head)
