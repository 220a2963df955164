"""Matrices in 4 bits: codes with a scale per block of inputs, laid out as ONNX Runtime's MatMulNBits reads
them.

What makes such matrices hands them over as they are: calibration (:mod:`export.quantization.gptq`), and the
import of a checkpoint that its authors quantized (:mod:`export.published.quantized`). Nothing is rounded a
second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError

BITS = 4
MIDDLE = 8
"""Code that stands for zero in a symmetric matrix."""
_PARTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Matrices of a layer's graph (:class:`export.decoder.graph.DecoderLayer`), and the modules of transformers
that each joins along its outputs."""
MODULES = tuple(module for modules in _PARTS.values() for module in modules)
HEAD = "lm_head"


@dataclass(frozen=True)
class PackedMatrix:
    """A weight [out, in] as ``(codes - zeros) * scales``, one scale and one zero for each block of inputs.

    ``codes`` uint8 [out, in / block, block / 2]: two codes a byte, the low half first. ``scales`` float32
    [out, in / block]. ``zeros`` uint8 [out, in / block], one code a byte; None: 8 everywhere.
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None = None

    @property
    def block(self) -> int:
        """Inputs that share a scale."""
        return 2 * self.codes.shape[2]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.codes.shape[0], self.codes.shape[1] * self.block

    def dequantized(self) -> NDArray[np.float32]:
        """Return the weight [out, in]."""
        values = np.stack([self.codes & 15, self.codes >> 4], axis=-1).reshape(*self.scales.shape, self.block)
        zeros = np.float32(MIDDLE) if self.zeros is None else self.zeros[..., None].astype(np.float32)
        weight: NDArray[np.float32] = (values.astype(np.float32) - zeros) * self.scales[..., None]
        return weight.reshape(self.shape)

    def packed_zeros(self) -> NDArray[np.uint8] | None:
        """Return zeros two a byte [out, ceil(blocks / 2)], each row padded; None when all are 8."""
        if self.zeros is None:
            return None
        even = np.pad(self.zeros, ((0, 0), (0, self.zeros.shape[1] % 2)))
        return (even[:, 0::2] | even[:, 1::2] << 4).astype(np.uint8)


def pack(
    codes: NDArray[np.integer], scales: NDArray[np.floating], zeros: NDArray[np.integer] | None = None
) -> PackedMatrix:
    """``codes`` [out, in], each 0 to 15; ``scales`` and ``zeros`` [out, in / block]; zeros None: 8.

    Raises ValueError for numbers of inputs and blocks that do not fit.
    """
    blocks = scales.shape[1]
    block, rest = divmod(codes.shape[1], blocks)
    if rest or block < 16 or block & (block - 1):
        raise ValueError(
            f"{codes.shape[1]} inputs in {blocks} blocks: blocks must have 16, 32, 64 ... inputs"
        )
    halves = codes.astype(np.uint8).reshape(len(codes), blocks, block // 2, 2)
    kept = None if zeros is None or (zeros == MIDDLE).all() else zeros.astype(np.uint8)
    packed = (halves[..., 0] | halves[..., 1] << 4).astype(np.uint8)
    return PackedMatrix(packed, scales.astype(np.float32), kept)


def join(parts: Sequence[PackedMatrix]) -> PackedMatrix:
    """Stack matrices of the same inputs along their outputs. Raises ExportError when their blocks differ."""
    if len({part.block for part in parts}) > 1:
        raise ExportError("matrices with blocks of different sizes cannot be joined")
    zeros = None
    if any(part.zeros is not None for part in parts):
        zeros = np.concatenate(
            [
                np.full(part.scales.shape, MIDDLE, np.uint8) if part.zeros is None else part.zeros
                for part in parts
            ]
        )
    codes = np.concatenate([part.codes for part in parts])
    return PackedMatrix(codes, np.concatenate([part.scales for part in parts]), zeros)


def for_graph(modules: Mapping[str, PackedMatrix]) -> dict[str, PackedMatrix]:
    """Join the modules of a decoder, such as ``layers.3.self_attn.q_proj``, into the matrices of its graph,
    such as ``layers.3.qkv``.

    A matrix of the graph of which a module is missing is left out: it is made from its weights.
    """
    layers = sorted({int(name.split(".")[1]) for name in modules if name.startswith("layers.")})
    found = {HEAD: modules[HEAD]} if HEAD in modules else {}
    for layer in layers:
        for name, parts in _PARTS.items():
            given = [modules.get(f"layers.{layer}.{part}") for part in parts]
            present = [matrix for matrix in given if matrix is not None]
            if len(present) == len(parts) and len({matrix.block for matrix in present}) == 1:
                found[f"layers.{layer}.{name}"] = join(present)
    return found
