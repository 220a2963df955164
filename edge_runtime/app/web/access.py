"""Who may call: Host and Origin headers, the token, and the cookie of a browser that has logged in.

A browser sends requests for any page it shows. What keeps another page out:

- Host must be a name or address of this server, or a page whose name has just been pointed here (DNS
  rebinding) could read everything.
- Origin, where it is sent, must be this server, and Sec-Fetch-Site must not name another site, or any page
  could send changes and show the cameras' frames.
- The cookie is SameSite=Strict. It holds a value made from the token, never the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edge_runtime.app.web.config import is_loopback
from edge_runtime.errors import ConfigError

COOKIE = "edge_run"
LEAST_TOKEN = 16
"""Characters: a shorter token could be guessed."""

_OPEN = frozenset({"/", "/favicon.ico", "/api/v1/login", "/health/live", "/health/ready"})
"""Paths that need no token: the page holds no secret and asks for one, health says nothing but ok."""
_OPEN_FOLDER = "/static/"


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served."""

    status: int
    detail: str


class Access:
    """``names``: further host names that are this server's. Raises ConfigError for a token that is too short.

    ``anywhere``: the address is one of the whole network, so any IP address may stand in Host: for rebinding
    an attacker needs a name.
    """

    def __init__(
        self, host: str, *, token: str | None = None, names: Iterable[str] = (), tls: bool = False
    ) -> None:
        if token is not None and len(token) < LEAST_TOKEN:
            raise ConfigError(
                f"web: the token has {len(token)} characters; make one with at least {LEAST_TOKEN}, e.g. "
                "openssl rand -hex 24"
            )
        self._token = None if token is None else token.encode()
        self.tls = tls
        self._anywhere = not is_loopback(host)
        self._names = {host.lower(), *(name.lower() for name in names), "localhost"}
        if self._anywhere:
            machine = socket.gethostname().lower()
            self._names |= {machine, f"{machine}.local"}

    @property
    def cookie(self) -> str:
        """The value of the cookie: the same after a restart, another one with another token."""
        return hmac.new(self._token or b"", b"cookie of edge-run", hashlib.sha256).hexdigest()

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def is_token(self, given: str) -> bool:
        """Whether it is the token, in a time that says nothing about it."""
        return self._token is not None and _same(self._token, given.encode("utf-8", "replace"))

    def refusal(self, scope: Mapping[str, Any]) -> Refusal | None:
        """Why an ASGI request or WebSocket is not served; None when it is."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return Refusal(421, "the Host header names another server; add its name to hosts under [web]")
        if (refusal := self._other_site(hosts[0], headers, scope)) is not None:
            return refusal
        path = scope["path"]
        if self._token is None or path in _OPEN or path.startswith(_OPEN_FOLDER):
            return None
        if self._has_token(headers):
            return None
        return Refusal(401, "a token is needed: Authorization: Bearer TOKEN, or log in on the page")

    def has_token(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request may see what needs a token, on a path that does not."""
        return self._token is None or self._has_token(
            {
                name.decode("latin-1").lower(): [value.decode("latin-1")]
                for name, value in scope["headers"]
                if name.lower() in (b"authorization", b"cookie")
            }
        )

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._anywhere or address.is_loopback

    def _other_site(
        self, host: str, headers: Mapping[str, list[str]], scope: Mapping[str, Any]
    ) -> Refusal | None:
        for origin in headers.get("origin", []):
            scheme = "https" if self.tls else "http"
            if origin.lower() != f"{scheme}://{host}".lower():
                return Refusal(403, "the Origin header names another site")
        site = headers.get("sec-fetch-site", ["none"])[-1]
        # A link on another page may lead here, to the page alone: that one shows nothing by itself.
        follows_link = scope["path"] == "/" and headers.get("sec-fetch-mode", [""])[-1] == "navigate"
        if site not in ("none", "same-origin") and not follows_link:
            return Refusal(403, "the request comes from a page of another site")
        return None

    def _has_token(self, headers: Mapping[str, list[str]]) -> bool:
        for value in headers.get("authorization", []):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer" and self.is_token(token.strip()):
                return True
        wanted = self.cookie.encode()
        for value in headers.get("cookie", []):
            for part in value.split(";"):
                name, _, given = part.strip().partition("=")
                if name == COOKIE and _same(wanted, given.encode("utf-8", "replace")):
                    return True
        return False


def _same(wanted: bytes, given: bytes) -> bool:
    return hmac.compare_digest(hashlib.sha256(wanted).digest(), hashlib.sha256(given).digest())
