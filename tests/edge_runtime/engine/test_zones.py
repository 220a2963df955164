"""A camera's zones from the model's methods to the vision graph and the texts."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edge_runtime
from edge_runtime.engine.model import Model
from edge_runtime.errors import ConfigError
from edge_runtime.video.framing import Framing
from edge_runtime.video.zones import Zone

LAWN = Zone("lawn", ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)))
PATH = Zone("path", ((0.0, 0.0), (0.2, 0.0), (0.2, 1.0), (0.0, 1.0)))


def with_zones_input(bundle: Path, out: Path) -> Path:
    """The bundle, its vision adding to every token how much the zones cover, weighted by their number."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "bundle.json").read_text())
    entry = manifest["graphs"]["vision"]
    graph = onnx.load(out / entry["file"])
    (last,) = [node for node in graph.graph.node if "tokens" in node.output]
    last.output[:] = ["plain" if name == "tokens" else name for name in last.output]
    weights = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1) / 1024
    graph.graph.initializer.append(numpy_helper.from_array(weights, "zone_weights"))
    graph.graph.node.extend(
        [
            helper.make_node("Mul", ["zones", "zone_weights"], ["weighted"]),
            helper.make_node("ReduceSum", ["weighted"], ["covered"], keepdims=0),
            helper.make_node("Add", ["plain", "covered"], ["tokens"]),
        ]
    )
    graph.graph.input.append(helper.make_tensor_value_info("zones", TensorProto.FLOAT, (1, 4, 32, 32)))
    onnx.save(graph, out / entry["file"])
    entry["inputs"].append({"name": "zones", "shape": [1, 4, 32, 32], "dtype": "float32"})
    content = (out / entry["file"]).read_bytes()
    record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"][entry["file"]] = record
    (out / "bundle.json").write_text(json.dumps(manifest))
    return out


@pytest.fixture(scope="module")
def model(tiny_bundle_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    yield edge_runtime.load(
        with_zones_input(tiny_bundle_fp32, tmp_path_factory.mktemp("zones") / "b"), threads=1
    )


def test_the_vision_graph_is_given_the_zones(model: Model) -> None:
    frame = np.full((64, 64, 3), 100, np.uint8)
    plain = model.open_vision().see(frame)
    zones = model.with_zones([LAWN, PATH]).open_vision().see(frame)
    cells = 32 * np.ceil(0.2 * 32 * 4) / 4  # of the path's columns a part counts
    np.testing.assert_allclose(zones - plain, 0.5 + 2 * cells / 1024, atol=0.01)
    rotated = model.with_zones([PATH], Framing(crop=(0.0, 0.0, 0.2, 1.0), rotate=90)).open_vision()
    np.testing.assert_allclose(rotated.see(frame) - plain, 1.0, atol=1e-3)
    assert model.with_zones([]) is model


def test_questions_and_responses_name_zones(model: Model) -> None:
    named = model.with_zones([LAWN, PATH])
    for one in (named, named.with_fps(2.0)):
        assert one.encoder.query_ids("Who is on the lawn?") == model.encoder.query_ids("Who is on zone 1?")
        said = one.tokenizer.encode("Someone is in zone 2.")
        assert one.decode(said) == "Someone is in the path." and model.decode(said) == "Someone is in zone 2."


def test_names_that_questions_may_use(model: Model) -> None:
    assert model.zone_names == ()
    assert model.with_zones([LAWN, PATH]).zone_names == ("lawn", "path", "zone 1", "zone 2")


def test_a_bundle_without_zones_says_so(tiny_bundle_fp32: Path) -> None:
    plain = edge_runtime.load(tiny_bundle_fp32, threads=1)
    assert plain.bundle.zones is None
    with pytest.raises(ConfigError, match=r"knows no zones; remove \[\[camera\.zone\]\], or use a bundle"):
        plain.with_zones([LAWN])
