"""The vision side as one graph: `pixels` [1, 3, H, W] -> `tokens` [1, V, D].

A model that compares frames also takes `previous`, the features of the frame before (zeros for the first
one), and gives its own as `trace`, which goes into the next call.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from export.decoder.deferred import DeferredModel, stored_weights, trace
from train.models.stored import as_ordinary

OPSET = 18


class VisionGraph(nn.Module):
    """Pixels [1, 3, H, W] float32, and ``previous`` where the model compares frames, to visual tokens."""

    previous_shape: tuple[int, ...] | None = None
    """Shape of ``previous`` and ``trace``; None for a model that looks at one frame alone."""


def export_vision(graph: VisionGraph, image_size: tuple[int, int]) -> DeferredModel:
    """Make the ONNX model for frames of ``image_size`` (height, width), which is fixed."""
    inputs: tuple[Tensor, ...] = (torch.zeros(1, 3, *image_size),)
    if graph.previous_shape is not None:
        inputs += (torch.zeros(graph.previous_shape),)
    return trace(
        graph,
        inputs,
        stored_weights(graph),
        opset_version=OPSET,
        input_names=["pixels", "previous"][: len(inputs)],
        output_names=["tokens", "trace"][: len(inputs)],
    )


def copied(module: nn.Module) -> Any:
    """Return a copy to be traced: its stored weights stay where they are, its layers are ordinary ones."""
    twin = copy.deepcopy(module)
    for part in twin.modules():
        as_ordinary(part)
    return twin
