"""The StreamPro turn: the one definition of how a stream becomes tokens (paper section 3.1, appendix A).

A timestep is one dialogue turn: the user side holds an interval label such as ``<11s-12s>`` and that
interval's frame; the assistant side is a decision, ``</Silence>`` or ``</Response>`` followed by text.
Training, export and the runtime all build their token ids here, so that what is trained is what runs.

Which frame belongs to which interval: :mod:`edge_runtime.video.sampling`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_runtime.bundle.question_numbers import LINE_BREAK, numbered

SILENCE = "</Silence>"
RESPONSE = "</Response>"

SYSTEM_PROMPT = (
    "Frames arrive one by one, each with its time interval. Stay silent while nothing relevant has "
    "completed. Respond only when an event has fully concluded or enough is known to answer completely. "
    "Never guess and never give a partial answer. Start each answer with </Response>."
)

_MARKUP = re.compile(r"<(?=[|/]|[A-Za-z][\w-]*>)")
"""What begins a special token of a public tokenizer: ``<|im_start|>``, ``</Silence>``, ``<image>``."""


@dataclass(frozen=True)
class StreamFormat:
    """Everything that decides which token ids a stream becomes. Stored in checkpoints and bundles."""

    system_prompt: str = SYSTEM_PROMPT
    fps: float = 1.0
    """Timesteps per second of video."""
    frame_tokens: int = 9
    """Visual tokens per frame (V)."""
    window_turns: int = 200
    """Turns kept in the cache (paper section 5.1: 200)."""
    evict_turns: int = 20
    """Turns evicted at once when the window is full; a block costs one pass over the cache."""
    max_response_tokens: int = 32
    """Of the answer to one question."""
    queries_per_session: int = 1
    """Most queries that one session watches for. With more than one, queries and answers carry numbers
    (:mod:`edge_runtime.bundle.question_numbers`), also while a session has only one query."""
    threshold: float = 0.5
    """Speak when the probability of ``</Response>`` against ``</Silence>`` reaches it. Class-balanced
    training favours speaking, so a checkpoint may carry the value that did best on its validation clips."""
    prefix_template: str = "<|system|>{system}"
    query_template: str = "<|query|>{text}"
    turn_template: str = "<|user|><{start}s-{end}s>{image}<|assistant|>"
    silence: str = SILENCE
    response: str = RESPONSE
    silence_end: str = ""
    response_end: str = "<|end|>"
    image_token: str = "<|image|>"

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.frame_tokens < 1:
            got = f"{self.fps}, {self.frame_tokens}"
            raise ValueError(f"protocol: fps and frame_tokens must be positive, got {got}")
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"protocol: threshold must lie in 0..1, got {self.threshold}")
        if not 1 <= self.queries_per_session <= 99:
            raise ValueError(
                f"protocol: queries_per_session must lie in 1..99, got {self.queries_per_session}"
            )
        if not 0 < self.evict_turns <= self.window_turns:
            raise ValueError(
                f"protocol: evict_turns must lie in 1..window_turns ({self.window_turns}), "
                f"got {self.evict_turns}"
            )

    @property
    def numbers_queries(self) -> bool:
        """Whether queries and answers carry numbers."""
        return self.queries_per_session > 1

    @property
    def longest_response(self) -> int:
        """Tokens of a response in which every query of a session is answered."""
        return self.max_response_tokens * self.queries_per_session

    def interval(self, index: int) -> tuple[float, float]:
        """Start and end in seconds of timestep ``index`` (0 is the first)."""
        return index / self.fps, (index + 1) / self.fps

    def label(self, index: int) -> str:
        """``<Xs-Ys>`` of timestep ``index``, e.g. ``<11s-12s>`` for index 11 at 1 fps."""
        start, end = self.interval(index)
        return f"<{format_seconds(start)}s-{format_seconds(end)}s>"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StreamFormat:
        """Unknown keys are ignored (formats.md); a missing key takes its default."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


def format_seconds(value: float) -> str:
    """Seconds as a label writes them: ``12`` for 12.0, ``12.5`` for 12.5, at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class TurnEncoder:
    """Token ids of prefix, queries, turns and decisions under one protocol and one tokenizer.

    ``encode`` maps text to ids without adding special tokens of its own and knows every special token
    (``Tokenizer.encode(text, add_special_tokens=False).ids`` of the `tokenizers` library).
    Raises ValueError when a decision token or the image token is not one single token of the vocabulary.
    """

    def __init__(self, stream_format: StreamFormat, encode: Callable[[str], list[int]]) -> None:
        self.stream_format = stream_format
        self._encode = encode
        self.silence_id = self._single(stream_format.silence)
        self.response_id = self._single(stream_format.response)
        self.image_id = self._single(stream_format.image_token)
        self.silence_end_ids = encode(stream_format.silence_end) if stream_format.silence_end else []
        self.response_end_ids = encode(stream_format.response_end) if stream_format.response_end else []
        if not self.response_end_ids:
            raise ValueError("protocol: response_end must not be empty, or a response would never end")
        self.stop_id = self.response_end_ids[0]
        if stream_format.numbers_queries and not encode(LINE_BREAK):
            raise ValueError("tokenizer: has no token for a line break, which separates numbered answers")

    def _single(self, token: str) -> int:
        ids = self._encode(token)
        if len(ids) != 1:
            raise ValueError(f"tokenizer: {token} must be one token of the vocabulary, got {len(ids)} ids")
        return ids[0]

    def prefix_ids(self) -> list[int]:
        """Ids of the system prompt; they lie first in the cache and are never evicted."""
        return self._encode(
            self.stream_format.prefix_template.format(system=self.stream_format.system_prompt)
        )

    def query_ids(self, text: str, number: int = 1) -> list[int]:
        """Ids of a query, placed before the turn of the first timestep whose end is not before it.

        ``number``: of the query in its session; without effect where queries carry none.
        """
        text = numbered(number, text) if self.stream_format.numbers_queries else text
        return self._encode(self.stream_format.query_template.format(text=_plain(text)))

    def turn_ids(self, index: int) -> list[int]:
        """User side of timestep ``index`` up to where the decision is read; V of the ids are ``image_id``."""
        start, end = self.stream_format.interval(index)
        return self._encode(
            self.stream_format.turn_template.format(
                start=format_seconds(start),
                end=format_seconds(end),
                image=self.stream_format.image_token * self.stream_format.frame_tokens,
            )
        )

    def silence_ids(self) -> list[int]:
        """Assistant side of a silent turn."""
        return [self.silence_id, *self.silence_end_ids]

    def response_ids(self, text: str) -> list[int]:
        """Assistant side of a turn that speaks ``text``; where queries carry numbers, lines that each begin
        with one (:func:`edge_runtime.bundle.question_numbers.joined`).
        """
        lines = text.split(LINE_BREAK) if self.stream_format.numbers_queries else [text]
        plain = LINE_BREAK.join(map(_plain, lines))
        return [self.response_id, *self._encode(" " + plain), *self.response_end_ids]


def _plain(text: str) -> str:
    """User text with markup defused: a query must not be able to write special tokens."""
    return _MARKUP.sub("< ", " ".join(text.split()))
