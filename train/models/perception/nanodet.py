"""NanoDet-g (Apache-2.0), 416 x 416, COCO's 80 classes: from a picture to boxes and class scores."""

from __future__ import annotations

import torch
from torch import Tensor

SIZE = 416
STRIDES = (8, 16, 32)
BINS = 11
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""Of the channels R, G, B; the network itself reads B, G, R."""
HEADS = tuple(f"{kind}_{stride}" for kind in ("scores", "boxes") for stride in STRIDES)
"""Outputs of the converted network."""

# fmt: off
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on


def normalise(picture: Tensor) -> Tensor:
    """``picture`` [B, 3, H, W] RGB in 0..255 -> what the network reads, BGR."""
    mean = torch.tensor(MEAN, device=picture.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=picture.device).view(1, 3, 1, 1)
    return ((picture - mean) / std).flip(1)


def decode(sides: Tensor, stride: int) -> Tensor:
    """Box distributions of one stride to boxes.

    ``sides`` [B, cells, 4 * BINS]: for left, top, right and bottom how many strides the side lies from the
    cell's centre, as logits over the bins. Returns [B, cells, 4] as x1, y1, x2, y2 in shares of the input.
    """
    batch, cells = sides.shape[:2]
    bins = torch.arange(BINS, dtype=sides.dtype, device=sides.device)
    distance = (sides.view(batch, cells, 4, BINS).softmax(-1) * bins).sum(-1) * stride  # [B, cells, 4]
    side = SIZE // stride
    index = torch.arange(cells, device=sides.device)
    x = (index % side + 0.5) * stride
    y = (torch.div(index, side, rounding_mode="floor") + 0.5) * stride
    centre = torch.stack([x, y, x, y], dim=-1)  # [cells, 4]
    sign = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=sides.device)
    return (centre + sign * distance) / SIZE
