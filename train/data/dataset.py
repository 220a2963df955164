"""Annotation files as trajectories in the order training takes them, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from benchmarks.metric.annotations import Annotation, read_annotations
from edge_runtime.errors import ConfigError
from train.data.encode import IGNORE, Encoded, OffsetSampling, TimelineEncoder
from train.data.features import FeatureCache
from train.data.timeline import MIXED, Timeline, around, build_timeline, chunks, cut, merge


class EmptyData(ConfigError):
    """Nothing to train on."""


MakeAuxiliary = Callable[[Sequence[Annotation], Timeline, tuple[int, ...], int, Encoded], Any]
"""A question, its clip's timesteps, the first turn and the ids of a trajectory -> a auxiliary about it."""


@dataclass(frozen=True)
class Source:
    """Questions of a mixture: those of ``tasks`` in an annotation file, all of them when ``tasks`` is empty.

    ``weight``: how often each comes per epoch, on average.
    """

    path: Path
    weight: float = 1.0
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excerpt:
    """What one trajectory is made of: questions of one clip, by their place in the files, and its first turn.

    ``numbers``: what the questions are called in the trajectory, rising; the one asked first has the first.
    """

    questions: tuple[int, ...]
    first: int = 0
    numbers: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class DatasetOptions:
    """How trajectories are drawn, cut and ordered; see :class:`TrajectoryDataset`.

    ``max_turns``: None for whole clips. ``offsets``: None for clips that start at 0. ``queries_per_session``:
    most questions of one trajectory; above 1 the stream format must number them.
    """

    epochs: int = 1
    batch_size: int = 1
    seed: int = 0
    shuffle: bool = True
    offsets: OffsetSampling | None = None
    max_turns: int | None = None
    around_events: bool = False
    queries_per_session: int = 1


class TrajectoryDataset(Dataset[dict[str, Any]]):
    """Item i is the i-th trajectory of the whole training, all epochs included.

    The order (mixture, shuffle, batches of like length) is fixed by ``seed``, so training taken up again in
    the middle sees what it would have seen. With ``epochs=1``, ``shuffle=False`` and no offsets it is a
    validation set in file order.

    Clips of more than ``max_turns`` timesteps come in overlapping chunks, each time all of them; or, with
    ``around_events``, in one chunk around something that one of the clip's questions is answered at: as often
    this question as another, so that what is asked decides and not that something happens.

    With ``queries_per_session`` above 1 the questions that an epoch draws about one clip are grouped: one to
    so many are asked in one trajectory, which and how many by chance, each at its own time. Their numbers
    are drawn too, so that all of them are learned and gaps are nothing new: a query that was withdrawn
    leaves one. Not shuffled, groups are as large as they can be and numbers begin at 1.

    An item: ``id``, ``task``, ``input_ids``, ``labels``, ``features`` float16 [n, ...], and what
    ``auxiliary`` makes of it. Raises EmptyData when the sources hold no question.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        cache: FeatureCache,
        encoder: TimelineEncoder,
        options: DatasetOptions = DatasetOptions(),
        auxiliary: MakeAuxiliary | None = None,
    ) -> None:
        self._cache, self._encoder, self._options = cache, encoder, options
        self._auxiliary, self._max_turns = auxiliary, options.max_turns
        stream_format = encoder.encoder.stream_format
        self._numbered = stream_format.numbers_queries
        if options.queries_per_session > stream_format.queries_per_session:
            raise ValueError(
                f"queries_per_session is {options.queries_per_session}, but the stream format has "
                f"numbers for {stream_format.queries_per_session}"
            )
        files = [
            [item for item in read_annotations(source.path) if not source.tasks or item.task in source.tasks]
            for source in sources
        ]
        self.annotations: list[Annotation] = [item for file in files for item in file]
        if not self.annotations:
            of_tasks = " ".join(sorted({task for source in sources for task in source.tasks}))
            raise EmptyData(
                "no questions"
                + (f" of the tasks {of_tasks}" if of_tasks else "")
                + " in "
                + (", ".join(str(source.path) for source in sources) or "an empty list of sources")
                + "; add annotations (python -m train check FILE shows what a file holds)"
            )
        cache.ensure(item.video_path for item in self.annotations)

        rng = np.random.default_rng(options.seed)
        self._excerpts = [Excerpt((i,)) for i in range(len(self.annotations))]
        schedule = []
        for _ in range(options.epochs):
            drawn, first = [], 0
            for source, file in zip(sources, files, strict=True):
                drawn.append(first + _draw(len(file), source.weight, rng if options.shuffle else None))
                first += len(file)
            epoch = self._in_chunks(self._packed(np.concatenate(drawn), rng), rng)
            schedule.append(
                self._bucketed(epoch, options.batch_size, rng) if options.shuffle and len(epoch) else epoch
            )
        self._schedule = np.concatenate(schedule)
        if not len(self._schedule):
            raise EmptyData("the weights of the sources leave no question in an epoch; raise them")

    @property
    def tasks(self) -> list[str]:
        return sorted({item.task for item in self.annotations})

    @property
    def row_tasks(self) -> list[str]:
        """What ``task`` of an item may be."""
        return [*self.tasks, MIXED] if self._options.queries_per_session > 1 else self.tasks

    def __len__(self) -> int:
        return len(self._schedule)

    def __getitem__(self, position: int) -> dict[str, Any]:
        excerpt = self._excerpts[int(self._schedule[position])]
        clip = self._cache.load(self.annotations[excerpt.questions[0]].video_path)
        timeline, features, first = self._timeline(excerpt), clip.features, 0
        if self._max_turns is not None and len(features) > self._max_turns:
            chunk = cut(timeline, excerpt.first, self._max_turns)
            assert chunk is not None  # the others are not in the schedule
            timeline, first = chunk, excerpt.first
            features = features[first : first + len(timeline.timesteps)]
        offset = self._options.offsets.draw(self._options.seed, position) if self._options.offsets else 0
        encoded = self._encoder.encode(timeline, offset)
        questions = [self.annotations[i] for i in excerpt.questions]
        return {
            "auxiliary": self._auxiliary(questions, timeline, clip.timesteps, first, encoded)
            if self._auxiliary
            else None,
            "id": " + ".join(question.id for question in questions),
            "task": timeline.task,
            "input_ids": encoded.input_ids,
            "labels": encoded.labels,
            "features": features,
        }

    def _timeline(self, excerpt: Excerpt) -> Timeline:
        """Of the whole clip."""
        questions = [self.annotations[i] for i in excerpt.questions]
        timesteps = self._cache.load(questions[0].video_path).timesteps
        timelines = [build_timeline(question, timesteps, self._cache.fps) for question in questions]
        return merge(timelines, excerpt.numbers) if self._numbered else timelines[0]

    def _packed(self, epoch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Excerpts of one or more of the epoch's questions, all of one clip and no two the same."""
        most, by_chance = self._options.queries_per_session, self._options.shuffle
        if most == 1:
            return epoch
        groups: dict[Path, list[tuple[int, list[int]]]] = {}
        for i in rng.permutation(epoch) if by_chance else epoch:
            of_clip = groups.setdefault(self.annotations[i].video_path, [])
            group = next((g for size, g in of_clip if len(g) < size and i not in g), None)
            if group is None:
                size = int(rng.integers(1, most, endpoint=True)) if by_chance else most
                of_clip.append((size, [int(i)]))
            else:
                group.append(int(i))
        excerpts = []
        for group in (group for of_clip in groups.values() for _, group in of_clip):
            numbers = rng.permutation(most)[: len(group)] if by_chance else np.arange(len(group))
            excerpts.append(Excerpt(tuple(group), numbers=tuple(sorted((numbers + 1).tolist()))))
        return self._added(excerpts)

    def _in_chunks(self, epoch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same excerpts, those of long clips replaced by their chunks with something to learn."""
        if self._max_turns is None or not len(epoch):
            return epoch
        events = self._event_turns() if self._options.around_events else {}
        parts: list[Any] = []
        for i in epoch:
            whole = self._excerpts[i]
            question = self.annotations[whole.questions[0]]
            if question.duration * self._cache.fps <= self._max_turns - 1:  # spares a look at the features
                parts.append([i])
                continue
            timeline = self._timeline(whole)
            if self._options.around_events:
                firsts = around(timeline, events[question.video_path], self._max_turns, rng)
            else:
                firsts = chunks(len(timeline.timesteps), self._max_turns)
            kept = [first for first in firsts if cut(timeline, first, self._max_turns) is not None]
            parts.append([i] if firsts == [0] else self._added([replace(whole, first=f) for f in kept]))
        return np.concatenate(parts).astype(np.int64)

    def _event_turns(self) -> dict[Path, set[int]]:
        """Of every clip the turns at which one of its questions is answered."""
        turns: dict[Path, set[int]] = {}
        for i, question in enumerate(self.annotations):
            turns.setdefault(question.video_path, set()).update(self._timeline(Excerpt((i,))).responses)
        return turns

    def _added(self, excerpts: list[Excerpt]) -> np.ndarray:
        """The numbers of ``excerpts``, which are new."""
        first = len(self._excerpts)
        self._excerpts += excerpts
        return np.arange(first, len(self._excerpts))

    def _length(self, excerpt: Excerpt) -> float:
        """Seconds, more or less: what batches are made by."""
        duration = self.annotations[excerpt.questions[0]].duration
        return duration if self._max_turns is None else min(duration, self._max_turns / self._cache.fps)

    def _bucketed(self, epoch: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """A shuffle in which each run of ``batch_size`` items is of like length, so little is padded.

        Sorted by length within groups of 50 batches only: sorting everything would make batches of one kind.
        The batch that is not full stays last.
        """
        epoch = rng.permutation(epoch)
        group = 50 * batch_size
        lengths = np.array([self._length(excerpt) for excerpt in self._excerpts])
        batches = []
        for i in range(0, len(epoch), group):
            part = epoch[i : i + group]
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
        """``input_ids``, ``labels`` int64 [B, T]; ``features`` float32 [N, ...]; ``ids``, ``tasks``,
        ``auxiliary``: a list each.
        """
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
            "auxiliary": [item["auxiliary"] for item in items],
        }
