"""Every rung of every kernel on every instruction set, against numpy in f64."""

from __future__ import annotations

import numpy as np
import pytest

import aquatint
from aquatint import kernels

ISAS = kernels.isas()
RNG = np.random.default_rng(7)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def close(found, expected, tolerance: float = 2e-6) -> None:
    """Every element within `tolerance` of the largest."""
    assert found.shape == expected.shape and found.dtype == np.float32
    error = np.abs(found.astype(np.float64) - expected).max()
    assert error <= tolerance * np.abs(expected).max(), f"error {error}"


def conv2d(x, w, bias, stride, padding, dilation) -> np.ndarray:
    """The seven loops, of which numpy does four."""
    (top, bottom, left, right), (n, h, width, c), (o, _, kh, kw) = padding, x.shape, w.shape
    x = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    rows = (h + top + bottom - dilation * (kh - 1) - 1) // stride + 1
    columns = (width + left + right - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, rows, columns, o))
    for i in range(kh):
        for j in range(kw):
            part = x[:, i * dilation :, j * dilation :][:, : stride * rows : stride, : stride * columns : stride]
            y += part[:, :rows, :columns] @ w[:, :, i, j].astype(np.float64).T
    return y + bias


CASES = [
    dict(image=(2, 9, 11, 20), weights=(24, 20, 3, 3), stride=1, padding=(1, 1, 1, 1), dilation=1),
    dict(image=(1, 8, 8, 5), weights=(3, 5, 3, 3), stride=2, padding=(0, 1, 0, 1), dilation=1),
    dict(image=(1, 9, 9, 4), weights=(33, 4, 1, 1), stride=1, padding=(0, 0, 0, 0), dilation=1),
    dict(image=(1, 10, 12, 3), weights=(4, 3, 3, 3), stride=1, padding=(2, 2, 2, 2), dilation=2),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['weights']}")
def test_conv2d(case, isa):
    x, w = numbers(*case["image"]), numbers(*case["weights"])
    bias = numbers(w.shape[0])
    how = {name: case[name] for name in ("stride", "padding", "dilation")}
    expected = conv2d(x, w, bias, **how)
    same = case["stride"] == 1 and case["padding"] == (1, 1, 1, 1) and w.shape[2:] == (3, 3)
    for rung in ["best", *kernels.RUNGS["conv2d"]]:
        if rung == "winograd" and not same or rung == "narrow" and w.shape[0] > 4 or rung == "indirect_tiles":
            continue
        found = kernels.conv2d(x, w, bias, rung=rung, isa=isa, **how)
        close(found, expected, 2e-5 if rung in ("winograd", "best") else 2e-6)
    rounded = kernels.conv2d(x, w, bias, rung="indirect_tiles", isa=isa, precision="bf16x3", **how)
    close(rounded, expected, 1e-4)


def test_groups_are_in_the_definition():
    x, w = numbers(1, 5, 5, 4), numbers(6, 2, 3, 3)
    found = kernels.conv2d(x, w, padding=1, groups=2, rung="reference")
    for group in range(2):
        part, weights = x[..., 2 * group : 2 * group + 2], w[3 * group : 3 * group + 3]
        close(found[..., 3 * group : 3 * group + 3], conv2d(part, weights, 0, 1, (1,) * 4, 1))


@pytest.mark.parametrize("isa", ISAS)
def test_linear(isa):
    x, w, bias = numbers(2, 7, 40), numbers(35, 40), numbers(35)
    expected = x.astype(np.float64) @ w.astype(np.float64).T + bias
    for rung in ["best", *kernels.RUNGS["linear"]]:
        close(kernels.linear(x, w, bias, rung=rung, isa=isa), expected)
    close(kernels.linear(x, w, bias, isa=isa, precision="bf16"), expected, 2e-2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("causal", [False, True])
def test_attention(isa, causal):
    q, k, v = numbers(2, 9, 2, 16), numbers(2, 9, 2, 16), numbers(2, 9, 2, 16)
    scores = np.einsum("nihc,njhc->nhij", q.astype(np.float64), k) / 4
    if causal:
        scores = np.where(np.tril(np.ones((9, 9))) > 0, scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("nhij,njhc->nihc", shares / shares.sum(-1, keepdims=True), v)
    for rung in ("best", "reference", "flash"):
        close(kernels.attention(q, k, v, causal=causal, rung=rung, isa=isa), expected)
    close(kernels.attention(q, k, v, causal=causal, rung="flash_bf16", isa=isa, precision="bf16"), expected, 2e-2)


@pytest.mark.parametrize("isa", ISAS)
def test_norms_softmax_and_activations(isa):
    x, weight, bias = numbers(2, 5, 6, 24) + 3, numbers(24), numbers(24)
    wide = x.astype(np.float64)
    grouped = wide.reshape(2, 30, 4, 6)
    normal = (grouped - grouped.mean((1, 3), keepdims=True)) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-5)
    expected = normal.reshape(x.shape) * weight + bias
    for rung in ("best", "reference"):
        close(kernels.group_norm(x, 4, weight, bias, rung=rung, isa=isa), expected)
    silu = expected / (1 + np.exp(-expected))
    close(kernels.group_norm(x, 4, weight, bias, silu=True, isa=isa), silu, 4e-6)
    layer = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    shares = np.exp(wide - wide.max(-1, keepdims=True))
    for rung in ("best", "reference"):
        close(kernels.layer_norm(x, weight, bias, rung=rung, isa=isa), layer * weight + bias)
        close(kernels.softmax(x, rung=rung, isa=isa), shares / shares.sum(-1, keepdims=True))
    close(kernels.silu(x, isa=isa), wide / (1 + np.exp(-wide)))
    assert np.abs(kernels.gelu(np.array([0.0, 1.0, -1.0]), isa=isa) - [0, 0.8413447, -0.1586553]).max() < 1e-6


@pytest.mark.parametrize("isa", ISAS)
def test_upsampling(isa):
    x, w, bias = numbers(1, 6, 5, 18), numbers(20, 18, 3, 3), numbers(20)
    doubled = x.repeat(2, 1).repeat(2, 2)
    assert np.array_equal(kernels.nearest(x), doubled)
    assert kernels.nearest([[[[1.0], [2.0], [3.0]]]], (1, 5)).ravel().tolist() == [1, 1, 2, 2, 3]
    expected = conv2d(doubled, w, bias, 1, (1,) * 4, 1)
    for rung in ("best", "reference", "two_steps", "filtered"):
        close(kernels.upsample_conv(x, w, bias, rung=rung, isa=isa), expected, 2e-5)
    close(kernels.upsample_conv(x, w, bias, rung="phases", isa=isa, precision="bf16"), expected, 2e-2)


def test_the_size_of_an_output():
    assert kernels.output_size(512, 3, stride=2) == 255
    assert kernels.output_size(256, 3, 2, padding=2) == 128
    with pytest.raises(aquatint.RequestError, match="larger"):
        kernels.output_size(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.conv2d(numbers(1, 4, 4, 3), numbers(2, 4, 3, 3)), "do not fit"),
        (lambda: kernels.conv2d(numbers(4, 4, 3), numbers(2, 3, 3, 3)), "4 axes"),
        (lambda: kernels.conv2d(numbers(1, 2, 2, 3), numbers(2, 3, 3, 3)), "no place"),
        (lambda: kernels.conv2d(numbers(1, 4, 4, 3), numbers(2, 3, 3, 3), numbers(3)), "expected 2"),
        (lambda: kernels.conv2d(numbers(1, 4, 4, 3), numbers(2, 3, 3, 3), rung="fast"), "has no rung `fast`"),
        (lambda: kernels.conv2d(numbers(1, 4, 4, 3), numbers(2, 3, 3, 3), rung="winograd"), "padding 1"),
        (lambda: kernels.conv2d(numbers(1, 4, 4, 3), numbers(2, 3, 3, 3), rung="im2col", precision="bf16"), "f32"),
        (lambda: kernels.conv2d(numbers(1, 4, 4, 3), numbers(2, 3, 3, 3), isa="sse9"), "sse9"),
        (lambda: kernels.linear(numbers(2, 3), numbers(4, 5)), "do not fit"),
        (lambda: kernels.attention(numbers(1, 2, 1, 4), numbers(1, 0, 1, 4), numbers(1, 0, 1, 4)), "do not fit"),
        (lambda: kernels.group_norm(numbers(1, 2, 2, 6), 4), "equal groups"),
        (lambda: kernels.softmax(3.0), "at least 2"),
        (lambda: kernels.silu("abc"), "expected numbers"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(aquatint.RequestError) as raised:
        call()
    assert message in str(raised.value)
