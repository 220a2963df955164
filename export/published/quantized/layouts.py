"""Layouts of published 4-bit weights: tensors of one module -> a matrix that the graph takes as it is.

In all of them a weight is ``(code - zero) * scale``. They differ in which of the codes share a 32-bit word.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.bundle.quantized_weights import AWQ, COMPRESSED_TENSORS, GPTQ
from export.decoder.packed import PackedMatrix, pack
from export.errors import ExportError

Tensors = Mapping[str, Tensor]
"""Of one module, by the last part of their names."""
WEIGHT = {COMPRESSED_TENSORS: "weight_packed", AWQ: "qweight", GPTQ: "qweight"}
"""Name of the codes."""
PARTS = {
    COMPRESSED_TENSORS: (
        "weight_packed",
        "weight_scale",
        "weight_shape",
        "weight_zero_point",
        "weight_g_idx",
    ),
    AWQ: ("qweight", "qzeros", "scales"),
    GPTQ: ("qweight", "qzeros", "scales", "g_idx"),
}
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Nibble of a word in which AWQ keeps each of eight neighbours."""
_BLOCKS = (128, 64, 32, 16)


def read_matrix(method: str, name: str, tensors: Tensors, *, zeros_minus_one: bool = True) -> PackedMatrix:
    """Read the matrix of the module ``name``.

    ``zeros_minus_one``: how GPTQ stores zeros in its first format. Raises ExportError for tensors that do
    not fit together, and for inputs in another order (act-order).
    """
    try:
        if method == COMPRESSED_TENSORS:
            return _compressed_tensors(name, tensors)
        if method == AWQ:
            return _awq(tensors)
        return _gptq(name, tensors, zeros_minus_one)
    except KeyError as error:
        raise ExportError(f"{name}: has no tensor {error.args[0]}; download the model again") from error
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"{name}: its quantized weight cannot be read ({error})") from error


def _compressed_tensors(name: str, tensors: Tensors) -> PackedMatrix:
    """``weight_packed`` int32 [out, in / 8], zeros int32 [out / 8, groups], all with the low nibble first."""
    if "weight_g_idx" in tensors:
        _check_order(name, tensors["weight_g_idx"], tensors["weight_scale"].shape[1])
    codes = _nibbles(tensors["weight_packed"])
    if tuple(tensors["weight_shape"].tolist()) != codes.shape:
        raise ValueError(f"{codes.shape} codes for a weight of {tensors['weight_shape'].tolist()}")
    zeros = None
    if "weight_zero_point" in tensors:
        zeros = _nibbles(tensors["weight_zero_point"].T.contiguous()).T[: len(codes)]
    return _grouped(codes, tensors["weight_scale"], zeros)


def _awq(tensors: Tensors) -> PackedMatrix:
    """``qweight`` int32 [in, out / 8], ``qzeros`` int32 [groups, out / 8], ``scales`` [groups, out]."""
    codes, zeros = (_nibbles(tensors[key], _AWQ_PLACES).T for key in ("qweight", "qzeros"))
    return _grouped(codes, tensors["scales"].T, zeros)


def _gptq(name: str, tensors: Tensors, zeros_minus_one: bool) -> PackedMatrix:
    """``qweight`` int32 [in / 8, out], ``qzeros`` int32 [groups, out / 8], ``scales`` [groups, out]."""
    if "g_idx" in tensors:
        _check_order(name, tensors["g_idx"], tensors["scales"].shape[0])
    codes = _nibbles(tensors["qweight"].T.contiguous())
    zeros = _nibbles(tensors["qzeros"]).T + np.uint8(zeros_minus_one)
    return _grouped(codes, tensors["scales"].T, zeros & np.uint8(15))


def _check_order(name: str, order: Tensor, groups: int) -> None:
    """Raises ExportError unless ``order`` [in], the group of each input, is that of neighbours."""
    if not torch.equal(order.long(), torch.arange(len(order)) // (len(order) // groups)):
        raise ExportError(
            f"{name}: its inputs are in another order (act-order), which cannot be imported; "
            "take the repository in bf16 or fp16"
        )


def _nibbles(words: Tensor, places: tuple[int, ...] = tuple(range(8))) -> NDArray[np.uint8]:
    """int32 [rows, n] -> codes [rows, 8 n]; ``places``: the nibble of each of eight neighbours."""
    if words.dtype != torch.int32:
        raise ValueError(f"codes in {words.dtype}, expected int32")
    shifts = 4 * np.asarray(places, np.uint32)
    codes = (words.numpy().view(np.uint32)[..., None] >> shifts) & 15
    return codes.astype(np.uint8).reshape(len(words), -1)


def _grouped(codes: NDArray[np.uint8], scales: Tensor, zeros: NDArray[np.uint8] | None) -> PackedMatrix:
    """``codes`` [out, in]; ``scales``, ``zeros`` [out, groups]; one group for all inputs is cut into
    blocks."""
    wide: NDArray[np.float32] = scales.float().numpy()
    if wide.shape[0] != len(codes) or (zeros is not None and zeros.shape != wide.shape):
        raise ValueError(f"scales {wide.shape} for {codes.shape} codes")
    if wide.shape[1] == 1 and codes.shape[1] not in _BLOCKS:
        blocks = codes.shape[1] // next((size for size in _BLOCKS if codes.shape[1] % size == 0), 1)
        wide = np.repeat(wide, blocks, axis=1)
        zeros = None if zeros is None else np.repeat(zeros, blocks, axis=1)
    return pack(codes, wide, zeros)
