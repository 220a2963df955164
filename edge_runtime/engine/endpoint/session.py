"""One stream watched by a server's model: a sliding window of frames, and one question about them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from functools import partial
from time import perf_counter

from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.bundle.tokenizer import is_unicode
from edge_runtime.engine.decision import Decision
from edge_runtime.engine.endpoint.dispatcher import Dispatcher, Window
from edge_runtime.engine.endpoint.protocol import (
    AskedQuestion,
    Message,
    SeenFrame,
    is_new,
    messages,
    read_answer,
)
from edge_runtime.errors import ConfigError

MOST_CHARACTERS = 2000
"""Of a question."""


class EndpointSession:
    """Pushes never wait for the network. A decision carries the time of the newest frame that was sent.

    The model's last answer is part of a request, and the same answer again is silence, while the frame it
    was given about is in the window: after that the same event may have happened again.
    """

    def __init__(self, dispatcher: Dispatcher, stream_format: StreamFormat, frames: int) -> None:
        self._dispatcher, self._format, self._frames = dispatcher, stream_format, frames
        self._lock = threading.Lock()
        """Replies come in other threads."""
        self._seen: deque[tuple[int, SeenFrame]] = deque(maxlen=frames)
        self._question: tuple[str, str] | None = None  # id and text
        self._asked_at = 0.0
        self._now_s = 0.0
        self._last: tuple[int, str] | None = None  # timestep and text of the last answer
        self._generation = 0
        self._offered: set[int] = set()
        self._decisions: deque[Decision] = deque()

    @property
    def queries(self) -> dict[str, str]:
        return dict([self._question]) if self._question is not None else {}

    @property
    def undecided(self) -> Collection[float]:
        with self._lock:
            return [self._format.interval(index)[1] for index in self._offered]

    def push_tokens(self, visual_tokens: str, index: int) -> Decision | None:
        """Offer the window that ends with this frame, a data URL. Silence while nothing is asked, else None:
        the decision is to be taken.
        """
        interval = self._format.interval(index)
        self._now_s = interval[1]
        self._seen.append((index, SeenFrame(interval[1], self._format.label(index), visual_tokens)))
        if self._question is None:
            silent = {"decision": 0.0, "total": 0.0}
            return Decision(interval[1], interval, 0.0, speak=False, timing=silent)
        seen = [frame for number, frame in self._seen if number > index - self._frames]
        question = AskedQuestion(self._question[1], self._asked_at)
        content = partial(self._messages, question, seen, index)
        with self._lock:
            window = Window(index, content, self._generation, perf_counter())
            self._offered.add(index)
        replaced = self._dispatcher.offer(self, window)
        if replaced is not None:
            with self._lock:
                self._offered.discard(replaced.index)
        return None

    def take(self) -> Decision | None:
        with self._lock:
            if self._decisions:
                return self._decisions.popleft()
        self._dispatcher.check()
        return None

    def receive(self, window: Window, reply: str, request_s: float) -> None:
        """A reply to a window of this session (any thread)."""
        answer = read_answer(reply)
        waited_ms = (perf_counter() - window.pushed_at) * 1e3
        timing = {"request": request_s * 1e3, "decision": waited_ms, "total": waited_ms}
        with self._lock:
            if window.generation != self._generation or self._question is None:
                return  # to a question that is asked no more
            if answer is not None and not is_new(answer, self._last_within(window.index)):
                answer = None
            if answer is not None:
                self._last = (window.index, answer)
                timing["first_token"] = waited_ms
            id = self._question[0]
            interval = self._format.interval(window.index)
            decision = Decision(
                interval[1],
                interval,
                0.0 if answer is None else 1.0,
                speak=answer is not None,
                text=answer,
                query=id,
                timing=timing,
                answers={} if answer is None else {id: answer},
            )
            self._decisions.append(decision)
            self._offered = {index for index in self._offered if index > window.index}

    def ask(self, text: str, *, id: str | None = None) -> str:
        """In force from the next timestep. Raises ConfigError for a text that cannot be asked."""
        self.check(text)
        self._question = (id or "q1", text)
        self._asked_at = self._now_s
        return self._question[0]

    def check(self, text: str, beside: Sequence[str] = ()) -> None:
        """Raise ConfigError when ``text`` could not be asked now."""
        if self._question is not None or beside:
            raise ConfigError(f'query "{text}": an endpoint is asked one question per session')
        if not text.strip():
            raise ConfigError("query: it is empty; say what to watch for")
        if not is_unicode(text):
            raise ConfigError("query: it holds lone surrogates, which are no text; write it in UTF-8")
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"query: {len(text)} characters; at most {MOST_CHARACTERS} can be asked")

    def remove(self, query_id: str) -> None:
        """Withdraw the question; a reply that is still to come is ignored."""
        if query_id not in self.queries:
            raise ConfigError(f"query {query_id}: no such query is active")
        self._forget()
        self._question = None

    def set_threshold(self, query_id: str, value: float | None) -> None:
        """Without effect: a reply has no score between 0 and 1."""

    def reset(self, *, keep_queries: bool = False) -> None:
        """Start again as for a new stream."""
        self._forget()
        self._seen.clear()
        self._now_s = self._asked_at = 0.0
        if not keep_queries:
            self._question = None

    def close(self) -> None:
        """Send nothing any more. Closing twice is harmless."""
        self._forget()
        self._question = None

    def _forget(self) -> None:
        """What was offered, and what was said."""
        with self._lock:
            self._generation += 1
            self._offered = set()
            self._decisions.clear()
            self._last = None
        self._dispatcher.withdraw(self)

    def _messages(self, question: AskedQuestion, seen: Sequence[SeenFrame], index: int) -> list[Message]:
        """The request, made when it is sent: an answer may have come since the window was offered."""
        with self._lock:
            last = self._last_within(index)
        return messages(question, seen, last, self._format.fps)

    def _last_within(self, index: int) -> str | None:
        """The last answer, while its frame is in the window that ends at ``index``."""
        if self._last is None or self._last[0] <= index - self._frames:
            return None
        return self._last[1]
