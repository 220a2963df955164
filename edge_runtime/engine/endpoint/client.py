"""One request to an OpenAI-compatible server (``POST URL/chat/completions``) by the ``openai`` client.

A failure that may pass (rate limit, server error, timeout, lost connection, unreadable reply) is
:class:`NoAnswer`; the caller decides when to ask again. Anything else is :class:`RefusedError`, one line
with what the server said and what to do. The key goes into one header and is removed from whatever a server
says about it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edge_runtime.config.server_url import LOOPBACK, PATH, base_url
from edge_runtime.errors import BackendError, ConfigError

if TYPE_CHECKING:
    import httpx2

AGAIN = frozenset({408, 409, 425, 429})
"""Statuses below 500 that a later request may not get."""
MAX_REPLY_BYTES = 4 << 20


class RefusedError(BackendError):
    """The server refuses, and asking again would not help. ``status``: of its reply."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NoAnswer(Exception):
    """A failure that may pass. ``after_s``: when the server wants to be asked again.

    ``tokens``: in and out, of a reply that cannot be used.
    """

    def __init__(
        self, cause: str, after_s: float = 0.0, tokens: tuple[int | None, int | None] | None = None
    ) -> None:
        super().__init__(cause)
        self.after_s, self.tokens = after_s, tokens


@dataclass(frozen=True)
class ChatReply:
    """A reply's text, and tokens in and out; None: the server did not say."""

    text: str
    tokens: tuple[int | None, int | None]


class ChatClient:
    """Safe for threads. ``url`` with or without ``/chat/completions``.

    ``key_place``: where the key is set, for messages. Raises ConfigError for an address that cannot be used,
    and without the package openai.
    """

    def __init__(
        self, url: str, *, key: str | None, key_place: str, timeout_s: float, install: str = "openai"
    ) -> None:
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise ConfigError(f"{error}; asking a server needs it, run: pip install {install}") from error
        self._base = base_url(url)
        self.url = self._base + PATH
        self._key, self._key_place, self._timeout_s = key, key_place, timeout_s
        self._openai = openai.OpenAI(
            api_key=key or "none",
            base_url=self._base,
            max_retries=0,  # the caller counts the requests and decides on the next
            http_client=openai.DefaultHttpxClient(
                timeout=httpx2.Timeout(timeout_s, connect=min(10.0, timeout_s)),
                limits=httpx2.Limits(max_connections=None),
                follow_redirects=False,  # the key would go to another server
                trust_env=urlsplit(self._base).hostname not in LOOPBACK,  # its proxy is for other machines
            ),
        )

    def close(self) -> None:
        self._openai.close()

    def ask(self, model: str, messages: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> ChatReply:
        """Send one request and return its reply. ``fields``: of the request, beside model and messages.

        Raises NoAnswer and RefusedError.
        """
        request: Any = {
            "model": model,
            "messages": messages,
            "extra_body": dict(fields),
            "extra_headers": self._headers(),
        }
        return self._read_reply(self._call(self._openai.chat.completions, "create", request))

    def models(self) -> tuple[str, ...]:
        """Names of the models that the server lists. Raises NoAnswer and RefusedError."""
        listed = self._call(self._openai.models, "list", {"extra_headers": self._headers()})
        entries = listed.get("data") if isinstance(listed, dict) else None
        names = [entry.get("id") for entry in entries or () if isinstance(entry, dict)]
        return tuple(name for name in names if isinstance(name, str))

    def plain(self, text: str | bytes | bytearray) -> str:
        """A server's words, fit for one line of an error: short, without line breaks and without the key."""
        if not isinstance(text, str):
            text = bytes(text).decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= 200 else text[:200] + "..."

    def _headers(self) -> dict[str, Any]:
        import openai

        # Organisation and project of the environment are for another server.
        omitted = ("OpenAI-Organization", "OpenAI-Project", *(() if self._key else ("Authorization",)))
        return dict.fromkeys(omitted, openai.Omit())

    def _call(self, resource: Any, method: str, request: dict[str, Any]) -> Any:
        """The JSON of the reply. Raises NoAnswer and RefusedError."""
        import httpx2
        import openai

        deadline = time.monotonic() + self._timeout_s
        received = bytearray()
        try:
            with getattr(resource.with_streaming_response, method)(**request) as response:
                for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > MAX_REPLY_BYTES:
                        raise NoAnswer(f"a reply of more than {MAX_REPLY_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise NoAnswer(f"no whole reply within {self._timeout_s:g} s")
        except openai.APIStatusError as error:
            raise self._refused(error.response) from error
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            raise NoAnswer(f"no reply within {self._timeout_s:g} s") from error
        except (openai.APIConnectionError, httpx2.HTTPError, OSError, UnicodeError) as error:
            cause = error.__cause__ or error
            raise NoAnswer(f"no reply ({self.plain(str(cause)) or type(cause).__name__})") from error
        try:
            return json.loads(received)
        except (ValueError, RecursionError) as error:
            raise NoAnswer(f"a reply that is not JSON: {self.plain(received)}") from error

    def _refused(self, response: httpx2.Response) -> NoAnswer | RefusedError:
        status = response.status_code
        said = f"status {status} ({self.plain(_error_message(response.content))})"
        if status >= 500 or status in AGAIN:
            return NoAnswer(said, _retry_after(response))
        advice = "check the address, the model's name and the options"
        if status in (401, 403):
            advice = f"check the key in {self._key_place}"
            if self._key is None:
                advice = f"set the key in the environment: {self._key_place}"
        return RefusedError(f"{self.url}: {said}; {advice}", status)

    def _read_reply(self, reply: Any) -> ChatReply:
        try:
            choice = reply["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            cause = f"a reply without choices[0].message.content: {self.plain(str(reply))}"
            raise NoAnswer(cause) from error
        usage = reply.get("usage") if isinstance(reply.get("usage"), dict) else {}
        tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        if not isinstance(text, str) or (not text.strip() and reason not in (None, "stop")):
            raise NoAnswer(f"a reply without text (finish_reason {reason!r})", tokens=tokens)
        return ChatReply(text.encode("utf-8", "replace").decode("utf-8"), tokens)


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
