"""A checkpoint and questions to ask it."""

import json

import numpy as np
import pytest

from train.data.features import FeatureCache, write_features
from train.models.checkpoint import save_checkpoint


@pytest.fixture
def asked(tiny_model, tmp_path):
    """The arguments that name a checkpoint, a file of three questions with answers and one of two without."""
    tiny = tiny_model
    save_checkpoint(tmp_path / "tiny", tiny.model, tiny.tokenizer, tiny.stream_format, ["OU"], {}, {})
    cache = FeatureCache(tmp_path / "cache")
    files = {"answered.jsonl": [], "negatives.jsonl": []}
    for i in range(5):
        clip = tmp_path / f"{i}.mp4"
        clip.write_bytes(bytes([i]))
        pictures = np.random.default_rng(i).normal(size=(7, 320, 7, 7)).astype(np.float16)
        write_features(cache.path(clip), clip.name, 1.0, range(7), pictures)
        answers = [{"start": 2.0, "end": 3.0, "text": "nothing"}] if i < 3 else []
        record = {"id": f"q{i}", "video": clip.name, "duration": 7.0, "task": "OU", "answers": answers}
        line = json.dumps({**record, "query": {"time": 1.0, "text": "What?"}})
        files["answered.jsonl" if answers else "negatives.jsonl"].append(line)
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines))
    paths = [str(tmp_path / name) for name in ("tiny", *files)]
    return [*paths, "--cache", str(tmp_path / "cache")]
