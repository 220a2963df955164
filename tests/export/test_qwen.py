"""Qwen2.5-VL and Qwen3-VL, tiny and random: graphs and runtime against transformers."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

import edge_runtime  # noqa: E402
from edge_runtime.bundle.manifest import load_bundle  # noqa: E402
from edge_runtime.errors import BundleError  # noqa: E402
from export.bundle_writer import export_bundle  # noqa: E402
from export.decoder.graph import DecoderGraph  # noqa: E402
from export.decoder.targets import LOWERINGS  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.validation.parity import measure_parity  # noqa: E402
from export.validation.qwen_reference import QwenReference  # noqa: E402
from export.vision.qwen import QwenVisionGraph  # noqa: E402
from tests.tiny_qwen import ROWS, TinyQwen  # noqa: E402
from train.models.checkpoint import save_checkpoint  # noqa: E402

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
QUERY = "Tell me when."


@pytest.fixture(scope="module", params=FAMILIES)
def qwen(request, tmp_path_factory):
    return TinyQwen(request.param, tmp_path_factory.mktemp("tower"))


@pytest.fixture(scope="module")
def bundle(qwen, tmp_path_factory):
    return qwen.export(tmp_path_factory.mktemp("qwen") / "bundle")


@pytest.fixture(scope="module")
def bundle_for_tensorrt(qwen, tmp_path_factory):
    return qwen.export(tmp_path_factory.mktemp("qwen-tensorrt") / "bundle", "fp16", target="tensorrt")


@pytest.mark.parametrize("lowering", LOWERINGS.values(), ids=list(LOWERINGS))
@torch.no_grad()
def test_chunks_through_the_static_cache_equal_one_pass(qwen, lowering):
    model, encoder = qwen.model, qwen.encoder
    ids = [*encoder.prefix_ids(), *encoder.query_ids(QUERY)]
    chunks = [ids, *([*encoder.turn_ids(k), *encoder.silence_ids()] for k in range(3))]
    pixels = torch.rand(3, 3, *model.config.picture, generator=torch.Generator().manual_seed(0))
    visual = model.visual(qwen.backbone(pixels))
    whole = torch.tensor([[token for chunk in chunks for token in chunk]])
    positions, _ = model.positions(whole, encoder.image_id, torch.zeros(1, dtype=torch.long))
    expected = model.logits(model.hidden(whole, visual, encoder.image_id))[0]
    graph = DecoderGraph(model, lowering, ROWS).eval()
    cache = graph.example_inputs()[3]
    for tensor in cache:
        tensor.fill_(50.0)  # rows not written yet must never be read
    start, used = 0, model.config.used_vocab
    for number, chunk in enumerate(chunks):
        end, image = start + len(chunk), whole[0, start : start + len(chunk)] == encoder.image_id
        embeddings = model.decoder.get_input_embeddings()(whole[:, start:end]).clone()
        deepstack = torch.zeros(graph.deepstack, 1, len(chunk), embeddings.shape[-1])
        if number:
            embeddings[0, image] = visual.tokens[number - 1]
            if graph.deepstack:
                deepstack[:, 0, image] = visual.deepstack[:, number - 1]
        inputs = (embeddings, positions[:, :, start:end], torch.tensor([start]), cache)
        logits, *written = graph(*inputs, *([deepstack] if graph.deepstack else []))
        if lowering.name == "legacy-kv":
            for tensor, rows in zip(cache, written[0], strict=True):
                tensor[0, :, start:end] = rows
        else:
            cache = written
        start = end
        torch.testing.assert_close(logits[0, :used], expected[start - 1, :used], atol=2e-4, rtol=0)


@pytest.mark.parametrize("picture", [None, "windows"])
@torch.no_grad()
def test_the_vision_graph_equals_tower_and_mergers(qwen, tmp_path, picture):
    """Also where all windows are of one size, and where those at the edge are smaller."""
    if picture == "windows":
        sides = {"qwen2_5_vl": (224, 112), "qwen3_vl": (128, 64)}
        qwen = TinyQwen(qwen.model.family, tmp_path, sides[qwen.model.family])
    graph = QwenVisionGraph(qwen.model, qwen.backbone.tower)
    if qwen.model.family == "qwen2_5_vl":
        assert (graph.blocks[0].mask is None) == (picture == "windows")
    pixels = torch.randint(0, 256, (1, 3, *qwen.model.config.picture)).float() / 255
    visual = qwen.model.visual(qwen.backbone(pixels))
    levels = [visual.tokens] + ([] if visual.deepstack is None else [visual.deepstack[:, 0]])
    # The features that training caches are half precision.
    torch.testing.assert_close(graph(pixels), torch.cat(levels), atol=1e-2, rtol=0)
    assert (graph(pixels) - graph(1 - pixels)).abs().max() > 1


def test_a_checkpoint_becomes_a_bundle_of_the_next_format(qwen, tmp_path):
    if qwen.model.family != "qwen3_vl":
        pytest.skip("one is enough for the way from a folder")
    save_checkpoint(tmp_path / "checkpoint", qwen.model, qwen.tokenizer, qwen.stream_format, ["EU"], {}, {})
    folder = export_bundle(
        tmp_path / "checkpoint", tmp_path / "bundle", "fp32", ROWS, parity_timesteps=16, threshold=0.4
    )
    manifest = json.loads((folder / "bundle.json").read_text())
    assert (manifest["format_version"], manifest["family"]) == (2, "qwen3_vl")
    assert manifest["model"]["visual_grid"] == [2, 3] and manifest["model"]["deepstack"] == 2
    assert manifest["parity"]["kl_mean"] < 1e-4 and manifest["parity"]["evictions"] >= 3
    loaded = load_bundle(folder)
    assert loaded.decoder.input("position_ids").shape == (3, 1, "S")
    assert loaded.decoder.input("deepstack").shape == (2, 1, "S", 64)
    assert loaded.vision.outputs[0].shape == (3, 6, 64) == loaded.visual_shape
    manifest["model"]["visual_grid"] = [3, 3]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"model\.visual_grid: expected 6 visual tokens"):
        load_bundle(folder)


def test_a_tower_that_is_not_there_is_told_in_one_line(qwen, tmp_path):
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, qwen.model, qwen.tokenizer, qwen.stream_format, [], {}, {})
    config = json.loads((folder / "config.json").read_text())
    config["vision"]["file"] = str(tmp_path / "nowhere")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match="the vision tower is not there") as caught:
        export_bundle(folder, tmp_path / "bundle")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_streamed_clip_with_evictions_equals_torch(qwen, bundle):
    parity = measure_parity(bundle, qwen.model, qwen.backbone, timesteps=40)
    assert parity["evictions"] >= 10
    assert parity["kl_mean"] < 1e-4 and parity["logit_max_abs_diff"] < 0.1  # embeddings are half precision
    assert parity["kv_max_rel_diff"] < 0.02
    assert parity["decision_agreement"] == 1.0


@pytest.mark.slow
def test_decisions_and_texts_are_those_of_torch(qwen, bundle):
    """Both stream on their own: each goes on from what it said itself."""
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (30, *qwen.model.config.picture, 3), dtype=np.uint8)
    model = edge_runtime.load(bundle, threads=1)
    with model.session(threshold=1.0) as probe:
        probe.ask(QUERY)
        scores = sorted(probe.push(frame, k + 1.0).score for k, frame in enumerate(frames[:12]))
    threshold = (scores[5] + scores[6]) / 2
    with model.session(threshold=threshold) as session:
        session.ask(QUERY)
        found = [session.push(frame, k + 1.0) for k, frame in enumerate(frames)]
    expected = list(torch_stream(qwen, frames, model.text_bias, model.tokenizer.decode, threshold))
    assert [d.score for d in found] == pytest.approx([score for score, _ in expected], abs=5e-3)
    assert [d.text for d in found] == [text for _, text in expected]
    assert 3 < sum(d.speak for d in found) < 27
    assert sum("evict" in d.timing for d in found) >= 5


def torch_stream(qwen, frames, bias, decode, threshold):
    """The timestep written a second time, over transformers: yields score and text."""
    encoder, stream_format = qwen.encoder, qwen.stream_format
    reference = QwenReference(qwen.model, qwen.backbone, encoder.image_id)
    turns: list[int] = []  # rows of each turn; the last one may still grow
    pinned = [*encoder.prefix_ids(), *encoder.query_ids(QUERY)]
    head, pending, rows = len(encoder.prefix_ids()), [], 0
    for k, frame in enumerate(frames):
        reference.see(np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32) / 255)
        if len(turns) == stream_format.window_turns:
            gone = sum(turns[: stream_format.evict_turns])
            first = len(pinned)
            reference.keep([*range(first), *range(first + gone, rows)])
            turns, rows = turns[stream_format.evict_turns :], rows - gone
        chunk = [*pending, *encoder.turn_ids(k)]
        if not turns:
            reference.append(pinned[:head], 0, False)
            chunk, rows = [*pinned[head:], *chunk], head
        logits = reference.append(chunk, rows, True)
        rows += len(chunk)
        if turns:
            turns[-1] += len(pending)
        turns.append(len(encoder.turn_ids(k)))
        pair = torch.tensor([logits[encoder.silence_id], logits[encoder.response_id]])
        score, pending, said = float(pair.softmax(0)[1]), encoder.silence_ids(), None
        if score >= threshold:
            text = [encoder.response_id]
            while len(text) <= stream_format.max_response_tokens:
                scores = reference.append(text[-1:], rows, False)[: len(bias)] + bias
                rows, turns[-1] = rows + 1, turns[-1] + 1
                if not decode(text[1:]):
                    scores[encoder.stop_id] = -np.inf
                token = int(scores.argmax())
                if token == encoder.stop_id:
                    break
                text.append(token)
            cut = len(text) > stream_format.max_response_tokens
            pending = [*(text[-1:] if cut else []), *encoder.response_end_ids]
            said = decode(text[1:])
        yield score, said


@pytest.mark.slow
@pytest.mark.parametrize("version", ["8.6.1", "10.15.1"])
def test_tensorrt_is_given_positions_and_deepstack(bundle_for_tensorrt, tmp_path, monkeypatch, version):
    """Over stand-ins whose engines compute with ONNX Runtime: the older flavour and the newer one."""
    from cuda_standin import StandInCuda
    from tensorrt_standin import make

    from edge_runtime.backends.tensorrt import backend as tensorrt
    from edge_runtime.backends.tensorrt.cuda import Cuda
    from edge_runtime.backends.tensorrt.engine_cache import EngineCache

    monkeypatch.setattr(tensorrt, "LONGEST_CHUNK", 48)  # so that the first chunks are split
    gpu = StandInCuda()
    module = make("tensorrt", version, cuda=gpu)
    backend = tensorrt.TensorRTBackend(module, Cuda(gpu), cache=EngineCache(tmp_path / "engines"))
    loaded = load_bundle(bundle_for_tensorrt)
    model = edge_runtime.load(bundle_for_tensorrt, threads=1, backend="cpu")
    frames = np.random.default_rng(3).integers(0, 256, (14, 90, 120, 3), dtype=np.uint8)

    def watch():
        with model.session(threshold=0.5) as session:
            session.ask(QUERY)
            return [session.push(frame, k + 1.0) for k, frame in enumerate(frames)]

    expected = watch()
    model._decoder = backend.load_decoder(loaded)
    found = watch()
    assert [d.score for d in found] == pytest.approx([d.score for d in expected], abs=0.02)
    assert sum("evict" in d.timing for d in found) >= 2 and len({round(d.score, 3) for d in found}) > 5
    assert not gpu.blocks and not gpu.host and gpu.streams == 0  # closed with the session


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
import numpy as np, edge_runtime
with edge_runtime.load(sys.argv[1], threads=1).session() as session:
    session.ask("Tell me when.")
    for k in range(9):
        decision = session.push(np.full((90, 120, 3), 20 * k, np.uint8), k + 1.0)
    print(decision.time)
"""


@pytest.mark.slow
def test_it_runs_without_torch(bundle):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(bundle)]
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert (result.stdout, result.returncode) == ("9.0\n", 0), result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision", "lowering", "kl"),
    [
        (
            "ort-cpu",
            "int8",
            "ort-gqa",
            0.02,
        ),  # random weights of width 64: rounding costs more than in a model
        ("tensorrt", "fp16", "native-kv", 1e-3),
        ("tensorrt", "fp32", "legacy-kv", 1e-4),
    ],
)
def test_every_lowering_streams_as_torch_does(qwen, tmp_path, target, precision, lowering, kl):
    folder = qwen.export(tmp_path / "bundle", precision, target=target, lowerings=[lowering])
    parity = measure_parity(folder, qwen.model, qwen.backbone, timesteps=24)
    assert parity["evictions"] >= 5
    assert parity["kl_mean"] < kl


def test_weights_in_bfloat16_are_exported_and_compared(qwen, tmp_path):
    """As `train init-backbone qwen` writes them; NumPy has no such type."""
    half = copy.deepcopy(qwen.model).bfloat16()
    save_checkpoint(tmp_path / "base", half, qwen.tokenizer, qwen.stream_format, [], {}, {})
    out = export_bundle(tmp_path / "base", tmp_path / "bundle", "fp32", ROWS, parity_timesteps=12)
    assert json.loads((out / "bundle.json").read_text())["parity"]["decision_agreement"] == 1.0
