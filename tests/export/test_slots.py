"""A checkpoint with object slots as a bundle: what it computes, what stays exact, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from click.testing import CliRunner  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import edge_runtime  # noqa: E402
from edge_runtime.bundle.manifest import load_bundle  # noqa: E402
from edge_runtime.engine.preprocess import letterbox, normalise  # noqa: E402
from export.__main__ import main  # noqa: E402
from export.bundle_writer import export_bundle, open_checkpoint  # noqa: E402
from export.options import ExportOptions  # noqa: E402
from export.quiet import quiet  # noqa: E402
from export.validation.lint import lint  # noqa: E402
from export.vision.slots import detector_in_fp16, slot_graph  # noqa: E402
from tests.tiny_slots import (  # noqa: E402
    CONTEXT_ROWS,
    SLOTS,
    blob_steps,
    odd_frames,
    write_slot_checkpoint,
)
from tests.train.models.perception.blob_detector import blob_detector, moving_blobs  # noqa: E402
from train.models.perception.nanodet import HEADS, SIZE  # noqa: E402
from train.models.perception.vision import DETECTOR, SlotHead  # noqa: E402

if TYPE_CHECKING:
    from tests.conftest import TinyModel

Floats = np.ndarray


@pytest.fixture(scope="module")
def checkpoint(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slot_checkpoint(tmp_path_factory.mktemp("slots") / "checkpoint", tiny_model)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    options = ExportOptions(
        precision="fp32",
        context_rows=CONTEXT_ROWS,
        parity_timesteps=40,
        parity_steps=blob_steps(40),
    )
    return export_bundle(checkpoint, checkpoint.with_name("bundle"), options)


@pytest.fixture(scope="module")
def exact(checkpoint: Path) -> onnx.ModelProto:
    """The joined graph before anything in it is rounded."""
    with quiet(), torch.no_grad():
        head = SlotHead(open_checkpoint(checkpoint).model.projector).eval()
        return slot_graph(blob_detector(), head, torch.float32)


def stream(graph: onnx.ModelProto | Path, frames: Floats) -> tuple[Floats, Floats]:
    """Tokens and state after each frame."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = graph.read_bytes() if isinstance(graph, Path) else graph.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    state = np.zeros(session.get_inputs()[1].shape, np.float32)
    tokens, states = [], []
    for frame in frames:
        pixels = normalise(letterbox(frame, (SIZE, SIZE)), 0.0, 1.0)
        said, state = session.run(["tokens", "trace"], {"pixels": pixels, "previous": state})
        tokens.append(said)
        states.append(state)
    return np.concatenate(tokens), np.concatenate(states)


def test_a_bundle_of_slots_decides_as_the_checkpoint_does(bundle: Path, checkpoint: Path) -> None:
    opened = load_bundle(bundle)
    parity = opened.manifest["parity"]
    assert parity["decision_agreement"] == 1.0 and parity["evictions"] and parity["kl_mean"] < 1e-5
    recorded = json.loads((checkpoint / "config.json").read_text())["vision"]
    assert opened.manifest["backbone"]["vision"] == recorded["name"] == "nanodet-slots"
    assert opened.manifest["backbone"]["detector_sha256"] == recorded["sha256"]
    assert opened.model.image_size == (SIZE, SIZE)
    assert opened.vision.input("previous").shape[1] == SLOTS
    assert opened.vision.outputs[0].shape == (1, SLOTS // 2 + 1, 64)


def test_nothing_behind_the_detector_is_rounded_in_its_slots(bundle: Path, exact: onnx.ModelProto) -> None:
    frames = moving_blobs(25)
    expected, states = stream(exact, frames)
    found, slots = stream(bundle / "vision.onnx", frames)
    np.testing.assert_array_equal(slots, states)  # scores, boxes, ages: all of it
    assert states[:, :, 0].sum(1).max() >= 2  # two objects were followed
    assert 0 < np.abs(found - expected).max() < 2e-3  # the projector's weights are stored in fp16
    assert (bundle / "vision.onnx").stat().st_size < 0.75 * exact.ByteSize()


def test_the_detector_alone_computes_in_fp16(checkpoint: Path, exact: onnx.ModelProto) -> None:
    """As the targets with a GPU have it; opset 17 is for the oldest of them."""
    options = ExportOptions(target="tensorrt", lowerings=["legacy-kv"], context_rows=CONTEXT_ROWS)
    folder = export_bundle(checkpoint, checkpoint.with_name("tensorrt"), options)
    graph = onnx.load(folder / "vision.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version == 17
    for engine in ("tensorrt-legacy", "tensorrt", "tensorrt-rtx", "ort-cpu", "ort-cuda"):
        assert lint(graph, engine) == []
    halves = [t.name for t in graph.graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert "colour_32" in halves and not any(name.startswith("head/") for name in halves)
    frames = moving_blobs(25)
    np.testing.assert_allclose(stream(graph, frames)[1], stream(exact, frames)[1], atol=0.02)


def test_pixels_are_normalised_before_they_become_fp16() -> None:
    detector = blob_detector()
    for node in detector.graph.node:
        node.input[:] = ["normalised" if name == "pixels" else name for name in node.input]
    for name, value in (("mean", 120.0), ("std", 60.0)):
        array = np.full((1, 3, 1, 1), value, np.float32)
        detector.graph.initializer.append(numpy_helper.from_array(array, name))
    detector.graph.node.insert(0, helper.make_node("Div", ["centred", "std"], ["normalised"]))
    detector.graph.node.insert(0, helper.make_node("Sub", ["pixels", "mean"], ["centred"]))
    half = detector_in_fp16(detector)
    assert [node.op_type for node in half.graph.node[:3]] == ["Sub", "Div", "Cast"]
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds["mean"] == kinds["std"] == TensorProto.FLOAT and kinds["colour_8"] == TensorProto.FLOAT16
    run = [
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for model in (detector, half)
    ]
    pixels = normalise(letterbox(moving_blobs(4)[3], (SIZE, SIZE)), 0.0, 1.0)
    for exact, rounded in zip(*(one.run(list(HEADS), {"pixels": pixels}) for one in run), strict=True):
        assert rounded.dtype == np.float32
        np.testing.assert_allclose(rounded, exact, atol=0.01)


def _no_detector(folder: Path) -> None:
    (folder / DETECTOR).unlink()


def _another_detector(folder: Path) -> None:
    model = onnx.load(folder / DETECTOR)
    model.doc_string = "of another day"
    onnx.save(model, folder / DETECTOR)


def _half_a_detector(folder: Path) -> None:
    (folder / DETECTOR).write_bytes((folder / DETECTOR).read_bytes()[:5000])


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (_no_detector, "the checkpoint has no detector.onnx: make it with python -m train.models.perception"),
        (_another_detector, "the checkpoint was trained with "),
        (_half_a_detector, "cannot be read as ONNX"),
    ],
)
def test_a_detector_that_is_not_the_checkpoints(
    checkpoint: Path, tmp_path: Path, break_it, said: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    break_it(folder)
    result = CliRunner().invoke(main, [str(folder), "--out", str(tmp_path / "bundle")])
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("export: ")]
    assert result.exit_code == 3 and str(folder) in line and said in line
    assert "Traceback" not in result.output and not (tmp_path / "bundle").exists()


def test_int8_is_no_precision_of_this_vision(checkpoint: Path, tmp_path: Path) -> None:
    arguments = [str(checkpoint), "--out", str(tmp_path / "bundle"), "--vision-precision", "int8"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3 and "cannot do vision in int8" in result.stderr


@pytest.mark.parametrize("kind", odd_frames())
def test_odd_frames_give_finite_numbers(bundle: Path, kind: str) -> None:
    model = edge_runtime.load(bundle, threads=1)
    with model.session() as session:
        session.ask("What does the person do?")
        vision = model.open_vision()
        for index, frame in enumerate(odd_frames()[kind]):
            tokens = vision.see(frame)
            assert np.isfinite(tokens).all() and vision.previous is not None
            taken = vision.previous[0, :, 0]
            assert np.isfinite(vision.previous).all() and set(taken.tolist()) <= {0.0, 1.0}
            session.push(frame, float(index + 1))
        if kind in ("black", "overexposed"):
            assert not taken.any()
        if kind == "of 100 objects":
            assert taken.all()  # as many as there are slots, and no more


def test_a_state_from_which_nothing_was_learned_is_the_same_as_none(bundle: Path) -> None:
    """After black frames the slots are free: what comes then is seen as if it were the first."""
    frames = moving_blobs(6)
    dark = np.zeros_like(frames[:6])
    after, _ = stream(bundle / "vision.onnx", np.concatenate([frames[:1], dark, frames[3:]]))
    fresh, _ = stream(bundle / "vision.onnx", frames[3:])
    np.testing.assert_allclose(after[-3:], fresh, atol=1e-5)
