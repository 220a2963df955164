"""Does a training fit into memory? Asked before the first step, so that the answer is a line, not a crash."""

from __future__ import annotations

import os

import torch

from train.config.errors import RecipeError
from train.grpo.recipe import GRPORecipe
from train.models.base import StreamModel

_TRAINED_BYTES = 16
"""Of a trained number in float32: itself, its gradient and AdamW's two moments."""


def needed_bytes(model: StreamModel, reference: bool) -> int:
    """Weights, gradients and optimizer of ``model``, no activations; ``reference``: and a frozen copy."""
    parameters = list(model.parameters())
    held = sum(p.numel() * (_TRAINED_BYTES if p.requires_grad else p.element_size()) for p in parameters)
    return held + (sum(p.numel() * p.element_size() for p in parameters) if reference else 0)


def memory_bytes(device: torch.device) -> int:
    """All memory of ``device``."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(recipe: GRPORecipe, model: StreamModel, device: torch.device) -> None:
    """Raise RecipeError when ``model`` can't be trained on ``device``, whatever the batch."""
    needed, there = needed_bytes(model, recipe.loss.kl > 0), memory_bytes(device)
    if needed > there:
        way_out = "take a smaller model" if recipe.lora else "add [lora], which trains adapters only"
        raise RecipeError(
            f"{recipe.init}: GRPO needs {needed / 1e9:.0f} GB for weights, gradients and optimizer, "
            f"{device} has {there / 1e9:.0f} GB; {way_out}"
        )
