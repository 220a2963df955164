"""From a detector's outputs to object slots, as one module with static shapes that can be exported.

The frame arrives letterboxed to the detector's square. Boxes are measured in shares of the frame without its
black borders, so that the shape of a camera's picture does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train.models.perception.detections import Detections, half_colours, select
from train.models.perception.features import describe
from train.models.perception.nanodet import CLASSES, STRIDES, decode
from train.models.perception.tracker import Slots, TrackerConfig, track
from train.models.perception.zones import no_zones

DETECTOR = "detector.onnx"
"""Beside a checkpoint's weights: ``pixels`` [1, 3, SIZE, SIZE], RGB in 0..255, to ``nanodet.HEADS``."""
COLOUR_CELL = 4
"""Pixels of a side that are averaged before colours are read: noise goes, and sums cost a sixteenth."""
PACKED = 16 + len(CLASSES)
"""Numbers that stand for one slot in the state."""


class SlotHead(nn.Module):
    """Decode, select and follow what the detector saw.

    ``projector``: features [1, K + 1, F] to visual tokens [1, K + 1, D]; without one the features come out.
    A projector that knows zones makes ``zones`` an input of the exported graph.
    """

    def __init__(self, projector: nn.Module | None = None, config: TrackerConfig | None = None) -> None:
        super().__init__()
        self.config = config or TrackerConfig()
        self.projector = projector

    @property
    def reads_zones(self) -> bool:
        """Whether the zones of a camera's frame make a difference to what comes out."""
        return self.projector is None or bool(self.projector.zones)

    def first(self) -> Tensor:
        """Return the state before the first frame: no slot is taken."""
        return torch.zeros(1, self.config.slots, PACKED)

    def forward(
        self,
        scores_8: Tensor,
        scores_16: Tensor,
        scores_32: Tensor,
        boxes_8: Tensor,
        boxes_16: Tensor,
        boxes_32: Tensor,
        pixels: Tensor,
        previous: Tensor,
        zones: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take one frame.

        Args:
            scores_8: [1, cells, C] class scores of stride 8; likewise of 16 and 32.
            boxes_8: [1, cells, 4 x BINS] sides of boxes of stride 8; likewise of 16 and 32.
            pixels: [1, 3, SIZE, SIZE] RGB in 0..255, letterboxed.
            previous: [1, K, 16 + C], the state that the frame before left; zeros before the first.
            zones: [1, Z, G, G], the camera's zones on a grid over the content; None or zeros where there are
                none.

        Returns:
            Visual tokens [1, K + 1, D] (features [1, K + 1, F] without a projector), and the state.
        """
        scores, boxes = (scores_8, scores_16, scores_32), (boxes_8, boxes_16, boxes_32)
        seen, content = self.detections(scores, boxes, pixels)
        slots = track(seen, Slots.unpack(previous), self.config)
        # The borders are black: what the whole square sums up to is the content's.
        area = (content[:, 2:] - content[:, :2]).prod(-1)
        light = (pixels / 255).mean(dim=(1, 2, 3)) / area
        features = describe(slots, light, no_zones() if zones is None else zones)
        return features if self.projector is None else self.projector(features), slots.pack()

    def detections(
        self, scores: Sequence[Tensor], sides: Sequence[Tensor], pixels: Tensor
    ) -> tuple[Detections, Tensor]:
        """Read one frame's detections off the detector's outputs, by stride.

        Returns:
            What was seen, in shares of the content, and the content's rectangle [1, 4].
        """
        boxes = torch.cat([decode(side, stride) for side, stride in zip(sides, STRIDES, strict=True)], dim=1)
        boxes, best = select(boxes, torch.cat(tuple(scores), dim=1), self.config.slots)
        colours = half_colours(nn.functional.avg_pool2d(pixels / 255, COLOUR_CELL), boxes)
        content = content_rectangle(pixels)
        side = (content[:, 2:] - content[:, :2]).repeat(1, 2)[:, None]  # [1, 1, 4]
        there = (best.amax(-1, keepdim=True) > 0).to(boxes.dtype)
        boxes = ((boxes - content[:, :2].repeat(1, 2)[:, None]) / side).clamp(0, 1) * there
        return Detections(boxes, best, colours), content


def content_rectangle(pixels: Tensor) -> Tensor:
    """Find the frame without the black borders of the letterbox.

    Rows and columns count as border where every pixel is exactly black, on both sides alike: a camera in the
    dark that sees light at the bottom only has no border. An all black frame has none either.

    Returns:
        [B, 4] as x1, y1, x2, y2 in shares of the square.
    """
    lit = pixels.amax(dim=1) > 0  # [B, H, W]
    x = _border(lit.any(dim=1))
    y = _border(lit.any(dim=2))
    return torch.stack([x, y, 1 - x, 1 - y], dim=-1)


def _border(lit: Tensor) -> Tensor:
    """Share of a side [B, size] that is dark at its start and at its end, whichever is less; [B]."""
    size = lit.shape[1]
    place = torch.arange(size, device=lit.device, dtype=torch.float32)
    far = torch.full_like(place, float(size))
    start = torch.where(lit, place, far).amin(dim=1)
    end = torch.where(lit, size - 1 - place, far).amin(dim=1)
    border = torch.minimum(start, end)
    return torch.where(border < size / 2, border, torch.zeros_like(border)) / size
