"""The samplers: their names, timesteps and noise levels, for Stable Diffusion's training noise.

>>> import aquatint.samplers as s
>>> [round(float(sigma), 2) for sigma in s.sigmas("karras", 4)]
[14.61, 3.36, 0.46, 0.03, 0.0]
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from . import _aquatint
from .arrays import wrapped

#: Sampler, by A1111's name → the schedules that it can follow.
SAMPLERS: dict[str, list[str]] = {sampler: schedules for sampler, schedules in _aquatint.sampler_names()}


def sigmas(
    schedule: str | None = None, steps: int = 20, sampler: str = "Euler", timestep_spacing: str | None = None
) -> Any:
    """The noise level σ before each call of the UNet, falling, and at last 0.

    σ is the noise's share by the picture's, √((1 − ᾱ)/ᾱ). ``timestep_spacing`` is leading, linspace or
    trailing, where it is not the sampler's own.
    """
    _, signal, noise = _levels(sampler, schedule, steps, timestep_spacing)
    return _list([n / s for s, n in zip(signal, noise)] + [0.0])


def timesteps(
    schedule: str | None = None, steps: int = 20, sampler: str = "Euler", timestep_spacing: str | None = None
) -> Any:
    """The timestep of each call of the UNet, 999 the noisiest."""
    return _list(_levels(sampler, schedule, steps, timestep_spacing)[0])


def alphas_cumprod() -> Any:
    """ᾱ_t for t in 0..999: a noisy picture is ``√ᾱ·x₀ + √(1 − ᾱ)·noise``."""
    _, signal, _ = _levels("DDPM", None, 1000, "linspace")
    return _list([s * s for s in reversed(signal)])


def noise(seed: int, shape: Sequence[int], rng: str = "cpu") -> Any:
    """Normal random numbers, number for number those of ``torch.randn`` with this seed.

    ``rng`` is "cpu", or "cuda" for those of torch on a GPU.
    """
    return wrapped(_aquatint.noise(seed, list(shape), rng))


def _levels(sampler: str, schedule: str | None, steps: int, spacing: str | None) -> list[list[float]]:
    """Timesteps, shares of the picture, shares of the noise."""
    raw = _aquatint.noise_levels(sampler, schedule, steps, spacing)
    return [array("f", bytes(data)).tolist() for data, _ in raw]


def _list(numbers: list[float]) -> Any:
    return wrapped((bytearray(array("f", numbers)), (len(numbers),)))
