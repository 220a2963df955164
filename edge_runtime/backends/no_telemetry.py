"""Switch off the telemetry of libraries before they are imported.

onnxruntime from 1.31 on creates a device id below ``~/.cache/Microsoft`` and sends events to Microsoft. It
reads its switch when it is imported, and its API call comes too late. Every package of this project imports
:mod:`edge_runtime` first, which calls :func:`switch_off`.
"""

from __future__ import annotations

import os

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, which transformers uses
    "DO_NOT_TRACK": "1",  # huggingface_hub and others honour it
}


def switch_off() -> None:
    """Set the variables for this process and for those that it starts."""
    os.environ.update(VARIABLES)


def ignore_desktop_settings() -> None:
    """Keep GIO, which opens HTTP streams, off the desktop's settings; for a program of our own alone.

    Reading them writes ``~/.cache/dconf``, and an automatic proxy setting searches the network for a proxy.
    ``http_proxy`` and a GSETTINGS_BACKEND that is already set keep their meaning.
    """
    os.environ.setdefault("GSETTINGS_BACKEND", "memory")
