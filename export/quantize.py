"""Weight-only quantisation of a decoder graph.

int8 in blocks of 32 along the input dimension: 1.125 bytes per weight, not 4, and on a CPU faster than fp32.
Four bits were measured and rejected as a default: rounding to nearest costs a small decoder far more
(KL 0.30 against 0.004 for SmolLM2-135M) and on a CPU saves no time on a chunk of a dozen positions.
"""

from __future__ import annotations

import onnx

PRECISIONS = ("int8", "fp32")
BLOCK_SIZE = 32
ACCURACY_LEVEL = 4
"""4: activations are rounded to int8 per block too, for the processor's int8 dot products. Below it the
weights are unpacked to fp32 on every call: 4 to 15 times slower for nano, and no closer to fp32."""


def quantize_int8(model: onnx.ModelProto, accuracy_level: int = ACCURACY_LEVEL) -> onnx.ModelProto:
    """Every product with a constant matrix becomes ``MatMulNBits`` (symmetric, 8 bits, block 32)."""
    # Here, because the import configures the root logger: the caller wraps this in quiet().
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        model, bits=8, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=accuracy_level
    )
    quantizer.process()
    return quantizer.model.model
