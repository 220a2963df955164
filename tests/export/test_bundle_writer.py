from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import edge_runtime  # noqa: E402
from edge_runtime.atomic_write import sweep  # noqa: E402
from edge_runtime.bundle.manifest import load_bundle  # noqa: E402
from edge_runtime.bundle.stream_format import TurnEncoder  # noqa: E402
from export import bundle_folder, bundle_writer  # noqa: E402
from export.bundle_writer import check_parity, export_model  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.families.reference.decoder import full_logits  # noqa: E402
from export.families.registry import reference_of  # noqa: E402
from export.options import ExportOptions  # noqa: E402
from export.validation.parity import measure_parity  # noqa: E402


def test_manifest_describes_the_graphs(tiny_bundle, tiny_model):
    bundle = load_bundle(tiny_bundle)  # verifies hashes and sizes
    assert bundle.stream_format == tiny_model.stream_format
    assert bundle.precision == "int8"
    assert bundle.decoder.lowering == "ort-gqa"
    assert bundle.decoder.input("inputs_embeds").shape == (1, "S", 64)
    assert bundle.decoder.input("position_ids").shape == (1, 1, "S")
    assert bundle.decoder.input("past_k.1").shape == (1, 2, bundle.model.context_rows, 16)
    assert [tensor.name for tensor in bundle.decoder.outputs][:2] == ["logits", "present_k.0"]
    assert bundle.vision.outputs[0].shape == (1, 9, 64)
    table = np.load(tiny_bundle / "embedding.npy", allow_pickle=False)
    assert (table.dtype, table.shape) == (np.float16, (2048, 64))


def test_int8_graph_holds_its_products_in_eight_bits(tiny_bundle, tiny_bundle_fp32):
    def operators(folder):
        return [node.op_type for node in onnx.load(folder / "decoder.onnx").graph.node]

    int8, fp32 = operators(tiny_bundle), operators(tiny_bundle_fp32)
    assert int8.count("MatMulNBits") == fp32.count("MatMul") == 2 * 4 + 1  # qkv, out, gate_up, down; lm_head
    assert "MatMul" not in int8
    assert fp32.count("GroupQueryAttention") == 2
    assert fp32.count("Reshape") == 1  # of logit_rows, not of activations
    assert "Transpose" not in fp32
    sizes = [(folder / "decoder.onnx").stat().st_size for folder in (tiny_bundle, tiny_bundle_fp32)]
    assert sizes[0] < 0.4 * sizes[1]


@pytest.mark.parametrize("lengths", [[40, 12, 1, 1, 12, 14], [1] * 20, [80]])
def test_fp32_streaming_equals_one_pass_of_torch(tiny_bundle_fp32, tiny_model, lengths):
    """The same embeddings through the runtime's cache in chunks, and through PyTorch at once."""
    model = edge_runtime.load(tiny_bundle_fp32, threads=1)
    ids = np.random.default_rng(5).integers(10, 1000, sum(lengths))
    embeddings = torch.from_numpy(np.load(tiny_bundle_fp32 / "embedding.npy")[ids].astype(np.float32))
    expected = full_logits(tiny_model.model.decoder, embeddings).numpy()
    decoder = model.open_decoder()
    start = 0
    for length in lengths:
        logits = decoder.append(ids[start : start + length].tolist(), start)
        start += length
        np.testing.assert_allclose(logits, expected[start - 1], atol=1e-3)


def test_default_capacity_lets_the_window_fill_before_the_cache(tiny_model):
    stream_format = replace(
        tiny_model.stream_format, window_turns=100, evict_turns=10, max_response_tokens=20
    )
    encoder = TurnEncoder(stream_format, lambda text: tiny_model.tokenizer.encode(text).ids)
    turn = len(encoder.turn_ids(9_999)) + 1
    rows = bundle_writer.rows_for(encoder)
    assert rows % 128 == 0
    assert rows >= len(encoder.prefix_ids()) + 100 * turn + 25 * 20 + 128 > rows - 128


def test_a_bundle_states_how_many_queries_share_a_session(tiny_model, tmp_path):
    several = replace(tiny_model.stream_format, queries_per_session=3)
    export(tiny_model, tmp_path / "three", stream_format=several)
    manifest = json.loads((tmp_path / "three" / "bundle.json").read_text())
    assert manifest["protocol"]["queries_per_session"] == 3 and manifest["format_version"] == 4
    model = edge_runtime.load(tmp_path / "three", threads=1)
    assert model.queries_per_session == 3
    parity = measure_parity(
        tmp_path / "three", reference_of(tiny_model.model, tiny_model.backbone), timesteps=40
    )
    assert parity["decision_agreement"] > 0.9 and parity["kl_mean"] < 0.01 and parity["evictions"]


def test_capacity_has_room_for_the_answers_to_all_queries_of_a_session(tiny_model):
    encode = tiny_model.tokenizer.encode
    formats = [replace(tiny_model.stream_format, queries_per_session=n) for n in (1, 4)]
    one, four = (bundle_writer.rows_for(TurnEncoder(f, lambda text: encode(text).ids)) for f in formats)
    assert four - one >= 3 * 128


def export(tiny_model, out, **changes):
    parts = {key: changes.pop(key) for key in ("stream_format", "training") if key in changes}
    options = {"context_rows": 384, "precision": "fp32", **changes}
    return export_model(tiny_model.source(**parts), out, ExportOptions(**options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int3"}, "ort-cpu cannot do precision int3; it can do fp32, int8, int4$"),
        (
            {"stream_format": {"frame_tokens": 4}},
            "visual tokens per frame: 4 in the stream format, 9 in the model",
        ),
        ({"stream_format": {"silence": "</Quiet>"}}, "must be one token"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(tiny_model, tmp_path, changes, message):
    if "stream_format" in changes:
        changes = {"stream_format": replace(tiny_model.stream_format, **changes["stream_format"])}
    with pytest.raises(ExportError, match=message):
        export(tiny_model, tmp_path / "bundle", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_never_replaced(tiny_model, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(ExportError, match="exists and is no bundle"):
        export(tiny_model, tmp_path)
    assert (tmp_path / "thesis.txt").is_file()


def test_a_failed_export_leaves_the_old_bundle_whole(tiny_model, tiny_bundle, tmp_path, monkeypatch):
    out = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, out)
    monkeypatch.setattr(tiny_model.model.decoder.config, "hidden_act", "gelu")  # no graph for it
    with pytest.raises(ExportError, match="with silu"):
        export(tiny_model, out)
    assert load_bundle(out).precision == "int8"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("kl", [0.11, float("nan")])
def test_a_bundle_that_computes_something_else_is_refused(kl):
    parity = {"kl_mean": 0.009, "decision_agreement": 0.996, "timesteps": 500}
    check_parity(parity, "int8")
    with pytest.raises(ExportError, match="differs from the model, nothing was written"):
        check_parity(parity | {"kl_mean": kl}, "int8")


def test_decisions_have_to_be_the_models():
    parity = {"kl_mean": 0.009, "decision_agreement": 0.99, "timesteps": 500}
    with pytest.raises(ExportError, match="differs from the model"):
        check_parity(parity, "int8")
    check_parity(parity, "int4")  # who chooses it pays in quality
    check_parity(parity | {"decision_agreement": 59 / 60, "timesteps": 60}, "int8")  # one of sixty


def test_an_old_bundle_is_replaced_and_parity_is_recorded(tiny_model, tiny_bundle, tmp_path):
    out = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, out)
    (out / "stale.bin").write_bytes(b"old")
    training = {"metrics": {"f1": 0.5}}
    assert export(tiny_model, out, name="n", training=training, parity_timesteps=60) == out
    bundle = load_bundle(out)
    assert (bundle.name, bundle.precision) == ("n", "fp32")
    assert not (out / "stale.bin").exists()
    manifest = json.loads((out / "bundle.json").read_text())
    assert manifest["training"] == training
    parity = manifest["parity"]
    assert parity["timesteps"] == 60
    assert parity["evictions"] >= 10
    assert parity["decision_agreement"] == 1.0
    assert parity["logit_max_abs_diff"] < 0.05  # fp16 embeddings and vision weights
    assert parity["kl_mean"] < 1e-4


def test_a_tensorrt_bundle_holds_both_flavours_over_one_file_of_weights(tiny_bundle_tensorrt):
    bundle = load_bundle(tiny_bundle_tensorrt)
    assert [graph.lowering for graph in (bundle.decoder, *bundle.alternatives)] == ["native-kv", "legacy-kv"]
    assert bundle.decoder_for(["legacy-kv"]).outputs[1].name == "new_kv"
    assert bundle.decoder_for(["legacy-kv", "native-kv"]).lowering == "legacy-kv"
    assert bundle.decoder_for(["ort-gqa"]) is None
    sizes = {name: spec.size for name, spec in bundle.files.items()}
    assert sizes["decoder.weights"] > 3 * max(sizes["decoder.onnx"], sizes["decoder-legacy-kv.onnx"])
    native, legacy = (onnx.load(tiny_bundle_tensorrt / f"decoder{x}.onnx") for x in ("", "-legacy-kv"))
    assert [model.opset_import[0].version for model in (native, legacy)] == [24, 17]
    weights = [{tensor.name: tensor for tensor in model.graph.initializer} for model in (native, legacy)]
    assert weights[0]["lm_head"].raw_data == weights[1]["lm_head"].raw_data != b""
    attention = [node for node in native.graph.node if node.op_type == "Attention"]
    assert all(len(node.output) == 1 and len(node.input) == 4 for node in attention)


def test_a_damaged_alternative_is_noticed(tiny_bundle_tensorrt, tmp_path):
    out = tmp_path / "bundle"
    shutil.copytree(tiny_bundle_tensorrt, out)
    with (out / "decoder-legacy-kv.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(edge_runtime.EdgeError, match=r"decoder-legacy-kv\.onnx"):
        load_bundle(out)


@pytest.mark.parametrize(
    ("target", "precision", "message"),
    [
        (
            "ort-cuda",
            "fp32",
            "ort-cuda cannot do precision fp32; it can do fp16, int8, int4 (fp32 is for ort-cpu",
        ),
        (
            "ort-cpu",
            "fp8",
            "ort-cpu cannot do precision fp8; it can do fp32, int8, int4 (fp8 is for tensorrt",
        ),
        ("tensorrt-rtx", "fp32", "it can do fp16, int8, int4, fp8 (fp32 is for ort-cpu, tensorrt)"),
        (
            "coral",
            "int8",
            "target 'coral' is not known; choose one of ort-cpu, ort-cuda, tensorrt, tensorrt-rtx",
        ),
    ],
)
def test_a_precision_the_target_cannot_do(tiny_model, tmp_path, target, precision, message):
    with pytest.raises(ExportError) as caught:
        export(tiny_model, tmp_path / "bundle", target=target, precision=precision)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_room_is_noticed_before_the_work(tiny_model, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1_000_000})
    monkeypatch.setattr(bundle_folder.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ExportError, match=r"1 MB free, the bundle may need \d+ MB; make room"):
        export(tiny_model, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
out = Path(sys.argv[1])
work = out.with_name(f".{out.name}.{os.getpid()}")
work.mkdir()
(work / "decoder.onnx").write_bytes(b"half")
if sys.argv[2] == "old":
    os.replace(out, f"{work}.old")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["writing", "old"])
def test_what_a_killed_export_leaves_is_swept_and_never_used(tmp_path, when):
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "bundle.json").write_text("the old one")
    command = [sys.executable, "-c", KILLED, str(out), when]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    sweep(out)  # it still lives: nothing of it is touched
    assert len(list(tmp_path.iterdir())) == 2
    process.kill()
    process.communicate()
    sweep(out)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (out / "bundle.json").read_text() == "the old one"
