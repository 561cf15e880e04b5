"""Pictures in and out: files, PIL's images, arrays."""

from __future__ import annotations

import io
import os
from typing import Any

from . import _aquatint
from .arrays import from_torch, numpy
from .errors import RequestError


def pil() -> Any:
    """The module ``PIL.Image``, or None."""
    try:
        from PIL import Image
    except ImportError:
        return None
    return Image


def encoded(image: Any, name: str) -> bytes | str:
    """A picture as the path or the bytes of a file.

    A path, the bytes of a PNG, JPEG or WebP, an image of PIL, or an array ``[h, w]``, ``[h, w, 1]``
    or ``[h, w, 3]`` of bytes, or of numbers from 0 to 1.
    """
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    if isinstance(image, _aquatint.Picture):
        return image.encode("png")
    PIL = pil()
    if PIL is not None and isinstance(image, PIL.Image):
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)
        return file.getvalue()
    return from_array(image, name)


def from_array(image: Any, name: str) -> bytes:
    """An array as a PNG."""
    image = from_torch(image)
    np = numpy()
    if np is not None and not isinstance(image, memoryview):
        image = np.asarray(image)
        if image.dtype.kind == "f":
            image = (image.clip(0, 1) * 255).round()
        elif image.dtype.kind == "b":
            image = image * 255
        if image.dtype != np.uint8:
            image = image.clip(0, 255).astype(np.uint8)
        image = np.ascontiguousarray(image)
    expected = "expected a path, the bytes of a file, an image of PIL, or an array [height, width, 3] or [height, width]"
    try:
        view = memoryview(image)
    except TypeError:
        raise RequestError(f"{name} is a {type(image).__name__}; {expected}") from None
    shape, pixels = tuple(view.shape or ()), view.tobytes()
    if view.itemsize != 1 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise RequestError(f"{name} has the shape {shape}; {expected} of bytes")
    if len(shape) == 2 or shape[2] == 1:
        colours = bytearray(3 * len(pixels))
        for channel in range(3):
            colours[channel::3] = pixels
        pixels = bytes(colours)
    return _aquatint.png(pixels, shape[1], shape[0])


def decoded(picture: _aquatint.Picture, output_type: str) -> Any:
    """A picture as an image of PIL or an array ``[height, width, 3]`` of bytes.

    ``"pil"`` gives PIL's where it is installed, else an array; its ``info["parameters"]`` says how
    the picture was made.
    """
    pixels, size = picture.pixels(), (picture.width, picture.height)
    PIL = pil()
    if output_type == "pil" and PIL is not None:
        image = PIL.frombuffer("RGB", size, pixels, "raw", "RGB", 0, 1)
        image.info["parameters"] = picture.parameters
        return image
    np = numpy()
    if np is not None:
        return np.frombuffer(pixels, dtype=np.uint8).reshape(size[1], size[0], 3)
    return memoryview(pixels).cast("B", shape=(size[1], size[0], 3))
