"""The web server of a run: uvicorn in one background thread."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from contextlib import closing
from dataclasses import dataclass

import uvicorn

from edge_runtime.app.run.camera_set import CameraSet
from edge_runtime.app.run.control import Control
from edge_runtime.app.web.access import Access
from edge_runtime.app.web.application import Site, make_application
from edge_runtime.app.web.certificate import server_context
from edge_runtime.app.web.config import WebConfig
from edge_runtime.app.web.connections import BoundedListener, BoundedLoop, BoundedProtocol, BoundedSocket
from edge_runtime.app.web.event_log import EventLog
from edge_runtime.app.web.evidence import EvidenceStore, NoEvidence
from edge_runtime.app.web.guard import MOST_HEAD
from edge_runtime.app.web.live import Live
from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.observability.metrics import MetricsPages
from edge_runtime.video.network_url import host_and_port

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_MOST_MESSAGE = 4096


@dataclass(frozen=True)
class Address:
    """An address that is listened at, and who may call it; see :func:`listen`."""

    url: str
    socket: socket.socket
    access: Access
    tls: ssl.SSLContext | None


def listen(config: WebConfig) -> Address:
    """Take the address and read token and certificate, before anything that takes time. Port 0: a free one.

    Raises ConfigError for a token or certificate that cannot be used and for a network address without a
    token, SinkError when it cannot listen.
    """
    assert config.address is not None
    host, port = config.address
    token = config.token.read("web")
    if token is None and not config.on_loopback:
        raise ConfigError(
            f"web: {host_and_port(host, port)} can be reached from other machines, so it needs a token; "
            "give --web-token-file FILE, or token_env or token_file under [web]"
        )
    tls = None
    if config.tls_certificate is not None and config.tls_key is not None:
        tls = server_context(config.tls_certificate, config.tls_key)
    access = Access(host, token=token, names=config.hosts, tls=tls is not None)
    listener = _listen(host, port)
    bound = host_and_port(host, listener.getsockname()[1])
    return Address(f"{'http' if tls is None else 'https'}://{bound}/", listener, access, tls)


class WebServer:
    """Serves from the moment it is made until :meth:`close`. Make it before the run begins.

    ``cameras``: where cameras are added and removed; None where that is not allowed.
    """

    def __init__(
        self,
        address: Address,
        control: Control,
        log: EventLog,
        metrics: MetricsPages,
        evidence: EvidenceStore | None = None,
        cameras: CameraSet | None = None,
        preview_size: int = WebConfig.preview_size,
    ) -> None:
        self.url = address.url
        tls = address.tls
        self._live = Live(control, log)
        site = Site(
            control,
            self._live,
            evidence or NoEvidence(),
            metrics,
            address.access,
            cameras,
            preview_size,
        )
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # a client's mistake is no news of the run
        settings = uvicorn.Config(
            make_application(site),
            http=BoundedProtocol,
            ws=BoundedSocket,
            ws_max_size=_MOST_MESSAGE,
            ws_per_message_deflate=False,
            loop=f"{BoundedLoop.__module__}:{BoundedLoop.__name__}",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MOST_HEAD,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            ssl_context_factory=None if tls is None else (lambda _config, _default: tls),
        )
        self._server = uvicorn.Server(settings)
        self._listener = address.socket
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End connections, then the server. Closing twice is harmless."""
        self._live.close()
        self._server.should_exit = True
        self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        with closing(self._listener):
            self._server.run(sockets=[self._listener])


def _listen(host: str, port: int) -> socket.socket:
    """Bound and listening, so that what goes wrong is known before the run begins."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        reason = reason.partition(" (while")[0]  # Python repeats the address there
        raise SinkError(
            f"cannot serve the page at {host_and_port(host, port)}: {reason}; give --web another address"
        ) from err
    listener.setblocking(False)
    return BoundedListener(listener)
