"""How a source is read: the options that a camera's configuration may set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.sources.network.tls import Trust


@dataclass(frozen=True)
class ConnectionOptions:
    """Each kind of source takes what concerns it."""

    rtsp_transport: Literal["tcp", "udp", "auto"] = "tcp"
    rtsp_latency_ms: int = 100
    """Jitter budget. As frames are shown as they come, it adds no delay on a quiet network."""
    tls_verify: bool = True
    """False: accept any certificate of a server."""
    tls_ca_file: str | None = None
    """Certificates (PEM) to trust in place of the system's."""
    tls_fingerprint: str | None = None
    """SHA-256 of the one certificate that is accepted, as 64 hexadecimal digits."""
    decoder: str = "auto"
    """``auto`` (hardware that passed its probe, else software), ``software``, or the name of a decoder."""
    image_fps: float | None = None
    """Images in sequence: how many make a second. None: each one is a timestep."""
    catch_up: int = 0
    """Frames of a live source that may wait beside the newest one while the model is busy."""

    def __post_init__(self) -> None:
        _ = self.trust  # refuses what contradicts itself

    @property
    def trust(self) -> Trust:
        return Trust(self.tls_verify, self.tls_ca_file, self.tls_fingerprint)
