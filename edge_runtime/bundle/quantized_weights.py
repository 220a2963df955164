"""Weights that a model's authors quantized: what can be imported, from config.json alone.

Taken are 4 bits with a scale for each group of inputs, in the layouts of compressed-tensors, AWQ and GPTQ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_runtime.errors import BundleError

COMPRESSED_TENSORS, AWQ, GPTQ = "compressed-tensors", "awq", "gptq"


def check_quantized(found: Any, where: str) -> str:
    """Return the method of ``quantization_config``, one of the three.

    Raises BundleError for another method, for other than 4 bits, and for inputs in another order (act-order).
    """
    config: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    method = config.get("quant_method")
    if method == COMPRESSED_TENSORS:
        why = _compressed_tensors(config)
    elif method == AWQ:
        why = (
            None
            if config.get("version", "gemm") == "gemm"
            else f"its layout is {config['version']}, not gemm"
        )
        why = _bits(config.get("bits", config.get("w_bit"))) or why
    elif method == GPTQ:
        why = _bits(config.get("bits"))
        if config.get("desc_act"):
            why = "its inputs are in another order (desc_act, act-order)"
    else:
        why = f"{COMPRESSED_TENSORS}, {AWQ} and {GPTQ} are known"
    if why is not None:
        raise BundleError(
            f"{where}: its weights are quantized ({method or '?'}) in a way that cannot be imported: {why}; "
            "take the repository in bf16 or fp16 and choose --precision int4 or int8"
        )
    return str(method)


def _bits(bits: Any) -> str | None:
    return None if bits == 4 else f"they have {bits} bits, only 4 are known"


def _compressed_tensors(config: Mapping[str, Any]) -> str | None:
    if config.get("format") != "pack-quantized":
        return f"their format is {config.get('format')}, not pack-quantized"
    groups = config.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") or {}
        if group.get("input_activations") is not None:
            return "activations are quantized, too"
        if weights.get("type", "int") != "int" or weights.get("strategy") not in ("group", "channel"):
            return (
                f"weights are {weights.get('type')} by {weights.get('strategy')}, not int by group or channel"
            )
        if weights.get("actorder") in ("group", True):
            return "its inputs are in another order (actorder group, act-order)"
        if why := _bits(weights.get("num_bits")):
            return why
    return None
