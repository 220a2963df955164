"""A cache in int8: written by the engine, evicted by the runtime, compared with PyTorch in fp32."""

import json
import shutil

import numpy as np
import onnx
import pytest

from edge_runtime.backends.ort import OrtBackend
from edge_runtime.bundle.manifest import CACHE_SCALES, load_bundle
from edge_runtime.errors import BundleError
from export.errors import ExportError
from export.quantization.cache import quantize_cache
from export.validation.parity import measure_parity
from tests.tiny_qwen import TinyQwen

TIMESTEPS = 90


@pytest.fixture(scope="module")
def bundle(tiny_model, tmp_path_factory):
    return tiny_model.export(tmp_path_factory.mktemp("small-cache") / "tiny", "fp32", kv="int8")


def test_a_stream_with_evictions_stays_close_to_torch(tiny_model, bundle):
    parity = measure_parity(bundle, tiny_model.model, tiny_model.backbone, timesteps=TIMESTEPS)
    assert parity["evictions"] >= 10
    assert parity["kl_mean"] < 0.01 and parity["kv_max_rel_diff"] < 0.3
    assert parity["kl_mean"] > 1e-7  # rounded it is


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_m_rope_in_int8_stays_close_to_torch(family, tmp_path):
    (tmp_path / "tower").mkdir()
    tiny = TinyQwen(family, tmp_path / "tower")
    folder = tiny.export(tmp_path / "tiny", kv="int8")
    parity = measure_parity(folder, tiny.model, tiny.backbone, timesteps=30)
    assert parity["evictions"] >= 5
    assert parity["kl_mean"] < 0.01 and parity["kv_max_rel_diff"] < 0.3


def test_the_bundle_says_so(bundle, tiny_bundle_fp32):
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert (manifest["format_version"], manifest["kv"]) == (3, "int8")
    loaded, plain = load_bundle(bundle), load_bundle(tiny_bundle_fp32)
    assert loaded.decoder.input("past_k.0").dtype == "int8"
    assert {t.name for t in loaded.decoder.inputs} > {t.name for t in plain.decoder.inputs}
    cache = OrtBackend("cpu", 1).load_decoder(loaded).open_cache()
    scales = np.load(bundle / CACHE_SCALES)
    half = scales.shape[-1] // 2
    np.testing.assert_array_equal(scales[:, 0, ..., :half], scales[:, 0, ..., half:])  # pairs turn
    rows = np.random.default_rng(0).standard_normal((20, loaded.model.hidden_size)).astype(np.float32)
    cache.step(rows, 0)
    keys, values = cache.read_slots(20)
    for got, scale in ((keys, scales[:, 0]), (values, scales[:, 1])):
        steps = got / scale
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)  # base 0: keys as they were written
        assert np.abs(steps).max() > 20


@pytest.mark.parametrize("damage", ["missing", "shape", "negative"])
def test_scales_that_cannot_be_are_refused(bundle, tmp_path, damage):
    folder = tmp_path / "tiny"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    scales = np.load(folder / CACHE_SCALES)
    (folder / CACHE_SCALES).unlink()
    del manifest["files"][CACHE_SCALES]
    if damage != "missing":
        import hashlib

        np.save(folder / CACHE_SCALES, scales[:1] if damage == "shape" else -scales)
        data = (folder / CACHE_SCALES).read_bytes()
        manifest["files"][CACHE_SCALES] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"cache_scales\.npy: .*export the bundle again"):
        OrtBackend("cpu", 1).load_decoder(load_bundle(folder))


def test_other_targets_say_that_they_cannot(tiny_model, tmp_path):
    with pytest.raises(ExportError, match="tensorrt cannot keep keys and values in int8; only ort-cpu can"):
        tiny_model.export(tmp_path / "x", "fp16", target="tensorrt", kv="int8")
    assert not list(tmp_path.iterdir())


def test_a_graph_without_the_operator_is_refused(tiny_bundle_tensorrt):
    model = onnx.load(tiny_bundle_tensorrt / "decoder.onnx", load_external_data=False)
    with pytest.raises(ExportError, match="wants GroupQueryAttention"):
        quantize_cache(model)
