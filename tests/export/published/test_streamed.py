"""Published models whose weights stay in their files while they are exported."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from benchmarks.export.checkpoint import write_checkpoint  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.options import ExportOptions, Source  # noqa: E402
from export.published.open_published import Publication, open_published  # noqa: E402

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "hub"
    write_checkpoint(folder, "tiny")
    return folder


@pytest.fixture
def source(published: Path) -> Source:
    return open_published(Publication(published, "prompted", "96x64", "acme/tiny"))


def test_large_weights_are_not_loaded(source: Source) -> None:
    model = source.model
    large = [weight for weight in model.parameters() if weight.ndim == 2]
    assert large and all(weight.is_meta for weight in large)
    assert not any(weight.is_meta for weight in model.parameters() if weight.ndim == 1)


def test_the_embedding_reads_the_rows_it_needs(source: Source, published: Path) -> None:
    from safetensors.torch import load_file

    name = "model.language_model.embed_tokens.weight"
    table = load_file(published / "model-00001.safetensors")[name].float()
    ids = torch.tensor([[5, 7, 5], [319, 0, 7]])
    assert torch.equal(source.model.embedding(ids), table[ids])
    assert source.model.embedding(ids[:, :0]).shape == (2, 0, 64)


@pytest.mark.parametrize("keep", [0, 1 << 30])
def test_transformers_computes_the_same_with_and_without_the_files(published: Path, keep: int) -> None:
    from train.models.qwen.model import QWEN3, WHOLE
    from train.models.stored import open_stored

    whole = WHOLE[QWEN3].from_pretrained(published, dtype=torch.float32).eval()
    stored = open_stored(WHOLE[QWEN3], published, keep)
    ids = torch.arange(12)[None]
    for _ in range(2):  # the second time from what was kept
        assert torch.equal(stored(input_ids=ids).logits, whole(input_ids=ids).logits)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision"), [("ort-cpu", "int8"), ("tensorrt-rtx", "fp16")])
def test_layers_and_a_whole_run_agree_with_pytorch(
    source: Source, tmp_path: Path, target: str, precision: str
) -> None:
    from export.bundle_writer import export_model

    options = ExportOptions(target=target, precision=precision, threshold=0.99, parity_timesteps=8)
    folder = export_model(source, tmp_path / "bundle", options)
    manifest = json.loads((folder / "bundle.json").read_text())
    assert manifest["layer_parity"]["layers"] == 3
    assert manifest["layer_parity"]["rms_rel_diff_max"] < (0.03 if precision == "int8" else 0.001)
    assert manifest["parity"]["kl_mean"] < 1e-3 and manifest["parity"]["evictions"]


@pytest.mark.slow
def test_a_damaged_layer_is_found(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from export import bundle_writer

    def damage(models: dict, folder: Path, weights: str) -> None:
        save(models, folder, weights)
        if "decoder.onnx" in models:
            model = onnx.load(folder / "decoder.onnx")
            tensor = next(one for one in model.graph.initializer if one.name == "layers.1.out")
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values[::-1]), tensor.name))
            onnx.save(model, folder / "decoder.onnx")

    save = bundle_writer.save_graphs
    monkeypatch.setattr(bundle_writer, "save_graphs", damage)
    with pytest.raises(ExportError, match=r"^layer 1 of the bundle differs"):
        bundle_writer.export_model(source, tmp_path / "bundle", ExportOptions(precision="fp32"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(published: Path, tmp_path: Path) -> None:
    """A file cannot grow beyond the limit, as on a disk without room for the rest of it."""

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = [sys.executable, "-m", "export", str(published), "--format", "prompted", "--frame", "96x64"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "bundle"), "--precision", "fp32"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode and "Traceback" not in done.stderr
    assert "File too large" in done.stderr.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
