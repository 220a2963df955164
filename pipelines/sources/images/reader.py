"""Read images from files: whatever a file holds, it becomes an upright RGB image or a reason in words.

Pillow reads them, not GStreamer: there one decoder would have to take JPEG and PNG, and an empty file ended
the whole process.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipelines.gst import load, make
from pipelines.sources.base import Connect

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""What may be opened. Of the others some run programs (EPS)."""
_LONGEST_SIDE = 4096
"""Pixels. A larger image is reduced at once: models look at a few hundred."""
_ORIENTATION = 0x0112
_Transpose = Image.Transpose
_UPRIGHT = {
    2: _Transpose.FLIP_LEFT_RIGHT,
    3: _Transpose.ROTATE_180,
    4: _Transpose.FLIP_TOP_BOTTOM,
    5: _Transpose.TRANSPOSE,
    6: _Transpose.ROTATE_270,
    7: _Transpose.TRANSVERSE,
    8: _Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright."""


class ImageError(Exception):
    """An image that cannot be read; the message is the reason alone."""


def read_image(path: str) -> Image.Image:
    """The image in a file: mode RGB, upright, at most 4096 pixels a side. Raises ImageError."""
    try:
        kind = os.stat(path)
        if not stat.S_ISREG(kind.st_mode):
            raise ImageError("it is a folder" if stat.S_ISDIR(kind.st_mode) else "it is not a regular file")
        if not kind.st_size:
            raise ImageError("the file is empty")
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata are not for users
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))  # JPEG is reduced while it is decoded
                image.load()
                return _upright(_reduced(_to_rgb(image)), image)
    except UnidentifiedImageError:
        raise ImageError("it is no JPEG, PNG, WebP, BMP or TIFF") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        most = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ImageError(f"it has more than {most} million pixels") from None
    except OSError as error:
        raise ImageError(_reason(error)) from None
    except MemoryError:
        raise ImageError("there is not enough memory for it") from None
    except ImageError:
        raise
    except Exception as error:  # what Pillow's readers raise for damaged files is not documented
        raise ImageError(f"it is damaged ({type(error).__name__}: {error})") from None


def _reason(error: OSError) -> str:
    if error.strerror is None:  # from Pillow, such as "image file is truncated (3 bytes not processed)"
        return f"it is damaged ({error})"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"it cannot be read ({error.strerror})"


def _to_rgb(image: Image.Image) -> Image.Image:
    """Eight bits a channel. Of 16 bits of grey Pillow would keep the lower ones."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray((np.clip(np.asarray(image), 0, 0xFFFF) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _reduced(image: Image.Image) -> Image.Image:
    times = -(-max(image.size) // _LONGEST_SIDE)
    return image.reduce(times) if times > 1 else image


def _upright(image: Image.Image, original: Image.Image) -> Image.Image:
    try:
        transpose = _UPRIGHT.get(original.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF is no reason to lose the image
        return image
    return image if transpose is None else image.transpose(transpose)


def image_element(
    files: Iterable[str], fps: float, connect: Connect, on_skipped: Callable[[str, str], None]
) -> Any:
    """An appsrc that reads one file each time it is asked; image k ends timestep k.

    What cannot be read is passed over, and its timestep with it; ``on_skipped(path, reason)`` hears of it.
    """
    Gst = load().Gst
    step_ns = round(Gst.SECOND / fps)
    element = make("appsrc", format=Gst.Format.TIME, max_buffers=1)
    waiting = iter(enumerate(files, start=1))

    def on_need(appsrc: Any, _size: int) -> None:
        for number, path in waiting:
            try:
                image = read_image(path)
            except ImageError as error:
                on_skipped(path, str(error))
                continue
            buffer = Gst.Buffer.new_wrapped(image.tobytes("raw", "BGRX"))
            buffer.pts = buffer.dts = number * step_ns
            buffer.duration = step_ns
            caps = Gst.Caps.from_string(
                f"video/x-raw, format=(string)BGRx, width=(int){image.width}, height=(int){image.height}, "
                f"framerate=(fraction){max(1, round(fps * 1000))}/1000, pixel-aspect-ratio=(fraction)1/1"
            )
            appsrc.emit("push-sample", Gst.Sample.new(buffer, caps, None, None))
            return
        appsrc.emit("end-of-stream")

    connect(element, "need-data", on_need)
    return element
