"""Client of an OpenAI-compatible server (``POST URL/chat/completions``), for judges and for polled models.

Rate limits, server errors, timeouts, lost connections and replies that cannot be read are tried again after
pauses that double and vary at random; a ``Retry-After`` is obeyed. Anything else ends in one line that says
what the server said. Replies are kept in a :class:`ReplyCache`, and every request counts against a budget.
A single request is sent as cameras send it: :mod:`edge_runtime.engine.endpoint.client`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.metric.llm.budget import ApiBudget, BudgetExceeded
from benchmarks.metric.llm.reply_cache import ReplyCache, content_key
from edge_runtime.engine.endpoint.client import ChatClient, NoAnswer, RefusedError
from edge_runtime.errors import BackendError, ConfigError, EdgeError

Value = TypeVar("Value")
Message = dict[str, Any]

MAX_PAUSE_S = 60.0


class LlmError(BackendError):
    """A server that gives no usable reply."""


class Stopped(LlmError):
    """The client was asked to stop; another error gives the reason."""


@dataclass(frozen=True)
class Retry:
    """How long to wait for a whole reply, how often to ask, and the first pause between."""

    timeout_s: float = 60.0
    attempts: int = 6
    backoff_s: float = 1.0


class OpenAIClient:
    """One model of one server. Safe for threads."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        cache: ReplyCache,
        api_budget: ApiBudget,
        key_variable: str,
        extra: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        """``url`` with or without ``/chat/completions``. ``key_variable``: environment variable of the key,
        which may be unset. ``extra``: merged into each request, None leaves a field out. ``notice`` gets a
        line for each pause.

        Raises ConfigError for an address or a key that cannot be used.
        """
        self.model, self.cache, self.api_budget = model, cache, api_budget
        self._extra = dict(extra or {})
        self._retry = retry or Retry()
        self._notice = notice or (lambda line: None)
        self._stop = threading.Event()
        self._chat = ChatClient(
            url, key=_read_key(key_variable), key_place=key_variable, timeout_s=self._retry.timeout_s
        )
        self._url = self._chat.url

    def key(self, messages: Sequence[Message]) -> str:
        """Content key of a request: everything but the server's address."""
        return content_key(self._body(messages))

    def ask(
        self, messages: Sequence[Message], read: Callable[[str], Value], note: dict[str, Any] | None = None
    ) -> Value:
        """What ``read`` makes of the reply: of the kept one, else of a new one, which is kept.

        ``read`` raises ValueError, with the cause in words, for a reply that is not as it was asked for.
        ``note``: written beside the kept reply. Raises LlmError, BudgetExceeded and SinkError.
        """
        body = self._body(messages)
        key = content_key(body)
        kept = self.cache.get(key)
        if kept is not None:
            with contextlib.suppress(ValueError):  # kept by a version that read replies otherwise
                return read(kept)
        cause = ""
        for attempt in range(self._retry.attempts):
            if self._stop.is_set():
                raise Stopped(f"{self._url}: stopped")
            self.api_budget.take(repeat=attempt > 0)
            try:
                reply = self._send(body)
                try:
                    value = read(reply)
                    self.cache.put(key, reply, {"model": self.model, **(note or {})})
                    return value
                except ValueError as error:
                    raise NoAnswer(f"a reply that is {error}: {self._chat.plain(reply)}") from error
            except NoAnswer as error:
                cause = str(error)
                if attempt + 1 < self._retry.attempts:
                    self._pause(attempt, error)
        raise LlmError(f"{self._url}: failed {self._retry.attempts} times, last with {cause}")

    def stop(self) -> None:
        """Let every ``ask``, in any thread, give up instead of waiting or sending again. For good."""
        self._stop.set()

    def close(self) -> None:
        self._chat.close()

    def _body(self, messages: Sequence[Message]) -> dict[str, Any]:
        body = {"model": self.model, "messages": list(messages), **self._extra}
        return {name: value for name, value in body.items() if value is not None}

    def _pause(self, attempt: int, error: NoAnswer) -> None:
        pause = min(self._retry.backoff_s * 2**attempt, MAX_PAUSE_S) * random.uniform(0.5, 1.0)
        pause = max(pause, min(error.after_s, MAX_PAUSE_S))
        self._notice(f"{self._url}: {error}; again in {pause:.1f} s")
        self._stop.wait(pause)

    def _send(self, body: dict[str, Any]) -> str:
        """Send a request, count its tokens and return the reply's text. Raises NoAnswer and LlmError."""
        fields = {name: value for name, value in body.items() if name not in ("model", "messages")}
        try:
            reply = self._chat.ask(self.model, body["messages"], fields)
        except NoAnswer as error:
            if error.tokens is not None:
                self.api_budget.add(*error.tokens)
            raise
        except RefusedError as error:
            raise LlmError(str(error)) from error
        self.api_budget.add(*reply.tokens)
        return reply.text


def resumable(error: EdgeError, kept: str) -> EdgeError:
    """The same error, with what is kept and how to go on."""
    more = "run the same command again to go on"
    if isinstance(error, BudgetExceeded):
        more += ", with a larger budget to get further at once"
    return type(error)(f"{error}; {kept}; {more}")


def parse_extra(text: str) -> dict[str, Any]:
    """Fields to merge into each request: a JSON object. Raises ConfigError."""
    try:
        extra = json.loads(text)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise ConfigError(f'extra {text!r}: expected a JSON object such as {{"temperature": null}}')
    return extra


def _read_key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(f"{variable}: holds a character that no key has; set it again")
    return key or None
