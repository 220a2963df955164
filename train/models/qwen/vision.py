"""The frozen vision towers of Qwen2.5-VL and Qwen3-VL, up to what their mergers take in.

What is cached of a frame: for the merger and for each DeepStack merger the patches of every visual token
side by side, float16 [1 + n, V, patches x C]. The activations of a large tower may leave half precision's
range, so what belongs to one visual token is scaled down to a root mean square of 1 where it is above: the
mergers begin with a norm, to which scale means nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from train.models.tower_file import TowerFile
from train.models.vision import Encode

_VERSION = 1


@dataclass(frozen=True)
class QwenVision(TowerFile):
    """``picture``: height and width of a frame. ``mean``, ``std``: what the model's own image processor
    normalises with.
    """

    picture: tuple[int, int]

    @property
    def key(self) -> str:
        what = f"{_VERSION} {self.sha256} {self.picture} {self.mean} {self.std}"
        return hashlib.sha256(what.encode()).hexdigest()

    @classmethod
    def from_record(cls, record: dict[str, Any], model: dict[str, Any], folder: Path) -> QwenVision:
        """As a checkpoint in ``folder`` names it: the file beside it if there is one, else where it was."""
        return cls(**cls.read_record(record, model, folder), picture=tuple(model["picture"]))

    def load(self, folder: Path) -> Encode:
        device, precision = self.device()
        return functools.partial(encode, self.tower(precision).to(device), self.processor())

    def tower(self, precision: torch.dtype = torch.float32) -> nn.Module:
        """The tower with its weights; what its mergers would take in is what it gives."""
        config = json.loads(self.config)
        tower = without_mergers(AutoModel.from_config(AutoConfig.for_model(**config)))
        tower.load_state_dict(load_file(self.file), assign=True)
        for parameter in tower.parameters():  # its buffers stay as they are: they must be exact
            parameter.data = parameter.data.to(precision)
        return tower.eval()

    def processor(self) -> Qwen2VLImageProcessorPil:
        """Pictures of the model's size to patches."""
        config = json.loads(self.config)
        return Qwen2VLImageProcessorPil(
            patch_size=config["patch_size"],
            temporal_patch_size=config["temporal_patch_size"],
            merge_size=config["spatial_merge_size"],
            image_mean=list(self.mean),
            image_std=list(self.std),
            do_resize=False,  # letterboxed to the model's size before
        )


@torch.inference_mode()
def encode(
    tower: nn.Module, processor: Any, pictures: NDArray[np.uint8], *, first: bool = True
) -> NDArray[np.float16]:
    """``pictures`` [n, H, W, 3] RGB of the right size -> features [n, 1 + deepstack, V, patches x C]."""
    inputs = processor(images=list(pictures), return_tensors="pt")
    device = next(tower.parameters()).device
    output = tower(inputs["pixel_values"].to(device), grid_thw=inputs["image_grid_thw"].to(device))
    levels = torch.stack([output.pooler_output, *(getattr(output, "deepstack_features", None) or ())])
    features = levels.float().unflatten(1, (len(pictures), -1)).transpose(0, 1)  # [n, 1 + deepstack, V, p C]
    rms = features.square().mean(-1, keepdim=True).sqrt()
    return (features / rms.clamp(min=1.0)).cpu().numpy().astype(np.float16)


def tower_weights(tower: nn.Module) -> dict[str, Tensor]:
    """The frozen part of a whole model's vision tower, as it is stored."""
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in tower.state_dict().items()
        if not name.startswith(("merger.", "deepstack_merger_list."))
    }


class _Side(nn.Module):
    """In a merger's place: the patches of each visual token side by side."""

    def __init__(self, patches: int) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [N patches, C] -> [N, patches x C]."""
        return x.reshape(x.shape[0] // self.patches, -1)


def without_mergers(tower: Any) -> nn.Module:
    """Put in the place of each merger what lays the patches of a visual token side by side."""
    side = _Side(tower.config.spatial_merge_size**2)
    tower.merger = side
    if hasattr(tower, "deepstack_merger_list"):
        tower.deepstack_merger_list = nn.ModuleList([side] * len(tower.deepstack_merger_list))
    return tower
