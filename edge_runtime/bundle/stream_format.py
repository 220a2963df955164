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
from string import Formatter
from typing import Any

from edge_runtime.bundle.choices import Choice, Words, check_distinct, choices, single
from edge_runtime.bundle.labels import Seconds, format_seconds
from edge_runtime.bundle.question_numbers import LINE_BREAK, numbered

__all__ = ["RESPONSE", "SILENCE", "WORD_SETS", "StreamFormat", "TurnEncoder", "TurnIds", "format_seconds"]

WORD_SETS = ("silence", "response", "delegate")
"""Keys of a stream format that may be a list of texts."""
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
    """Frames per second of video; a timestep each, unless a turn has several frames."""
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
    silence: Words = SILENCE
    """A token, or a set of texts: the strongest is the one that goes into the cache."""
    response: Words = RESPONSE
    """A token, or a set of texts. An empty set: whatever is not silence is the response's text."""
    silence_end: str = ""
    response_end: str = "<|end|>"
    image_token: str = "<|image|>"
    frames_per_turn: int = 1
    """Frames that one decision is about; ``{image}`` stands in the turn for each of them."""
    turn_head: str = ""
    """How a turn begins, in front of ``turn_template``. Needed where a question stands inside a turn
    (``{query}`` in ``turn_template``): when that turn leaves, its question moves behind the head of the
    first turn that stays."""
    forced: str = ""
    """Written behind the turn before the decision is read, such as what all decisions begin with."""
    greedy: bool = False
    """Score the strongest silence against the strongest response, so that a threshold of 0.5 decides as
    greedy decoding does; else the sums of both sets. No difference for one silence and one response."""
    strip: str = ""
    """Characters that are cut from both ends of a response's text."""
    first_line: bool = False
    """Whether only the first line of a response is used."""
    delegate: tuple[str, ...] = ()
    """Texts behind which a response hands a task to another model."""

    def __post_init__(self) -> None:
        for name in WORD_SETS:
            if isinstance(getattr(self, name), list):  # JSON and TOML have lists only
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_turn()
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

    def _check_turn(self) -> None:
        if not self.silence:
            raise ValueError("protocol: silence must not be empty")
        names = [name for name, _ in _fields(self.turn_template)]
        if unknown := set(names) - {"start", "end", "image", "query"}:
            raise ValueError(f"protocol: turn_template holds {{{min(unknown)}}}, which nothing fills")
        if self.frames_per_turn < 1 or names.count("image") != self.frames_per_turn:
            raise ValueError(
                f"protocol: turn_template must hold {{image}} {self.frames_per_turn} times (frames_per_turn)"
            )
        if self.asks_in_turn != bool(self.turn_head) or names.count("query") > 1:
            raise ValueError(
                "protocol: turn_template may hold {query} once, and turn_head is for such templates alone"
            )
        if self.numbers_queries and (self.strip or self.first_line or self.delegate):
            raise ValueError(
                "protocol: strip, first_line and delegate cannot be combined with queries_per_session above 1"
            )

    @property
    def asks_in_turn(self) -> bool:
        """Whether a question stands inside a turn instead of in a message of its own."""
        return "{query}" in self.turn_template

    @property
    def is_basic(self) -> bool:
        """Whether one silence and one response token decide, and all else is as it always was."""
        tokens = isinstance(self.silence, str) and isinstance(self.response, str)
        plain = all(not spec for _, spec in _fields(self.turn_template))
        return tokens and plain and all(getattr(self, name) == _EXTRAS[name] for name in _EXTRAS)

    @property
    def numbers_queries(self) -> bool:
        """Whether queries and answers carry numbers."""
        return self.queries_per_session > 1

    @property
    def longest_response(self) -> int:
        """Tokens of a response in which every query of a session is answered."""
        return self.max_response_tokens * self.queries_per_session

    def interval(self, index: int) -> tuple[float, float]:
        """Start and end in seconds of frame ``index`` (0 is the first), which is a timestep by itself unless
        a turn has several.
        """
        return index / self.fps, (index + 1) / self.fps

    def turn_interval(self, index: int) -> tuple[float, float]:
        """Start and end in seconds of the turn that frame ``index`` is part of."""
        if self.frames_per_turn == 1:
            return self.interval(index)
        first = index - index % self.frames_per_turn
        return self.interval(first)[0], self.interval(first + self.frames_per_turn - 1)[1]

    def label(self, index: int) -> str:
        """``<Xs-Ys>`` of timestep ``index``, e.g. ``<11s-12s>`` for index 11 at 1 fps."""
        start, end = self.interval(index)
        return f"<{format_seconds(start)}s-{format_seconds(end)}s>"

    def to_dict(self) -> dict[str, Any]:
        """Without the newer keys that have their default, so that a bundle stays what it was."""
        return {k: v for k, v in asdict(self).items() if k not in _EXTRAS or v != _EXTRAS[k]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StreamFormat:
        """Unknown keys are ignored (formats.md); a missing key takes its default."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


def _fields(template: str) -> list[tuple[str, str]]:
    """Name and format of every field of a template. Raises ValueError for a lone brace."""
    try:
        return [(name, spec or "") for _, name, spec, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"protocol: turn_template: {error}") from error


_EXTRAS: dict[str, Any] = {
    f.name: f.default
    for f in fields(StreamFormat)
    if f.name in ("frames_per_turn", "turn_head", "forced", "greedy", "strip", "first_line", "delegate")
}


@dataclass(frozen=True)
class TurnIds:
    """User side of a timestep. Questions that are asked with it go between ``before`` and ``after``."""

    head: list[int]
    before: list[int]
    after: list[int]


class TurnEncoder:
    """Token ids of prefix, queries, turns and decisions under one protocol and one tokenizer.

    ``encode`` maps text to ids without adding special tokens of its own and knows every special token
    (``Tokenizer.encode(text, add_special_tokens=False).ids`` of the `tokenizers` library).
    Raises ValueError when a decision token or the image token is not one single token of the vocabulary.
    """

    def __init__(self, stream_format: StreamFormat, encode: Callable[[str], list[int]]) -> None:
        self.stream_format = stream_format
        self._encode = encode
        self._forced = encode(stream_format.forced) if stream_format.forced else []
        self._head = encode(stream_format.turn_head) if stream_format.turn_head else []
        self.image_id = single(stream_format.image_token, encode)
        self.silence_end_ids = encode(stream_format.silence_end) if stream_format.silence_end else []
        self.response_end_ids = encode(stream_format.response_end) if stream_format.response_end else []
        if not self.response_end_ids:
            raise ValueError("protocol: response_end must not be empty, or a response would never end")
        self.stop_id = self.response_end_ids[0]
        self.silences = choices(stream_format.silence, encode, self._forced)
        self.responses = choices(stream_format.response, encode, self._forced)
        if not self.responses and all(member.first != self.stop_id for member in self.silences):
            end = Choice(stream_format.response_end, tuple(self.response_end_ids))
            self.silences = (*self.silences, end)  # an answer without a word
        check_distinct((*self.silences, *self.responses))
        if stream_format.numbers_queries and not encode(LINE_BREAK):
            raise ValueError("tokenizer: has no token for a line break, which separates numbered answers")

    @property
    def silence_id(self) -> int:
        """First token of the first silence."""
        return self.silences[0].first

    @property
    def response_id(self) -> int:
        """First token of the first response. Raises ValueError in a format that has none."""
        if not self.responses:
            raise ValueError("protocol: response is empty, so there is no token that announces one")
        return self.responses[0].first

    def prefix_ids(self) -> list[int]:
        """Ids of the system prompt; they lie first in the cache and are never evicted.

        Where questions stand inside turns, the head of the first turn is part of them: turns leave, and the
        one that is first then goes on behind it.
        """
        ids = self._encode(self.stream_format.prefix_template.format(system=self.stream_format.system_prompt))
        return ids + self._head

    def query_ids(self, text: str, number: int = 1) -> list[int]:
        """Ids of a query, placed before the turn of the first timestep whose end is not before it.

        ``number``: of the query in its session; without effect where queries carry none.
        """
        text = numbered(number, text) if self.stream_format.numbers_queries else text
        return self._encode(self.stream_format.query_template.format(text=_plain(text)))

    def turn_ids(self, index: int) -> list[int]:
        """User side of timestep ``index`` up to where the decision is read; V of the ids are ``image_id``."""
        turn = self.turn(index)
        return [*turn.head, *turn.before, *turn.after]

    def turn(self, index: int, *, asks: bool = False) -> TurnIds:
        """As :meth:`turn_ids`, in parts. ``asks``: whether a question comes with it."""
        start, end = map(Seconds, self.stream_format.turn_interval(index))
        image = self.stream_format.image_token * self.stream_format.frame_tokens
        template = self.stream_format.turn_template
        if not (asks and self.stream_format.asks_in_turn):
            text = template.format(start=start, end=end, image=image, query="")
            return TurnIds(self._head, [], self._encode(text) + self._forced)
        before, after = (
            self._encode(part.format(start=start, end=end, image=image)) if part else []
            for part in template.split("{query}")
        )
        return TurnIds(self._head, before, after + self._forced)

    def silence_ids(self, choice: Choice | None = None) -> list[int]:
        """Assistant side of a silent turn; of the first silence by default."""
        ids = (choice or self.silences[0]).ids
        return list(ids) if ids == tuple(self.silence_end_ids) else [*ids, *self.silence_end_ids]

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
