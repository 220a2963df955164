"""Annotation files as trajectories in the order training takes them, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from benchmarks.streampro.annotations import Annotation, read_annotations
from train.data.encode import IGNORE, OffsetSampling, TimelineEncoder
from train.data.features import FeatureCache
from train.data.timeline import build_timeline


@dataclass(frozen=True)
class Source:
    """Questions of a mixture: those of ``tasks`` in an annotation file, all of them when ``tasks`` is empty.

    ``weight``: how often each comes per epoch, on average.
    """

    path: Path
    weight: float = 1.0
    tasks: tuple[str, ...] = ()


class TrajectoryDataset(Dataset[dict[str, Any]]):
    """Item i is the i-th trajectory of the whole training, all epochs included.

    The order (mixture, shuffle, batches of like length) is fixed by ``seed``, so training taken up again in
    the middle sees what it would have seen. With ``epochs=1``, ``shuffle=False`` and no offsets it is a
    validation set in file order.

    An item: ``id``, ``task``, ``input_ids``, ``labels``, ``features`` float16 [n, 320, 7, 7].
    """

    def __init__(
        self,
        sources: Sequence[Source],
        cache: FeatureCache,
        encoder: TimelineEncoder,
        *,
        epochs: int = 1,
        batch_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        offsets: OffsetSampling | None = None,
    ) -> None:
        self._cache = cache
        self._encoder = encoder
        self._seed = seed
        self._offsets = offsets
        files = [
            [item for item in read_annotations(source.path) if not source.tasks or item.task in source.tasks]
            for source in sources
        ]
        self.annotations: list[Annotation] = [item for file in files for item in file]
        if not self.annotations:
            raise ValueError("no annotations in " + ", ".join(str(source.path) for source in sources))
        cache.ensure(item.video_path for item in self.annotations)

        rng = np.random.default_rng(seed)
        schedule = []
        for _ in range(epochs):
            drawn, first = [], 0
            for source, file in zip(sources, files, strict=True):
                drawn.append(first + _draw(len(file), source.weight, rng if shuffle else None))
                first += len(file)
            epoch = np.concatenate(drawn)
            schedule.append(self._bucketed(epoch, batch_size, rng) if shuffle else epoch)
        self._schedule = np.concatenate(schedule)

    @property
    def tasks(self) -> list[str]:
        return sorted({item.task for item in self.annotations})

    def __len__(self) -> int:
        return len(self._schedule)

    def __getitem__(self, position: int) -> dict[str, Any]:
        annotation = self.annotations[int(self._schedule[position])]
        clip = self._cache.load(annotation.video_path)
        timeline = build_timeline(annotation, clip.timesteps, self._cache.fps)
        offset = self._offsets.draw(self._seed, position) if self._offsets else 0
        encoded = self._encoder.encode(timeline, offset)
        return {
            "id": annotation.id,
            "task": annotation.task,
            "input_ids": encoded.input_ids,
            "labels": encoded.labels,
            "features": clip.features,
        }

    def _bucketed(self, epoch: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """A shuffle in which each run of ``batch_size`` items is of like length, so little is padded.

        Sorted by length within pieces of 50 batches only: sorting everything would make batches of one kind.
        The batch that is not full stays last.
        """
        epoch = rng.permutation(epoch)
        piece = 50 * batch_size
        lengths = np.array([item.duration for item in self.annotations])
        batches = []
        for i in range(0, len(epoch), piece):
            part = epoch[i : i + piece]
            part = part[np.argsort(lengths[part], kind="stable")]
            batches += [part[j : j + batch_size] for j in range(0, len(part), batch_size)]
        full = [batch for batch in batches if len(batch) == batch_size]
        rest = [batch for batch in batches if len(batch) < batch_size]
        return np.concatenate([full[i] for i in rng.permutation(len(full))] + rest)


def _draw(count: int, weight: float, rng: np.random.Generator | None) -> np.ndarray:
    """Indices 0..count-1, each ``weight`` times on average: whole rounds, then a random part of them."""
    rounds, part = divmod(weight * count, count) if count else (0, 0)
    indices = [np.arange(count)] * int(rounds)
    if round(part):
        everything = rng.permutation(count) if rng is not None else np.arange(count)
        indices.append(everything[: round(part)])
    return np.concatenate(indices) if indices else np.empty(0, dtype=np.int64)


class Collator:
    """Items to one batch: ids and labels padded on the right, the frames of all rows one after another."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """``input_ids``, ``labels`` int64 [B, T]; ``features`` float32 [N, 320, 7, 7]; ``ids``, ``tasks``."""
        length = max(len(item["input_ids"]) for item in items)
        input_ids = torch.full((len(items), length), self.pad_id, dtype=torch.long)
        labels = torch.full((len(items), length), IGNORE, dtype=torch.long)
        for row, item in enumerate(items):
            n = len(item["input_ids"])
            input_ids[row, :n] = torch.tensor(item["input_ids"])
            labels[row, :n] = torch.tensor(item["labels"])
        features = np.concatenate([item["features"] for item in items]).astype(np.float32)
        return {
            "input_ids": input_ids,
            "labels": labels,
            "features": torch.from_numpy(features),
            "ids": [item["id"] for item in items],
            "tasks": [item["task"] for item in items],
        }
