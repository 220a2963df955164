"""One stream, its queries and its decisions: the timestep of the paper over the cached decoder.

A timestep appends one chunk: [decision of the previous turn] + [queries just asked] + label, visual tokens
and assistant start. The logits after it, all but the two decision tokens masked, are the decision. Silence
costs nothing now: its token is part of the next chunk. A response is generated greedily up to its end token.

Where the stream format numbers queries, a session watches for several and a response names those it answers.
Its score is for all of them: it speaks when the score reaches the lowest of their thresholds, and then each
answer counts when the score reaches the threshold of its own query. A number is given once in a session:
earlier turns hold answers that name it.

A session never looks at the clock: time is what is pushed, so a recorded stream gives the same decisions as
the live one did.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.question_numbers import LINE_BREAK
from edge_runtime.bundle.stream_format import TurnIds
from edge_runtime.engine.assistant_side import AssistantSide
from edge_runtime.engine.decision import Decision
from edge_runtime.engine.decision_rule import DecisionRule
from edge_runtime.engine.drafts import Drafts
from edge_runtime.engine.response_text import split_response
from edge_runtime.engine.session_queries import SessionQueries, checked_threshold
from edge_runtime.engine.turn_frames import TurnFrames
from edge_runtime.errors import BundleError, ConfigError, EdgeError, SourceError
from edge_runtime.kv_cache.window import KVWindow
from edge_runtime.video.sampling import TimestepSampler

if TYPE_CHECKING:
    from edge_runtime.engine.model import Model

_FAR_INDEX = 99_999_999
"""A timestep whose label is as long as labels get (three years at 1 fps)."""
_QUERY_SHARE = 4
"""Queries may take one part in this many of the cache: the rest is what the model remembers of the stream."""


class StreamSession:
    """A stream being watched. Use as a context manager, or :meth:`close`.

    Calls from several threads run one after another; sessions of one model run in parallel. A call that
    raises leaves the session as it was before: the same frame may be pushed again.
    """

    def __init__(self, model: Model, *, threshold: float | None = None) -> None:
        self._format = model.stream_format
        self.threshold = self._format.threshold if threshold is None else threshold
        self._model = model
        self._encoder = model.encoder
        self._lock = threading.RLock()
        self._sampler = TimestepSampler(self._format.fps)
        self._frames = TurnFrames(self._format.frames_per_turn)
        self._rule = DecisionRule(self._encoder, model.text_bias)
        self._last_index = -1
        self._window = KVWindow(
            model.bundle.model.context_rows, self._format.window_turns, self._format.evict_turns
        )
        self._pending: list[int] = []  # decision of the last turn, not in the cache yet
        self._closed = False

        prefix = self._encoder.prefix_ids()
        slots = self._slots_for_queries(len(prefix))
        self._queries = SessionQueries(self._encoder, slots, model.queries_per_session, model.bundle.name)
        self._vision = model.open_vision()
        self._decoder = model.open_decoder()
        self._drafts = Drafts(prefix)
        self._decoder.append(prefix, 0)
        self._window.add("prefix", len(prefix))
        self._prefix = self._window.segments

    @property
    def threshold(self) -> float:
        """Speak when the score reaches it, 0..1: the lowest of the active queries' thresholds. Set it between
        timesteps, for queries without one of their own.
        """
        return min(self._queries.thresholds(self._threshold).values(), default=self._threshold)

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._threshold = checked_threshold(value)

    def set_threshold(self, query_id: str, value: float | None) -> None:
        """Speak about one query when the score reaches ``value``; None for the session's threshold.

        Any thread, also before the query is asked; :meth:`remove` forgets it.
        """
        self._queries.set_threshold(query_id, None if value is None else checked_threshold(value))

    @property
    def queries(self) -> dict[str, str]:
        """Active queries, id to text, in the order they were asked."""
        return {query.id: query.text for query in self._queries.active.values()}

    @property
    def slots(self) -> int:
        """Slots of the cache in use; there are ``model.context_rows`` of the bundle."""
        return self._window.slots

    @property
    def undecided(self) -> tuple[float, ...]:
        """Empty: a frame is decided on while it is pushed."""
        return ()

    def take(self) -> None:
        """Nothing: a decision is returned by the push."""

    def ask(self, text: str, *, id: str | None = None) -> str:
        """Ask something to be answered while the stream goes on; returns the query's id (``q1``, ``q2``,
        ...).

        In force from the next timestep pushed. Raises ConfigError for a text that is empty, too long or not
        Unicode, for an id in use, and for more queries than the model was trained for, those removed included
        where queries are numbered.
        """
        with self._lock:
            self._check_open()
            return self._queries.ask(text, id)

    def check(self, text: str, beside: Sequence[str] = ()) -> None:
        """Raise ConfigError when ``text`` could not be asked now. ``beside``: texts yet to be asked, too."""
        with self._lock:
            self._check_open()
            self._queries.check(text, tuple(beside))

    def remove(self, query_id: str) -> None:
        """Withdraw a query; the model forgets its text at once. Raises ConfigError for an unknown id."""
        with self._lock:
            self._check_open()
            if self._queries.is_cached(query_id):
                plan = self._window.plan_remove(query_id)
                self._decoder.evict(plan)
                self._window.apply(plan)
            self._queries.forget(query_id)

    def push(self, frame: Any, t: float) -> Decision | None:
        """Show a frame: uint8 [H, W, 3] RGB of any size, at ``t`` seconds from the start of the stream.

        Push every frame you have: one that closes no timestep costs nothing and gives None. After a gap the
        skipped timesteps are simply absent. Raises SourceError for a frame or a time that cannot be used,
        BackendError when the engine fails.
        """
        with self._lock:
            self._check_open()
            begin = perf_counter()
            if not math.isfinite(t):
                raise SourceError(f"frame: its time is {t}; expected seconds from the start of the stream")
            sampler = copy.copy(self._sampler)
            index = sampler.take(t)
            if index is None:
                return None
            pixels = self._vision.preprocess(frame)
            preprocessed = perf_counter()
            before = self._vision.previous
            tokens = self._vision.encode(pixels)
            timing = {
                "preprocess": (preprocessed - begin) * 1e3,
                "vision": (perf_counter() - preprocessed) * 1e3,
            }
            try:
                decision = self._step(tokens, index, begin, timing)
            except BaseException:
                self._vision.previous = before
                raise
            self._sampler = sampler  # not before: a frame whose step failed may be pushed again
            return decision

    def push_tokens(self, visual_tokens: NDArray[np.float32], index: int) -> Decision:
        """As :meth:`push`, with the frame's visual tokens [1, V, D] (:meth:`Model.open_vision`; more than one
        level of them with DeepStack) and its timestep.

        ``index`` must grow from call to call; gaps are allowed. Raises ConfigError otherwise.
        """
        with self._lock:
            self._check_open()
            return self._step(visual_tokens, index, perf_counter(), {})

    def reset(self, *, keep_queries: bool = False) -> None:
        """Start again as for a new stream. Queries are dropped unless ``keep_queries``: then they are asked
        anew.
        """
        with self._lock:
            self._check_open()
            self._window.restore(self._prefix)  # the prefix lies at slot 0 and has never moved
            self._pending = []
            self._sampler.reset()
            self._vision.reset()
            self._frames.reset()
            self._drafts.reset()
            self._last_index = -1
            self._queries.restart(keep=keep_queries)

    def close(self) -> None:
        """Free the cache. Closing twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._decoder.close()

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EdgeError("session: it is closed; open a new one")

    def _slots_for_queries(self, prefix: int) -> int:
        """Most slots that queries may take beside a prompt of ``prefix`` tokens. Raises BundleError."""
        most_text = self._format.longest_response + len(self._encoder.response_end_ids)
        decisions = (*self._encoder.silences, *self._encoder.responses)
        decided = max(len(choice.ids) for choice in decisions)
        largest_turn = len(self._encoder.turn_ids(_FAR_INDEX)) + decided + most_text
        capacity = self._window.capacity
        # Two turns always fit: the one appended and the one before it.
        slots = min(capacity // _QUERY_SHARE, capacity - prefix - 2 * largest_turn)
        if slots < 1:
            raise BundleError(
                f"{self._model.bundle.path('bundle.json')}: key model.context_rows: a cache of {capacity} "
                f"slots has no room for the prompt ({prefix}) and two turns ({largest_turn} each); "
                "export with more"
            )
        return slots

    def _step(
        self, visual_tokens: NDArray[np.float32], index: int, begin: float, timing: dict[str, float]
    ) -> Decision:
        """One timestep: make room, append the chunk, decide, speak. Commits at the end or not at all."""
        visual = self._check_tokens(visual_tokens)
        if index <= self._last_index:
            raise ConfigError(f"timestep {index}: must come after the last one pushed ({self._last_index})")
        frames = self._frames.gather(visual, index)
        if frames is None:
            self._last_index = index
            return self._waiting(index, begin, timing)
        turn = self._encoder.turn(index, asks=bool(self._queries.queued))
        self._make_room(len(turn.head) + len(turn.before) + len(turn.after), timing)
        before = self._window.segments
        try:
            decision, pending = self._decide(turn, frames, index, begin, timing)
        except BaseException:
            self._window.restore(before)
            raise
        self._pending = pending
        self._queries.queued = []
        self._last_index = index
        self._frames.reset()
        return decision

    def _waiting(self, index: int, begin: float, timing: dict[str, float]) -> Decision:
        """Of a frame whose turn is not complete."""
        timing["append"] = 0.0
        timing["decision"] = timing["total"] = (perf_counter() - begin) * 1e3
        interval = self._format.interval(index)
        return Decision(
            interval[1], interval, 0.0, speak=False, query=self._queries.last, timing=timing, decided=False
        )

    def _make_room(self, turn: int, timing: dict[str, float]) -> None:
        """Evict until the chunk with a turn of so many slots and the longest response fit."""
        slots = len(self._pending) + sum(len(query.ids) for query in self._queries.queued) + turn
        announced = max((len(choice.ids) for choice in self._encoder.responses), default=1)
        plan = self._window.plan_turn(slots + announced + self._format.longest_response)
        if plan is None:
            return
        started = perf_counter()
        self._decoder.evict(plan)
        self._window.apply(plan)
        if self._window.turns == 0:
            self._pending = []  # its turn has left
        timing["evict"] = (perf_counter() - started) * 1e3

    def _decide(
        self,
        turn: TurnIds,
        visual: NDArray[np.float32],
        index: int,
        begin: float,
        timing: dict[str, float],
    ) -> tuple[Decision, list[int]]:
        """The decision, and the ids of the turn's assistant side that are not in the cache yet."""
        started = perf_counter()
        logits = self._append(turn, visual, index)
        score = self._rule.score(logits) if self._queries.active else 0.0
        decided = perf_counter()
        timing["append"] = (decided - started) * 1e3
        timing["decision"] = (decided - begin) * 1e3

        silence = self._rule.silence(logits)
        turn_side = AssistantSide(
            self._encoder.silence_ids(silence),
            silence=silence.text if len(self._encoder.silences) > 1 else None,
        )
        thresholds = self._queries.thresholds(self._threshold)
        if thresholds and score >= min(thresholds.values()):
            heard = {id for id, lowest in thresholds.items() if score >= lowest}
            turn_side = self._speak(logits, heard, turn_side, begin, timing)
        timing["total"] = (perf_counter() - begin) * 1e3
        interval = self._format.turn_interval(index)
        answers = turn_side.answers
        decision = Decision(
            interval[1],
            interval,
            score,
            speak=bool(answers),
            text=LINE_BREAK.join(answers.values()) if answers else None,
            query=next(iter(answers), self._queries.last),
            tokens=turn_side.tokens,
            timing=timing,
            answers=answers,
            unattributed=turn_side.unattributed,
            silence=turn_side.silence,
            delegated=turn_side.delegated,
        )
        return decision, turn_side.pending

    def _append(self, turn: TurnIds, visual: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        """Append the chunk of one timestep: pending decision, queued queries, turn. The logits after it.

        In a format with questions inside turns they stand between two parts of the turn, and the first turn
        has no head, because the prefix ends with one.
        """
        start, name = self._window.slots, str(index)
        chunk = list(self._pending)
        if self._pending:
            self._window.extend(len(self._pending))
        if turn.head and self._window.turns:
            chunk += turn.head
            self._window.add("head", len(turn.head), name)
        if turn.before:
            chunk += turn.before
            self._window.add("before", len(turn.before), name)
        for query in self._queries.queued:
            chunk += query.ids
            self._window.add("query", len(query.ids), query.id)
        chunk += turn.after
        self._window.add("turn", len(turn.after), name)
        return self._decoder.append(chunk, start, visual)

    def _speak(
        self,
        logits: NDArray[np.float32],
        heard: set[str],
        silent: AssistantSide,
        begin: float,
        timing: dict[str, float],
    ) -> AssistantSide:
        """Generate a response. ``heard``: queries whose threshold the score reaches.

        ``silent`` when nothing but blanks comes, and when all that is answered is to be silent at this score.
        Neither is committed: the model goes on as one that was silent. Lines that name no active query are
        committed, or the model would write them again at every timestep that follows.
        """
        encoder, decode = self._encoder, self._model.decode
        announced = self._rule.response(logits)
        self._drafts.begin([query.ids for query in self._queries.active.values()])
        generated = self._decoder.generate(
            self._rule.opening(logits) if announced is None else announced.ids,
            self._window.slots,
            stop_id=encoder.stop_id,
            max_tokens=self._format.longest_response,
            bias=self._model.text_bias,
            is_blank=lambda ids: not decode(ids),
            drafts=self._drafts,
        )
        text, delegated = split_response(self._format, decode(generated.ids))
        said, unattributed = self._queries.attributed(text) if text else ({}, ())
        answers = {id: words for id, words in said.items() if id in heard}
        if not answers and not unattributed and delegated is None:
            return silent
        self._drafts.remember(generated.ids)
        timing["first_token"] = (generated.first_token_at - begin) * 1e3
        if generated.slots:
            self._window.extend(generated.slots)
        unwritten = [] if generated.stopped else [generated.ids[-1]]
        pending = [*unwritten, *encoder.response_end_ids]
        return AssistantSide(pending, generated.ids, answers, unattributed, delegated)

    def _check_tokens(self, visual_tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        expected = self._model.bundle.visual_shape
        if np.shape(visual_tokens) != expected:
            got = list(np.shape(visual_tokens))
            raise ConfigError(f"visual tokens: expected shape {list(expected)}, got {got}")
        return visual_tokens[0] if expected[0] == 1 else visual_tokens
