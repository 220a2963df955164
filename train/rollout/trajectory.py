"""What rollouts start from and what they leave behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.metric.annotations import Annotation, Response, read_annotations
from edge_runtime.errors import ConfigError
from train.data.dataset import Source
from train.data.encode import OffsetSampling, shift_time_spans
from train.data.features import FeatureCache


@dataclass(frozen=True)
class Beside:
    """One question of a session and the position of the first turn in which it is in force."""

    annotation: Annotation
    turn: int


@dataclass(frozen=True)
class Prompt:
    """A question on a clip. ``timesteps``: those that have a frame; ``offset`` is added to every one of them.

    ``features``: of each of these frames, [n, ...], as the model's ``visual`` takes them. ``query_turn``:
    position in ``timesteps`` of the first turn in force. ``beside``: questions asked in the same session, not
    before this one.
    """

    annotation: Annotation
    features: Tensor
    timesteps: tuple[int, ...]
    query_turn: int
    offset: int
    fps: float
    beside: tuple[Beside, ...] = ()

    @property
    def queries(self) -> list[Beside]:
        """All questions of the session in the order of their numbers, which begin at 1."""
        return [Beside(self.annotation, self.query_turn), *self.beside]

    @cached_property
    def truth(self) -> Annotation:
        """The annotation on the clock that the model sees: ``offset`` timesteps later, times in texts too."""
        return shifted(self.annotation, self.offset / self.fps)


def shifted(annotation: Annotation, seconds: float) -> Annotation:
    """An annotation ``seconds`` later; time spans in grounding answers and their rubric move along."""
    if seconds == 0:
        return annotation

    def text(value: str) -> str:
        return shift_time_spans(value, seconds) if annotation.task == "TG" else value

    def check(value: object) -> object:
        if isinstance(value, str):
            return text(value)
        return [text(v) if isinstance(v, str) else v for v in value] if isinstance(value, list) else value

    answers = [
        replace(a, start=a.start + seconds, end=a.end + seconds, text=text(a.text))
        for a in annotation.answers
    ]
    rubric = []
    for item in annotation.rubric:
        moved = {**item, "rubric": text(str(item.get("rubric", "")))}
        if isinstance(item.get("check"), dict):
            moved["check"] = {key: check(value) for key, value in item["check"].items()}
        rubric.append(moved)
    return replace(
        annotation,
        duration=annotation.duration + seconds,
        query=replace(annotation.query, time=annotation.query.time + seconds),
        answers=tuple(answers),
        rubric=tuple(rubric),
    )


@dataclass(frozen=True)
class Trajectory:
    """One stream as the policy lived it.

    ``ids`` [T]: every token, the last decision included. ``sampled`` [M]: positions in ``ids`` that the
    policy chose, rising; ``places`` [M]: where each of them stood
    (:class:`train.rollout.token_constraints.Place`);
    ``log_probs`` float32 [M]: its log-probability when it was chosen. ``responses``: on the clock the model
    sees. ``valid``: for each timestep from the query on, whether the output was of the format. ``numbers``:
    of the question that each of ``responses`` answers.
    """

    prompt: Prompt
    ids: Tensor
    sampled: Tensor
    places: Tensor
    log_probs: Tensor
    responses: tuple[Response, ...]
    valid: tuple[bool, ...]
    numbers: tuple[int, ...] = ()

    def answers(self, number: int) -> tuple[Response, ...]:
        """The responses to one question of the session."""
        pairs = zip(self.numbers, self.responses, strict=True)
        return tuple(response for named, response in pairs if named == number)

    def by_question(self) -> list[Trajectory]:
        """One for each question of the session, with the responses to it."""
        if not self.prompt.beside:
            return [self]
        found = []
        for number, asked in enumerate(self.prompt.queries, start=1):
            prompt = replace(self.prompt, annotation=asked.annotation, query_turn=asked.turn, beside=())
            mine = self.answers(number)
            found.append(replace(self, prompt=prompt, responses=mine, numbers=(number,) * len(mine)))
        return found


class Prompts:
    """Questions of a mixture of annotation files, in the order training takes them.

    ``epoch`` e is a shuffle of its own, fixed by ``seed`` and e, in which a question comes as often as its
    source's weight says; place i of the whole training is always the same prompt. Not shuffled, it is
    every question once, in file order.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        cache: FeatureCache,
        *,
        seed: int = 0,
        shuffle: bool = True,
        offsets: OffsetSampling | None = None,
        queries_per_session: int = 1,
    ) -> None:
        """``queries_per_session``: most questions of a prompt; how many of a clip's, and which, is drawn.

        Computes missing features. Raises FormatError, FeatureError, and ConfigError for no questions."""
        self._cache, self._seed, self._shuffle, self._offsets = cache, seed, shuffle, offsets
        self.annotations: list[Annotation] = []
        self._weights: list[float] = []
        for source in sources:
            file = [a for a in read_annotations(source.path) if not source.tasks or a.task in source.tasks]
            cache.ensure(a.video_path for a in file)
            # A query after the last frame leaves the policy nothing to decide.
            asked = [
                a for a in file if _query_turn(a, cache.load(a.video_path).timesteps, cache.fps) is not None
            ]
            self.annotations += asked
            self._weights += [source.weight if shuffle else 1.0] * len(asked)
        if not sum(self._weights) > 0:
            raise ConfigError(f"no questions to ask in {', '.join(str(source.path) for source in sources)}")
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))
        self._most = queries_per_session
        self._of_clip: dict[Path, list[Annotation]] = {}
        for annotation in self.annotations:
            self._of_clip.setdefault(annotation.video_path, []).append(annotation)

    @property
    def tasks(self) -> list[str]:
        return sorted({a.task for a in self.annotations})

    def __len__(self) -> int:
        """Prompts in one epoch."""
        return max(1, round(sum(self._weights)))

    def __getitem__(self, place: int) -> Prompt:
        """The prompt at ``place`` of the whole training, all epochs in a row."""
        epoch, index = divmod(place, len(self))
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._order(epoch)
        offset = self._offsets.draw(self._seed, place) if self._offsets else 0
        first = self.annotations[int(self._epoch[1][index])]
        if self._most == 1:
            return self.prompt(first, offset)
        rng = np.random.default_rng((self._seed, 1, place))
        others = [a for a in self._of_clip[first.video_path] if a is not first]
        count = min(int(rng.integers(self._most)), len(others))
        chosen = rng.permutation(len(others))[:count]
        return self.prompt_together([first, *(others[i] for i in chosen)], offset)

    def prompt(self, annotation: Annotation, offset: int = 0) -> Prompt:
        """A prompt of one of the questions."""
        clip = self._cache.load(annotation.video_path)
        turn = _query_turn(annotation, clip.timesteps, self._cache.fps)
        assert turn is not None
        features = torch.from_numpy(clip.features.astype(np.float32))
        return Prompt(annotation, features, clip.timesteps, turn, offset, self._cache.fps)

    def prompt_together(self, annotations: Sequence[Annotation], offset: int = 0) -> Prompt:
        """A prompt of several of the questions, all of one clip, numbered in the order they are asked."""
        prompts = [self.prompt(annotation, offset) for annotation in annotations]
        prompts.sort(key=lambda prompt: prompt.query_turn)
        beside = tuple(Beside(prompt.annotation, prompt.query_turn) for prompt in prompts[1:])
        return replace(prompts[0], beside=beside)

    def _order(self, epoch: int) -> np.ndarray:
        if not self._shuffle:
            return np.arange(len(self.annotations))
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self.annotations))
        # Along the summed weights every whole number is one prompt: a weight of 1.5 gives one or two.
        ends = np.cumsum(np.array(self._weights)[order])
        marks = (np.arange(len(self)) + rng.random()) * ends[-1] / len(self)
        return rng.permutation(order[np.searchsorted(ends, marks, side="right").clip(max=len(order) - 1)])


def _query_turn(annotation: Annotation, timesteps: Sequence[int], fps: float) -> int | None:
    """Position of the first timestep that does not end before the query; None when there is none."""
    asked = annotation.query.time * fps - 1e-6
    return next((i for i, index in enumerate(timesteps) if index + 1 >= asked), None)
