"""A decoder graph taken apart computes what it did, and the run compares every variant."""

from __future__ import annotations

import json

import onnx
import pytest
from click.testing import CliRunner

from benchmarks.latency import graph_steps
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.errors import ConfigError


def test_each_variant_has_the_nodes_it_says(tiny_bundle):
    def kinds(undo):
        model = onnx.load(tiny_bundle / "decoder.onnx")
        if undo is not None:
            undo(model)
        operators = [node.op_type for node in model.graph.node]
        return {name: operators.count(name) for name in ("MatMulNBits", "Split", norm)}

    norm = "SkipSimplifiedLayerNormalization"
    whole = kinds(None)
    assert whole == {"MatMulNBits": 2 * 4 + 1, "Split": 2, norm: 4}
    assert kinds(graph_steps.qkv_apart) == whole | {"MatMulNBits": 2 * 6 + 1}
    assert kinds(graph_steps.gate_and_up_apart) == whole | {"MatMulNBits": 2 * 5 + 1, "Split": 0}
    assert kinds(graph_steps.norms_apart) == whole | {norm: 0}


def test_run_checks_the_numbers_and_writes_every_variant(tiny_bundle, tmp_path):
    out = tmp_path / "steps.json"
    arguments = ["--bundle", str(tiny_bundle), "--context", "64", "--rounds", "1", "--threads", "1"]
    outcome = CliRunner().invoke(graph_steps.main, [*arguments, "--out", str(out)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    results = json.loads(out.read_text())["results"]
    assert {row["variant"] for row in results} == set(graph_steps.VARIANTS)
    assert all(row["ratio"]["p50"] == 1.0 for row in results if row["variant"] == "as exported")


def test_a_rewriting_that_changes_the_numbers_is_refused(tiny_bundle, monkeypatch):
    def wrong(model):
        node = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
        node.output[0] = "forgotten"
        product = next(
            n for n in model.graph.node if n.input[0] not in ("forgotten",) and "matmul_1" in n.output
        )
        product.input[0] = "inputs_embeds"

    monkeypatch.setitem(graph_steps.VARIANTS, "norms apart", wrong)
    with pytest.raises(ConfigError, match="norms apart: its logits differ"):
        graph_steps.main(["--bundle", str(tiny_bundle), "--context", "64"], standalone_mode=False)


def test_a_bundle_in_fp32_is_refused(tiny_bundle_fp32):
    with pytest.raises(ConfigError, match="not an int8 or int4 bundle"):
        graph_steps.open_variant(load_bundle(tiny_bundle_fp32), None, 1)
