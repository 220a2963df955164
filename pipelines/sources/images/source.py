"""Images in sequence: ``shots/`` (a folder), ``shots/%04d.jpg`` (by number) or ``a.jpg`` (one)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from edge_runtime.events.numbering import file_identity
from pipelines.sources.address import printable
from pipelines.sources.base import ElementContext, Source
from pipelines.sources.errors import Problem, StreamError
from pipelines.sources.file import check_file, explain_file
from pipelines.sources.images.paths import IMAGE_ENDINGS, list_images, means_images
from pipelines.sources.images.reader import image_element
from pipelines.sources.skipped import Skipped

_NO_IMAGES = Problem(
    f"there are no images ({', '.join(IMAGE_ENDINGS)}) in it",
    "give a video file, or a folder or pattern of images",
    "permanent",
)
_UNREADABLE = "unreadable"


@dataclass(frozen=True)
class ImagesSource(Source):
    """A folder, a pattern such as ``shot%04d.jpg``, or one image; each is a timestep."""

    path: str
    kind = "images"
    decoder = "Pillow"
    stamped_at_end = True

    @property
    def label(self) -> str:
        return self.path

    @property
    def files(self) -> list[str]:
        """See :func:`pipelines.sources.images.paths.list_images`."""
        return list_images(self.path).shown

    def check(self) -> Problem | None:
        try:
            files = self.files
            if files == [self.path]:
                return check_file(self.path)
            return None if files else _NO_IMAGES
        except OSError as error:
            return Problem(f"cannot be read ({error.strerror})", "check its permissions", "permanent")

    def event_identity(self, *more: str) -> str:
        """Of all files; what cannot be read is skipped later and must not end the run here."""
        files = self.files
        found = [_identity(path) for path in files]
        base = next((path for path, text in zip(files, found, strict=True) if text != _UNREADABLE), None)
        return file_identity(base, *found, *more) if base else _UNREADABLE

    def make_elements(self, context: ElementContext) -> list[Any]:
        fps = context.options.image_fps or context.fps
        return [image_element(self.files, fps, context.connect, context.on_skipped)]

    def explain(self, error: StreamError) -> Problem | None:
        return explain_file(error)

    def conclude(self, shown: int, skipped: Skipped) -> tuple[str, Problem | None]:
        """A skipped image is an error once all others were shown: not everything was watched."""
        problem = self._problem(shown, skipped)
        causes = [problem.cause if problem else f"end of the images, {shown} shown"]
        if behind := list_images(self.path).behind_a_gap:
            first = printable(os.path.basename(behind[0]))
            causes.append(
                f"not shown, as a number before is missing: {first} and all after it ({len(behind)})"
            )
        return "; ".join(causes), problem

    def _problem(self, shown: int, skipped: Skipped) -> Problem | None:
        if not skipped.count:
            return None if shown else _NO_IMAGES
        if not shown and os.path.isfile(self.path):
            reason = skipped.names[0].partition(" (")[2].removesuffix(")")
            return Problem(f"the image cannot be read: {reason}", "save it again as JPEG or PNG", "permanent")
        return Problem(
            f"skipped {skipped.count} of {skipped.count + shown} images: {skipped.listed()}",
            "remove them or save them again as JPEG or PNG",
        )


def parse(path: str) -> ImagesSource | None:
    """``path``: not of a kind with an address of its own."""
    return ImagesSource(path) if means_images(path) else None


def _identity(path: str) -> str:
    try:
        return file_identity(path) if os.path.isfile(path) else _UNREADABLE
    except OSError:
        return _UNREADABLE
