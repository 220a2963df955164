"""What a connection held goes when it is stopped, not when Python's collector comes by: that may be hours."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.video.framing import Framing
from pipelines.camera import CameraOptions, Frame, open_camera
from pipelines.gst import load

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

FRAMINGS = {
    "plain": Framing(),
    "crop": Framing(crop=(0.1, 0.1, 0.5, 0.5), rotate=90),
    "mask": Framing(masks=(((0, 0), (0.3, 0), (0.3, 0.3)),)),
}


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _connections() -> int:
    from pipelines.pipeline.connection import Connection

    return sum(isinstance(found, Connection) for found in gc.get_objects())


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("kind", ["live", "file"])
def test_without_the_collector(
    kind: str, framing: str, make_clip: Callable[..., Path], _no_collector: None
) -> None:
    source = "test:" if kind == "live" else str(make_clip("clip.mp4", size=(320, 180), seconds=2))

    def use() -> None:
        with open_camera(source, fps=30.0, options=CameraOptions(framing=FRAMINGS[framing])) as camera:
            next(item for item in camera if isinstance(item, Frame))

    use()
    connections, files = _connections(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        use()
    time.sleep(0.2)
    assert _connections() <= connections
    assert len(os.listdir("/proc/self/fd")) <= files


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_preprocessing_elements_are_freed(framing: str, _no_collector: None) -> None:
    from pipelines.pipeline.preprocessing import add_preprocessing

    freed: list[str] = []
    pipeline = load().Gst.Pipeline.new(None)
    add_preprocessing(pipeline, (64, 64), FRAMINGS[framing])
    names = []
    for element in pipeline.children:
        names.append(element.get_name())
        element.weak_ref(freed.append, element.get_name())
    del element, pipeline
    assert sorted(freed) == sorted(names)
