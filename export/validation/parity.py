"""Does the bundle do what the checkpoint does? A streamed clip through both, compared call by call.

The bundle runs in the real session of the runtime, from frames to decisions. Beside it, PyTorch in fp32 sees
the same pixels and the same token ids, with its own vision network, its own embedding table and a growing
cache from which the same rows are dropped. So every source of difference counts: weights in int8, embeddings
and vision weights in fp16, caches in place, keys rotated again. The bundle's choices drive both, so that one
differing decision does not turn the rest of the stream into a comparison of two stories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.metric.progress import Progress
from edge_runtime.backends.base import VisionGraph
from edge_runtime.bundle.manifest import ModelSpec
from edge_runtime.engine.decision_rule import DecisionRule
from edge_runtime.engine.decoder import CachedDecoder
from edge_runtime.engine.model import Model
from edge_runtime.engine.vision import VisionStream
from edge_runtime.kv_cache.window import EvictionPlan
from export.errors import ExportError
from export.validation.parity_stream import Step, story_stream
from export.validation.reference import Reference

TIMESTEPS = 512


@dataclass
class Comparison:
    """Differences between the bundle's logits and the reference's, gathered over a stream."""

    score: Callable[[NDArray[np.float32]], float]
    """Of speaking, from logits [vocab]."""
    threshold: float = 0.5
    max_abs_diff: float = 0.0
    score_diff: float = 0.0
    kl: list[float] = field(default_factory=list)
    agreed: list[bool] = field(default_factory=list)
    spoke: int = 0
    kv_diff: float = 0.0
    """Largest difference of a cached key or value, over the largest of PyTorch's."""
    evictions: int = 0
    """Blocks of turns that left; removed queries are not counted."""

    def add(self, logits: NDArray[np.float32], reference: NDArray[np.float32], decision: bool) -> None:
        """``logits``, ``reference`` [vocab] after the same tokens; ``decision``: where a decision is read."""
        self.max_abs_diff = max(self.max_abs_diff, float(np.abs(logits - reference).max()))
        p, q = _log_softmax(reference), _log_softmax(logits)
        self.kl.append(float(np.sum(np.exp(p) * (p - q))))
        if decision:
            score, expected = self.score(logits), self.score(reference)
            self.score_diff = max(self.score_diff, abs(score - expected))
            self.agreed.append((score >= self.threshold) == (expected >= self.threshold))
            self.spoke += expected >= self.threshold

    def add_rows(
        self, rows: Sequence[NDArray[np.floating]], reference: Sequence[NDArray[np.float32]]
    ) -> None:
        """Cached keys and values, [L, Hkv, rows, Dh] each."""
        for ours, theirs in zip(rows, reference, strict=True):
            difference = float(np.abs(ours.astype(np.float32) - theirs).max() / np.abs(theirs).max())
            self.kv_diff = max(self.kv_diff, difference)

    def result(self) -> dict[str, Any]:
        """The section ``parity`` of ``bundle.json``. ``positions`` counts every call that was compared, those
        that write responses too; ``spoke`` the timesteps at which PyTorch decides to speak."""
        return {
            "logit_max_abs_diff": round(self.max_abs_diff, 6),
            "kl_mean": float(f"{np.mean(self.kl):.3g}"),
            "decision_agreement": round(float(np.mean(self.agreed)), 4),
            "timesteps": len(self.agreed),
            "against": "torch fp32",
            "kv_max_rel_diff": float(f"{self.kv_diff:.3g}"),
            "score_max_abs_diff": round(self.score_diff, 6),
            "spoke": int(self.spoke),
            "positions": len(self.kl),
            "evictions": self.evictions,
        }


class _WatchedDecoder(CachedDecoder):
    """The runtime's decoder; every call is repeated in PyTorch and compared."""

    def __init__(self, inner: CachedDecoder, reference: Reference, comparison: Comparison) -> None:
        self.__dict__.update(inner.__dict__)
        self._reference, self._comparison = reference, comparison

    @property
    def most_rows(self) -> int:
        """1: responses are written token by token, as the reference writes them."""
        return 1

    def append(
        self, ids: Sequence[int], start: int, visual: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        logits = super().append(ids, start, visual)
        expected = self._reference.append(ids, start, visual is not None)
        self._comparison.add(logits, expected, decision=visual is not None)
        return logits

    def evict(self, plan: EvictionPlan) -> None:
        super().evict(plan)
        self._reference.evict(plan)
        expected = self._reference.rows()
        self._comparison.add_rows(self._cache.read_slots(expected[0].shape[2]), expected)
        self._comparison.evictions += any(segment.kind == "turn" for segment in plan.evicted)


class _WatchedVision(VisionStream):
    """The runtime's vision; PyTorch sees every frame too."""

    def __init__(self, graph: VisionGraph, model: ModelSpec, reference: Reference) -> None:
        super().__init__(graph, model)
        self._reference = reference

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self._reference.see(pixels)
        return super().encode(pixels)


class _WatchedModel(Model):
    """The runtime's model, whose decoders are watched."""

    def __init__(
        self, folder: Path, open_reference: Callable[[int], Reference], threads: int, backend: str
    ) -> None:
        self._seen_by: Reference | None = None
        super().__init__(folder, threads=threads, backend=backend)
        rule = DecisionRule(self.encoder, self.text_bias)
        self.comparison = Comparison(rule.score, self.stream_format.threshold)
        self._seen_by = open_reference(self.encoder.image_id)

    @property
    def queries_per_session(self) -> int | None:
        return None  # arithmetic is compared, with removed queries among the rows, and not what is said

    def open_vision(self) -> VisionStream:
        if self._seen_by is None:  # a first try, while the bundle is loaded
            return super().open_vision()
        return _WatchedVision(self._vision, self.bundle.model, self._seen_by)

    def open_decoder(self) -> CachedDecoder:
        assert self._seen_by is not None
        return _WatchedDecoder(super().open_decoder(), self._seen_by, self.comparison)


def measure_parity(
    folder: Path,
    open_reference: Callable[[int], Reference],
    *,
    timesteps: int = TIMESTEPS,
    steps: Iterable[Step] | None = None,
    response_every: int = 9,
    threads: int = 1,
    backend: str = "cpu",
    window_turns: int | None = None,
) -> dict[str, Any]:
    """Stream ``timesteps`` through the bundle in ``folder`` and through the model it came from.

    ``open_reference``: see :func:`export.families.registry.reference_of`.
    ``steps``: frames and questions, generated stories by default; the last two questions are in force, or as
    many as a session may have. Every ``response_every``-th timestep has to speak, so that words are compared
    too, the others do as they decide.
    ``backend``: as of :func:`edge_runtime.load`; the CPU runs every lowering.
    ``threads``: for each of the two; chunks are so small that more of them mostly wait for each other.
    ``window_turns``: fewer than the bundle's, so that a short stream evicts too.
    Returns what :meth:`Comparison.result` says. Raises ExportError when nothing is evicted or frames run out.
    """
    watched = _WatchedModel(Path(folder), open_reference, threads, backend)
    if window_turns is not None:
        watched.stream_format = replace(
            watched.stream_format, window_turns=window_turns, evict_turns=max(window_turns // 4, 1)
        )
    stream_format = watched.stream_format
    source = iter(steps) if steps is not None else story_stream(stream_format.fps)
    in_force = max(2, stream_format.queries_per_session)
    progress = Progress(timesteps, "parity", unit="timestep")
    with _torch_threads(threads), watched.session() as session, progress:
        for index, step in zip(range(timesteps * stream_format.frames_per_turn), source, strict=False):
            if step.query is not None:
                if len(session.queries) >= in_force:
                    session.remove(next(iter(session.queries)))
                session.ask(step.query)
            forced = index % response_every == response_every - 1
            session.threshold = 0.0 if forced else stream_format.threshold
            session.push(step.frame, (index + 1) / stream_format.fps)
            progress.advance()
    comparison = watched.comparison
    if len(comparison.agreed) < timesteps:
        raise ExportError(f"parity: the clip has {len(comparison.agreed)} frames, {timesteps} are needed")
    if not comparison.evictions:
        raise ExportError(f"parity: {timesteps} timesteps evict nothing; stream more of them")
    return comparison.result()


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """PyTorch computes with ``count`` threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _log_softmax(x: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = x.astype(np.float64) - float(x.max())
    return shifted - np.log(np.exp(shifted).sum())
