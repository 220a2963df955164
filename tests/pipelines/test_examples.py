"""The examples, run as a reader would run them, with a tiny model that always speaks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.camera import Frame, open_camera

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
QUERY = "Tell me each step as it is finished."


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run(name: str, *arguments: str | Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments), f"--bundle={bundle}", "--threshold=0"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )


def test_a_python_application(make_clip: Callable[..., Path], tiny_bundle: Path) -> None:
    done = run("watch.py", make_clip("clip.mp4", seconds=3), QUERY, bundle=tiny_bundle)
    assert done.returncode == 0, done.stderr
    assert " s  " in done.stdout
    wrong = run("watch.py", make_clip("clip.mp4", seconds=3), " ", bundle=tiny_bundle)
    assert wrong.returncode == 1
    assert "error: query: the text is empty" in wrong.stderr


def test_gst_launch_finds_the_installed_element(
    make_clip: Callable[..., Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    """`edge-run plugin install`, then gst-inspect and gst-launch in a clean environment; then removed."""
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("needs gstreamer1.0-tools")
    home = tmp_path / "home"
    home.mkdir()
    clean = {"HOME": str(home), "PATH": os.defpath}

    def plugin(action: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_runtime.app.cli", "plugin", action, "--user"],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            env={**clean, "PATH": os.environ["PATH"]},
        )

    done = plugin("install")
    if "python3-plugin-loader" in done.stderr:
        pytest.skip("needs gstreamer1.0-python3-plugin-loader")
    assert done.returncode == 0, done.stderr
    assert "try: gst-inspect-1.0 streampro" in done.stderr
    shown = subprocess.run(
        ["gst-inspect-1.0", "streampro"], capture_output=True, text=True, timeout=60, env=clean, cwd=tmp_path
    )
    for words in ("Proactive video model", "changeable only in NULL or READY", "min-gap"):
        assert words in shown.stdout
    launched = subprocess.run(
        ["sh", str(EXAMPLES / "watch.sh"), str(make_clip("clip.mp4", seconds=3)), QUERY],
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, "BUNDLE": str(tiny_bundle), "THRESHOLD": "0"},
        cwd=tmp_path,
    )
    assert launched.returncode == 0, launched.stderr
    assert "streampro, id=(string)" in launched.stdout
    assert plugin("remove").returncode == 0
    gone = subprocess.run(["gst-inspect-1.0", "streampro"], capture_output=True, timeout=60, env=clean)
    assert gone.returncode != 0
    again = plugin("remove")
    assert again.returncode == 2
    assert "not installed there" in again.stderr


def test_an_overlay_in_a_file(make_clip: Callable[..., Path], tiny_bundle: Path, tmp_path: Path) -> None:
    clip, out = make_clip("clip.mp4", seconds=4), tmp_path / "out.mp4"
    done = run("overlay.py", clip, QUERY, out, bundle=tiny_bundle)
    assert done.returncode == 0, done.stderr

    def last(path: Path) -> Frame:
        with open_camera(str(path), fps=1.0) as camera:
            return [item for item in camera if isinstance(item, Frame)][-1]

    difference = abs(last(out).image.astype(int) - last(clip).image.astype(int)).mean(-1)
    assert difference[130:, 50:170].max() > 60  # the text's box
    assert difference[60:100].mean() < 12


def test_a_relay_over_rtsp(
    make_clip: Callable[..., Path], tiny_bundle: Path, free_port: int, _rtsp_possible: None
) -> None:
    server = subprocess.Popen(
        [
            sys.executable,
            str(EXAMPLES / "rtsp_relay.py"),
            str(make_clip("clip.mp4", seconds=20)),
            QUERY,
            f"--port={free_port}",
            f"--bundle={tiny_bundle}",
            "--threshold=0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        with open_camera(url, fps=2.0) as camera:
            frames = []
            for item in camera:
                if isinstance(item, Frame):
                    frames.append(item)
                    if len(frames) == 4:
                        break
        assert frames[0].image.std() > 10
        assert server.stdout.readline().strip()  # a response
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
