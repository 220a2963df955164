"""A timeline as token ids and labels, laid out exactly as the runtime lays out its cache."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer

from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder, format_seconds
from train.config.errors import RecipeError
from train.data.timeline import Timeline

IGNORE = -100
_TIME_SPAN = re.compile(r"(\d+(?:\.\d+)?)s-(\d+(?:\.\d+)?)s")


@dataclass(frozen=True)
class Encoded:
    """``input_ids`` [T]; ``labels`` [T]: the id itself where it is supervised, else IGNORE.

    Labels are not shifted: the logits of position t - 1 are to predict the label of position t.
    ``turns``: (start, end) of every turn's label and frame; its decision stands at ``end``. ``queries``:
    (start, end) of every query, in the timeline's order.
    """

    input_ids: list[int]
    labels: list[int]
    turns: list[tuple[int, int]]
    queries: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class OffsetSampling:
    """Where on the clock a training clip starts, in timesteps, so that long streams are nothing new.

    A share ``zero`` of trajectories starts at 0, a share ``near`` uniformly in 0..``near_max``, the rest in
    0..``far_max``.
    """

    zero: float = 0.6
    near: float = 0.3
    near_max: int = 200
    far_max: int = 20000

    def __post_init__(self) -> None:
        if min(self.zero, self.near) < 0 or self.zero + self.near > 1 + 1e-9:
            raise ValueError(
                f"offsets: zero and near are shares of one whole, got {self.zero} and {self.near}"
            )
        if min(self.near_max, self.far_max) < 0:
            raise ValueError("offsets: near_max and far_max must not be negative")

    def draw(self, *seed: int) -> int:
        """The offset that belongs to ``seed`` (recipe seed, place in training): always the same one."""
        rng = np.random.default_rng(seed)
        kind = rng.random()
        if kind < self.zero:
            return 0
        return int(
            rng.integers(0, self.near_max if kind < self.zero + self.near else self.far_max, endpoint=True)
        )


def turn_encoder(stream_format: StreamFormat, tokenizer: Tokenizer) -> TurnEncoder:
    """Raises RecipeError when the tokenizer lacks a token that the protocol needs, and for a format of public
    checkpoints that training does not know: several silences, text without a response token and the like.
    """
    if not stream_format.is_basic:
        raise RecipeError(
            "protocol: training needs one silence and one response token and a plain turn; "
            "start from `train init-backbone`"
        )
    try:
        return TurnEncoder(stream_format, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    except ValueError as error:
        raise RecipeError(f"{error}; choose another tokenizer, or add the token to it") from error


class TimelineEncoder:
    """Timelines to ids under one protocol. Keeps the ids of turns it has seen, which repeat all the time."""

    def __init__(self, encoder: TurnEncoder) -> None:
        self.encoder = encoder
        self.prefix = encoder.prefix_ids()
        self._turn: Callable[[int], list[int]] = lru_cache(maxsize=50_000)(encoder.turn_ids)

    def encode(self, timeline: Timeline, offset: int = 0) -> Encoded:
        """Prefix, then every turn in order, each query right before the first turn in which it is in force.

        Turns before the first query end in an unsupervised silence: the model only watches there. From then
        on the decision, a response's text and its end token are supervised. ``offset`` timesteps are added to
        every interval label, and to the time spans inside grounding answers.
        """
        ids = list(self.prefix)
        labels = [IGNORE] * len(ids)
        turns = []
        queries = [(0, 0)] * len(timeline.queries)

        def add(tokens: list[int], supervised: bool) -> None:
            ids.extend(tokens)
            labels.extend(tokens if supervised else [IGNORE] * len(tokens))

        seconds = offset / self.encoder.stream_format.fps
        first = max(timeline.query_turn, timeline.supervised_from)
        for turn, timestep in enumerate(timeline.timesteps):
            for i, (asked, query) in enumerate(timeline.queries):
                number = timeline.numbers[i]
                if asked == turn:
                    begin = len(ids)
                    add(self.encoder.query_ids(query, number), supervised=False)
                    queries[i] = (begin, len(ids))
            turns.append((len(ids), len(ids) + len(self._turn(timestep + offset))))
            add(self._turn(timestep + offset), supervised=False)
            text = timeline.responses.get(turn)
            if text is not None:
                text = shift_time_spans(text, seconds) if turn in timeline.grounding else text
                add(self.encoder.response_ids(text), supervised=turn >= first)
            else:
                add([self.encoder.silence_id], supervised=turn >= first)
                # Whatever closes a silent turn is written by the runtime, never generated.
                add(self.encoder.silence_end_ids, supervised=False)
        return Encoded(ids, labels, turns, queries)


def shift_time_spans(text: str, seconds: float) -> str:
    """``12s-19s`` -> ``112s-119s`` for 100 seconds; other numbers stay."""
    if seconds == 0:
        return text

    def shifted(match: re.Match[str]) -> str:
        start, end = (format_seconds(float(group) + seconds) for group in match.groups())
        return f"{start}s-{end}s"

    return _TIME_SPAN.sub(shifted, text)
