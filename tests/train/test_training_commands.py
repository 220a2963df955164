"""Every command under "Train `nano` from scratch" in docs/training.md runs, in order, scaled down to minutes.

The commands are those of the page; counts of clips are replaced, and the recipes they name are copies with a
tiny model and a few steps. What a recipe starts from, reads and writes stays as it is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from train.ablation.plan import merged
from train.config.toml import read_toml

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "train" / "recipes"
CLIPS = 8
MODEL = {"hidden_size": 64, "intermediate_size": 128}
SFT: dict[str, Any] = {"model": MODEL, "data": {"max_turns": 12}}
SFT |= {
    "run": {"steps": 2, "epochs": 12, "max_minutes": 0, "batch_size": 2, "eval_steps": 2, "eval_items": 4}
}
GRPO: dict[str, Any] = {"rollout": {"prompts": 2, "group": 2, "rows": 4}}
GRPO |= {"run": {"steps": 1, "max_minutes": 0, "eval_steps": 1, "eval_questions": 2}}
ABLATION: dict[str, Any] = {"changes": {"run": {"steps": 1}}}
SCALED = {
    **dict.fromkeys(("nano-pretrain", "nano-chunks", "nano-sft", "nano-more"), SFT),
    "nano-grpo": GRPO,
    "ablation-loss": merged(ABLATION, {"seeds": [1], "changes": {"run": {"epochs": 12}}}),
    "ablation-reward": merged(ABLATION, {"changes": {"rollout": {"prompts": 2}}}),
}
OPTIONS = {
    "python -m train pretrain": "--epochs 1 --words 3",
    # An untrained model decides by a hair; int8 would round it over.
    "python -m export": "--precision fp32 --parity-timesteps 90",
}


def commands() -> list[str]:
    """The lines of the section's blocks of shell commands."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    section = page.split("## Train `nano` from scratch")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("python -m", "torchrun"))]


def scaled(line: str) -> str:
    line = re.sub(r"--count \d+", f"--count {CLIPS}", line)
    return " ".join([line, *(more for start, more in OPTIONS.items() if line.startswith(start))])


def toml(table: Mapping[str, Any], name: str = "") -> str:
    """Enough of a writer for recipes: tables in tables, and lists of scalars and tables."""
    here = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{name}]", *(f"{key} = {value_of(value)}" for key, value in here.items())]
    below = [toml(value, f"{name}.{key}" if name else key) for key, value in table.items() if key not in here]
    return "\n".join([*(lines if name else lines[1:]), *below]) + "\n"


def value_of(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(value_of, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {value_of(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the recipes at the page's paths, scaled down; the code comes from PYTHONPATH."""
    folder = tmp_path / "train" / "recipes"
    folder.mkdir(parents=True)
    for name, changes in SCALED.items():
        recipe = merged(read_toml(RECIPES / f"{name}.toml"), changes)
        for test in recipe.get("tests", []):
            test["questions"] = 2
        (folder / f"{name}.toml").write_text(toml(recipe), encoding="utf-8")
    return tmp_path


def test_the_section_holds_every_stage() -> None:
    found = "\n".join(commands())
    for stage in (
        "generate",
        "negatives",
        "pretrain",
        "sft",
        "grpo",
        "export",
        "run",
        "score",
        "plot",
        "compare",
    ):
        assert f" {stage} " in found or f"-m {stage} " in found, stage


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_runs_in_order(project: Path) -> None:
    pytest.importorskip("geffnet")
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT)}
    for line in map(scaled, commands()):
        done = subprocess.run(
            ["bash", "-c", line], cwd=project, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (project / "page.html").is_file() and (project / "my-nano" / "bundle.json").is_file()
    for name in ("ablation-loss", "ablation-reward"):
        assert (project / "runs" / name / "results.md").is_file()
