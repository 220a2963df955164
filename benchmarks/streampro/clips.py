"""Clips: the one frame of each timestep, decoded by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import SourceError
from edge_runtime.video.sampling import TimestepSampler


def timestep_frames(clip: Path, fps: float) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Index of each timestep and the frame that closes it, uint8 [H, W, 3] RGB.

    ``fps``: timesteps per second. Times count from the clip's first frame; frames that close no timestep are
    never converted to RGB. Raises SourceError for a clip that cannot be opened or decoded.
    """
    sampler = TimestepSampler(fps)
    first: float | None = None
    try:
        with av.open(str(clip)) as container:
            if not container.streams.video:
                raise SourceError(f"{clip}: holds no video; check the annotation's video", permanent=True)
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the workers are the parallelism
            for frame in container.decode(stream):
                if frame.time is None:
                    raise SourceError(f"{clip}: frames carry no times; remux the file", permanent=True)
                first = frame.time if first is None else first
                index = sampler.take(frame.time - first)
                if index is not None:
                    yield index, frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{clip}: cannot be decoded ({error}); check the file", permanent=True) from error
    if first is None:
        raise SourceError(f"{clip}: holds no frames; check the file", permanent=True)
