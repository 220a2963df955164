"""Checkpoints that their authors quantized: the codes become the bundle's, and nothing is rounded again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from click.testing import CliRunner, Result  # noqa: E402

from export.__main__ import main  # noqa: E402
from tests.quantized import GROUP, LAYOUTS, change_config, quantize_folder  # noqa: E402

FACTS = 'silence = "N"\nresponse = "Y"\nwindow_turns = 10\nevict_turns = 4\n'


def write_dense(folder: Path, family: str) -> Path:
    """Write a folder as the hub holds one, in bfloat16 and in shards."""
    from transformers import PreTrainedTokenizerFast

    from tests.train.chat import chat_tokenizer
    from tests.train.models.test_qwen import Tiny

    (folder / "tower").mkdir()
    tiny = Tiny(family, tied=False, folder=folder / "tower")
    tiny.whole.bfloat16().save_pretrained(folder / "hub", max_shard_size="100KB")
    PreTrainedTokenizerFast(tokenizer_object=chat_tokenizer()).save_pretrained(folder / "hub")
    tiny.processor.save_pretrained(folder / "hub")
    return folder / "hub"


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("quantized"), "qwen3_vl")


@pytest.fixture
def folder(dense: Path, tmp_path: Path) -> Path:
    (tmp_path / "facts.toml").write_text(FACTS)
    return Path(shutil.copytree(dense, tmp_path / "hub"))


def export(folder: Path, *options: object) -> Result:
    out = folder.parent / "bundle"
    how = ("--format", folder.parent / "facts.toml", "--frame", "64x64", "--out", out, *options)
    return CliRunner().invoke(main, [str(part) for part in (folder, *how)], catch_exceptions=False)


def matrices(bundle: Path) -> dict[str, np.ndarray]:
    """What the graph's 4-bit products hold, by the name of their weight: [out, in]."""
    graph = onnx.load(bundle / "decoder.onnx").graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        sizes = {a.name: a.i for a in node.attribute}
        if node.op_type != "MatMulNBits" or sizes["bits"] != 4:
            continue
        assert sizes["block_size"] == GROUP
        codes, scales, *zeros = (tensors[name] for name in node.input[1:])
        pairs = np.stack([codes & 15, codes >> 4], -1).reshape(*scales.shape, GROUP).astype(np.float32)
        middle = np.full(scales.shape, 8)
        if zeros:
            middle = np.stack([zeros[0] & 15, zeros[0] >> 4], -1).reshape(len(scales), -1)[
                :, : scales.shape[1]
            ]
        weight = (pairs - middle[..., None]) * scales[..., None]
        found[node.input[1].removesuffix(".Q4")] = weight.reshape(sizes["N"], sizes["K"])
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_codes_are_those_of_the_authors(layout: str, folder: Path) -> None:
    stands_for = quantize_folder(folder, layout)
    done = export(folder, "--parity-timesteps", 16)
    assert done.exit_code == 0, done.output
    bundle = folder.parent / "bundle"
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert manifest["precision"] == "int4" and manifest["quantization"] == {"by": "authors"}
    # against PyTorch with the weights that the codes stand for: activations are rounded, weights are not
    assert manifest["parity"]["kl_mean"] < 0.01 and manifest["parity"]["decision_agreement"] > 0.9
    found = matrices(bundle)
    assert len(found) == 3 * 4  # the output matrix is in int8
    for layer in range(3):
        at = f"model.language_model.layers.{layer}"
        qkv = torch.cat([stands_for[f"{at}.self_attn.{part}_proj.weight"] for part in "qkv"])
        assert np.array_equal(found[f"layers.{layer}.qkv"], qkv.numpy())
        assert np.array_equal(found[f"layers.{layer}.down"], stands_for[f"{at}.mlp.down_proj.weight"].numpy())


def test_pytorch_gets_the_same_weights_in_the_older_layout_of_names(tmp_path: Path) -> None:
    """`model.layers...` and `visual...`, as the repositories of Qwen2.5-VL have them."""
    from export.published.open_published import Publication, open_published

    (tmp_path / "facts.toml").write_text(FACTS)
    folder = write_dense(tmp_path, "qwen2_5_vl")
    stands_for = quantize_folder(folder, "awq")
    assert all(name.startswith("model.layers.") for name in stands_for)
    source = open_published(Publication(folder, str(folder.parent / "facts.toml"), "56x56", "m"))
    weights = dict(source.model.decoder.named_parameters())
    for name, expected in stands_for.items():
        assert torch.equal(weights[name.removeprefix("model.")], expected)
    assert source.packed is not None and len(source.packed) == 3 * 4


def test_another_precision_is_made_of_the_same_weights(folder: Path) -> None:
    quantize_folder(folder, "gptq")
    done = export(folder, "--precision", "fp32", "--parity-timesteps", 16)
    assert done.exit_code == 0, done.output
    assert not matrices(folder.parent / "bundle")
    manifest = json.loads((folder.parent / "bundle" / "bundle.json").read_text())
    assert "quantization" not in manifest and manifest["parity"]["kl_mean"] < 1e-3


def test_a_plan_counts_codes_as_weights(folder: Path) -> None:
    from export.published.sizes import count_parameters

    before = count_parameters(folder)
    quantize_folder(folder, "compressed-tensors")
    assert before < count_parameters(folder) < 1.1 * before
    assert export(folder, "--plan").exit_code == 0


def with_order(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("g_idx"))
    tensors[name] = tensors[name].flip(0).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def without_scales(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.language_model.layers.1.mlp.up_proj.scales"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


GPTQ = LAYOUTS["gptq"][3]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda at: change_config(at, quantization_config=GPTQ | {"desc_act": True}), (), "act-order"),
        (with_order, (), "_proj: its inputs are in another order (act-order), which cannot be imported"),
        (without_scales, (), "layers.1.mlp.up_proj: has no tensor scales; download the model again"),
        (
            lambda at: change_config(at, quantization_config=GPTQ | {"bits": 8}),
            (),
            "8 bits, only 4 are known",
        ),
        (
            lambda at: change_config(at, quantization_config={"quant_method": "fp8"}),
            (),
            "quantized (fp8) in a way that cannot be imported",
        ),
        (lambda at: None, ("--target", "tensorrt", "--precision", "int4"), "choose --target ort-cuda"),
        (
            lambda at: None,
            ("--precision", "int4", "--calibrate", __file__),
            "the authors have quantized these weights already; leave it out",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    folder: Path,
    change: Callable[[Path], None],
    options: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from export.quantization import four_bits

    monkeypatch.setattr(four_bits, "check_installed", lambda: None)
    quantize_folder(folder, "gptq")
    change(folder)
    done = export(folder, *options)
    last = done.output.splitlines()[-1]
    assert done.exit_code == 3 and "Traceback" not in done.output
    assert last.startswith("export: ") and message in last
    assert not (folder.parent / "bundle").exists()
