"""Arrays in and out, with numpy or without.

What comes in may be anything with the buffer protocol (numpy, ``array.array``, ``memoryview``), a
tensor of torch, or nested lists. What goes out is a numpy array or, where there is no numpy, a
``memoryview`` with a shape. The compiled part has ``(bytes, shape)`` in, ``(bytearray, shape)`` out.
"""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from typing import Any

from .errors import RequestError

Raw = tuple[bytes, tuple[int, ...]]
"""Numbers in f32 in the order of C, and their shape."""


def numpy() -> Any:
    """The module ``numpy``, or None."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def from_torch(x: Any) -> Any:
    """The numbers of a tensor of torch, wherever it is; anything else as it is."""
    if hasattr(x, "detach") and hasattr(x, "cpu"):
        return x.detach().cpu().float().numpy()
    return x


def floats(x: Any, name: str = "the array") -> Raw:
    """An array of numbers as f32."""
    x = from_torch(x)
    np = numpy()
    if np is not None:
        try:
            found = np.ascontiguousarray(x, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise RequestError(f"{name}: expected numbers: {error}") from None
        return found.tobytes(), np.shape(x)
    try:
        view = memoryview(x)
    except TypeError:
        return nested(x, name)
    shape = tuple(view.shape or ())
    if view.format == "f":
        return view.tobytes(), shape
    return array.array("f", flattened(view.tolist())).tobytes(), shape


def nested(x: Any, name: str) -> Raw:
    """Nested lists, or one number."""
    shape: list[int] = []
    level = x
    while isinstance(level, Sequence) and not isinstance(level, (str, bytes)):
        shape.append(len(level))
        if not level:
            break
        level = level[0]
    try:
        numbers = array.array("f", flattened(x))
    except TypeError as error:
        raise RequestError(f"{name}: expected numbers: {error}") from None
    if len(numbers) != math.prod(shape):
        raise RequestError(f"{name}: rows of different lengths; expected a rectangle")
    return numbers.tobytes(), tuple(shape)


def flattened(x: Any) -> list[Any]:
    """The numbers of nested lists, the last axis fastest."""
    if isinstance(x, Sequence) and not isinstance(x, (str, bytes)):
        return [number for row in x for number in flattened(row)]
    return [x]


def wrapped(raw: tuple[bytearray, tuple[int, ...]]) -> Any:
    """A numpy array over the bytes, or a ``memoryview`` of that shape; nothing is copied."""
    data, shape = raw
    np = numpy()
    if np is not None:
        return np.frombuffer(data, dtype=np.float32).reshape(shape)
    if 0 in shape or not shape:
        return memoryview(data).cast("f")
    return memoryview(data).cast("f", shape=tuple(shape))


def reshaped(raw: Raw, axes: int) -> tuple[Raw, tuple[int, ...]]:
    """The array with its leading axes joined until ``axes`` are left, and its shape."""
    data, shape = raw
    if len(shape) < axes:
        raise RequestError(f"the array has {len(shape)} axes; expected at least {axes}")
    kept = shape[len(shape) - axes + 1 :] if axes > 1 else ()
    return (data, (math.prod(shape[: len(shape) - axes + 1]), *kept)), shape
