"""`python -m export calibrate-threshold`: the threshold that a bundle gets from annotated clips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("av")

from click.testing import CliRunner, Result

import edge_runtime
from edge_runtime.bundle.manifest import SHIPPED
from export.__main__ import main
from train.rollout.threshold import GRID

SAMPLE = Path(edge_runtime.__file__).parent / "samples" / "sample.mp4"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def annotate(folder: Path, *answered: bool, video: str = str(SAMPLE)) -> Path:
    lines = []
    for i, has_answer in enumerate(answered):
        answers = [{"start": 2.0, "end": 3.0, "text": "nothing"}] if has_answer else []
        record = {"id": f"q{i}", "video": video, "duration": 6.0, "task": "OU", "answers": answers}
        lines.append(json.dumps({**record, "query": {"time": 1.0, "text": "What is new?"}}))
    path = folder / "annotations.jsonl"
    path.write_text("\n".join(lines))
    return path


def calibrate(bundle: object, annotations: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["calibrate-threshold", str(bundle), str(annotations), *options])


def test_the_best_threshold_is_written_into_the_bundle(bundle: Path, tmp_path: Path) -> None:
    before = json.loads((bundle / "bundle.json").read_text())
    done = calibrate(bundle, annotate(tmp_path, True, False))
    assert done.exit_code == 0, done.output
    manifest = json.loads((bundle / "bundle.json").read_text())
    threshold = manifest["protocol"]["threshold"]
    assert threshold in GRID and f"bundle.json: threshold {threshold:g}, W-Avg" in done.stdout
    chosen = manifest.pop("threshold_chosen_on")
    assert chosen["annotations"] == "annotations.jsonl" and chosen["questions"] == 2
    assert len(done.stderr.splitlines()) >= len(GRID)
    manifest["protocol"]["threshold"] = before["protocol"]["threshold"]
    assert manifest == before, "only the threshold has changed"
    with edge_runtime.load(bundle, threads=1).session() as session:
        assert session.threshold == threshold


def test_a_bundle_that_takes_fewer_questions_than_it_has_numbers_for_is_asked_apart(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED / "scout", tmp_path / "scout"))
    manifest = json.loads((folder / "bundle.json").read_text())
    assert manifest["queries_per_session"] < manifest["protocol"]["queries_per_session"]
    done = calibrate(folder, annotate(tmp_path, True, False))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("given", "kinds", "video", "message"),
    [
        (None, (True, True), str(SAMPLE), "the files need questions with answers and questions without"),
        ("nano", (True, False), str(SAMPLE), "nano: is shipped with the package; copy"),
        (None, (True, False), "missing.mp4", "missing.mp4: cannot be decoded"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line(
    bundle: Path, tmp_path: Path, given: str | None, kinds: tuple[bool, ...], video: str, message: str
) -> None:
    before = (bundle / "bundle.json").read_bytes()
    done = calibrate(given or bundle, annotate(tmp_path, *kinds, video=video))
    assert done.exit_code != 0 and "Traceback" not in done.output
    assert message in done.output.splitlines()[-1]
    assert (bundle / "bundle.json").read_bytes() == before
