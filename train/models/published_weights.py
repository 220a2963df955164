"""A published checkpoint's weights into transformers' own class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig


def load_whole(kind: Any, folder: Path, weights: Mapping[str, Tensor] | None = None) -> Any:
    """Load the model of class ``kind`` in float32.

    ``weights``: by name, in place of the files in ``folder``: those that the authors quantized, made dense.
    Raises OSError, RuntimeError or ValueError, also for weights that are missing.
    """
    how: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
    if weights is None:
        how |= {"use_safetensors": True, "local_files_only": True}
        whole, report = kind.from_pretrained(folder, **how)
    else:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        del config.quantization_config  # the weights are dense
        whole, report = kind.from_pretrained(None, config=config, state_dict=dict(weights), **how)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{len(missing)} tensors are missing, {missing[0]} among them")
    return whole
