"""A frozen vision tower in a safetensors file, which checkpoints name and do not copy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_runtime.bundle.verification import file_sha256

TOWER = "vision.safetensors"


@dataclass(frozen=True)
class TowerFile:
    """``file``: the tower's weights; ``config``: its transformers configuration, as JSON.

    ``mean``, ``std``: what frames are normalised with, per channel.
    """

    file: Path
    sha256: str
    config: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        return {
            "name": json.loads(self.config)["model_type"],
            "sha256": self.sha256,
            "file": str(self.file),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @staticmethod
    def read_record(record: dict[str, Any], model: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Fields of this class from the record of a checkpoint in ``folder`` and the model's configuration.

        A tower beside the checkpoint goes before the recorded file.
        """
        beside = folder / TOWER
        return {
            "file": beside if beside.is_file() else Path(record["file"]),
            "sha256": record["sha256"],
            "config": json.dumps(model["vision"]),
            "mean": tuple(record["mean"]),
            "std": tuple(record["std"]),
        }

    def prepare(self, folder: Path) -> None:
        if not self.file.is_file():
            raise ValueError(f"{self.file}: the vision tower is not there; make the base model again")
        digest = file_sha256(self.file)
        if digest != self.sha256:
            raise ValueError(f"{self.file}: sha256 is {digest}, expected {self.sha256}; make the base again")

    def save(self, folder: Path) -> None:
        """Write nothing: checkpoints name the base's file."""

    @staticmethod
    def device() -> tuple[torch.device, torch.dtype]:
        """Where and in which precision a worker process runs the tower."""
        if torch.cuda.is_available():
            return torch.device("cuda"), torch.bfloat16
        torch.set_num_threads(1)  # processes are the parallelism
        return torch.device("cpu"), torch.float32
