"""What an engine cannot run, or runs wrongly without a word, found in a graph before anything is built.

Each rule was seen to fail: TensorRT's parser refuses some of these, its builder others after minutes, and the
worst build an engine that computes something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from export.errors import ExportError

ENGINES = ("ort-cpu", "ort-cuda", "tensorrt", "tensorrt-legacy", "tensorrt-rtx")
"""``tensorrt``: 10.15 and later; ``tensorrt-legacy``: 8.6 to 10.14."""
_TENSORRT = frozenset(name for name in ENGINES if name.startswith("tensorrt"))
_ORT = frozenset(ENGINES) - _TENSORRT
_NEWEST_OPSET = {"tensorrt-legacy": 17, "tensorrt": 24, "tensorrt-rtx": 24, "ort-cpu": 25, "ort-cuda": 25}

_REWRITE = {
    "GroupQueryAttention": "export with --target tensorrt: TensorScatter and Attention, or the legacy graph",
    "MatMulNBits": "store the weight in few bits with a DequantizeLinear in front of a MatMul",
    "GatherBlockQuantized": "keep the embedding table outside the graph, in fp16",
    "SkipSimplifiedLayerNormalization": "write the norm with ordinary operators",
    "DynamicQuantizeLinear": "quantise the weights alone, with DequantizeLinear",
    "MatMulInteger": "quantise the weights alone, with DequantizeLinear",
    "ConvInteger": "quantise the weights alone, with DequantizeLinear",
    "QLinearMatMul": "use QuantizeLinear and DequantizeLinear around a MatMul",
    "QLinearConv": "use QuantizeLinear and DequantizeLinear around a Conv",
}
_NO_TENSORRT = frozenset(
    ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")
)
_DATA_DEPENDENT = frozenset(("NonZero", "Unique", "Compress", "Loop", "SequenceInsert", "SplitToSequence"))
_QKV_INPUTS = 3


@dataclass(frozen=True)
class Finding:
    """One thing that must not be in a graph for this engine. ``node``: its name, or the tensor's."""

    rule: str
    node: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.node}: {self.problem} [{self.rule}]; {self.remedy}"


class _Graph:
    """A model with what the rules ask of it: types and shapes by tensor name."""

    def __init__(self, model: onnx.ModelProto, engine: str) -> None:
        self.engine = engine
        self.model = model
        try:
            inferred = onnx.shape_inference.infer_shapes(model)
        except (onnx.shape_inference.InferenceError, ValueError):  # over 2 GB, or foreign operators
            inferred = model
        graph = inferred.graph
        self.types = {
            value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)
        }
        weights = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [value for value in model.graph.input if value.name not in weights]
        self.nodes = list(_walk(model.graph))
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)

    def of_type(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type in kinds and node.domain in ("", "ai.onnx"))

    def shape(self, name: str) -> list[int | None]:
        """Dimensions, None for one that varies; empty when nothing is known."""
        if name not in self.types:
            return []
        return [dim.dim_value if dim.HasField("dim_value") else None for dim in self.types[name].shape.dim]

    def is_float32(self, name: str) -> bool:
        return name in self.types and self.types[name].elem_type == TensorProto.FLOAT


def _walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _walk(attribute.g)


def _name(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} that gives {node.output[0]}"


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _contrib_op(graph: _Graph) -> Iterator[Finding]:
    known = {"", "ai.onnx"} | ({"com.microsoft"} if graph.engine in _ORT else set())
    for node in graph.nodes:
        if node.domain not in known:
            remedy = _REWRITE.get(node.op_type, "rewrite it with operators of ONNX itself")
            yield Finding(
                "contrib-op",
                _name(node),
                f"{node.domain}.{node.op_type} is not known to {graph.engine}",
                remedy,
            )


def _dynamic_quantization(graph: _Graph) -> Iterator[Finding]:
    for node in graph.of_type(*_NO_TENSORRT):
        problem = f"{graph.engine} has no {node.op_type}"
        yield Finding("dynamic-quantization", _name(node), problem, _REWRITE[node.op_type])


def _kv_seqlen(graph: _Graph) -> Iterator[Finding]:
    for node in graph.of_type("Attention"):
        if len(node.input) > 6 and node.input[6]:
            problem = f"{graph.engine} ignores nonpad_kv_seqlen without a word and attends to unwritten rows"
            yield Finding("nonpad-kv-seqlen", _name(node), problem, "say what counts with a boolean mask")


def _causal(graph: _Graph) -> Iterator[Finding]:
    for node in graph.of_type("Attention"):
        if not _attribute(node, "is_causal"):
            continue
        queries, keys = (graph.shape(name)[-2:-1] for name in node.input[:2])
        if queries != keys or queries in ([], [None]):
            problem = f"{graph.engine} aligns is_causal with the cache's first row, not with the chunk's"
            yield Finding("causal-alignment", _name(node), problem, "say what counts with a boolean mask")


def _attention_outputs(graph: _Graph) -> Iterator[Finding]:
    for node in graph.of_type("Attention"):
        if any(node.output[1:]):
            problem = f"{graph.engine} refuses an Attention with more than one output"
            yield Finding("attention-outputs", _name(node), problem, "write the cache with TensorScatter")


def _attention_fp32(graph: _Graph) -> Iterator[Finding]:
    for node in graph.of_type("Attention"):
        shapes = [graph.shape(name) for name in node.input[:_QKV_INPUTS]]
        varies = any(None in shape or not shape for shape in shapes)
        if varies and graph.is_float32(node.input[0]):
            problem = "an fp32 Attention of varying length does not build"
            yield Finding("attention-fp32", _name(node), problem, "use fp16 or bf16, or the legacy graph")


def _dynamic_size(graph: _Graph) -> Iterator[Finding]:
    for value in graph.inputs:
        shape = graph.shape(value.name)
        is_image = value.name == "pixels" or (len(shape) == 4 and shape[1] == 3)
        if is_image and None in shape:
            problem = "the image size varies, so that the grid of patches would too"
            yield Finding("dynamic-vision-grid", value.name, problem, "export one graph for each resolution")


def _data_dependent(graph: _Graph) -> Iterator[Finding]:
    for node in graph.of_type(*_DATA_DEPENDENT):
        problem = f"the shape of what {node.op_type} gives depends on data"
        yield Finding(
            "data-dependent-shape", _name(node), problem, "capture it as a constant at a fixed size"
        )


def _growing_cache(graph: _Graph) -> Iterator[Finding]:
    for value in graph.inputs:
        if value.name.startswith("past_") and None in graph.shape(value.name):
            problem = "a cache that grows is copied whole in every step"
            yield Finding("growing-cache", value.name, problem, "give it a fixed number of rows")


def _opset(graph: _Graph) -> Iterator[Finding]:
    newest = _NEWEST_OPSET[graph.engine]
    if graph.opset > newest:
        problem = f"opset {graph.opset}, and {graph.engine} reads up to {newest}"
        yield Finding("opset", graph.model.graph.name or "graph", problem, f"export with opset {newest}")


def _fp32_on_cuda(graph: _Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op_type == "GroupQueryAttention" and any(map(graph.is_float32, node.input[3:5])):
            problem = "CUDA has half-precision kernels only: an fp32 cache is copied to the CPU in every step"
            yield Finding("attention-fp32", _name(node), problem, "export with --target ort-cuda")


Rule = Callable[[_Graph], Iterator[Finding]]
RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    (_opset, frozenset(ENGINES)),
    (_contrib_op, frozenset(ENGINES)),
    (_growing_cache, frozenset(ENGINES)),
    (_fp32_on_cuda, frozenset(("ort-cuda",))),
    (_dynamic_quantization, _TENSORRT),
    (_kv_seqlen, _TENSORRT),
    (_causal, _TENSORRT),
    (_attention_outputs, _TENSORRT),
    (_attention_fp32, _TENSORRT),
    (_dynamic_size, _TENSORRT),
    (_data_dependent, _TENSORRT),
)


def lint(model: onnx.ModelProto, engine: str) -> list[Finding]:
    """Everything in ``model`` that ``engine`` (one of :data:`ENGINES`) must not be given."""
    if engine not in ENGINES:
        raise ExportError(f"target {engine!r} is not known; choose one of {', '.join(ENGINES)}")
    graph = _Graph(model, engine)
    return [finding for rule, engines in RULES if engine in engines for finding in rule(graph)]


def check_graph(model: onnx.ModelProto, target: str, lowering: str = "") -> None:
    """Raises ExportError with the first finding, and how many there are, before a build begins."""
    engine = "tensorrt-legacy" if target == "tensorrt" and lowering != "native-kv" else target
    findings = lint(model, engine)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise ExportError(f"graph for {engine}: {findings[0]}{more}")


def load_graph(path: Path) -> onnx.ModelProto:
    """An ONNX file without its external weights. Raises ExportError when it is none, OSError as usual."""
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ExportError(f"{path}: not an ONNX model ({error})") from error
    if not model.graph.node:
        raise ExportError(f"{path}: not an ONNX model (it has no operators)")
    return model
