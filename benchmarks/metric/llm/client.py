"""Client of an OpenAI-compatible server (``POST URL/chat/completions``), for judges and for polled models.

Rate limits, server errors, timeouts, lost connections and replies that cannot be read are tried again after
pauses that double and vary at random; a ``Retry-After`` is obeyed. Anything else ends in one line that says
what the server said. Replies are kept in a :class:`ReplyCache`, and every request counts against a budget.
The key comes from the environment, goes into one header, and is removed from whatever a server says about it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from benchmarks.metric.llm.budget import ApiBudget, BudgetExceeded
from benchmarks.metric.llm.reply_cache import ReplyCache, content_key
from edge_runtime.errors import BackendError, ConfigError, EdgeError

try:
    import httpx2
    import openai
except ImportError as error:
    raise ConfigError(f"{error}; asking a server needs it, run: pip install openai") from error

Value = TypeVar("Value")
Message = dict[str, Any]

AGAIN = frozenset({408, 409, 425, 429})
"""Statuses below 500 that a later request may not get."""

PATH = "/chat/completions"
MAX_PAUSE_S = 60.0
MAX_REPLY_BYTES = 4 << 20
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class LlmError(BackendError):
    """A server that gives no usable reply."""


class Stopped(LlmError):
    """The client was asked to stop; another error gives the reason."""


class _Again(Exception):
    """A failure that may pass. ``after_s``: when the server wants to be asked again."""

    def __init__(self, cause: str, after_s: float = 0.0) -> None:
        super().__init__(cause)
        self.after_s = after_s


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
        self._url = _endpoint(url)
        self._key, self._key_variable = _read_key(key_variable), key_variable
        self._extra = dict(extra or {})
        self._retry = retry or Retry()
        self._notice = notice or (lambda line: None)
        self._stop = threading.Event()
        self._openai = openai.OpenAI(
            api_key=self._key or "none",
            base_url=self._url.removesuffix(PATH),
            max_retries=0,  # retries are counted against the budget, so they are done here
            http_client=openai.DefaultHttpxClient(
                timeout=httpx2.Timeout(self._retry.timeout_s, connect=min(10.0, self._retry.timeout_s)),
                limits=httpx2.Limits(max_connections=None),
                follow_redirects=False,  # the key would go to another server
                trust_env=urlsplit(self._url).hostname not in LOOPBACK,  # its proxy is for other machines
            ),
        )

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
                reply, tokens = self._read_reply(self._post(body))
                try:
                    value = read(reply)
                    self.cache.put(key, reply, {"model": self.model, **(note or {})})
                    return value
                except ValueError as error:
                    raise _Again(f"a reply that is {error}: {self._plain(reply)}") from error
                finally:
                    self.api_budget.add(*tokens)
            except _Again as error:
                cause = str(error)
                if attempt + 1 < self._retry.attempts:
                    self._pause(attempt, error)
        raise LlmError(f"{self._url}: failed {self._retry.attempts} times, last with {cause}")

    def stop(self) -> None:
        """Let every ``ask``, in any thread, give up instead of waiting or sending again. For good."""
        self._stop.set()

    def close(self) -> None:
        self._openai.close()

    def _body(self, messages: Sequence[Message]) -> dict[str, Any]:
        body = {"model": self.model, "messages": list(messages), **self._extra}
        return {name: value for name, value in body.items() if value is not None}

    def _pause(self, attempt: int, error: _Again) -> None:
        pause = min(self._retry.backoff_s * 2**attempt, MAX_PAUSE_S) * random.uniform(0.5, 1.0)
        pause = max(pause, min(error.after_s, MAX_PAUSE_S))
        self._notice(f"{self._url}: {error}; again in {pause:.1f} s")
        self._stop.wait(pause)

    def _post(self, body: dict[str, Any]) -> Any:
        """Send a request and return the JSON of the reply. Raises _Again and LlmError."""
        deadline = time.monotonic() + self._retry.timeout_s
        received = bytearray()
        fields = {name: value for name, value in body.items() if name not in ("model", "messages")}
        # Organisation and project of the environment are for another server.
        omitted = ("OpenAI-Organization", "OpenAI-Project", *(() if self._key else ("Authorization",)))
        request: Any = {
            "model": self.model,
            "messages": body["messages"],
            "extra_body": fields,
            "extra_headers": dict.fromkeys(omitted, openai.Omit()),
        }
        try:
            with self._openai.chat.completions.with_streaming_response.create(**request) as response:
                for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > MAX_REPLY_BYTES:
                        raise _Again(f"a reply of more than {MAX_REPLY_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise _Again(f"no whole reply within {self._retry.timeout_s:g} s")
        except openai.APIStatusError as error:
            raise self._refused(error.response) from error
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            raise _Again(f"no reply within {self._retry.timeout_s:g} s") from error
        except (openai.APIConnectionError, httpx2.HTTPError, OSError, UnicodeError) as error:
            cause = error.__cause__ or error
            raise _Again(f"no reply ({self._plain(str(cause)) or type(cause).__name__})") from error
        try:
            return json.loads(received)
        except (ValueError, RecursionError) as error:
            raise _Again(f"a reply that is not JSON: {self._plain(received)}") from error

    def _refused(self, response: httpx2.Response) -> _Again | LlmError:
        status = response.status_code
        said = f"status {status} ({self._plain(_error_message(response.content))})"
        if status >= 500 or status in AGAIN:
            return _Again(said, _retry_after(response))
        advice = "check the address, the model's name and the options"
        if status in (401, 403):
            advice = f"check the key in {self._key_variable}"
            if self._key is None:
                advice = f"set the key in the environment: {self._key_variable}"
        return LlmError(f"{self._url}: {said}; {advice}")

    def _read_reply(self, reply: Any) -> tuple[str, tuple[int | None, int | None]]:
        try:
            choice = reply["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise _Again(f"a reply without choices[0].message.content: {self._plain(str(reply))}") from error
        usage = reply.get("usage") if isinstance(reply.get("usage"), dict) else {}
        tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        if not isinstance(text, str) or (not text.strip() and reason not in (None, "stop")):
            self.api_budget.add(*tokens)
            raise _Again(f"a reply without text (finish_reason {reason!r})")
        return text.encode("utf-8", "replace").decode("utf-8"), tokens

    def _plain(self, text: str | bytes | bytearray) -> str:
        """A server's words, fit for one line of an error: short, without line breaks and without the key."""
        if not isinstance(text, str):
            text = bytes(text).decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= 200 else text[:200] + "..."


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


def _endpoint(url: str) -> str:
    if "@" in url or "?" in url:  # before anything that would repeat the address
        raise ConfigError(
            "the server's address must hold no user, password or parameters; set keys in the environment"
        )
    try:
        parsed = urlsplit(url)
        usable = parsed.scheme in ("http", "https") and parsed.hostname and parsed.port != 0
    except ValueError:  # of brackets or the port
        usable = False
    if not usable:
        raise ConfigError(f"{url}: expected the address of a server such as http://127.0.0.1:8000/v1")
    path = parsed.path.rstrip("/").removesuffix(PATH)
    return parsed._replace(path=path + PATH, fragment="").geturl()


def _read_key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(f"{variable}: holds a character that no key has; set it again")
    return key or None


def _error_message(received: bytes) -> str:
    """The message of an error reply, or all of it when it has none."""
    try:
        data = json.loads(received)
        error = data.get("error", data)
        return str(error if isinstance(error, str) else error["message"])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return received.decode("utf-8", "replace") or "no message"


def _retry_after(response: httpx2.Response) -> float:
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
