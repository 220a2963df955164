"""The TensorRT backend over stand-ins of each version, whose engines compute with ONNX Runtime.

What is checked is everything above the engine: which graph and flags a version gets, addresses, the strided
copy, CUDA graphs, evictions, and that every ``None`` becomes one line. No GPU takes part.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from cuda_standin import StandInCuda
from tensorrt_standin import make

from edge_runtime.app.doctor import check_tensorrt
from edge_runtime.backends.ort import OrtBackend
from edge_runtime.backends.select import select_backend
from edge_runtime.backends.tensorrt import backend as tensorrt
from edge_runtime.backends.tensorrt.backend import TensorRTBackend
from edge_runtime.backends.tensorrt.cuda import Cuda
from edge_runtime.backends.tensorrt.engine_cache import EngineCache
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.engine.model import Model
from edge_runtime.errors import BackendError
from edge_runtime.kv_cache.window import EvictionPlan, Move, Segment

VERSIONS = [
    ("tensorrt", "8.6.1"),
    ("tensorrt", "10.3.0"),
    ("tensorrt", "10.15.1"),
    ("tensorrt", "11.0.0"),
    ("tensorrt_rtx", "1.7.1.116"),
]


@pytest.fixture(scope="module")
def bundle(tiny_bundle_tensorrt):
    return load_bundle(tiny_bundle_tensorrt)


class Rig:
    """A backend over stand-ins, its engines cached in ``folder``."""

    def __init__(self, folder, name="tensorrt", version="10.15.1", **gpu):
        self.gpu = StandInCuda(**gpu)
        self.module = make(name, version, cuda=self.gpu)
        self.said = []
        self.cache = EngineCache(folder / "engines", say=self.said.append)
        self.backend = TensorRTBackend(self.module, Cuda(self.gpu), cache=self.cache)


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_a_stream_with_evictions_equals_onnx_runtime(bundle, tmp_path, monkeypatch, name, version):
    monkeypatch.setattr(tensorrt, "LONGEST_CHUNK", 24)  # so that the first chunk is split
    rig = Rig(tmp_path, name, version)
    cache = rig.backend.load_decoder(bundle).open_cache()
    reference = OrtBackend("cpu", 1).load_decoder(bundle).open_cache()
    rng = np.random.default_rng(0)
    start = 0
    for length in [60, 17, 17, 18, 17, 1, 1, 1, 17, 18, 17, 17, 18]:
        chunk = rng.standard_normal((length, bundle.model.hidden_size), dtype=np.float32) * 0.3
        np.testing.assert_allclose(cache.step(chunk, start), reference.step(chunk, start), atol=0.03)
        start += length
        if start > 150:
            segments = Segment("prefix", 20), Segment("turn", 20), Segment("turn", start - 40)
            plan = EvictionPlan((Move(40, 20, start - 40),), (segments[0], segments[2]), (segments[1],))
            cache.evict(plan)
            reference.evict(plan)
            start -= 20
    for ours, theirs in zip(cache.read_slots(start), reference.read_slots(start), strict=True):
        assert np.abs(theirs).max() > 0.5
        np.testing.assert_allclose(ours, theirs, atol=0.02)
    captured = rig.gpu.launches
    assert (captured == 0) if name == "tensorrt_rtx" else (captured >= 6)
    cache.close()
    assert not rig.gpu.blocks and not rig.gpu.host and rig.gpu.streams == 0


@pytest.mark.parametrize(
    ("name", "version", "network_flags", "builder_flags"),
    [
        ("tensorrt", "8.6.1", ["EXPLICIT_BATCH"], ["FP16", "OBEY_PRECISION_CONSTRAINTS"]),
        ("tensorrt", "10.3.0", ["EXPLICIT_BATCH", "STRONGLY_TYPED"], []),
        ("tensorrt", "11.0.0", ["STRONGLY_TYPED"], []),
        ("tensorrt_rtx", "1.7.1", ["STRONGLY_TYPED"], []),
    ],
)
def test_each_version_gets_the_flags_it_knows(bundle, tmp_path, name, version, network_flags, builder_flags):
    rig = Rig(tmp_path, name, version)
    rig.backend.load_decoder(bundle)
    (build,) = rig.module.builds
    flags = rig.module.NetworkDefinitionCreationFlag
    assert build.flags == sum(1 << int(flags[flag]) for flag in network_flags)
    assert build.config.flags == builder_flags
    (profile,) = build.config.profiles
    assert [shape[1] for shape in profile["inputs_embeds"]] == [1, 17, 256]


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_the_cache_is_updated_in_place_where_the_version_can(bundle, tmp_path, name, version):
    rig = Rig(tmp_path, name, version)
    cache = rig.backend.load_decoder(bundle).open_cache()
    in_place = version not in ("8.6.1", "10.3.0")
    assert ("new_kv" in cache._addresses) is not in_place
    if in_place:
        assert cache._addresses["present_v.1"] == cache._addresses["past_v.1"]


def test_replayed_and_plain_timesteps_give_the_same(bundle, tmp_path):
    results = []
    for graphs in (True, False):
        rig = Rig(tmp_path)
        backend = TensorRTBackend(rig.module, Cuda(rig.gpu), cache=rig.cache, graphs=graphs)
        cache = backend.load_decoder(bundle).open_cache()
        rng = np.random.default_rng(1)
        chunks = rng.standard_normal((6, 17, bundle.model.hidden_size), dtype=np.float32)
        results.append([cache.step(chunk, 17 * i).copy() for i, chunk in enumerate(chunks)])
        assert (rig.gpu.launches > 0) is graphs
    np.testing.assert_array_equal(*results)


def test_a_context_that_cannot_be_captured_runs_without_graphs(bundle, tmp_path):
    rig = Rig(tmp_path)
    cache = rig.backend.load_decoder(bundle).open_cache()
    rig.module.broken = "context"  # no memory for a second one
    chunk = np.zeros((17, bundle.model.hidden_size), np.float32)
    for index in range(4):
        assert np.isfinite(cache.step(chunk, 17 * index)).all()
    assert rig.gpu.launches == 0


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "auto"])
def test_decisions_of_a_session_are_those_of_the_cpu(
    tiny_bundle_tensorrt, tmp_path, monkeypatch, capsys, backend
):
    gpu = StandInCuda()
    for name, version in (("tensorrt", "10.15.1"), ("tensorrt_rtx", "1.7.1")):
        module = make(name, version, cuda=gpu)
        module.__spec__ = pytest  # any spec: find_spec asks only whether there is one
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Cuda, "load", classmethod(lambda cls, extra: cls(gpu)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    models = [Model(tiny_bundle_tensorrt, threads=1, backend=name) for name in (backend, "cpu")]
    assert models[0].backend.startswith("tensorrt") and "Stand-in GPU (SM89)" in models[0].backend
    assert "building" in capsys.readouterr().err
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (25, 64, 64, 3), dtype=np.uint8)
    runs = []
    for model in models:
        with model.session() as session:
            session.ask("What does the person do?")
            runs.append([session.push(frame, k + 1.0) for k, frame in enumerate(frames)])
    for ours, theirs in zip(*runs, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=0.01)
    assert sum(a.speak == b.speak for a, b in zip(*runs, strict=True)) >= 24


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("builder", "could not start; check the driver .*"),
        ("network", "no network could be created with flags 0x3 .unknown flags 0x3"),
        ("build", "no engine could be built .a warning after the error"),
        ("memory", "too little GPU memory to build the engine .Requested amount"),
        ("load", "the engine could not be loaded .The engine plan file is not compatible"),
    ],
)
def test_what_answers_none_becomes_one_line(bundle, tmp_path, broken, message):
    rig = Rig(tmp_path)
    rig.module.broken = broken
    with pytest.raises(BackendError, match=message) as caught:
        rig.backend.load_decoder(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("version", "node"), [("8.6.1", "node 3"), ("10.3.0", "node_attention")])
def test_a_graph_the_parser_refuses_names_the_node(bundle, tmp_path, version, node):
    rig = Rig(tmp_path, version=version)
    from edge_runtime.backends.tensorrt.api import BuildRequest, TensorRT

    native = BuildRequest(bundle.path("decoder.onnx"), "fp16", (1, 2, 3))
    with pytest.raises(BackendError, match=f"{node}: Unsupported operator.*export lint"):
        TensorRT(rig.module).build(native)


def test_an_unknown_flag_is_an_error_with_the_log(tmp_path, bundle):
    """What 8.6 would do if it were asked for strong types."""
    rig = Rig(tmp_path, version="8.6.1")
    rig.module.NetworkDefinitionCreationFlag = make("tensorrt", "10.3.0").NetworkDefinitionCreationFlag
    rig.module.broken = "network"
    with pytest.raises(BackendError, match="unknown flags"):
        rig.backend.load_decoder(bundle)


def test_a_bundle_for_another_engine_is_refused(tiny_bundle, tmp_path):
    with pytest.raises(BackendError, match="needs native-kv or legacy-kv; export the bundle with --target"):
        Rig(tmp_path).backend.load_decoder(load_bundle(tiny_bundle))


def test_too_little_memory_says_how_much_is_needed(bundle, tmp_path):
    rig = Rig(tmp_path, free=100_000)
    with pytest.raises(
        BackendError, match=r"GPU memory: the decoder engine of bundle tiny.* needs about \d+ MB"
    ):
        rig.backend.load_decoder(bundle)
    rig = Rig(tmp_path)
    decoder = rig.backend.load_decoder(bundle)
    rig.gpu.free_bytes = 900_000
    with pytest.raises(BackendError, match=r"cache of 384 slots needs about 1 MB, 1 of 1074 MB are free"):
        decoder.open_cache()


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        ({"driver": 0}, "no NVIDIA driver is installed"),
        ({"driver": 11080, "runtime": 12040}, "driver knows CUDA 11.8.*of CUDA 12.4; update the driver"),
        ({"devices": 0}, "none is visible"),
    ],
)
def test_a_machine_without_what_is_needed(gpu, message):
    with pytest.raises(BackendError, match=message):
        Cuda(StandInCuda(**gpu))


def test_an_error_code_of_cuda_is_one_line():
    gpu = StandInCuda(free=10)
    cuda = Cuda(gpu)
    with pytest.raises(BackendError, match=r"GPU memory: cudaMalloc failed \(out of memory"):
        cuda.allocate(11)
    gpu.cudaStreamCreate = lambda: (35, None)
    with pytest.raises(BackendError, match=r"driver knows CUDA 12\.4"):
        cuda.stream()


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_library_that_is_not_installed(tiny_bundle, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(BackendError, match=f"backend {name}: .* cannot be imported .*pip install"):
        select_backend(name, load_bundle(tiny_bundle))


def test_auto_falls_back_to_the_cpu_and_says_why(bundle, monkeypatch):
    module = make("tensorrt", "10.3.0")
    module.__spec__ = pytest
    monkeypatch.setitem(sys.modules, "tensorrt", module)

    def load(extra):
        raise BackendError("GPU: none was found")

    monkeypatch.setattr(Cuda, "load", load)
    said = []
    assert "cpu" in select_backend("auto", bundle, say=said.append).description
    assert said == [f"bundle {bundle.name} is made for TensorRT; using the CPU (GPU: none was found)"]


@pytest.mark.parametrize("driver", [12040, 0])
def test_doctor_says_what_tensorrt_would_run_on(monkeypatch, driver):
    module = make("tensorrt", "10.3.0")
    module.__spec__ = pytest
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setattr(Cuda, "load", classmethod(lambda cls, extra: cls(StandInCuda(driver=driver))))
    (finding,) = [finding for finding in check_tensorrt() if finding.check == "tensorrt"]
    if driver:
        assert (finding.status, finding.detail) == ("ok", "10.3.0 on Stand-in GPU (SM89)")
    else:
        assert finding.status == "warn" and "no NVIDIA driver is installed" in finding.detail


@pytest.mark.parametrize(("name", "extra"), [("tensorrt", "tensorrt"), ("tensorrt_rtx", "rtx")])
def test_doctor_recommends_the_extra_of_the_library_that_is_there(monkeypatch, name, extra):
    module = make("tensorrt", "10.3.0")
    module.__spec__ = pytest
    for one in ("tensorrt", "tensorrt_rtx", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, one, None)
    monkeypatch.setitem(sys.modules, name, module)
    (finding,) = check_tensorrt()
    assert (finding.check, finding.status) == (name, "warn")
    assert finding.remedy.endswith(f"pip install 'streampro-edge[{extra}]'")
