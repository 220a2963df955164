"""SmolVLM2, tiny and random, from a published folder: graphs and runtime against transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

import onnxruntime  # noqa: E402
from transformers import DynamicCache  # noqa: E402
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil  # noqa: E402

import edge_runtime  # noqa: E402
from edge_runtime.bundle.stream_format import TurnEncoder  # noqa: E402
from export.bundle_writer import export_bundle  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.families.registry import reference_of  # noqa: E402
from export.options import ExportOptions  # noqa: E402
from export.validation.lint import lint, load_graph  # noqa: E402
from export.validation.parity import measure_parity  # noqa: E402
from tests.tiny_smolvlm import SIDE, write_published  # noqa: E402
from train.models.checkpoint import load_checkpoint  # noqa: E402
from train.models.smolvlm.backbone import make_smolvlm  # noqa: E402

ROWS = 768
QUERY = "Tell me when."
WINDOW = {"window_turns": 6, "evict_turns": 2, "max_response_tokens": 6, "system_prompt": "Say when."}


class Tiny:
    """The transformers model, and the checkpoint made of the folder that its weights lie in."""

    def __init__(self, folder, *, tied=False):
        self.whole = write_published(folder / "hub", tied=tied)
        self.hub, self.base = folder / "hub", folder / "base"
        make_smolvlm(self.base, str(self.hub))
        config = json.loads((self.base / "config.json").read_text())
        config["protocol"] |= WINDOW
        (self.base / "config.json").write_text(json.dumps(config))
        checkpoint = load_checkpoint(self.base)
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.stream_format = checkpoint.stream_format
        self.encoder = TurnEncoder(
            self.stream_format, lambda text: self.tokenizer.encode(text, add_special_tokens=False).ids
        )

    def export(self, out, precision="fp32", **options):
        return export_bundle(self.base, out, ExportOptions(precision=precision, context_rows=ROWS, **options))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("smolvlm"))


@pytest.fixture(scope="module")
def bundle(tiny, tmp_path_factory):
    return tiny.export(tmp_path_factory.mktemp("smolvlm-bundle") / "bundle", parity_timesteps=16)


def pixel_values(tiny, frame):
    processor = SmolVLMImageProcessorPil.from_pretrained(
        tiny.hub, do_image_splitting=False, size={"longest_edge": SIDE}
    )
    return processor(images=[[frame]], return_tensors="pt")["pixel_values"]


@torch.no_grad()
def test_the_vision_graph_equals_transformers(tiny, bundle):
    frames = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(bundle / "vision.onnx", providers=["CPUExecutionProvider"])
    spread = []
    for frame in frames:
        pixels = np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32) / 255
        (found,) = session.run(None, {"pixels": pixels})
        (expected,) = tiny.whole.get_image_features(pixel_values(tiny, frame)).pooler_output
        exact = graph_of(tiny)(torch.from_numpy(pixels))
        torch.testing.assert_close(exact[0], expected, atol=1e-4, rtol=1e-4)
        # The bundle's weights of vision are stored in half precision.
        np.testing.assert_allclose(found[0], expected, atol=2e-2)
        spread.append(found[0])
    assert np.abs(spread[0] - spread[1]).max() > 0.5


def graph_of(tiny):
    from export.vision.smolvlm import SmolVLMVisionGraph

    return SmolVLMVisionGraph(tiny.model, tiny.model.vision.tower())


def test_a_bundle_names_its_family_and_sizes(tiny, bundle):
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert (manifest["format_version"], manifest["family"]) == (1, "smolvlm")
    assert manifest["backbone"] == {"decoder": "llama", "vision": "smolvlm_vision"}
    assert manifest["model"]["image_size"] == [SIDE, SIDE]
    assert manifest["protocol"]["frame_tokens"] == 16
    assert manifest["parity"]["decision_agreement"] == 1.0 and manifest["parity"]["evictions"] >= 3


@pytest.mark.slow
def test_decisions_and_texts_are_those_of_transformers(tiny, bundle):
    """Both stream on their own: each goes on from what it said itself."""
    frames = np.random.default_rng(2).integers(0, 256, (40, SIDE, SIDE, 3), dtype=np.uint8)
    model = edge_runtime.load(bundle, threads=1)
    with model.session(threshold=1.0) as probe:
        probe.ask(QUERY)
        scores = sorted(probe.push(frame, k + 1.0).score for k, frame in enumerate(frames[:12]))
    threshold = (scores[5] + scores[6]) / 2
    with model.session(threshold=threshold) as session:
        session.ask(QUERY)
        found = [session.push(frame, k + 1.0) for k, frame in enumerate(frames)]
    expected = list(greedy(tiny, frames, model.text_bias, model.tokenizer.decode, threshold))
    assert [d.score for d in found] == pytest.approx([score for score, _ in expected], abs=1e-2)
    assert [d.text for d in found] == [text for _, text in expected]
    assert 3 < sum(d.speak for d in found) < 37
    assert len({d.text for d in found}) > 3
    assert sum("evict" in d.timing for d in found) >= 8


class Stream:
    """One stream through SmolVLMForConditionalGeneration and the cache of transformers."""

    def __init__(self, tiny):
        self.tiny, self.cache, self.rows = tiny, DynamicCache(), 0

    @torch.no_grad()
    def append(self, ids, frame=None):
        """Logits after the last of ``ids``, [vocab]."""
        output = self.tiny.whole(
            input_ids=torch.tensor([ids]),
            pixel_values=None if frame is None else pixel_values(self.tiny, frame),
            position_ids=torch.arange(self.rows, self.rows + len(ids))[None],
            cache=self.cache,
            use_cache=True,
        )
        self.rows += len(ids)
        return output.logits[0, -1].numpy()

    def drop(self, start, end):
        """Forget rows ``start .. end`` and rotate the keys behind them back by as many positions."""
        angles = (start - end) * self.tiny.whole.model.text_model.rotary_emb.inv_freq.double()
        cos, sin = angles.cos().float(), angles.sin().float()
        for layer in self.cache.layers:
            first, second = layer.keys[:, :, end:].chunk(2, dim=-1)
            turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
            layer.keys = torch.cat([layer.keys[:, :, :start], turned], dim=2)
            layer.values = torch.cat([layer.values[:, :, :start], layer.values[:, :, end:]], dim=2)
        self.rows -= end - start


def greedy(tiny, frames, bias, decode, threshold):
    """The timestep written a second time: yields score and text."""
    encoder, stream_format, stream = tiny.encoder, tiny.stream_format, Stream(tiny)
    turns, pending = [], []  # rows of each turn; the last one may still grow
    pinned = [*encoder.prefix_ids(), *encoder.query_ids(QUERY)]
    stream.append(pinned)
    for k, frame in enumerate(frames):
        if len(turns) == stream_format.window_turns:
            stream.drop(len(pinned), len(pinned) + sum(turns[: stream_format.evict_turns]))
            turns = turns[stream_format.evict_turns :]
        logits = stream.append([*pending, *encoder.turn_ids(k)], frame)
        if turns:
            turns[-1] += len(pending)
        turns.append(len(encoder.turn_ids(k)))
        pair = torch.tensor([logits[encoder.silence_id], logits[encoder.response_id]])
        score, pending, said = float(pair.softmax(0)[1]), encoder.silence_ids(), None
        if score >= threshold:
            text = [encoder.response_id]
            while len(text) <= stream_format.max_response_tokens:
                scores = stream.append(text[-1:])[: len(bias)] + bias
                turns[-1] += 1
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
@pytest.mark.parametrize(
    ("target", "precision", "lowering", "kl", "engine"),
    [
        ("ort-cpu", "int8", "ort-gqa", 0.02, "ort-cpu"),  # random weights of width 48: rounding costs more
        ("ort-cuda", "fp16", "ort-gqa", 2e-3, "ort-cuda"),
        ("tensorrt", "fp16", "native-kv", 2e-3, "tensorrt"),
        ("tensorrt", "fp32", "legacy-kv", 1e-4, "tensorrt-legacy"),
        ("tensorrt-rtx", "fp16", "native-kv", 2e-3, "tensorrt-rtx"),
    ],
)
def test_every_target_streams_as_torch_does_and_is_clean(
    tiny, tmp_path, target, precision, lowering, kl, engine
):
    folder = tiny.export(tmp_path / "bundle", precision, target=target, lowerings=[lowering])
    for name in ("vision.onnx", "decoder.onnx"):
        assert lint(load_graph(folder / name), engine) == []
    backbone = reference_backbone(tiny)
    parity = measure_parity(folder, reference_of(tiny.model, backbone), timesteps=24)
    assert parity["evictions"] >= 5
    assert parity["kl_mean"] < kl


def reference_backbone(tiny):
    from export.families.registry import open_backbone

    return open_backbone(tiny.model)


@pytest.mark.slow
def test_a_tied_checkpoint_is_exported_too(tmp_path):
    tied = Tiny(tmp_path, tied=True)
    folder = tied.export(tmp_path / "bundle", parity_timesteps=12)
    assert json.loads((folder / "bundle.json").read_text())["parity"]["decision_agreement"] == 1.0


def test_int8_vision_and_a_missing_tower_are_told_in_one_line(tiny, tmp_path):
    with pytest.raises(ExportError, match="cannot do vision in int8 for family smolvlm"):
        tiny.export(tmp_path / "bundle", "int8", vision_precision="int8")
    (moved := tiny.base / "vision.safetensors").rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(ExportError, match="the vision tower is not there") as caught:
            tiny.export(tmp_path / "bundle")
    finally:
        (tmp_path / "elsewhere").rename(moved)
    assert "\n" not in str(caught.value) and not (tmp_path / "bundle").exists()
