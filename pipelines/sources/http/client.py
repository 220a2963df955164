"""A small HTTP client on urllib, for what has to be known before GStreamer reads, and for single images.

It goes where GStreamer would go: no proxy, credentials for the camera's own host alone, the same trust.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from pipelines.sources.network import challenges, tls
from pipelines.sources.network.source import NetworkSource

Response = Any
"""http.client.HTTPResponse, with urllib's ``url`` (after redirects)."""


class HttpClient:
    """Fetches from ``source``'s server. Not thread-safe."""

    def __init__(self, source: NetworkSource, trust: tls.Trust, timeout_s: float) -> None:
        """Raises SourceError for a ``tls_ca_file`` that holds no certificates."""
        self._source = source
        self._timeout_s = timeout_s
        self._secure = _HttpsHandler(source.host, trust)
        self._opener = self._make_opener()

    def get(self, url: str) -> Response:
        """Open ``url``. Raises urllib.error.HTTPError for an answer other than 2xx, else OSError.

        Raises http.client.HTTPException for what is not HTTP.
        """
        request = urllib.request.Request(url, headers={"User-Agent": "edge-run", "Accept": "*/*"})
        try:
            return self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            wanted = error.headers.get_all("WWW-Authenticate") or []
            if error.code != 401 or self._source.user is None or challenges.unsupported(wanted):
                raise
            error.close()
            self._opener = self._make_opener(_auth_handler(self._source, wanted))
            return self._opener.open(request, timeout=self._timeout_s)

    def _make_opener(self, *more: Any) -> urllib.request.OpenerDirector:
        """Not build_opener: that one also reads proxies, files and FTP."""
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.HTTPHandler(),
            self._secure,
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            *more,
        ):
            opener.add_handler(handler)
        return opener


class _HttpsHandler(urllib.request.HTTPSHandler):
    """The camera's trust for the camera, the system's for any other host."""

    def __init__(self, host: str, trust: tls.Trust) -> None:
        super().__init__()
        self._host = host
        self._trust = trust
        self._own, self._other = tls.client_context(trust), tls.client_context(tls.Trust())

    def https_open(self, request: urllib.request.Request) -> Any:
        own = urlsplit(request.full_url).hostname == self._host
        trust, context = (self._trust, self._own) if own else (tls.Trust(), self._other)

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                assert isinstance(self.sock, ssl.SSLSocket)
                tls.require_fingerprint(self.sock, trust)

        return self.do_open(Connection, request, context=context)


class _DigestHandler(urllib.request.HTTPDigestAuthHandler):
    """Takes the first challenge that can be met; urllib looks at the first alone."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        offered = headers.get_all("WWW-Authenticate") or []
        wanted = http.client.HTTPMessage()
        for challenge in [one for one in offered if challenges.usable(one)][:1]:
            wanted["WWW-Authenticate"] = challenge
        return super().http_error_401(req, fp, code, msg, wanted) if wanted else None


def _auth_handler(source: NetworkSource, offered: list[str]) -> Any:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    parts = urlsplit(source.location)
    passwords.add_password(
        None, f"{parts.scheme}://{parts.netloc}/", source.user or "", source.password or ""
    )
    first = next(one for one in offered if challenges.usable(one)).strip().lower()
    make = _DigestHandler if first.startswith("digest") else urllib.request.HTTPBasicAuthHandler
    return make(passwords)
