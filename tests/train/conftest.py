"""A supervised training of a tiny model that takes a second: corpus, recipe, and the recipe as TOML."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from train.sft.recipe import SFTRecipe

TURNS = 6


def write_corpus(
    folder: Path, count: int = 8, turns: int = TURNS, rubric: list[dict[str, Any]] | None = None
) -> Path:
    """Clips of features only: the picture changes at some timestep, and the answer is due at the next end.

    ``rubric``: of every question.
    """
    from train.data.features import FeatureCache, write_features

    cache = FeatureCache(folder / "cache")
    pictures = np.random.default_rng(0).normal(size=(2, 320, 7, 7)).astype(np.float16)
    lines = []
    for i in range(count):
        clip = folder / f"{i}.mp4"
        clip.write_bytes(bytes([i]))
        change = 1 + i % 4
        array = np.stack([pictures[int(k >= change)] for k in range(turns)])
        write_features(cache.path(clip), clip.name, 1.0, range(turns), array)
        answer = {"start": float(change), "end": float(change), "text": "It is on."}
        record = {"id": f"clip{i}", "video": clip.name, "duration": float(turns), "task": "OU"}
        query = {"time": 0.0, "text": "When?"}
        rest = {"rubric": rubric} if rubric else {}
        lines.append(json.dumps({**record, "answers": [answer], "query": query, **rest}))
    (folder / "a.jsonl").write_text("\n".join(lines))
    return folder / "a.jsonl"


@pytest.fixture
def sft_recipe(tmp_path: Path) -> SFTRecipe:
    from edge_runtime.bundle.stream_format import StreamFormat
    from tests.train.tiny_config import TINY
    from train.data.dataset import Source
    from train.data.encode import OffsetSampling
    from train.models.tokenizer import train_tokenizer
    from train.sft.optimizer import Optimizer
    from train.sft.recipe import Data, Run, SFTRecipe

    write_corpus(tmp_path)
    train_tokenizer(["It is on.", "When?"], 1300).save(str(tmp_path / "tokenizer.json"))
    return SFTRecipe(
        data=Data(train=(Source(tmp_path / "a.jsonl"),), cache=tmp_path / "cache"),
        output=tmp_path / "run",
        tokenizer=str(tmp_path / "tokenizer.json"),
        model=replace(TINY, motion=True),
        protocol=StreamFormat(system_prompt="Watch.", window_turns=80, evict_turns=16),
        offsets=OffsetSampling(zero=1.0, near=0.0),
        optimizer=Optimizer(lr=5e-3, warmup_steps=2),
        run=Run(epochs=1, batch_size=4, precision="fp32", threads=1, log_steps=10, save_minutes=60),
    )


@pytest.fixture
def sft_corpus() -> Callable[..., Path]:
    return write_corpus


@pytest.fixture
def as_toml(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe as a file, for a process of its own; ``name``: of the file, without its ending."""

    def write(recipe: SFTRecipe, name: str = "recipe") -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(_tables(recipe.to_dict()))
        return path

    return write


def _tables(recipe: dict[str, Any]) -> str:
    tables = {key: value for key, value in recipe.items() if isinstance(value, dict)}
    plain = {key: value for key, value in recipe.items() if key not in tables and value is not None}
    lines = [f"{key} = {_value(value)}" for key, value in plain.items()]
    for name, table in tables.items():
        rows = [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]
        lines += [f"[{name}]", *rows]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)  # the scalars of TOML are those of JSON
