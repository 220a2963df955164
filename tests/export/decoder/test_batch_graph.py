"""The decoder for several sessions in one call, against the decoder for one."""

import json
import shutil

import numpy as np
import onnx
import pytest

from edge_runtime.backends.batcher import Chunk
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.errors import BundleError
from export.decoder.batch import BATCH_FILE, PLACES, batch_graph, write_batch_graph
from export.errors import ExportError
from tests.tiny_qwen import TinyQwen


def caches_of(folder, count):
    bundle = load_bundle(folder)
    decoder = OrtBackend("cpu", 1).load_decoder(bundle)
    return bundle, decoder.batcher._load(), [decoder.open_cache() for _ in range(count)]


def chunks_of(bundle, lengths, starts, rng):
    """Random rows; with M-RoPE positions and DeepStack as well."""
    model, chunks = bundle.model, []
    for length, start in zip(lengths, starts, strict=True):
        positions = deepstack = None
        if model.visual_grid is not None:
            positions = start + np.stack([np.arange(length)] * 3) // np.array([[1], [2], [3]])
        if model.deepstack:
            shape = (model.deepstack, length, model.hidden_size)
            deepstack = rng.standard_normal(shape).astype(np.float32)
        rows = rng.standard_normal((length, model.hidden_size)).astype(np.float32)
        chunks.append(Chunk(rows, start, positions, deepstack))
    return chunks


def check(folder, steps):
    """Steps of three to eight sessions, each of a length of its own, in one call and apart: the same bits."""
    bundle, batch, together = caches_of(folder, PLACES)
    apart = caches_of(folder, PLACES)[2]
    rng = np.random.default_rng(0)
    starts = [0] * PLACES
    for count in steps:
        who = rng.permutation(PLACES)[:count]
        lengths = [int(rng.integers(1, 20)) for _ in who]
        chunks = chunks_of(bundle, lengths, [starts[i] for i in who], rng)
        logits = batch.step([(together[i], chunk) for i, chunk in zip(who, chunks, strict=True)])
        for place, chunk, found in zip(who, chunks, logits, strict=True):
            np.testing.assert_array_equal(found, apart[place].step_alone(chunk))
            starts[place] += len(chunk.embeddings)
    for slots, one, other in zip(starts, together, apart, strict=True):
        np.testing.assert_array_equal(one.read_slots(slots), other.read_slots(slots))
    assert min(starts) > 0


def test_same_bits_in_int8(tiny_bundle):
    check(tiny_bundle, [8, 3, 5, 8, 4, 7])


def test_same_bits_with_a_cache_in_int8(tiny_model, tmp_path):
    check(tiny_model.export(tmp_path / "tiny", "int8", kv="int8"), [8, 3, 5, 8])


@pytest.mark.slow
def test_same_bits_with_m_rope_and_deepstack(tmp_path):
    (tmp_path / "tower").mkdir()
    check(TinyQwen("qwen3_vl", tmp_path / "tower").export(tmp_path / "tiny"), [8, 3, 5, 8])


def test_it_holds_no_weights_of_its_own(tiny_bundle):
    manifest = json.loads((tiny_bundle / "bundle.json").read_text())
    assert manifest["graphs"]["decoder"]["batch"] == {"file": BATCH_FILE, "places": PLACES}
    sizes = {name: spec["bytes"] for name, spec in manifest["files"].items()}
    assert sizes[BATCH_FILE] < sizes["decoder.onnx"] / 4
    decoder, batch = (onnx.load(tiny_bundle / name) for name in ("decoder.onnx", BATCH_FILE))
    weights = {tensor.name: tensor.raw_data for tensor in decoder.graph.initializer}
    large = [tensor for tensor in batch.graph.initializer if len(tensor.raw_data) >= 1024]
    assert len(large) > 5 and all(tensor.raw_data == weights[tensor.name] for tensor in large)


def test_only_graphs_of_onnx_runtime_have_one(tiny_bundle_tensorrt):
    assert load_bundle(tiny_bundle_tensorrt).batch is None
    decoder = onnx.load(tiny_bundle_tensorrt / "decoder.onnx", load_external_data=False)
    with pytest.raises(ExportError, match="GroupQueryAttention"):
        batch_graph(decoder, PLACES)


def test_a_bundle_without_one_gets_one(tiny_bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    (copy / BATCH_FILE).unlink()
    assert write_batch_graph(copy, "decoder.onnx") == {"file": BATCH_FILE, "places": PLACES}
    assert (copy / BATCH_FILE).read_bytes() == (tiny_bundle / BATCH_FILE).read_bytes()


def test_a_graph_of_another_version_is_left_out(tiny_bundle, tmp_path, caplog):
    """Its hash is right, its inputs are not: the decoder for one session in its place."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["graphs"]["decoder"]["batch"]["file"] = "decoder.onnx"
    (copy / "bundle.json").write_text(json.dumps(manifest))
    bundle, decoder = load_bundle(copy), OrtBackend("cpu", 1).load_decoder(load_bundle(copy))
    caches = [decoder.open_cache() for _ in range(3)]
    assert "no input begin; export the bundle again" in caplog.text
    rows = np.ones((2, bundle.model.hidden_size), np.float32)
    (done,) = decoder.batcher.run([lambda cache=cache: cache.step(rows, 0) for cache in caches])
    assert done.result().shape == (bundle.model.vocab_size,)


@pytest.mark.parametrize("batch", [7, {}, {"file": BATCH_FILE, "places": 0}, {"file": 1, "places": 8}])
def test_a_manifest_that_describes_it_wrongly_is_refused(tiny_bundle, tmp_path, batch):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["graphs"]["decoder"]["batch"] = batch
    (copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"graphs\.decoder\.batch"):
        load_bundle(copy)
