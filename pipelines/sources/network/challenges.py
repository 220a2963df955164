"""What a server asks for when it answers 401, and whether GStreamer's clients can give it.

rtspsrc and souphttpsrc have Basic authentication and Digest with MD5. A camera that asks for Digest with
SHA-256 alone refuses every password, also the right one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipelines.sources.errors import Problem

_ALGORITHM = re.compile(r"\balgorithm\s*=\s*\"?([\w-]+)", re.IGNORECASE)


def usable(challenge: str) -> bool:
    """True when GStreamer can answer ``challenge`` (the value of one WWW-Authenticate header)."""
    scheme = challenge.strip().partition(" ")[0].lower()
    return scheme == "basic" or (scheme == "digest" and _algorithm(challenge) == "MD5")


def unsupported(challenges: Sequence[str]) -> str:
    """Name what is asked for, e.g. ``SHA-256 digest``, when nothing of it is usable; else empty."""
    if not challenges or any(usable(challenge) for challenge in challenges):
        return ""
    first = challenges[0].strip()
    scheme = first.partition(" ")[0]
    return f"{_algorithm(first)} digest" if scheme.lower() == "digest" else scheme


def _algorithm(challenge: str) -> str:
    match = _ALGORITHM.search(challenge)
    return match[1].upper() if match else "MD5"


def unsupported_login(asked: str) -> Problem:
    """The problem of a server that asks for what :func:`unsupported` named."""
    return Problem(
        f"the server asks for {asked} authentication, which GStreamer does not have",
        "set it to MD5 digest or basic authentication (over TLS)",
        "auth",
    )
