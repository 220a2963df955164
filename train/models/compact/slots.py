"""Object slots as visual tokens: what the compact family reads when its frozen vision is a detector."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.errors import TrainingError
from train.models.perception.detections import Detections
from train.models.perception.features import width
from train.models.perception.nanodet import CLASSES, HEADS, SIZE
from train.models.perception.vision import DETECTOR, SlotHead
from train.models.vision import Encode

_VERSION = "nanodet-slots-2"


class SlotProjector(nn.Module):
    """Map features of slots to visual tokens: one small network for groups of slots, one for the frame's row.

    ``slots``: K; ``group``: slots that share a token, a divisor of K; ``hidden_size``: the decoder's width D;
    ``zones``: zones that it reads, 0 for none. Fewer tokens cost less: with two slots a token a timestep of
    17 tokens has 12. An empty group gives its place alone.
    """

    def __init__(self, slots: int, group: int, hidden_size: int, zones: int = 0) -> None:
        super().__init__()
        self.slots, self.group, self.zones = slots, group, zones
        row = width(len(CLASSES), zones)
        self.slot = _Projection(group * row, hidden_size)
        self.frame = _Projection(row, hidden_size)
        self.out_norm = nn.RMSNorm(hidden_size, eps=1e-5)
        nn.init.constant_(self.out_norm.weight, 0.1)  # near the scale of freshly made token embeddings
        self.place = nn.Parameter(torch.randn(slots // group + 1, hidden_size) * 0.02)
        self.concept = None

    def forward(self, features: Tensor, streams: Sequence[int] | None = None) -> Tensor:
        """``features`` [N, K + 1, F] -> visual tokens [N, K / group + 1, D]. ``streams`` is not used.

        Without zones F may be less by their number. Raises TrainingError for features of another width.
        """
        wanted, found = width(len(CLASSES), self.zones), features.shape[-1]
        if found != wanted and (self.zones or found != width(len(CLASSES))):
            raise TrainingError(
                f"the clips have {found} features a slot, the model reads {wanted}; generate the clips again"
            )
        features = features[..., :wanted]
        groups = features[:, :-1].unflatten(1, (self.slots // self.group, self.group))  # [N, K/g, g, F]
        tokens = torch.cat([self.slot(groups.flatten(2)), self.frame(features[:, -1:])], dim=1)
        return self.out_norm(tokens) + self.place

    @torch.no_grad()
    def add_zones(self, zones: int) -> None:
        """Read ``zones`` zones as well. Until they are trained they change nothing: the weights are 0."""
        for projection, rows in ((self.slot, self.group), (self.frame, 1)):
            first = projection.linear
            weight = first.weight.unflatten(1, (rows, -1))  # [D, rows, F]
            more = weight.new_zeros(*weight.shape[:2], zones - self.zones)
            first.weight = nn.Parameter(torch.cat([weight, more], dim=2).flatten(1))
            first.in_features = first.weight.shape[1]
        self.zones = zones


class _Projection(nn.Module):
    """A direction for each feature, and a small network beside it. Nothing is added that no feature says.

    With biases and without the direct path tokens of all slots began nearly alike, and after 4,000 steps
    99.7 % of their variance lay in one direction, whether a slot is taken: the decoder saw no classes.
    """

    def __init__(self, inputs: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, hidden_size, bias=False)
        self.up = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.down = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        for layer, scale in ((self.linear, 1.0), (self.up, 1.0), (self.down, 0.5)):
            nn.init.normal_(layer.weight, std=scale * hidden_size**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """``features`` [..., inputs] -> [..., D]."""
        direct = self.linear(features)
        return direct + self.down(nn.functional.gelu(self.up(direct)))


@dataclass(frozen=True)
class SlotVision:
    """A detector and a tracker.

    ``detector``: its ONNX file; None where only features of generated clips are read. ``sha256``: what a
    checkpoint says of the file, None where it says nothing.
    """

    detector: Path | None = None
    sha256: str | None = None

    @classmethod
    def beside(cls, folder: Path, sha256: str | None = None) -> SlotVision:
        """As a checkpoint in ``folder`` has it, whose config.json records ``sha256`` of the detector."""
        path = folder / DETECTOR
        return cls(path if path.is_file() else None, sha256)

    @property
    def key(self) -> str:
        return _VERSION if self.detector is None else f"{_VERSION}-{_sha256(self.detector)}"

    @property
    def picture(self) -> tuple[int, int]:
        return SIZE, SIZE

    def record(self) -> dict[str, Any]:
        digest = self.sha256 if self.detector is None else _sha256(self.detector)
        return {"name": "nanodet-slots", **({"sha256": digest} if digest else {})}

    def prepare(self, folder: Path) -> None:
        if self.detector is None:
            raise ValueError(
                f"frames need the detector, and the checkpoint has no {DETECTOR}: make it with python -m "
                f"train.models.perception convert nanodet.json --out CHECKPOINT/{DETECTOR}"
            )
        from train.models.perception.graph import check_detector

        check_detector(self.detector)
        if self.sha256 is not None and (found := _sha256(self.detector)) != self.sha256:
            raise ValueError(
                f"{self.detector}: sha256 is {found}, the checkpoint was trained with {self.sha256}; "
                "put that detector in its place"
            )

    def save(self, folder: Path) -> None:
        if self.detector is not None:
            shutil.copyfile(self.detector, folder / DETECTOR)

    def load(self, folder: Path) -> Encode:
        assert self.detector is not None
        return SlotEncoder(self.detector)


class SlotEncoder:
    """Pictures of a clip, in order, to the features of its slots; remembers the slots from call to call."""

    def __init__(self, detector: Path) -> None:
        import onnxruntime

        torch.set_num_threads(1)  # processes are the parallelism
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(detector), options, providers=["CPUExecutionProvider"]
        )
        self._head = SlotHead().eval()
        self._state = self._head.first()

    @torch.inference_mode()
    def __call__(self, pictures: NDArray[np.uint8], *, first: bool = True) -> NDArray[np.float16]:
        """``pictures`` [n, SIZE, SIZE, 3] RGB -> features [n, K + 1, F]. ``first``: they begin a clip."""
        if first:
            self._state = self._head.first()
        rows = []
        for picture in pictures:
            heads, pixels = self._run(picture)
            features, self._state = self._head(*heads, pixels, self._state)
            rows.append(features.numpy().astype(np.float16))
        return np.concatenate(rows)

    @torch.inference_mode()
    def detect(self, picture: NDArray[np.uint8]) -> tuple[Detections, Tensor]:
        """One picture's detections, without memory, and the rectangle of its content."""
        heads, pixels = self._run(picture)
        return self._head.detections(heads[:3], heads[3:], pixels)

    def _run(self, picture: NDArray[np.uint8]) -> tuple[list[Tensor], Tensor]:
        pixels = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
        heads = self._session.run(list(HEADS), {"pixels": pixels})
        return [torch.from_numpy(array) for array in heads], torch.from_numpy(pixels)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
