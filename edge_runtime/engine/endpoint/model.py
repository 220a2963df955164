"""A model on an OpenAI-compatible server (vLLM, llama.cpp, Ollama, LM Studio), as a run watches with it."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.config.endpoint import KEY_VARIABLE, EndpointConfig
from edge_runtime.config.server_url import PATH, check_key_travels
from edge_runtime.engine.endpoint.client import ChatClient, ChatReply, NoAnswer, RefusedError
from edge_runtime.engine.endpoint.dispatcher import Dispatcher, DispatchSettings
from edge_runtime.engine.endpoint.frames import EndpointFrames
from edge_runtime.engine.endpoint.protocol import AskedQuestion, Message, SeenFrame, data_url, messages
from edge_runtime.engine.endpoint.session import EndpointSession
from edge_runtime.errors import BackendError, ConfigError
from edge_runtime.video.framing import Framing
from edge_runtime.video.zones import Zone

_log = logging.getLogger(__name__)
_LISTED = 8
"""Most names of models in a message."""


class EndpointModel:
    """All sessions share one :class:`Dispatcher`, hence its limits. :meth:`close` it at the end.

    ``wake``: called, from any thread, when a decision has come. Raises ConfigError for an address or a key
    that cannot be used, BackendError when the server refuses. One that does not answer yet is waited for.
    """

    knowledge = None
    zone_names: tuple[str, ...] = ()
    batcher = None

    def __init__(self, config: EndpointConfig, *, wake: Callable[[], None] = lambda: None) -> None:
        self._config = config
        self.stream_format = StreamFormat(fps=1.0, window_turns=config.frames, evict_turns=1)
        self.name = config.model
        self.title = f"{config.model} at {config.url}"
        self.backend = f"endpoint {config.url}"
        self.image_size = (config.frame_size, config.frame_size)
        self._client = open_client(config)
        warn_of_model(self._client, config)
        self._dispatcher = Dispatcher(
            f"endpoint {config.url}",
            self._send,
            DispatchSettings(
                config.concurrency, config.requests_per_hour, config.tokens_per_hour, config.give_up_s
            ),
            wake=wake,
        )

    @property
    def identity(self) -> str:
        asked = {"endpoint": self.name, "frames": self._config.frames, "size": self._config.frame_size}
        return json.dumps([asked, self.stream_format.to_dict()], sort_keys=True)

    @property
    def outage(self) -> str:
        return self._dispatcher.outage

    def counts(self) -> dict[str, int]:
        return dict(vars(self._dispatcher.counts))

    def session(self) -> EndpointSession:
        return EndpointSession(self._dispatcher, self.stream_format, self._config.frames)

    def open_vision(self) -> EndpointFrames:
        return EndpointFrames(self._config.frame_size)

    def with_fps(self, fps: float) -> EndpointModel:
        """The same server, asked ``fps`` times per second of stream."""
        changed = copy.copy(self)
        changed.stream_format = replace(self.stream_format, fps=fps)
        return changed

    def with_zones(self, zones: Sequence[Zone], framing: Framing | None = None) -> EndpointModel:
        """Raises ConfigError when there are any: requests do not hold them."""
        if zones:
            raise ConfigError("an endpoint knows no zones; take them out, or crop the frame")
        return self

    def close(self) -> None:
        self._dispatcher.close()
        self._client.close()

    def _send(self, content: Sequence[Message]) -> ChatReply:
        return self._client.ask(self._config.model, content, self._config.request)


def open_client(config: EndpointConfig, environment: Mapping[str, str] | None = None) -> ChatClient:
    """Raises ConfigError for an address or a key that cannot be used, and without the package openai."""
    key = config.read_key() if environment is None else config.read_key(environment)
    if key and (warning := check_key_travels(config.url)):
        _log.warning("%s", warning)
    place = config.key
    return ChatClient(
        config.url,
        key=key,
        key_place=str(place.env or place.file or KEY_VARIABLE),
        timeout_s=config.timeout_s,
        install="'streampro-edge[endpoint]'",
    )


def warn_of_model(client: ChatClient, config: EndpointConfig) -> None:
    """Log a warning when the server cannot be asked for its models yet, or does not list the one wanted.

    Raises RefusedError when it refuses because of the key.
    """
    try:
        if problem := unlisted(client, config):
            _log.warning("%s", problem)
    except NoAnswer as error:
        _log.warning("endpoint %s: %s; it is asked again with the first frame", config.url, error)


def unlisted(client: ChatClient, config: EndpointConfig) -> str:
    """One line when the server lists models but not the one wanted; empty otherwise.

    Some servers answer under any name, so that is no error yet. Raises NoAnswer, and RefusedError because of
    the key; a server without a list is fine.
    """
    try:
        names = client.models()
    except RefusedError as error:
        if error.status in (401, 403):
            raise
        return ""
    wanted = config.model
    if not names or wanted in names or f"{wanted}:latest" in names:
        return ""
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = ", ".join(client.plain(name) for name in names[:_LISTED])
    return f"endpoint {config.url}: does not list model {wanted}; --model takes one of: {listed}{more}"


def try_endpoint(config: EndpointConfig) -> tuple[str, float]:
    """Ask about one grey frame, once. Returns a warning about the model's name, empty if there is none, and
    the seconds that the reply took.

    Raises ConfigError as :func:`open_client`, BackendError when no usable reply comes.
    """
    client = open_client(config)
    try:
        warning = unlisted(client, config)
        size = (config.frame_size * 9 // 16, config.frame_size, 3)
        grey = SeenFrame(1.0, "<0s-1s>", data_url(np.full(size, 128, np.uint8), config.frame_size))
        content = messages(AskedQuestion("Tell me when something happens.", 0.0), [grey], None)
        began = time.monotonic()
        client.ask(config.model, content, config.request)
        return warning, time.monotonic() - began
    except NoAnswer as error:
        raise BackendError(
            f"{config.url}{PATH}: {error}; start the server, or correct the address"
        ) from error
    finally:
        client.close()
