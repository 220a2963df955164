"""A camera that gives too little to measure; how old frames get is for a quiet machine."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

import edge_runtime
from edge_runtime.errors import SourceError
from tests.soak import overload


@dataclass
class Frame:
    index: int
    image: np.ndarray = field(default_factory=lambda: np.zeros((224, 224, 3), np.uint8))
    captured_at: float = field(default_factory=monotonic)


@pytest.fixture
def measure(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """Measures a camera that gives so many pictures and then none."""
    pytest.importorskip("gi")
    from pipelines import camera

    def measure(count: int) -> dict:
        pictures = iter(range(count))

        class Scripted:
            def read(self, timeout_s: float) -> Frame | None:
                index = next(pictures, None)
                return None if index is None else Frame(index)

        @contextmanager
        def open_camera(*_: object, **__: object):
            yield Scripted()

        monkeypatch.setattr(camera, "open_camera", open_camera)
        model = edge_runtime.load(tiny_bundle, threads=1).with_fps(overload.FPS)
        return overload.measure(model, "rtsp://camera", 1.0, 0.2)

    return measure


def test_a_camera_that_gives_nothing_is_not_waited_for_without_end(measure, monkeypatch) -> None:
    monkeypatch.setattr(overload, "_PATIENCE_S", 0.2)
    with pytest.raises(SourceError, match=r"rtsp://camera: 0 frames within 0\.2 s, 20 are needed"):
        measure(0)


def test_too_few_frames_are_said(measure) -> None:
    with pytest.raises(SourceError, match=r"rtsp://camera: \d frames within 0\.2 s.*raise --seconds"):
        measure(overload._CALIBRATION + 3)
