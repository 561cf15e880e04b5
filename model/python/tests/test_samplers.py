"""Noise levels and noise, against published numbers."""

from __future__ import annotations

import numpy as np

from aquatint import samplers


def test_schedules_of_stable_diffusion():
    sigmas = samplers.sigmas("karras", 20)
    assert len(sigmas) == 21 and sigmas[-1] == 0 and (np.diff(sigmas) < 0).all()
    assert abs(sigmas[0] - 14.6146) < 1e-4 and abs(sigmas[-2] - 0.0292) < 1e-4
    ramp = np.linspace(sigmas[0] ** (1 / 7), sigmas[-2] ** (1 / 7), 20) ** 7
    assert np.abs(sigmas[:-1] / ramp - 1).max() < 1e-5
    assert samplers.timesteps(steps=5, sampler="Euler")[0] == 999
    assert np.allclose(samplers.sigmas("ays", 10)[:3], [14.615, 6.475, 3.861], atol=1e-3)
    assert "karras" in samplers.SAMPLERS["Euler a"] and samplers.SAMPLERS["DDIM"] == ["normal", "trailing"]


def test_the_noise_of_training():
    alphas = samplers.alphas_cumprod()
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert np.abs(alphas / np.cumprod(1 - betas) - 1).max() < 1e-4
    sigmas = samplers.sigmas(steps=10, sampler="DDIM")
    steps = samplers.timesteps(steps=10, sampler="DDIM").astype(int)
    assert np.allclose(sigmas[:-1], np.sqrt(1 / alphas[steps] - 1), rtol=1e-4)


def test_noise_is_that_of_torch():
    assert np.allclose(samplers.noise(0, (4, 4)).ravel()[:3], [-1.1258398, -1.1523602, -0.2505786], atol=1e-6)
    assert np.allclose(samplers.noise(0, (16,), rng="cuda")[:2], [-0.924663, -0.425344], atol=1e-6)
