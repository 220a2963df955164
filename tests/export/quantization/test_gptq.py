"""int4 by GPTQ: what it is calibrated with, and that it loses less than rounding to nearest."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

from click.testing import CliRunner, Result  # noqa: E402

from edge_runtime.bundle.stream_format import TurnEncoder  # noqa: E402
from export.__main__ import main  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.quantization import calibration  # noqa: E402
from export.quantization.calibration import Eyes, is_video, read_streams  # noqa: E402
from export.quantization.gptq import read_codes  # noqa: E402

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "edge_runtime" / "samples" / "sample.mp4"
TEXT = ROOT / "docs" / "training.md"
LONGEST = 160
"""Tokens of a clip, so that few frames are looked at."""
needs_gptq = pytest.mark.skipif(find_spec("gptqmodel") is None, reason="extra gptq is not installed")


@pytest.fixture
def encoder(tiny_model) -> TurnEncoder:
    encode = tiny_model.tokenizer.encode
    return TurnEncoder(tiny_model.stream_format, lambda text: encode(text, add_special_tokens=False).ids)


def eyes(tiny_model, encoder: TurnEncoder) -> Eyes:
    pytest.importorskip("geffnet")
    from export.families.registry import family_of, open_backbone, reference_of

    model = tiny_model.model
    image = family_of(model).image(model)
    reference = reference_of(model, open_backbone(model))(encoder.image_id)
    return Eyes(reference, tuple(image["image_size"]), image["image_mean"], image["image_std"])


def test_a_clip_is_written_as_the_runtime_writes_it(
    tiny_model, encoder: TurnEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "CLIP_TOKENS", LONGEST)
    answer = {"start": 2.0, "end": 3.0, "text": "Yes."}
    record = {"id": "q", "video": str(SAMPLE), "duration": 6.0, "task": "OU", "answers": [answer]}
    annotations = tmp_path / "clips.jsonl"
    annotations.write_text(json.dumps({**record, "query": {"time": 1.0, "text": "Is it there?"}}))
    seeing, width = eyes(tiny_model, encoder), tiny_model.model.embedding.weight.shape[1]
    asked, silent, text = read_streams(
        [annotations, SAMPLE, TEXT], tiny_model.tokenizer, encoder, seeing, width
    )[:3]
    prompt = encoder.prefix_ids() + encoder.query_ids("Is it there?") + encoder.turn_ids(0)
    assert asked.ids[: len(prompt)] == prompt
    assert asked.ids.count(encoder.response_id) == 1 and encoder.response_id not in silent.ids
    for stream in (asked, silent, text):
        frames = stream.ids.count(encoder.image_id) // tiny_model.model.frame_tokens
        assert stream.visual.tokens.shape == (frames, tiny_model.model.frame_tokens, width)
        assert len(stream.ids) <= calibration.TEXT_TOKENS
        tiny_model.model.hidden(torch.tensor([stream.ids]), stream.visual, encoder.image_id)
    assert len(asked.visual.tokens) > 2 and len(text.visual.tokens) == 0


def test_what_is_a_video() -> None:
    assert is_video(SAMPLE) and not is_video(TEXT)


def test_codes_are_read_back_exactly_or_not_at_all() -> None:
    rng = np.random.default_rng(0)
    codes, scales = rng.integers(0, 16, (8, 64)), rng.uniform(0.01, 0.1, (8, 2)).astype(np.float32)
    weight = ((codes - 8) * np.repeat(scales, 32, axis=1)).astype(np.float32)
    zeros, order = torch.full((8, 2), 8.0), torch.arange(64) // 32
    matrix = read_codes("m", torch.from_numpy(weight), torch.from_numpy(scales), zeros, order)
    assert matrix.zeros is None and np.array_equal(matrix.dequantized(), weight)
    with pytest.raises(ExportError, match="on no grid of 16 codes"):
        read_codes("m", torch.from_numpy(weight + 0.004), torch.from_numpy(scales), zeros, order)
    with pytest.raises(ExportError, match="in another order"):
        read_codes("m", torch.from_numpy(weight), torch.from_numpy(scales), zeros, order.flip(0))


@pytest.fixture
def checkpoint(tiny_model, tmp_path: Path) -> Path:
    from train.models.checkpoint import save_checkpoint

    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, tiny_model.model, tiny_model.tokenizer, tiny_model.stream_format, [], {}, {})
    return folder


def export(checkpoint: Path, name: str, *options: object) -> Result:
    how = ("--out", checkpoint.parent / name, "--context-rows", 384, "--precision", "int4", *options)
    return CliRunner().invoke(main, [str(part) for part in (checkpoint, *how)], catch_exceptions=False)


@needs_gptq
@pytest.mark.slow
def test_calibrated_weights_are_closer_to_pytorch(checkpoint: Path) -> None:
    pytest.importorskip("geffnet")
    kl = {}
    for name, options in {"nearest": (), "gptq": ("--calibrate", SAMPLE, "--calibrate", TEXT)}.items():
        done = export(checkpoint, name, "--parity-timesteps", 40, *options)
        assert done.exit_code == 0, done.output
        manifest = json.loads((checkpoint.parent / name / "bundle.json").read_text())
        kl[name] = manifest["parity"]["kl_mean"]
    assert manifest["quantization"]["by"] == "gptq"
    assert manifest["quantization"]["calibration"] == ["sample.mp4", "training.md"]
    assert kl["gptq"] < 0.7 * kl["nearest"]


@pytest.mark.skipif(find_spec("gptqmodel") is not None, reason="extra gptq is installed")
def test_without_the_extra_it_says_how_to_get_it(checkpoint: Path) -> None:
    done = export(checkpoint, "bundle", "--calibrate", TEXT)
    assert done.exit_code == 3
    assert "streampro-edge[gptq]" in done.output.splitlines()[-1]
    assert not (checkpoint.parent / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "int8"), "not to int8 for ort-cpu; add --precision int4, or leave it out"),
        (("--target", "tensorrt"), "not to int4 for tensorrt"),
    ],
)
def test_calibration_that_would_do_nothing_is_refused(
    checkpoint: Path, options: tuple[str, ...], message: str
) -> None:
    done = export(checkpoint, "bundle", "--calibrate", TEXT, *options)
    assert done.exit_code == 3 and message in done.output.splitlines()[-1]
