"""Runs the trials of a comparison, each in a process of its own with a log of its own.

What is done is not done again, so the same command goes on where a stopped comparison was.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.metric.annotations import read_annotations
from benchmarks.metric.progress import Progress, say
from train.ablation.plan import Comparison, Trial
from train.ablation.report import write_report
from train.ablation.trial import read_result
from train.data.features import FeatureCache
from train.errors import TrainingError
from train.models.checkpoint import load_checkpoint
from train.models.compact.lite0 import Lite0Vision
from train.models.vision import FrozenVision
from train.sft.recipe import SFTRecipe

LOG = "console.log"
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class _Running:
    trial: Trial
    process: subprocess.Popen[bytes]
    started: float


def run_all(path: Path, settings: Comparison, every: list[Trial], out: Path, parallel: int) -> str:
    """Run what is not done, ``parallel`` trials at a time, and write the report after each; returns its
    Markdown. ``path``: of the comparison.

    Raises TrainingError for a trial that failed, KeyboardInterrupt; what is running then saves its state.
    """
    waiting = [trial for trial in every if read_result(trial, settings) is None]
    running: list[_Running] = []
    with Progress(len(every), "trials", unit="trial", done=len(every) - len(waiting)) as progress:
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    running.append(_start(path, waiting.pop(0), out))
                time.sleep(_LOOK_EVERY_S)
                for ended in [one for one in running if one.process.poll() is not None]:
                    running.remove(ended)
                    _check(ended)
                    say(_headline(ended, settings))
                    progress.advance()
                    _report(settings, every, out)
        finally:
            for one in running:
                one.process.terminate()  # after Ctrl-C a second signal, but so soon that it is an echo
            for one in running:
                one.process.wait()
    return _report(settings, every, out)


def _start(path: Path, trial: Trial, out: Path) -> _Running:
    trial.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "train", "compare", str(path), "--out", str(out), "--only", trial.name]
    with open(trial.folder / LOG, "ab") as log:
        return _Running(trial, subprocess.Popen(command, stdout=log, stderr=log), time.monotonic())


def _check(ended: _Running) -> None:
    status, log = ended.process.returncode, ended.trial.folder / LOG
    if status == 130:
        raise KeyboardInterrupt
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("error: ") if lines else f"exit status {status}"
        raise TrainingError(f"{ended.trial.name}: {reason} (log: {log}); trials that are done are kept")


def _headline(ended: _Running, settings: Comparison) -> str:
    """One line of what a trial found."""
    result = read_result(ended.trial, settings)
    assert result is not None
    parts = [f"{ended.trial.name}: {(time.monotonic() - ended.started) / 60:.1f} min"]
    for test, by_threshold in result["tests"].items():
        for threshold, found in by_threshold.items():
            if "W-Avg" in found.get("f1", {}):
                parts.append(f"{test} at {threshold}: W-Avg {found['f1']['W-Avg']:.1f}")
            if "false_alarms" in found:
                parts.append(
                    f"{test} at {threshold}: {found['false_alarms']['per_minute']:.2f} false alarms/min"
                )
    return "  ".join(parts)


def _report(settings: Comparison, every: list[Trial], out: Path) -> str:
    results: list[dict[str, Any] | None] = [read_result(trial, settings) for trial in every]
    return write_report(out, settings, [result for result in results if result is not None])


def feature_folder(every: list[Trial]) -> Path:
    """Where vision features are kept: as the recipe has it, which is every arm's."""
    recipe = next((trial.recipe for trial in every if trial.recipe is not None), None)
    return Path("runs/features") if recipe is None else recipe.data.cache


def encode_clips(settings: Comparison, every: list[Trial]) -> None:
    """Compute missing features once, before trials that run side by side would all do it."""
    recipe = next((trial.recipe for trial in every if trial.recipe is not None), None)
    paths = [test.path for test in settings.tests]
    if recipe is not None:
        paths += [source.path for source in recipe.data.train]
    clips = {a.video_path for path in dict.fromkeys(paths) for a in read_annotations(path)}
    start = every[0].checkpoint if recipe is None else Path(recipe.init)
    if str(start) == "scratch":
        assert isinstance(recipe, SFTRecipe)  # GRPO starts from a checkpoint
        vision: FrozenVision = Lite0Vision()
        fps = recipe.protocol.fps
    else:
        checkpoint = load_checkpoint(start)
        vision, fps = checkpoint.model.vision, checkpoint.stream_format.fps
    workers = 2 if recipe is None else recipe.data.workers
    FeatureCache(feature_folder(every), fps, workers, vision).ensure(sorted(clips))
