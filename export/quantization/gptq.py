"""GPTQ by optimum: each layer's weights are rounded to 4 bits so that its outputs over given inputs change
least.

Rounding to the nearest code treats all inputs alike. GPTQ (arXiv 2210.17323) moves what rounding loses in
one input to inputs that are not rounded yet. Inputs come from texts or clips
(:mod:`export.quantization.calibration`).
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_runtime.command_line.missing_extra import how_to_install
from export.decoder.packed import BITS, MIDDLE, PackedMatrix, for_graph, pack
from export.errors import ExportError
from export.quantization.calibration import Stream
from export.quiet import quiet
from train.models.base import StreamModel

_SEQUENCE = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Modules of a layer that have the same input are rounded together, those before it first."""
_BLOCKS = "blocks"
DAMPING = 0.01
"""Share of the mean diagonal that is added to each Hessian."""


def check_installed() -> None:
    """Raises ExportError when optimum or gptqmodel is missing."""
    try:
        for package in ("optimum.gptq", "gptqmodel"):
            with quiet(), redirect_stdout(sys.stderr):  # it greets
                importlib.import_module(package)
    except ImportError as error:
        raise ExportError(f"--calibrate for int4: {error}; {how_to_install('gptq')}") from error


def calibrated(
    model: StreamModel,
    streams: Sequence[Stream],
    image_id: int,
    block_size: int,
    layers: Callable[[StreamModel], Sequence[nn.Module]],
) -> dict[str, PackedMatrix]:
    """Return the matrices of the decoder's graph in 4 bits, all but the output matrix; ``model`` stays as it
    is.

    ``layers``: gives the decoder's layers. Raises ExportError for inputs that do not divide into blocks.
    """
    copied = copy.deepcopy(model).float().eval()
    watched = _Watched(copied, streams, image_id, layers(copied))
    for name, module in watched.blocks.named_modules():
        if isinstance(module, nn.Linear) and module.in_features % block_size:
            raise ExportError(
                f"decoder: {name} has {module.in_features} inputs, which are no blocks of {block_size}; "
                "choose another --block-size"
            )
    quantizer = _collector()(
        bits=BITS,
        group_size=block_size,
        sym=True,
        desc_act=False,
        damp_percent=DAMPING,
        dataset=[{"input_ids": [[k]], "attention_mask": [[1]]} for k in range(len(streams))],
        model_seqlen=max(len(stream.ids) for stream in streams),
        block_name_to_quantize=_BLOCKS,
        module_name_preceding_first_block=[],
        modules_in_block_to_quantize=[list(names) for names in _SEQUENCE],
    )
    with redirect_stdout(sys.stderr):
        quantizer.quantize_model(watched)
    found: Mapping[str, PackedMatrix] = quantizer.found
    return for_graph({f"layers.{name.removeprefix(_BLOCKS + '.')}": matrix for name, matrix in found.items()})


class _Watched(nn.Module):
    """What optimum calibrates: a module that it calls with token ids, and the list of its blocks.

    optimum passes on nothing but token ids, and streams have frames too: the one id of a call is a stream's
    number.
    """

    def __init__(
        self, model: StreamModel, streams: Sequence[Stream], image_id: int, blocks: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self._model = [model]  # not a sub-module: its layers are the blocks
        self._streams, self._image_id = streams, image_id

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        stream = self._streams[int(input_ids)]
        return self._model[0].hidden(torch.tensor([stream.ids]), stream.visual, self._image_id)


def _collector() -> Any:
    """optimum's quantizer, which hands its codes over and packs no modules of its own."""
    from optimum.gptq import GPTQQuantizer
    from optimum.gptq.utils import get_layers

    class Collector(GPTQQuantizer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.found: dict[str, PackedMatrix] = {}

        def pack_model(self, model: nn.Module, quantizers: Mapping[str, Any]) -> None:
            modules = get_layers(model)
            for name, (_, scales, zeros, order) in quantizers.items():
                self.found[name] = read_codes(name, modules[name].weight, scales, zeros, order)

        def post_init_model(self, model: nn.Module) -> nn.Module:
            return model

    return Collector


def read_codes(name: str, weight: Tensor, scales: Tensor, zeros: Tensor, order: Tensor) -> PackedMatrix:
    """Read the codes back from the rounded ``weight`` [out, in].

    ``scales``, ``zeros`` [out, in / block]; ``order`` [in]: the block of each input. Raises ExportError when
    the weight is not exactly what codes and scales give, which would mean a second rounding.
    """
    scale, zero = (tensor.detach().cpu().double().numpy() for tensor in (scales, zeros))
    values = weight.detach().cpu().double().numpy()
    block = values.shape[1] // scale.shape[1]
    if not np.array_equal(order.cpu().numpy(), np.arange(values.shape[1]) // block):
        raise ExportError(
            f"decoder: GPTQ put the inputs of {name} in another order; this is a bug, report it"
        )
    steps = values / np.repeat(scale, block, axis=1) + np.repeat(zero, block, axis=1)
    codes = np.rint(steps)
    if np.abs(steps - codes).max() > 1e-2 or codes.min() < 0 or codes.max() > 15:
        raise ExportError(f"decoder: the rounded {name} is on no grid of 16 codes; this is a bug, report it")
    return pack(codes.astype(np.uint8), scale, None if (zero == MIDDLE).all() else zero.astype(np.uint8))
