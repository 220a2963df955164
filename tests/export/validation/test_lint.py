"""Each rule on the smallest graph that breaks it, and on its neighbour that does not."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx")

from click.testing import CliRunner  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from export.__main__ import main  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.validation.lint import ENGINES, check_graph, lint  # noqa: E402

F32, F16, I64, I32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32
TENSORRT = [name for name in ENGINES if name.startswith("tensorrt")]


def model(nodes, inputs, outputs=(("y", F32, None),), opset=17, domains=()):
    def value(entry):
        return helper.make_tensor_value_info(*entry)

    graph = helper.make_graph(nodes, "g", [value(entry) for entry in inputs], [value(o) for o in outputs])
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports)


def attention(kind=F16, length="S", inputs=("q", "k", "v", "mask"), outputs=("y",), **attributes):
    node = helper.make_node("Attention", list(inputs), list(outputs), name="attention_0", **attributes)
    tensors = {
        "q": ("q", kind, [1, 4, length, 16]),
        "k": ("k", kind, [1, 2, 64, 16]),
        "v": ("v", kind, [1, 2, 64, 16]),
        "mask": ("mask", TensorProto.BOOL, [1, 1, length, 64]),
        "seqlen": ("seqlen", I64, [1]),
    }
    results = [(name, kind, None) for name in outputs if name]
    return model([node], [tensors[name] for name in inputs if name], results, opset=24)


def contrib(op, **attributes):
    node = helper.make_node(op, ["x"], ["y"], name="node_7", domain="com.microsoft", **attributes)
    return model([node], [("x", F16, [1, 8])], domains=["com.microsoft"])


def simple(op, inputs, outputs=("y",), **attributes):
    node = helper.make_node(op, [name for name, *_ in inputs], list(outputs), name="node_7", **attributes)
    return model([node], inputs, [(name, 0, None) for name in outputs])


UINT8 = TensorProto.UINT8
CASES = [
    (contrib("GroupQueryAttention"), "contrib-op", TENSORRT, "node_7", "TensorScatter"),
    (contrib("MatMulNBits"), "contrib-op", TENSORRT, "node_7", "DequantizeLinear"),
    (contrib("GatherBlockQuantized"), "contrib-op", TENSORRT, "node_7", "embedding table"),
    (
        simple("DynamicQuantizeLinear", [("x", F32, [8])], ("y", "s", "z")),
        *("dynamic-quantization", TENSORRT, "node_7", "weights alone"),
    ),
    (
        simple("MatMulInteger", [("a", UINT8, [4, 8]), ("b", UINT8, [8, 4])]),
        *("dynamic-quantization", TENSORRT, "node_7", "weights alone"),
    ),
    (
        attention(inputs=("q", "k", "v", "mask", "", "", "seqlen")),
        *("nonpad-kv-seqlen", TENSORRT, "attention_0", "boolean mask"),
    ),
    (
        attention(inputs=("q", "k", "v"), is_causal=1),
        *("causal-alignment", TENSORRT, "attention_0", "boolean mask"),
    ),
    (
        attention(outputs=("y", "present_key", "present_value")),
        *("attention-outputs", TENSORRT, "attention_0", "TensorScatter"),
    ),
    (attention(kind=F32), "attention-fp32", TENSORRT, "attention_0", "fp16"),
    (
        simple("Relu", [("pixels", F32, [1, 3, "height", "width"])]),
        *("dynamic-vision-grid", TENSORRT, "pixels", "each resolution"),
    ),
    (simple("NonZero", [("x", F32, [8])]), "data-dependent-shape", TENSORRT, "node_7", "constant"),
    (
        simple("Relu", [("past_k.0", F32, [1, 2, "past", 16])]),
        *("growing-cache", list(ENGINES), "past_k.0", "fixed number of rows"),
    ),
    (attention(), "opset", ["tensorrt-legacy"], "g", "opset 17"),
]


@pytest.mark.parametrize(
    ("graph", "rule", "engines", "node", "remedy"),
    CASES,
    ids=[f"{case[1]}-{i}" for i, case in enumerate(CASES)],
)
def test_each_rule(graph, rule, engines, node, remedy):
    for engine in ENGINES:
        found = [finding for finding in lint(graph, engine) if finding.rule == rule]
        if engine not in engines:
            assert not found, engine
            continue
        assert [finding.node for finding in found] == [node], engine
        assert remedy in found[0].remedy
        with pytest.raises(ExportError, match=f"graph for {engine}: "):
            lowering = "native-kv" if engine == "tensorrt" else ""
            check_graph(graph, "tensorrt" if engine == "tensorrt-legacy" else engine, lowering)


@pytest.mark.parametrize(
    ("graph", "engine"),
    [
        (attention(), "tensorrt"),
        (attention(kind=F32, length=1), "tensorrt-rtx"),
        (attention(inputs=("q", "k", "v"), length=64, is_causal=1), "tensorrt-rtx"),
        (contrib("MatMulNBits"), "ort-cpu"),
        (contrib("MatMulNBits"), "ort-cuda"),
        (simple("Relu", [("pixels", F32, [1, 3, 224, 224])]), "tensorrt-legacy"),
        (simple("Relu", [("x", F32, ["N", 16])]), "tensorrt-legacy"),
    ],
)
def test_what_is_right_is_left_alone(graph, engine):
    assert lint(graph, engine) == []


def test_an_fp32_cache_on_cuda():
    names = ["qkv", "", "", "past_k", "past_v", "seqlens", "total"]
    node = helper.make_node("GroupQueryAttention", names, ["y"], name="gqa_0", domain="com.microsoft")
    for kind, rules in ((F32, ["attention-fp32"]), (F16, [])):
        tensors = [
            ("qkv", kind, [1, 1, 128]),
            ("past_k", kind, [1, 2, 64, 16]),
            ("past_v", kind, [1, 2, 64, 16]),
        ]
        tensors += [("seqlens", I32, [1]), ("total", I32, [])]
        graph = model([node], tensors, [("y", kind, None)], domains=["com.microsoft"])
        assert [finding.rule for finding in lint(graph, "ort-cuda")] == rules


def test_operators_inside_branches_are_found():
    inner = helper.make_node("NonZero", ["x"], ["inner"], name="inside")
    branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("inner", I64, None)])
    node = helper.make_node("If", ["c"], ["y"], name="branch", then_branch=branch, else_branch=branch)
    graph = model([node], [("c", TensorProto.BOOL, []), ("x", F32, [8])], [("y", I64, None)])
    assert {finding.node for finding in lint(graph, "tensorrt")} == {"inside"}


def test_the_command(tmp_path):
    def run(*arguments):
        return CliRunner().invoke(main, ["lint", *map(str, arguments)])

    bad, good, none = tmp_path / "bad.onnx", tmp_path / "good.onnx", tmp_path / "none.onnx"
    onnx.save(contrib("GroupQueryAttention"), bad)
    onnx.save(attention(), good)
    none.write_bytes(b"\xff\xfe no model")
    result = run(bad, "--target", "tensorrt")
    assert result.exit_code == 3
    assert "node_7: com.microsoft.GroupQueryAttention is not known to tensorrt [contrib-op]" in result.output
    assert run(bad, "--target", "ort-cpu").exit_code == 0
    assert run(good, "--target", "tensorrt-rtx").exit_code == 0
    for path, text in ((none, "not an ONNX model"), (tmp_path / "missing.onnx", "No such file")):
        result = run(path, "--target", "tensorrt")
        assert result.exit_code in (1, 3) and text in result.output and "Traceback" not in result.output
        assert len(result.output.splitlines()) == 1


def test_what_is_exported_passes_and_what_is_for_another_engine_does_not(tiny_bundle, tiny_bundle_tensorrt):
    native, legacy = (onnx.load(tiny_bundle_tensorrt / f"decoder{x}.onnx") for x in ("", "-legacy-kv"))
    vision = onnx.load(tiny_bundle_tensorrt / "vision.onnx")
    for engine in ("tensorrt", "tensorrt-rtx"):
        assert [lint(graph, engine) for graph in (native, legacy, vision)] == [[], [], []]
    assert lint(legacy, "tensorrt-legacy") == lint(vision, "tensorrt-legacy") == []
    rules = {finding.rule for finding in lint(onnx.load(tiny_bundle / "decoder.onnx"), "tensorrt")}
    assert rules == {"contrib-op"}
