"""`edge-run` as users start it: real processes, a real H.264 clip, a real decoder, a tiny model."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.edge_runtime.app.process import CLIP_S, EDGE_RUN, environment

KNOWN = {
    "domain": "People at a door.",
    "classes": [{"name": "person", "synonyms": ["someone", "visitor"]}],
    "kinds": [
        {
            "name": "enter",
            "examples": ["Tell me when someone comes."],
            "about": ["person"],
            "words": ["comes", "arrives"],
        }
    ],
    "not_examples": ["Tell me when the pizza arrives."],
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """8 s of H.264 at 10 frames a second."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(CLIP_S * 10):
            image = np.full((240, 320, 3), (number * 20 % 255, number * 7 % 255, 128), np.uint8)
            image[40:200, number * 2 : number * 2 + 80] = number * 31 % 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def edge_run(tiny_bundle, tmp_path):
    """Runs edge-run in an empty folder; options may add environment variables."""

    def run(*args: str | bytes | Path, bundle: bool = True, **options) -> subprocess.CompletedProcess[str]:
        model = ["--bundle", str(tiny_bundle), "--threads", "1"] if bundle else []
        return subprocess.run(
            [*EDGE_RUN, *(arg if isinstance(arg, bytes) else str(arg) for arg in args), *model],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=environment(tmp_path, **options),
        )

    return run


@pytest.fixture
def knowing(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that knows visitors, and nothing of pizza."""
    folder = tmp_path / "knowing"
    shutil.copytree(tiny_bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(manifest | {"name": "knowing", "knowledge": KNOWN}))
    return folder
