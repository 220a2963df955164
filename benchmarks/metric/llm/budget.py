"""What asking a paid server costs: counted while it happens, and held within a budget."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from edge_runtime.errors import BackendError, ConfigError

DEFAULT_REQUESTS = 1000


class BudgetExceeded(BackendError):
    """The budget allows no further request."""


@dataclass(frozen=True)
class Limits:
    """Most requests, repeated ones among them, and most tokens that one run may use; None: any number."""

    requests: int | None = DEFAULT_REQUESTS
    tokens: int | None = None

    @classmethod
    def parse(cls, text: str) -> Limits:
        """``500``, ``requests=500``, ``tokens=200000`` or both with a comma. Raises ConfigError.

        A budget that names only tokens does not limit requests.
        """
        limits: dict[str, int] = {}
        for part in text.split(","):
            match = re.fullmatch(r"\s*(?:(requests|tokens)\s*=\s*)?(\d{1,15})\s*", part, re.ASCII)
            name = match[1] or "requests" if match else ""
            if not match or name in limits:
                raise ConfigError(f"budget {text!r}: expected such as 500 or requests=500,tokens=200000")
            limits[name] = int(match[2])
        return cls(limits.get("requests"), limits.get("tokens"))


@dataclass(frozen=True)
class Price:
    """Price of a million tokens that go in and that come out, in any currency."""

    prompt: float
    completion: float

    @classmethod
    def parse(cls, text: str) -> Price:
        """``0.15,0.60``. Raises ConfigError."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*", text, re.ASCII)
        if not match:
            message = "expected the prices of a million tokens in and out, such as 0.15,0.60"
            raise ConfigError(f"price {text!r}: {message}")
        return cls(float(match[1]), float(match[2]))


class ApiBudget:
    """Requests and tokens so far. Safe for threads."""

    def __init__(self, budget: Limits, price: Price | None = None) -> None:
        self._budget, self._price = budget, price
        self._lock = threading.Lock()
        self.requests = 0
        self.repeats = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.uncounted = 0
        """Replies that came without numbers of tokens."""

    def take(self, *, repeat: bool) -> None:
        """Count a request that is about to be sent. Raises BudgetExceeded when the budget does not allow it.

        Requests never exceed it; tokens are known afterwards only, so the last requests may pass their limit.
        """
        budget = self._budget
        with self._lock:
            if budget.requests is not None and self.requests >= budget.requests:
                raise BudgetExceeded(f"the budget of {budget.requests} requests is spent")
            if budget.tokens is not None and self.prompt_tokens + self.completion_tokens >= budget.tokens:
                raise BudgetExceeded(f"the budget of {budget.tokens} tokens is spent")
            self.requests += 1
            self.repeats += repeat

    def add(self, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Count the tokens of a reply; None: the server did not say.

        Raises ConfigError when a budget of tokens cannot be kept because the server does not say.
        """
        with self._lock:
            if prompt_tokens is None or completion_tokens is None:
                self.uncounted += 1
                if self._budget.tokens is not None:
                    message = "the server does not count tokens, so a budget of tokens cannot be kept"
                    raise ConfigError(f"{message}; give one of requests")
                return
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens

    def __str__(self) -> str:
        """One line for people."""
        text = f"{self.requests:,} requests"
        if self.repeats:
            text += f" ({self.repeats:,} repeated)"
        text += f", {self.prompt_tokens:,} tokens in, {self.completion_tokens:,} out"
        if self.uncounted:
            text += f" ({self.uncounted:,} replies uncounted)"
        if self._price:
            millionths = self.prompt_tokens * self._price.prompt
            millionths += self.completion_tokens * self._price.completion
            text += f", cost {millionths / 1e6:.4f}"
        return text
