"""The kernels, from their definition to their fastest form, for those who study them.

Images are channels-last, ``[n, h, w, c]``; weights are as torch has them. Arrays in, arrays out, in
f32. Each kernel is a ladder: ``rung="reference"`` is its definition with sums in f64, ``"best"``
what a model takes, and ``RUNGS`` lists those in between. ``isa`` is one of ``isas()``; with
``precision="bf16"`` or ``"bf16x3"`` products are computed in these.

A call packs the weights, which a model does once: for times, ``aquatint bench`` is more exact.

>>> import aquatint.kernels as k
>>> k.output_size(512, kernel=3, stride=2)
255
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Union

from . import _aquatint
from .arrays import floats, reshaped, wrapped

Pair = Union[int, Sequence[int]]

#: Kernel → the names of its rungs, the definition first.
RUNGS: dict[str, list[str]] = {kernel: rungs for kernel, rungs in _aquatint.rungs()}


def isas() -> list[str]:
    """The instruction sets that this CPU has, from the slowest to the fastest."""
    return _aquatint.isas()


def output_size(input: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """``floor((input + padding − dilation·(kernel − 1) − 1) / stride) + 1``.

    ``padding`` is the sum of both sides.
    """
    return _aquatint.output_size(input, kernel, stride, padding, dilation)


def conv2d(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    rung: str = "best",
    isa: str | None = None,
    precision: str = "f32",
) -> Any:
    """``x: [n, h, w, in]``, ``w: [out, in / groups, kh, kw]`` → ``[n, h', w', out]``.

    ``padding`` is one number, ``(rows, columns)`` or ``(top, bottom, left, right)``. As
    ``torch.nn.functional.conv2d``, but channels-last.
    """
    sides = (padding,) if isinstance(padding, int) else tuple(padding)
    four = sides if len(sides) == 4 else tuple(side for side in _pair(padding, "padding") for _ in range(2))
    window = (_pair(stride, "stride"), four, _pair(dilation, "dilation"), groups)
    return wrapped(
        _aquatint.conv2d(
            floats(x, "x"), floats(w, "w"), _optional(bias, "bias"), window, (rung, isa, precision)
        )
    )


def linear(
    x: Any, w: Any, bias: Any = None, *, rung: str = "best", isa: str | None = None, precision: str = "f32"
) -> Any:
    """``x·wᵀ + bias``: ``x: [.., in]``, ``w: [out, in]`` → ``[.., out]``; a matrix product."""
    rows, shape = reshaped(floats(x, "x"), 2)
    y = _aquatint.linear(rows, floats(w, "w"), _optional(bias, "bias"), (rung, isa, precision))
    return wrapped((y[0], (*shape[:-1], y[1][1])))


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    scale: float | None = None,
    causal: bool = False,
    rung: str = "best",
    isa: str | None = None,
    precision: str = "f32",
) -> Any:
    """``softmax(scale·q·kᵀ)·v``: ``q: [n, queries, heads, head_dim]``, ``k, v: [n, keys, ..]`` → as q.

    ``scale`` is 1/√head_dim unless given.
    """
    how = (rung, isa, precision)
    return wrapped(_aquatint.attention(floats(q, "q"), floats(k, "k"), floats(v, "v"), scale, causal, how))


def group_norm(
    x: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    silu: bool = False,
    rung: str = "best",
    isa: str | None = None,
) -> Any:
    """``(x − mean) / √(variance + eps)·weight[c] + bias[c]`` over each group of channels of an image.

    ``x: [n, h, w, c]`` → the same shape, with ``silu`` behind it if asked for.
    """
    affine = (_optional(weight, "weight"), _optional(bias, "bias"))
    return wrapped(_aquatint.group_norm(floats(x, "x"), affine, num_groups, eps, silu, (rung, isa, "f32")))


def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *, rung: str = "best", isa: str | None = None
) -> Any:
    """``(x − mean) / √(variance + eps)·weight + bias`` over the last axis."""
    rows, shape = reshaped(floats(x, "x"), 2)
    affine = (_optional(weight, "weight"), _optional(bias, "bias"))
    return wrapped((_aquatint.layer_norm(rows, affine, eps, (rung, isa, "f32"))[0], shape))


def softmax(x: Any, *, rung: str = "best", isa: str | None = None) -> Any:
    """``e^xⱼ / Σₖ e^xₖ`` over the last axis."""
    rows, shape = reshaped(floats(x, "x"), 2)
    return wrapped((_aquatint.softmax(rows, (rung, isa, "f32"))[0], shape))


def silu(x: Any, *, isa: str | None = None) -> Any:
    """``x·σ(x)``."""
    data, shape = floats(x, "x")
    return wrapped((_aquatint.silu((data, (math.prod(shape),)), isa)[0], shape))


def gelu(x: Any, *, isa: str | None = None) -> Any:
    """``x·Φ(x)``, with the exact distribution function."""
    data, shape = floats(x, "x")
    return wrapped((_aquatint.gelu((data, (math.prod(shape),)), isa)[0], shape))


def nearest(x: Any, size: Pair | None = None) -> Any:
    """Nearest upsampling: ``out[n, y, x, c] = in[n, ⌊y·h/h'⌋, ⌊x·w/w'⌋, c]``; the double unless a size is given."""
    data, shape = floats(x, "x")
    if size is None and len(shape) == 4:
        size = (2 * shape[1], 2 * shape[2])
    return wrapped(_aquatint.nearest((data, shape), _pair(1 if size is None else size, "size")))


def upsample_conv(
    x: Any, w: Any, bias: Any = None, *, rung: str = "best", isa: str | None = None, precision: str = "f32"
) -> Any:
    """``conv2d(nearest(x), w, padding=1)``: ``x: [n, h, w, in]``, ``w: [out, in, 3, 3]`` → ``[n, 2h, 2w, out]``."""
    how = (rung, isa, precision)
    return wrapped(_aquatint.upsample_conv(floats(x, "x"), floats(w, "w"), _optional(bias, "bias"), how))


def _optional(x: Any, name: str) -> Any:
    return None if x is None else floats(x, name)


def _pair(value: Pair, name: str) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} is {value!r}; expected one number or two")
    return value[0], value[1]
