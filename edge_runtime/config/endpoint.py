"""``[endpoint]`` of edge-run.toml: an OpenAI-compatible server whose model watches in place of a bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.config.secret import Secret, forbid_secret, read_secret
from edge_runtime.config.server_url import api_url, check_key_travels
from edge_runtime.config.table import Table
from edge_runtime.errors import ConfigError

KEY_VARIABLE = "EDGE_RUN_ENDPOINT_KEY"
"""The environment variable of the key, where no other place is named."""
REQUEST_FIELDS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 128}
"""Fields of each request beside model and messages, where ``request`` does not say otherwise."""
_WHOLE = "a whole number from 1"


@dataclass(frozen=True)
class EndpointConfig:
    """``[endpoint]``. Nothing is asked while ``url`` is empty."""

    url: str = ""
    model: str = ""
    key: Secret = field(default_factory=Secret)
    frames: int = 8
    """Timesteps in the window that a request holds."""
    frame_size: int = 448
    """Longer side of a frame in pixels."""
    timeout_s: float = 60.0
    """To the end of a reply."""
    concurrency: int = 1
    """Most requests at a time, of all cameras together."""
    requests_per_hour: int = 3600
    """Most requests within any hour, of all cameras together."""
    tokens_per_hour: int | None = None
    """Most tokens, in and out; None for no limit."""
    give_up_s: float | None = None
    """The run ends when no reply came for so long; None: never."""
    request: Mapping[str, Any] = field(default_factory=lambda: REQUEST_FIELDS)
    """Fields of each request, in place of :data:`REQUEST_FIELDS`."""

    def __bool__(self) -> bool:
        return bool(self.url)

    def key_place(self, environment: Mapping[str, str] = os.environ) -> Secret:
        """Where the key is read from: the place named, else :data:`KEY_VARIABLE` where that is set."""
        if self.key or not environment.get(KEY_VARIABLE):
            return self.key
        return Secret(env=KEY_VARIABLE)

    def read_key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The key, redacted from now on; None without one. Raises ConfigError for one that cannot be read or
        holds what no key has, and where it must not be sent.
        """
        place = self.key_place(environment)
        key = (place.read("endpoint key", environment) or "").strip()
        if not all("!" <= character <= "~" for character in key):
            raise ConfigError(f"{place.env or place.file}: holds a character that no key has; set it again")
        if key:
            check_key_travels(self.url)
        return key or None


def read_endpoint(table: Table) -> EndpointConfig:
    """``[endpoint]``; without the table one that is off."""
    forbid_secret(table, "key")
    url, model = table.text("url", ""), table.text("model", "")
    for name, value, other in (("url", url, model), ("model", model, url)):
        if not value.strip() and (other or name in table):
            table.wrong(name, "is missing: [endpoint] needs both url and model")
    if url:
        try:
            url = api_url(url)
        except ConfigError as err:
            table.wrong("url", str(err))
            url = ""
    default = EndpointConfig()
    return EndpointConfig(
        url,
        model,
        read_secret(table, "key"),
        table.whole("frames", default.frames, lambda n: 1 <= n <= 128, "a whole number from 1 to 128"),
        table.whole("frame_size", default.frame_size, lambda n: 32 <= n <= 2048, "pixels from 32 to 2048"),
        table.seconds("timeout", default.timeout_s, zero=False),
        table.whole("concurrency", default.concurrency, lambda n: 1 <= n <= 64, "a number from 1 to 64"),
        table.whole("requests_per_hour", default.requests_per_hour, lambda n: n >= 1, _WHOLE),
        table.whole("tokens_per_hour", None, lambda n: n >= 1, _WHOLE),
        table.seconds("give_up", None, zero=False),
        _request(table),
    )


def _request(table: Table) -> Mapping[str, Any]:
    fields = table.value("request")
    if fields is None:
        return REQUEST_FIELDS
    if not isinstance(fields, dict):
        table.wrong("request", f"expected a table such as {{ temperature = 0 }}, got {fields!r}")
        return REQUEST_FIELDS
    for name in ("model", "messages", "stream"):
        if name in fields:
            table.wrong("request", f"holds {name}, which edge-run sets itself")
    return fields
