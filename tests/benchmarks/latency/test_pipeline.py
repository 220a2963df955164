"""``python -m benchmarks.latency.pipeline``: all variants are measured; choosing more pictures costs more."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gst


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.latency.pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_every_variant_is_measured(tmp_path):
    pytest.importorskip("gi")
    out = tmp_path / "pipeline.json"
    quick = ("--rounds", "3", "--seconds", "2", "--size", "640", "360", "--fps", "20")
    done = run(*quick, "--timesteps", "1", "--timesteps", "20", "--out", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    cameras = ["camera, 1 a second", "camera, 20 a second"]
    assert set(result["beyond_decoding_ms"]) == {
        "identity",
        *cameras,
        *(f"{name}, snapshots" for name in cameras),
    }
    assert result["decoder_to_reader_ms"]["camera, 1 a second"]["n"] == 3 * 2
    assert result["decoder_to_reader_ms"]["camera, 20 a second"]["n"] == 3 * 40
    beyond = {name: row["p50"] for name, row in result["beyond_decoding_ms"].items()}
    assert beyond["camera, 20 a second"] > beyond["camera, 1 a second"]
    assert beyond["camera, 20 a second"] > beyond["identity"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--size", "15", "16"), "--size"),
        (("--timesteps", "0"), "--timesteps"),
        (("--rounds", "x"), "--rounds"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
