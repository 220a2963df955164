"""One checkpoint, every lowering and precision that runs on this machine, compared with PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from edge_runtime.bundle.stream_format import StreamFormat
from export.bundle_writer import check_parity, export_model
from export.decoder.targets import TARGETS
from export.errors import ExportError
from export.validation.parity import measure_parity
from train.models.base import StreamModel


@dataclass(frozen=True)
class Case:
    """One decoder graph. TensorRT-RTX's are TensorRT's, and are not measured twice."""

    target: str
    precision: str
    lowering: str

    def __str__(self) -> str:
        return f"{self.lowering} {self.precision} ({self.target})"


@dataclass(frozen=True)
class Row:
    """One line of the table. ``parity``: as :func:`export.validation.parity.measure_parity` gives it."""

    case: Case
    megabytes: float
    """Of the decoder's weights and graph."""
    parity: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Within the limits that an export of this precision has to keep."""
        try:
            check_parity(self.parity, self.case.precision)
        except ExportError:
            return False
        return True

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.case.target,
            "lowering": self.case.lowering,
            "precision": self.case.precision,
            "decoder_megabytes": round(self.megabytes, 2),
            "passed": self.passed,
            **self.parity,
        }


def all_cases() -> list[Case]:
    """Every different decoder graph that can be exported; ONNX Runtime on a CPU runs each of them."""
    cases: dict[Any, Case] = {}
    for name, target in TARGETS.items():
        for precision in target.precisions:
            for lowering in target.lowerings(precision):
                key = lowering, precision, target.dtype(precision)
                cases.setdefault(key, Case(name, precision, lowering))
    return list(cases.values())


def measure_all(
    model: StreamModel,
    tokenizer: Tokenizer,
    stream_format: StreamFormat,
    backbone: nn.Module,
    *,
    timesteps: int,
    cases: Sequence[Case],
    context_rows: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Rows as they are measured. Raises ExportError."""
    for case in cases:
        progress(str(case))
        with tempfile.TemporaryDirectory(prefix="parity-") as folder:
            bundle = export_model(
                model,
                tokenizer,
                stream_format,
                Path(folder) / "bundle",
                backbone=backbone,
                target=case.target,
                precision=case.precision,
                lowerings=[case.lowering],
                context_rows=context_rows,
            )
            size = sum(path.stat().st_size for path in bundle.glob("decoder*"))
            parity = measure_parity(bundle, model, backbone, timesteps=timesteps)
        yield Row(case, size / 1e6, parity)


def as_table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| lowering | precision | for | decoder MB | logits, max diff | KL, mean | KV, max rel. diff "
        "| decisions alike | within limits |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        p, case = row.parity, row.case
        lines.append(
            f"| {case.lowering} | {case.precision} | {case.target} | {row.megabytes:.1f} "
            f"| {p['logit_max_abs_diff']:.3g} | {p['kl_mean']:.2g} | {p['kv_max_rel_diff']:.2g} "
            f"| {p['decision_agreement']:.2%} | {'yes' if row.passed else 'no'} |"
        )
    return "\n".join(lines)
