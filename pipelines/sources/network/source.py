"""What the sources that are reached over TCP share: the address, credentials and the way to the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edge_runtime import redaction
from pipelines.sources.base import Source
from pipelines.sources.errors import Problem
from pipelines.sources.network import tls
from pipelines.sources.network.reachability import check_reachable, in_background
from pipelines.sources.options import ConnectionOptions


@dataclass(frozen=True)
class NetworkSource(Source):
    """``location`` holds no credentials; ``user`` and ``password`` are decoded."""

    location: str = field(repr=False)  # may hold a token in its query; `label` is for showing
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    takes_credentials = True

    @property
    def label(self) -> str:
        return redaction.scrub(self.location)

    def with_credentials(self, user: str | None, password: str | None) -> NetworkSource:
        return replace(self, user=user, password=password)

    @property
    def secure(self) -> bool:
        """True when the connection is made over TLS."""
        return self.location.startswith(("rtsps:", "https:"))

    def prepare(
        self, options: ConnectionOptions, timeout_s: float, cancelled: Callable[[], bool]
    ) -> Source | Problem:
        """Connect once: GStreamer reports a wrong name, a closed port and a refused certificate alike."""
        problem = check_reachable(self.host, self.port, timeout_s, cancelled)
        if problem is None and self.secure:
            problem = in_background(
                lambda: tls.check(self.host, self.port, options.trust, timeout_s), cancelled
            )
        return problem or self
