"""What a bundle can be made for: which graphs, which precisions, and how each precision is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from export.decoder.lowerings.legacy import LegacyLowering
from export.decoder.lowerings.native import NativeLowering
from export.decoder.lowerings.ort import OrtLowering
from export.errors import ExportError

LOWERINGS: dict[str, Any] = {
    lowering.name: lowering for lowering in (OrtLowering(), NativeLowering(), LegacyLowering())
}


@dataclass(frozen=True)
class Target:
    """An engine. ``precisions``: for each, the lowerings that the bundle holds, the preferred one first."""

    name: str
    precisions: dict[str, tuple[str, ...]]
    default: str
    half: bool
    """Activations and cache in fp16, but at precision fp32."""

    def lowerings(self, precision: str) -> tuple[str, ...]:
        """Raises ExportError for a precision the target cannot do; says which it can."""
        if precision not in self.precisions:
            able = ", ".join(name for name, target in TARGETS.items() if precision in target.precisions)
            raise ExportError(
                f"target {self.name} cannot do precision {precision}; it can do {', '.join(self.precisions)}"
                + (f" ({precision} is for {able})" if able else "")
            )
        return self.precisions[precision]

    def vision(self, precision: str, wanted: str | None = None) -> str:
        """Precision of vision beside a decoder in ``precision``: ``wanted``, or the type it computes in.

        int8 is for processors: their int8 products are what makes it faster. It is a choice, because it costs
        decisions: about one in 300 of nano's are others. Raises ExportError.
        """
        own = "fp16" if self.dtype(precision) == torch.float16 else "fp32"
        able = (own,) if self.name != "ort-cpu" else ("fp32", "int8")
        if wanted is not None and wanted not in able:
            raise ExportError(
                f"target {self.name} cannot do vision in {wanted} beside a decoder in {precision}; "
                f"it can do {', '.join(able)}"
            )
        return wanted or own

    def check_kv(self, kv: str | None) -> None:
        """Whether the cache can be in ``kv``, None for the type of the activations. Raises ExportError."""
        if kv is not None and (kv != "int8" or self.name != "ort-cpu"):
            raise ExportError(
                f"target {self.name} cannot keep keys and values in {kv}; only ort-cpu can, in int8"
            )

    def check_block_size(self, block_size: int | None, precision: str) -> None:
        """Whether weights in ``precision`` come in blocks of a size to choose; None for the usual one.

        Raises ExportError.
        """
        if block_size is not None and (precision not in ("int8", "int4") or not self.name.startswith("ort-")):
            raise ExportError(
                f"target {self.name} at precision {precision} has no block size to choose; "
                "ort-cpu and ort-cuda have, at int8 and int4"
            )

    @property
    def chooses_rows(self) -> bool:
        """Whether graphs take ``logit_rows``: the runtime verifies drafts with ONNX Runtime alone so far."""
        return self.name.startswith("ort-")

    def dtype(self, precision: str) -> torch.dtype:
        """Of activations and cache."""
        return torch.float16 if self.half and precision != "fp32" else torch.float32


_ORT, _NATIVE, _LEGACY = "ort-gqa", "native-kv", "legacy-kv"
TARGETS = {
    target.name: target
    for target in (
        Target("ort-cpu", {"fp32": (_ORT,), "int8": (_ORT,), "int4": (_ORT,)}, "int8", half=False),
        # ONNX Runtime's attention has half-precision kernels only on a GPU: no fp32.
        Target("ort-cuda", {"fp16": (_ORT,), "int8": (_ORT,), "int4": (_ORT,)}, "fp16", half=True),
        # Two flavours in one bundle, over the same weights: TensorRT from 10.15 on takes the first, older
        # versions the second. Its fp32 Attention builds for fixed lengths only, and types of 4 and 8 bits
        # are younger than opset 17.
        Target(
            "tensorrt",
            {
                "fp32": (_LEGACY,),
                "fp16": (_NATIVE, _LEGACY),
                "int8": (_NATIVE, _LEGACY),
                "int4": (_NATIVE,),
                "fp8": (_NATIVE,),
            },
            "fp16",
            half=True,
        ),
        Target(
            "tensorrt-rtx",
            {"fp16": (_NATIVE,), "int8": (_NATIVE,), "int4": (_NATIVE,), "fp8": (_NATIVE,)},
            "fp16",
            half=True,
        ),
    )
}
PRECISIONS = ("fp32", "fp16", "int8", "int4", "fp8")


def find_target(name: str) -> Target:
    """Raises ExportError for an unknown name."""
    if name not in TARGETS:
        raise ExportError(f"target {name!r} is not known; choose one of {', '.join(TARGETS)}")
    return TARGETS[name]
