"""The latency measurements measure what they say."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.latency import endurance
from benchmarks.latency.facts import bundle_facts, machine_facts, resident_mb
from benchmarks.latency.frames import Frames
from benchmarks.latency.quantiles import summarise
from edge_runtime.bundle.manifest import load_bundle


def test_quantiles_of_known_numbers():
    summary = summarise(range(101))
    assert (summary["n"], summary["p25"], summary["p50"], summary["p75"], summary["max"]) == (
        101,
        25,
        50,
        75,
        100,
    )


def test_p99_needs_a_thousand_samples():
    assert summarise(range(999))["p99"] is None
    assert summarise(range(1001))["p99"] == 990


def test_nothing_measured_is_none_and_not_zero():
    assert summarise([]) == {"n": 0, "p50": None}


def test_frames_differ_from_step_to_step_and_repeat_from_run_to_run():
    one, other = Frames((48, 64)), Frames((48, 64))
    assert one(0).shape == (48, 64, 3)
    assert one(0).dtype == np.uint8
    pictures = [one(k).tobytes() for k in range(100)]
    assert len(set(pictures)) == 100
    assert [other(k).tobytes() for k in range(100)] == pictures


def test_facts_name_machine_and_model(tiny_bundle):
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert "numpy" in facts["packages"]
    json.dumps([facts, bundle_facts(load_bundle(tiny_bundle))])


def test_resident_memory_sees_what_is_allocated():
    before = resident_mb()
    if before is None:
        pytest.skip("this system does not tell")
    block = np.ones(64_000_000, dtype=np.uint8)  # more than malloc ever takes from what was freed before
    assert 50 < resident_mb() - before < 90
    del block


@pytest.mark.slow
def test_endurance_of_the_tiny_model(tiny_bundle, tmp_path):
    """Memory only: on a machine busy with other tests the times say nothing."""
    out = tmp_path / "endurance.json"
    arguments = ["--bundle", str(tiny_bundle), "--timesteps", "4000", "--threads", "1", "--out", str(out)]
    outcome = CliRunner().invoke(endurance.main, arguments)
    assert outcome.exit_code in (0, 1), outcome.output
    result = json.loads(out.read_text())
    assert result["spoke"] == 80
    assert result["rss_growth_mb"] < endurance.MAX_GROWTH_MB
    assert result["wall_ms"]["all"]["n"] == 3920
    assert result["evict_ms"]["n"] > 500


@pytest.mark.parametrize(("grid", "motion"), [(2, False), (3, False), (3, True)])
def test_the_yardstick_is_the_checkpoint_s_model(tiny_model, tmp_path, grid, motion):
    """Its own projector and loading against the model as it is trained, and its cache against none."""
    pytest.importorskip("geffnet")
    import torch

    from benchmarks.reference.stream import EagerStream
    from edge_runtime.bundle.stream_format import StreamFormat
    from export.families.reference.decoder import full_logits
    from train.models.checkpoint import save_checkpoint
    from train.models.compact.model import CompactConfig, CompactModel

    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_layers": 2,
        "visual_grid": grid,
        "motion": motion,
    }
    model = CompactModel(CompactConfig(**sizes)).eval()
    stream_format = StreamFormat(frame_tokens=grid**2)
    save_checkpoint(tmp_path / "checkpoint", model, tiny_model.tokenizer, stream_format, [], {}, {})
    stream = EagerStream(tmp_path / "checkpoint", threads=1)
    checkpoint = stream.reference
    features = torch.randn(1, 320, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.visual_tokens(features)[0], model.projector(features))
    stream.start("What does the person do?")
    frames = Frames((224, 224))
    silence = [stream.encoder.silence_id]
    scores = [stream.step(frames(k), k, silence if k else [])[0] for k in range(3)]
    ids = [*stream.encoder.prefix_ids(), *stream.encoder.query_ids("What does the person do?")]
    with torch.no_grad():
        pixels = torch.stack([torch.from_numpy(frames(k)).permute(2, 0, 1).float() for k in range(3)])
        visual = model.projector(checkpoint.backbone((pixels - 127) / 128))
        for k in range(3):
            ids += ([stream.encoder.silence_id] if k else []) + stream.encoder.turn_ids(k)
            embeddings = model.embed(torch.tensor([ids]), visual[: k + 1], stream.encoder.image_id)
            logits = full_logits(model.decoder, embeddings[0])[-1]
            pair = logits[[stream.encoder.silence_id, stream.encoder.response_id]].softmax(0)
            assert scores[k] == pytest.approx(float(pair[1]), abs=1e-5)
    assert stream.rows == len(ids)
