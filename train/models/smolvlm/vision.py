"""The frozen SigLIP tower of SmolVLM2, up to what its connector's projection takes in.

A frame is seen once, at the tower's own size. Cached of it: the patches of each visual token side by side
(pixel shuffle), float16 [V, s^2 x C], which is 1.5 MB a frame at 512 pixels.
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
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionTransformer

from train.models.tower_file import TowerFile
from train.models.vision import Encode

_VERSION = 1


@dataclass(frozen=True)
class SiglipVision(TowerFile):
    """``scale``: patches of a visual token in each direction. ``mean``, ``std``: of pixels 0 to 1."""

    scale: int

    @property
    def key(self) -> str:
        what = f"smolvlm {_VERSION} {self.sha256} {self.scale} {self.mean} {self.std}"
        return hashlib.sha256(what.encode()).hexdigest()

    @property
    def picture(self) -> tuple[int, int]:
        side = int(json.loads(self.config)["image_size"])
        return side, side

    @classmethod
    def from_record(cls, record: dict[str, Any], model: dict[str, Any], folder: Path) -> SiglipVision:
        """Read the record of a checkpoint in ``folder``; the tower beside it goes before the recorded one."""
        return cls(**cls.read_record(record, model, folder), scale=model["scale"])

    def load(self, folder: Path) -> Encode:
        device, precision = self.device()
        return functools.partial(encode, self, self.tower(precision).to(device))

    def tower(self, precision: torch.dtype = torch.float32) -> nn.Module:
        """Load the tower with its weights."""
        config = {k: v for k, v in json.loads(self.config).items() if k != "model_type"}
        tower: nn.Module = SmolVLMVisionTransformer(SmolVLMVisionConfig(**config))
        tower.load_state_dict(load_file(self.file))
        return tower.to(precision).eval()

    def features(self, tower: nn.Module, pixels: Tensor) -> Tensor:
        """``pixels`` [N, 3, H, W] RGB in 0 to 1, of the tower's size -> [N, V, s^2 x C]."""
        mean, std = (
            torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std)
        )
        precision = next(tower.parameters()).dtype
        patches = tower(pixel_values=((pixels - mean) / std).to(precision)).last_hidden_state
        return pixel_shuffle(patches, self.scale)


def pixel_shuffle(patches: Tensor, scale: int) -> Tensor:
    """Put the patches of each visual token side by side: square [N, P, C] -> [N, V, scale^2 x C]."""
    side = round(patches.shape[1] ** 0.5)
    cells = patches.unflatten(1, (side // scale, scale, side // scale, scale))
    return cells.transpose(2, 3).flatten(3).flatten(1, 2)


@torch.inference_mode()
def encode(
    vision: SiglipVision, tower: nn.Module, pictures: NDArray[np.uint8], *, first: bool = True
) -> NDArray[np.float16]:
    """``pictures`` [n, H, W, 3] RGB of the tower's size -> features [n, V, s^2 x C]."""
    device = next(tower.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 255
    return vision.features(tower, pixels).float().cpu().numpy().astype(np.float16)
