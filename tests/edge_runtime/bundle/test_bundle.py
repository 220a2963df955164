"""Loading a bundle, and every way of refusing one."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest

from edge_runtime.backends import select
from edge_runtime.bundle.manifest import find_bundle, load_bundle
from edge_runtime.engine.model import Model
from edge_runtime.errors import BackendError, BundleError, ConfigError


@pytest.fixture
def bundle(tiny_bundle_fp32, tmp_path):
    return shutil.copytree(tiny_bundle_fp32, tmp_path / "bundle")


def edit(folder, change):
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refresh(folder, name):
    """Let bundle.json agree with a file that was changed."""
    content = (folder / name).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(folder, lambda data: data["files"].__setitem__(name, entry))


def refused(folder, *words):
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert caught.value.exit_code == 3


def test_a_good_bundle_loads_and_keeps_what_it_does_not_know(bundle):
    edit(bundle, lambda data: data.__setitem__("from_the_future", {"a": 1}))
    loaded = load_bundle(bundle)
    assert loaded.manifest["from_the_future"] == {"a": 1}
    assert loaded.model.image_size == tuple(loaded.manifest["model"]["image_size"])
    assert loaded.stream_format.window_turns == loaded.manifest["protocol"]["window_turns"]
    assert loaded.decoder.input("past_k.0").dtype == "float32"
    with pytest.raises(BundleError, match=r"no input past_k\.99"):
        loaded.decoder.input("past_k.99")


def test_a_name_that_is_nothing_lists_the_shipped_ones(tmp_path):
    with pytest.raises(BundleError, match=r"no such folder .*shipped: "):
        find_bundle("no-such-model")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="is not a folder"):
        find_bundle(tmp_path / "file")


def test_a_folder_without_manifest(tmp_path):
    refused(tmp_path, "bundle.json", "missing")


@pytest.mark.parametrize("name", ["decoder.onnx", "vision.onnx", "embedding.npy", "tokenizer.json"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    refused(bundle, name, "missing")


@pytest.mark.parametrize("name", ["decoder.onnx", "vision.onnx", "embedding.npy", "tokenizer.json"])
def test_one_flipped_bit_is_noticed(bundle, name):
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(bundle, name, "sha256")


def test_a_cut_file_is_noticed_by_its_size(bundle):
    path = bundle / "decoder.onnx"
    path.write_bytes(path.read_bytes()[:-7])
    refused(bundle, "decoder.onnx", "bytes")


def test_a_newer_format_is_refused(bundle):
    edit(bundle, lambda data: data.__setitem__("format_version", 6))
    refused(bundle, "format version 6", "update")


@pytest.mark.parametrize(
    "name", ["../outside.bin", "/etc/passwd", "a/../../outside.bin", "..\\x", "C:\\x", "./decoder.onnx"]
)
def test_a_path_outside_the_folder_is_refused(bundle, name):
    (bundle.parent / "outside.bin").write_bytes(b"x")
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    edit(bundle, lambda data: data["files"].__setitem__(name, entry))
    refused(bundle, name, "outside")


def test_a_link_that_leads_outside_is_refused(bundle):
    path = bundle / "embedding.npy"
    target = bundle.parent / "elsewhere.npy"
    path.rename(target)
    os.symlink(target, path)
    refused(bundle, "embedding.npy", "outside")


def test_a_graph_must_be_among_the_files(bundle):
    edit(bundle, lambda data: data["files"].pop("decoder.onnx"))
    refused(bundle, "files does not list decoder.onnx")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("model"), ("key model", "an object", "missing")),
        (lambda d: d["model"].pop("head_dim"), ("key model.head_dim", "an integer")),
        (lambda d: d["model"].__setitem__("context_rows", "many"), ("key model.context_rows", "'many'")),
        (lambda d: d["model"].__setitem__("num_layers", 0), ("key model.num_layers", "positive")),
        (lambda d: d["model"].__setitem__("image_size", [224]), ("key model.image_size", "height, width")),
        (lambda d: d["model"].__setitem__("rope_theta", True), ("key model.rope_theta", "a number")),
        (lambda d: d.__setitem__("format_version", True), ("key format_version", "an integer")),
        (lambda d: d["protocol"].__setitem__("fps", "fast"), ("key protocol.fps",)),
        (lambda d: d["protocol"].__setitem__("evict_turns", 10_000), ("evict_turns",)),
        (lambda d: d["graphs"]["decoder"]["inputs"][0].pop("dtype"), ("key graphs.decoder.inputs[0].dtype",)),
        (lambda d: d["graphs"]["vision"].__setitem__("outputs", 3), ("key graphs.vision.outputs", "a list")),
        (lambda d: d["files"]["decoder.onnx"].pop("sha256"), ("key files.decoder.onnx.sha256", "text")),
        (lambda d: d.__setitem__("files", []), ("key files", "an object")),
    ],
)
def test_a_malformed_manifest_names_the_key(bundle, change, words):
    edit(bundle, change)
    refused(bundle, "bundle.json", *words)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b""])
def test_a_manifest_that_is_not_json(bundle, content):
    (bundle / "bundle.json").write_bytes(content)
    refused(bundle, "bundle.json")


def test_an_embedding_of_another_model_is_refused(bundle):
    np.save(bundle / "embedding.npy", np.zeros((3, 3), np.float16))
    refresh(bundle, "embedding.npy")
    with pytest.raises(BundleError, match=r"embedding\.npy.*expected float16"):
        Model(bundle, threads=1)


def test_an_embedding_that_would_run_code_is_refused(bundle):
    np.save(bundle / "embedding.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refresh(bundle, "embedding.npy")
    with pytest.raises(BundleError, match=r"embedding\.npy"):
        Model(bundle, threads=1)


def test_a_graph_that_is_none_is_refused(bundle):
    (bundle / "decoder.onnx").write_bytes(b"not a graph")
    refresh(bundle, "decoder.onnx")
    with pytest.raises(BackendError, match=r"decoder\.onnx: onnxruntime cannot load it"):
        Model(bundle, threads=1)


def test_swapped_graphs_are_noticed(bundle):
    shutil.copy(bundle / "vision.onnx", bundle / "decoder.onnx")
    refresh(bundle, "decoder.onnx")
    with pytest.raises(BundleError, match=r"decoder\.onnx: its inputs are not those of bundle\.json"):
        Model(bundle, threads=1)


def test_a_tokenizer_without_decision_tokens_is_refused(bundle):
    path = bundle / "tokenizer.json"
    path.write_text(path.read_text().replace("</Silence>", "</Other>"))
    refresh(bundle, "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json.*</Silence>"):
        Model(bundle, threads=1)


def test_another_lowering_is_refused(bundle):
    edit(bundle, lambda data: data["graphs"]["decoder"].__setitem__("lowering", "vendor-kv"))
    with pytest.raises(BackendError, match="written for vendor-kv"):
        Model(bundle, threads=1)


def test_too_small_a_cache_is_refused_when_a_session_opens(bundle):
    edit(bundle, lambda data: data["model"].__setitem__("context_rows", 40))
    with pytest.raises(BundleError, match=r"context_rows"):
        Model(bundle, threads=1).session()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "tpu"}, ConfigError, "auto, cpu, cuda"),
        ({"threads": 0}, ConfigError, "from 1 to 1024"),
        ({"threads": 99999999999999999999}, ConfigError, "from 1 to 1024"),
        ({"backend": "cuda"}, BackendError, "cuda"),
    ],
)
def test_a_backend_that_cannot_be_had(tiny_bundle_fp32, arguments, error, message):
    with pytest.raises(error, match=message):
        Model(tiny_bundle_fp32, **arguments)


def test_cuda_needs_the_gpu_package_and_a_bundle_made_for_it(tiny_bundle_fp32, monkeypatch, logged):
    bundle = load_bundle(tiny_bundle_fp32)
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"streampro-edge\[gpu\]"):
        select.select_backend("cuda", bundle)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(BackendError, match="made for the CPU"):
        select.select_backend("cuda", bundle)
    assert "cpu" in select.select_backend("auto", bundle).description
    assert logged == [
        f"CUDA is not used: bundle {bundle.name} is made for the CPU (its cache is float32, CUDA needs "
        "float16); export it with --target ort-cuda, or choose backend cpu"
    ]
    assert "cpu" in select.select_backend("cpu", bundle).description
    assert len(logged) == 1  # nothing more


def test_without_onnxruntime_the_package_to_install_is_named(tiny_bundle_fp32, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"streampro-edge\[cpu\]"):
        select.select_backend("auto", load_bundle(tiny_bundle_fp32))


@pytest.mark.parametrize("positions", [1, "many", True])
def test_angles_for_fewer_positions_than_rows_are_refused(bundle, positions):
    edit(bundle, lambda data: data["model"].__setitem__("rotary_positions", positions))
    refused(bundle, "rotary_positions")


def test_a_bundle_that_says_nothing_of_positions_has_as_many_as_rows(bundle):
    edit(bundle, lambda data: data["model"].pop("rotary_positions", None))
    assert load_bundle(bundle).model.rotary_positions is None
