"""Where curves go: TensorBoard files in the run's folder, Weights & Biases by choice."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, WandbCallback

from train.config.errors import RecipeError

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


def check_reporting(names: Iterable[str]) -> None:
    """Raise RecipeError when a package that is asked for is not installed."""
    for name in names:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise RecipeError(f'run.report_to: "{name}" is not installed; run: pip install {_PACKAGES[name]}')


def reporters(names: Iterable[str], output: Path) -> list[TrainerCallback]:
    """Callbacks of transformers; to be added on the main process.

    Weights & Biases takes key, project and mode from its own environment variables (``WANDB_MODE=offline``
    writes to ``output``/wandb only) and names the run after the output folder.
    """
    made: list[TrainerCallback] = []
    for name in names:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            made.append(TensorBoardCallback(SummaryWriter(str(output / "tensorboard"))))
        else:
            os.environ.setdefault("WANDB_DIR", str(output))
            os.environ.setdefault("WANDB_NAME", output.name)
            made.append(WandbCallback())
    return made
