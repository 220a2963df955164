"""Which images a path means: those of a folder, those of a pattern such as ``shot%04d.jpg``, or one."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from edge_runtime.errors import SourceError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Of images that can be read."""
_OTHER_IMAGES = (".gif", ".heic", ".heif", ".avif")
"""Of images that cannot: in a folder each is named as skipped, never passed over in silence."""
_NUMBER = re.compile(r"%0?\d*d")
_DIGITS = re.compile(r"(\d+)")


class ImageFiles(NamedTuple):
    """Paths in the order in which they are shown."""

    shown: list[str]
    behind_a_gap: list[str]
    """They fit a pattern, but a number before theirs is missing: the sequence ends there."""


def means_images(path: str) -> bool:
    """What exists under this very name counts before what the name may stand for."""
    return os.path.isdir(path) or _is_image(path) or _is_pattern(path)


def list_images(path: str) -> ImageFiles:
    """Look the files up. Raises OSError for an unreadable folder, SourceError for what is no pattern."""
    if os.path.isdir(path):
        names = sorted(os.listdir(path), key=lambda name: [_number(part) for part in _DIGITS.split(name)])
        # macOS leaves a hidden "._name" beside each file on foreign disks.
        wanted = [name for name in names if not name.startswith(".") and _is_listed(name)]
        return ImageFiles([os.path.join(path, name) for name in wanted], [])
    if not _is_pattern(path):
        return ImageFiles([path], [])
    numbered = _numbered(path)
    files = [file for _, file in numbered]
    gap = next((n for n, (number, _) in enumerate(numbered) if number != numbered[0][0] + n), len(files))
    return ImageFiles(files[:gap], files[gap:])


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS


def _is_listed(name: str) -> bool:
    return _is_image(name) or os.path.splitext(name)[1].lower() in _OTHER_IMAGES


def _is_pattern(path: str) -> bool:
    return not os.path.lexists(path) and _NUMBER.search(os.path.basename(path)) is not None


def _numbered(path: str) -> list[tuple[int, str]]:
    """All files that fit the pattern, by number."""
    folder, pattern = os.path.split(path)
    conversions = _NUMBER.findall(pattern)
    if len(conversions) != 1:
        raise SourceError(f"{path}: not a pattern of numbered images; write one %d or %04d", permanent=True)
    before, after = pattern.split(conversions[0])
    fits = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    found = []
    for name in os.listdir(folder or "."):
        match = fits.fullmatch(name)
        if match is not None and conversions[0] % int(match[1]) == match[1]:
            found.append((int(match[1]), os.path.join(folder, name)))
    return sorted(found)


def _number(part: str) -> tuple[int, str]:
    """Sorts shot9 before shot10."""
    return (int(part), "") if part.isdigit() else (-1, part)
