"""The soak of viewers who never read, for seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.stalled_viewer import measure

pytestmark = [pytest.mark.slow, pytest.mark.gst]


def test_viewers_who_never_read_hold_up_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("gi")
    pytest.importorskip("fastapi")
    result = measure(str(tiny_bundle), tmp_path, seconds=15, alone_s=5, fps=5, viewers=2)
    parts = result["parts"]
    assert result["exit_code"] == 130 and result["passed"], result
    assert parts["stalled"]["timesteps"] - parts["before"]["timesteps"] > 30
    assert parts["after"]["files"] <= parts["before"]["files"] + 1
