"""Frozen vision features of clips, computed once and kept on disk.

A clip is decoded, its frames are chosen by the runtime's own sampling rule, letterboxed and run through the
backbone. One ``.npy`` per clip: float16 [frames, ...] ([frames, 320, 7, 7] for EfficientNet-Lite0), named by
a hash of everything that decides its content, so a changed clip or backbone never meets stale features.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.progress import Progress
from edge_runtime.atomic_write import whole_file
from edge_runtime.engine.preprocess import letterbox
from edge_runtime.errors import EdgeError, SourceError
from edge_runtime.video.sampling import TimestepSampler
from train.models.compact.lite0 import IMAGE_SIZE, Lite0Vision
from train.models.vision import Encode, FrozenVision

PREPROCESSING_VERSION = 1
"""Raise it whenever sampling, letterbox or normalisation changes what any backbone sees."""

DETECTIONS = ".npy"
"""Ending of clips that are features already: those of generated detections, one row a timestep."""

_BATCH = 16


class FeatureError(SourceError, RuntimeError):
    """Clips that can't be used; the message names each with its reason."""


@dataclass(frozen=True)
class ClipFeatures:
    """``features`` float16 [n, ...], mapped from disk; ``timesteps``: the index each frame closes."""

    features: NDArray[np.float16]
    timesteps: tuple[int, ...]


class FeatureCache:
    """Features of clips at ``fps`` timesteps a second under ``folder``, computed on ``workers`` processes.

    ``vision``: the backbone they come from, a model's ``vision``. Caches of several may share a folder.
    """

    def __init__(
        self, folder: Path, fps: float = 1.0, workers: int = 2, vision: FrozenVision | None = None
    ) -> None:
        self.folder = Path(folder)
        self.fps = fps
        self.workers = max(1, workers)
        self.vision: FrozenVision = vision or Lite0Vision()
        self._keys: dict[Path, str] = {}

    def key(self, clip: Path) -> str:
        """Name of the clip's files: a hash of its bytes, sampling rate, preprocessing and backbone."""
        if clip not in self._keys:
            content = hashlib.sha256()
            with open(clip, "rb") as file:
                while block := file.read(1 << 20):
                    content.update(block)
            what = f"{content.hexdigest()} {self.fps} {PREPROCESSING_VERSION} {self.vision.key}"
            self._keys[clip] = hashlib.sha256(what.encode()).hexdigest()[:32]
        return self._keys[clip]

    def ensure(self, clips: Iterable[Path]) -> None:
        """Compute what is missing; a stopped run goes on where it was.

        Raises FeatureError at the end when clips could not be read, after all others are done.
        """
        bad: dict[Path, str] = {}
        missing: dict[str, Path] = {}
        for clip in dict.fromkeys(clips):
            if clip.suffix == DETECTIONS:
                if not clip.is_file():
                    bad[clip] = "no such file"
                continue
            try:
                key = self.key(clip)
            except OSError as error:
                bad[clip] = error.strerror or str(error)
                continue
            if not self._file(key).exists():
                missing[key] = clip
        if missing:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self.vision.prepare(self.folder)
            except (ValueError, ImportError) as error:
                raise FeatureError(str(error)) from error
            bad |= self._compute(missing)
        if bad:
            named = [f"{clip}: {reason}" for clip, reason in bad.items()]
            more = f"; and {len(named) - 3} more (python -m train check lists all)" if len(named) > 3 else ""
            raise FeatureError(f"{len(bad)} of the clips can't be used: {'; '.join(named[:3])}{more}")

    def load(self, clip: Path) -> ClipFeatures:
        """Features of a clip :meth:`ensure` has seen. Raises FeatureError when it has not."""
        if clip.suffix == DETECTIONS:
            features = np.load(clip, mmap_mode="r", allow_pickle=False)
            return ClipFeatures(features, tuple(range(len(features))))
        path = self.path(clip)
        try:
            features = np.load(path, mmap_mode="r", allow_pickle=False)
            record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FeatureError(f"{clip}: no features in {self.folder}") from error
        return ClipFeatures(features, tuple(record["timesteps"]))

    def path(self, clip: Path) -> Path:
        """Where the clip's features lie, or will."""
        return self._file(self.key(clip))

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"

    def _compute(self, missing: dict[str, Path]) -> dict[Path, str]:
        bad: dict[Path, str] = {}
        # fork would copy the state of thread pools that torch has started
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(self.workers, len(missing)),
            context,
            initializer=_start_worker,
            initargs=(self.vision, self.folder),
        ) as pool:
            jobs = {
                pool.submit(_compute_clip, str(clip), str(self._file(key)), self.fps): clip
                for key, clip in missing.items()
            }
            with Progress(len(jobs), "features", unit="clip") as progress:
                for job in as_completed(jobs):
                    reason = job.result()
                    if reason is not None:
                        bad[jobs[job]] = reason
                    progress.advance()
        return bad


def read_frames(
    clip: Path, fps: float, size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE)
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(timestep, frame [height, width, 3] RGB) for every timestep of a clip that has a frame.

    Raises ValueError when the file holds no video, and what PyAV raises for a file it can't read.
    """
    sampler = TimestepSampler(fps)
    with av.open(str(clip)) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        stream = container.streams.video[0]
        origin = float((stream.start_time or 0) * (stream.time_base or 0))
        for frame in container.decode(stream):
            if frame.time is None:
                raise ValueError("a frame has no time stamp")
            timestep = sampler.take(frame.time - origin)
            if timestep is not None:
                image = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                yield timestep, letterbox(image, size=size)


_encode: Encode | None = None
_size = (0, 0)


def _start_worker(vision: FrozenVision, folder: Path) -> None:
    global _encode, _size
    _encode, _size = vision.load(folder), vision.picture


def _compute_clip(clip: str, target: str, fps: float) -> str | None:
    """Write one clip's features. Returns the reason, in words, when the clip can't be used."""
    try:
        assert _encode is not None
        frames = list(read_frames(Path(clip), fps, _size))
        if not frames:
            return f"shorter than one timestep at {fps:g} per second"
        images = np.stack([image for _, image in frames])
        starts = range(0, len(images), _BATCH)
        blocks = [_encode(images[i : i + _BATCH], first=i == 0) for i in starts]
    except (av.FFmpegError, EdgeError, ValueError, OSError) as error:
        return str(error)
    write_features(Path(target), clip, fps, [timestep for timestep, _ in frames], np.concatenate(blocks))
    return None


def write_features(
    path: Path, clip: str, fps: float, timesteps: Sequence[int], features: NDArray[np.float16]
) -> None:
    """Write a cache entry: the array at ``path``, its record beside it. Both appear whole or not at all."""
    record = {"clip": clip, "fps": fps, "timesteps": list(timesteps)}
    with whole_file(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record), encoding="utf-8")
    with whole_file(path) as temporary, temporary.open("wb") as file:  # last: an array has its record
        np.save(file, features, allow_pickle=False)
