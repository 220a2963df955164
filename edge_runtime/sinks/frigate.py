"""``[[frigate]]``: each response becomes a manual event of Frigate, by its public HTTP API.

    POST <url>/api/events/<camera>/<label>/create
    {"sub_label": <the response>, "score": ..., "duration": ..., "include_recording": true}

Frigate lets an event begin when it is posted, not when it happened. So a response that could not be posted
within ``max_age`` is dropped and counted: later it would mark the wrong part of the recording. Frigate's port
5000 takes requests of anybody; port 8971 wants a user with the role admin, who is logged in as needed.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote

from edge_runtime import redaction
from edge_runtime.config.certificates import check_certificates
from edge_runtime.config.secret import Secret, forbid_secret, read_secret
from edge_runtime.config.table import Table
from edge_runtime.errors import Finding
from edge_runtime.sinks.http_receiver import HttpReceiver, check_url, contact, judge
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import RetryableError
from edge_runtime.sinks.remote_config import RemoteConfig, read_common

LONGEST_LABEL = 20
LONGEST_SUB_LABEL = 100
"""Both are what Frigate's database holds."""

_NO_ENTRY = (401, 403)


@dataclass(frozen=True)
class FrigateConfig(RemoteConfig):
    """One ``[[frigate]]``."""

    kind = "frigate"

    types: tuple[str, ...] = ("response",)
    url: str = ""
    user: str | None = None
    password: Secret = field(default_factory=Secret)
    duration_s: int = 30
    """Of an event in Frigate."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """By the id or the text of a query; the label of others is made from their text."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Frigate's names of cameras by ours, where they differ."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0

    @classmethod
    def read(cls, table: Table, name: str) -> FrigateConfig:
        common = read_common(table, name, ("response",))
        if set(common["types"]) != {"response"}:
            table.wrong("events", "Frigate takes responses alone; leave events out")
        url = table.required_text("url")
        if url is not None and (problem := check_url(url)):
            table.wrong("url", problem)
        forbid_secret(table, "password")
        user, password = table.text("user", None), read_secret(table, "password")
        if (user is None) == bool(password):
            table.wrong("user", "user and password_env or password_file belong together")
        max_age_s = table.positive("max_age", 60.0)
        return cls(
            **{**common, "outbox_age_s": min(max_age_s, common["outbox_age_s"])},
            url=url or "",
            user=user,
            password=password,
            duration_s=table.whole("duration", 30, lambda n: 0 < n <= 86400, "whole seconds, 1 to 86400"),
            labels=_read_names(table, "labels", LONGEST_LABEL),
            cameras=_read_names(table, "cameras", LONGEST_SUB_LABEL),
            connect_timeout_s=table.positive("connect_timeout", 5.0),
            read_timeout_s=table.positive("read_timeout", 10.0),
        )

    @property
    def label(self) -> str:
        return f"Frigate {self.name}"

    def transport(self, *, announce: bool = True) -> Frigate:
        return Frigate(self, self.password.read(self.label))

    def check(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        yield from self.password.check("password", environment)
        if self.password and not self.url.startswith("https:"):
            yield Finding("url", "warn", "the password goes over the network in the clear; use https")
        yield from check_certificates("ca_file", self.ca_file)

    def contacts(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        yield contact(self.label, self.url)


class Frigate(HttpReceiver):
    """Posts events, after a login where there is a ``password``."""

    def __init__(
        self, config: FrigateConfig, password: str | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__(
            config.label,
            config.url,
            ca_file=config.ca_file,
            connect_timeout_s=config.connect_timeout_s,
            read_timeout_s=config.read_timeout_s,
        )
        self._config = config
        self._password = password
        self._base = self._target.partition("?")[0].rstrip("/").removesuffix("/api")
        self._now = now
        self._cookie = ""

    def send(self, record: OutboxRecord) -> None:
        """Create one event. Raises RetryableError and PermanentError."""
        event: dict[str, Any] = json.loads(record.body)
        if self._password is not None and not self._cookie:
            self._log_in()
        status = self._create(event)
        if status == 401 and self._password is not None:  # the login has expired
            self._log_in()
            status = self._create(event)
        if status in _NO_ENTRY:
            # The login is wrong, not the event: it waits until somebody has corrected the login.
            reason = "it wants a login" if status == 401 else "the user needs the role admin"
            raise RetryableError(f"{status} {http.client.responses[status]}: {reason}")

    def _create(self, event: Mapping[str, Any]) -> int:
        """The status of the answer, of those that are not an error of the event or the server."""
        camera = self._config.cameras.get(event["stream"], event["stream"])
        path = f"/api/events/{quote(camera, safe='')}/{quote(self._label(event), safe='')}/create"
        body = {
            "sub_label": shortened(event["text"], LONGEST_SUB_LABEL),
            "score": event["score"],
            "duration": self._config.duration_s,
            "include_recording": True,
        }
        return self._post(path, body)[0]

    def _label(self, event: Mapping[str, Any]) -> str:
        labels = self._config.labels
        return labels.get(event["query"]) or labels.get(event["question"]) or label_of(event["question"])

    def _log_in(self) -> None:
        """Keep the cookies of a session. Raises RetryableError."""
        self._cookie = ""
        status, cookies = self._post("/api/login", {"user": self._config.user, "password": self._password})
        if status in _NO_ENTRY:
            raise RetryableError(f"it refuses the login of {self._config.user}; correct user or password")
        values = _cookies(cookies)
        for value in values.values():
            redaction.register(value)
        self._cookie = "; ".join(f"{name}={value}" for name, value in values.items())

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, list[str]]:
        """Status and cookies of an answer: 2xx, 401 or 403. Raises RetryableError and PermanentError."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "edge-run",
            "Connection": "close",
            **({"Cookie": self._cookie} if self._cookie else {}),
        }
        with self._connected() as connection:
            connection.request("POST", self._base + path, json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            if answer.status not in _NO_ENTRY:
                judge(answer, self._now())
            return answer.status, answer.headers.get_all("Set-Cookie", [])


def label_of(question: str) -> str:
    """A label from the words of a question: as many as fit, at least a part of the first."""
    words = re.findall(r"\w+", question.lower())
    label = words[0][:LONGEST_LABEL] if words else "response"
    for word in words[1:]:
        if len(label) + 1 + len(word) > LONGEST_LABEL:
            break
        label += f"_{word}"
    return label


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _cookies(headers: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for header in headers:
        try:
            values |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
        except CookieError:
            continue
    return values


def _read_names(table: Table, key: str, longest: int) -> dict[str, str]:
    """A table of names; empty when it is not given."""
    value = table.value(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and 0 < len(name) <= longest and name.strip(".") for name in value.values()
    ):
        table.wrong(key, f'expected names of at most {longest} characters, such as {{ q1 = "doorbell" }}')
        return {}
    return value
