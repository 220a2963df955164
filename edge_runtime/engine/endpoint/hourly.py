"""Most requests and tokens within any hour."""

from __future__ import annotations

from collections import deque

HOUR_S = 3600.0


class HourlyLimits:
    """``requests`` and ``tokens`` within the last 3600 s; None for no limit. For one thread at a time.

    Tokens are known afterwards only, so the last request of an hour may pass their limit.
    """

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        self._most_requests, self._most_tokens = requests, tokens
        self._requests: deque[float] = deque()
        self._tokens: deque[tuple[float, int]] = deque()
        self._token_sum = 0

    def wait_s(self, now: float) -> tuple[float, str]:
        """Seconds until the next request may be sent, and the limit that is reached; 0 and empty for now."""
        self._forget(now)
        if self._most_requests is not None and len(self._requests) >= self._most_requests:
            oldest = self._requests[len(self._requests) - self._most_requests]
            return oldest + HOUR_S - now, f"requests_per_hour = {self._most_requests}"
        if self._most_tokens is not None and self._token_sum >= self._most_tokens:
            left = self._token_sum
            for spent_at, count in self._tokens:
                left -= count
                if left < self._most_tokens:
                    return spent_at + HOUR_S - now, f"tokens_per_hour = {self._most_tokens}"
        return 0.0, ""

    def sent(self, now: float) -> None:
        self._requests.append(now)

    def spent(self, now: float, tokens: int) -> None:
        self._tokens.append((now, tokens))
        self._token_sum += tokens

    def _forget(self, now: float) -> None:
        while self._requests and self._requests[0] <= now - HOUR_S:
            self._requests.popleft()
        while self._tokens and self._tokens[0][0] <= now - HOUR_S:
            self._token_sum -= self._tokens.popleft()[1]
