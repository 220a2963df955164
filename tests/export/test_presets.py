"""Each preset on a tiny checkpoint in the published layout decides and says what its authors' loop does."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

import edge_runtime  # noqa: E402
from edge_runtime.bundle.labels import format_seconds  # noqa: E402
from tests.published import Loop, Published, TinyPublished, as_json, pictures  # noqa: E402

TURNS, ASKED_AT, QUESTION = 60, 2, "Red?"


def joyai(turn, images, question, new):
    return (f"{question}\n" if question else "") + f"<{turn}.0 seconds>\n" + images


def onestreamer(turn, images, question, new):
    label, asked = (
        f"<{format_seconds(turn)}s-{format_seconds(turn + 1)}s>",
        f"{question}\n" if question else "",
    )
    return images + asked + label if new else asked + images + label


def mmduet2(turn, images, question, new):
    asked = question or ""
    return images + asked if new else asked + images


def aura(turn, images, question, new):
    """The label is that of two frames at 2 per second, the same in every second."""
    asked = question or ""
    seen = "<0.2 seconds>" + images
    return seen + asked if new else asked + seen


PUBLISHED = [
    Published(
        "streampro",
        "qwen2_5_vl",
        ("</Silence>", "</Response>"),
        lambda turn, images, question, new: f"<{turn}s-{turn + 1}s>" + images,
        ("</Silence>",),
        ("</Response>",),
        own_message=True,
    ),
    Published(
        "prompted",
        "qwen3_vl",
        (),
        lambda turn, images, question, new: f"<{turn}.0 seconds>" + images,
        ("No",),
        ("Yes",),
        words=(("No",), ("Yes",)),
        own_message=True,
    ),
    Published("joyai", "qwen3_vl", ("</silence>", "</response>"), joyai, ("</silence>",), ("</response>",)),
    Published(
        "onestreamer",
        "qwen3_vl",
        ("</Silence>", "</Standby>", "</Response>", "</Observe>", "</Summary>"),
        onestreamer,
        ("</Silence>", "</Standby>"),
        ("</Response>",),
    ),
    Published(
        "mmduet2", "qwen2_5_vl", (), mmduet2, ("NO REPLY",), (), words=(("NO",), ("ĠRE", "PLY")), images=2
    ),
    Published("aura", "qwen3_vl", ("<|silent|>",), aura, ("<|silent|>",), (), pad="<|video_pad|>"),
]


@pytest.mark.slow
@pytest.mark.parametrize("facts", PUBLISHED, ids=lambda facts: facts.preset)
def test_the_runtime_decides_and_says_what_the_published_loop_does(facts, tmp_path):
    torch.set_num_threads(1)  # the matrices are tiny
    checkpoint = TinyPublished(facts, tmp_path)
    flat = pictures(TURNS * facts.images, facts.family)
    frames = [flat[k * facts.images : (k + 1) * facts.images] for k in range(TURNS)]
    checkpoint.teach(frames[:20], QUESTION)
    loop = Loop(checkpoint, ASKED_AT, QUESTION)
    expected = [loop.step(turn, shown) for turn, shown in enumerate(frames)]
    bundle = checkpoint.export(tmp_path / "bundle")
    found = []
    model = edge_runtime.load(bundle, threads=1)
    with model.session() as session:
        for index, frame in enumerate(flat):
            if index == ASKED_AT * facts.images:
                session.ask(QUESTION)
            decision = session.push(frame, index + 1.0)
            if decision.decided:
                found.append(decision)
    assert [d.speak for d in found] == [speaks for speaks, *_ in expected]
    cut = checkpoint.stream_format.strip + " \n\t"
    said = [text for _, text, _ in expected if text]
    if checkpoint.stream_format.first_line:
        said = [text.split("\n", 1)[0] for text in said]
    assert [d.text for d in found if d.speak] == [text.strip(cut) for text in said]
    assert 5 < sum(d.speak for d in found) < TURNS - 5
    assert sum("evict" in d.timing for d in found) > 10
    if len(checkpoint.stream_format.silence) > 1 and isinstance(checkpoint.stream_format.silence, tuple):
        silences = [d.silence for d in found if not d.speak]
        assert silences == [silence for speaks, _, silence in expected if not speaks]
        assert len(set(silences)) == 2
    manifest = as_json(bundle)
    assert manifest["parity"]["decision_agreement"] > 0.97
    assert manifest["format_version"] == (2 if facts.preset == "streampro" else 5)
