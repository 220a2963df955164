"""Clips: the one frame of each timestep, decoded by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import SourceError
from edge_runtime.video.sampling import TimestepSampler
from edge_runtime.video.stillness import Stillness


def timestep_frames(
    clip: Path, fps: float, *, compare: bool = False
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Index of each timestep and the frame that closes it, uint8 [H, W, 3] RGB.

    ``fps``: timesteps per second. Times count from the clip's first frame; frames that close no timestep are
    never converted to RGB. ``compare``: as by a camera that compares frames, one that shows nothing new is
    the very array of the one before. Raises SourceError for a clip that cannot be opened or decoded.
    """
    sampler, stillness = TimestepSampler(fps), Stillness()
    image: NDArray[np.uint8] | None = None
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
                if index is None:
                    continue
                if not compare or stillness.is_new(_planes(frame)) or image is None:
                    image = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                yield index, image
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{clip}: cannot be decoded ({error}); check the file", permanent=True) from error
    if first is None:
        raise SourceError(f"{clip}: holds no frames; check the file", permanent=True)


def _planes(frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Luma and colour differences as a decoder gives them."""
    planes = frame.reformat(format="yuv420p").planes
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in planes
    ]
