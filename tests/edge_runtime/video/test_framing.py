from __future__ import annotations

from edge_runtime.video.framing import Framing


def test_the_shape_of_what_is_seen():
    assert Framing().aspect(1920, 1080) == 1920 / 1080
    assert Framing(rotate=90).aspect(1920, 1080) == 1080 / 1920
    assert Framing(crop=(0.5, 0.0, 0.5, 1.0), rotate=180).aspect(640, 480) == 320 / 480
