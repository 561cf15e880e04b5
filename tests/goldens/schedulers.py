"""The scheduler sums of diffusers' own tests, computed again, and the same loop with Stable Diffusion's settings.

The loop: sample = 0, 1, .. 767 over 768, as [3, 8, 8, 4] permuted to [4, 3, 8, 8]; noise = the same values reversed;
model(x, t) = x t / (t + 1); result_sum = sum of |sample|, result_mean = its mean. Kinds of loop:

  pipeline  x = scale_model_input(sample); sample = step(model(x, t), t, sample). What a picture is made with.
  test      sample = scale_model_input(sample) first, and the step starts from the scaled sample: diffusers' tests.
  from      the pipeline's, from step `noise_from` on, with the sample as it is.
  prk       PNDM with its Runge-Kutta steps (skip_prk_steps false), as its tests run it.

With `noise_from` = i, sample = add_noise(sample, noise, timesteps[i]) and the loop starts there. `published` is what
diffusers' test files state (sum, or mean where only that is stated). Writes schedulers.json and schedulers.safetensors (the final
sample of every case).
"""

import inspect
import json

import diffusers
import numpy
import torch
from diffusers.schedulers import scheduling_dpmsolver_sde
from diffusers.schedulers.scheduling_k_dpm_2_ancestral_discrete import KDPM2AncestralDiscreteSchedulerOutput
from safetensors.torch import save_file

from common import HERE, write_json

CLASSES = {
    "ddim": "DDIMScheduler", "pndm": "PNDMScheduler", "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler", "dpm++2m": "DPMSolverMultistepScheduler",
    "lms": "LMSDiscreteScheduler", "heun": "HeunDiscreteScheduler", "dpm2": "KDPM2DiscreteScheduler",
    "dpm2_a": "KDPM2AncestralDiscreteScheduler", "ddpm": "DDPMScheduler", "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler", "lcm": "LCMScheduler", "tcd": "TCDScheduler",
    "dpm++2m_sde": "DPMSolverMultistepScheduler", "dpm++3m_sde": "DPMSolverMultistepScheduler",
    "dpm++sde": "DPMSolverSDEScheduler", "dpm++2s": "DPMSolverSinglestepScheduler", "dpm++2s_a": "KDPM2AncestralDiscreteScheduler",
}
LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
TESTS = {  # what each test file starts from
    "ddim": {"num_train_timesteps": 1000, **LINEAR, "clip_sample": True},
    "pndm": {"num_train_timesteps": 1000, **LINEAR},
    "euler": {"num_train_timesteps": 1100, **LINEAR},
    "euler_a": {"num_train_timesteps": 1100, **LINEAR},
    "dpm++2m": {"num_train_timesteps": 1000, **LINEAR, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
    "lms": {"num_train_timesteps": 1100, **LINEAR},
    "heun": {"num_train_timesteps": 1100, **LINEAR},
    "dpm2": {"num_train_timesteps": 1100, **LINEAR},
    "dpm2_a": {"num_train_timesteps": 1100, **LINEAR},
    "ddpm": {"num_train_timesteps": 1000, **LINEAR, "variance_type": "fixed_small", "clip_sample": True, "steps": 1000},
    "unipc": {"num_train_timesteps": 1000, **LINEAR, "solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "sigma_min"},
    "deis": {"num_train_timesteps": 1000, **LINEAR, "solver_order": 2},
    "dpm++2s": {"num_train_timesteps": 1000, **LINEAR, "final_sigmas_type": "sigma_min"},
    "lcm": {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.0120, "beta_schedule": "scaled_linear"},
    "tcd": {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.0120, "beta_schedule": "scaled_linear", "eta": 0.0},
}
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STABLE = {**BETAS, "steps_offset": 1}
FIRST_FIVE = ("ddim", "pndm", "euler", "euler_a", "dpm++2m")

# (name, sampler, settings on top of the test's, kind of loop, noise_from, published)
PUBLISHED = [
    ("ddim", "ddim", {}, "pipeline", None, {"sum": 172.0067, "mean": 0.223967}),
    ("ddim_v", "ddim", {"prediction_type": "v_prediction"}, "pipeline", None, {"sum": 52.5302, "mean": 0.0684}),
    ("ddim_alpha_one", "ddim", {"set_alpha_to_one": True, "beta_start": 0.01}, "pipeline", None, {"sum": 149.8295, "mean": 0.1951}),
    ("ddim_alpha_not_one", "ddim", {"set_alpha_to_one": False, "beta_start": 0.01}, "pipeline", None, {"sum": 149.0784, "mean": 0.1941}),
    ("ddim_noise", "ddim", {}, "pipeline", 8, {"sum": 354.5418, "mean": 0.4616}),
    ("pndm", "pndm", {}, "prk", None, {"sum": 198.1318, "mean": 0.2580}),
    ("pndm_v", "pndm", {"prediction_type": "v_prediction"}, "prk", None, {"sum": 67.3986, "mean": 0.0878}),
    ("pndm_alpha_one", "pndm", {"set_alpha_to_one": True, "beta_start": 0.01}, "prk", None, {"sum": 230.0399, "mean": 0.2995}),
    ("pndm_alpha_not_one", "pndm", {"set_alpha_to_one": False, "beta_start": 0.01}, "prk", None, {"sum": 186.9482, "mean": 0.2434}),
    ("euler", "euler", {}, "test", None, {"sum": 10.0807, "mean": 0.0131}),
    ("euler_v", "euler", {"prediction_type": "v_prediction"}, "test", None, {"sum": 0.0002, "mean": 2.2676e-06}),
    ("euler_karras", "euler", {"use_karras_sigmas": True}, "test", None, {"sum": 124.52299, "mean": 0.16213932}),
    ("euler_noise", "euler", {}, "test", 8, {"sum": 57062.9297, "mean": 74.3007}),
    ("euler_a", "euler_a", {}, "test", None, {"sum": 152.3192, "mean": 0.1983}),
    ("euler_a_v", "euler_a", {"prediction_type": "v_prediction"}, "test", None, {"sum": 108.4439, "mean": 0.1412}),
    ("euler_a_noise", "euler_a", {}, "test", 8, {"sum": 56163.0508, "mean": 73.1290}),
    ("dpm++2m", "dpm++2m", {}, "pipeline", None, {"mean": 0.3301}),
    ("dpm++2m_v", "dpm++2m", {"prediction_type": "v_prediction"}, "pipeline", None, {"mean": 0.2251}),
    ("dpm++2m_karras_v", "dpm++2m", {"prediction_type": "v_prediction", "use_karras_sigmas": True}, "pipeline", None, {"mean": 0.2096}),
    ("dpm++2m_noise", "dpm++2m", {}, "pipeline", 5, {"sum": 318.4111, "mean": 0.4146}),
    ("lms", "lms", {}, "test", None, {"sum": 1006.388, "mean": 1.31}),
    ("lms_v", "lms", {"prediction_type": "v_prediction"}, "test", None, {"sum": 0.0017}),
    ("lms_karras", "lms", {"use_karras_sigmas": True}, "test", None, {"sum": 3812.9927}),
    ("lms_noise", "lms", {}, "test", 8, {"sum": 27663.6895}),
    ("heun", "heun", {}, "test", None, {"sum": 0.1233}),
    ("heun_noise", "heun", {}, "test", 16, {"sum": 75074.8906}),
    ("dpm2", "dpm2", {}, "test", None, {"sum": 20.4125}),
    ("dpm2_noise", "dpm2", {}, "test", 16, {"sum": 70408.4062}),
    ("dpm2_a", "dpm2_a", {}, "test", None, {"sum": 13979.9433}),
    ("dpm2_a_v", "dpm2_a", {"prediction_type": "v_prediction"}, "test", None, {"sum": 331.8133}),
    ("dpm2_a_noise", "dpm2_a", {}, "test", 16, {"sum": 93087.3437}),
    ("ddpm", "ddpm", {}, "pipeline", None, {"sum": 258.9606}),
    ("ddpm_v", "ddpm", {"prediction_type": "v_prediction"}, "pipeline", None, {"sum": 202.0296}),
    ("ddpm_noise", "ddpm", {}, "pipeline", 998, {"sum": 387.9466}),
    ("unipc", "unipc", {}, "pipeline", None, {"mean": 0.2464}),
    ("unipc_v", "unipc", {"prediction_type": "v_prediction"}, "pipeline", None, {"mean": 0.1014}),
    ("unipc_karras", "unipc", {"use_karras_sigmas": True}, "pipeline", None, {"mean": 0.2925}),
    ("unipc_karras_v", "unipc", {"use_karras_sigmas": True, "prediction_type": "v_prediction"}, "pipeline", None, {"mean": 0.1966}),
    ("deis", "deis", {}, "pipeline", None, {"mean": 0.23916}),
    ("deis_v", "deis", {"prediction_type": "v_prediction"}, "pipeline", None, {"mean": 0.091}),
    ("dpm++2s", "dpm++2s", {}, "pipeline", None, {"mean": 0.2791}),
    ("dpm++2s_v", "dpm++2s", {"prediction_type": "v_prediction"}, "pipeline", None, {"mean": 0.1453}),
    ("dpm++2s_karras", "dpm++2s", {"use_karras_sigmas": True}, "pipeline", None, {"mean": 0.2248}),
    ("dpm++2s_uneven", "dpm++2s", {"steps": 50}, "from", 3, {"mean": 0.2574}),
    ("lcm_one_step", "lcm", {"steps": 1}, "pipeline", None, {"sum": 18.7097}),
    ("lcm", "lcm", {}, "pipeline", None, {"sum": 197.7616}),
    ("tcd_one_step", "tcd", {"steps": 1}, "pipeline", None, {"sum": 29.8715}),
    ("tcd", "tcd", {}, "pipeline", None, {"sum": 181.2040}),
]


def own_cases():
    """Nobody published these sums: diffusers made them here. Stable Diffusion's betas, every spacing and prediction.

    Where only the end differs the spacing is leading: linspace ends at t = 0, where this model says 0 whatever it gets.
    """
    for sampler in FIRST_FIVE:
        base = dict(STABLE)
        if sampler in ("ddim", "pndm"):
            base["set_alpha_to_one"] = False
        if sampler == "ddim":
            base["clip_sample"] = False
        if sampler == "pndm":
            base["skip_prk_steps"] = True
        for spacing in ("leading", "linspace", "trailing"):
            for steps in (10, 7):
                yield f"sd_{sampler}_{spacing}_{steps}", sampler, {**base, "timestep_spacing": spacing}, steps
        yield f"sd_{sampler}_v", sampler, {**base, "prediction_type": "v_prediction"}, 10
        yield f"sd_{sampler}_1", sampler, base, 1
        yield f"sd_{sampler}_2", sampler, base, 2
        if sampler not in ("pndm", "euler_a"):
            yield f"sd_{sampler}_sample", sampler, {**base, "prediction_type": "sample", "timestep_spacing": "leading"}, 10
        if sampler in ("ddim", "pndm"):
            yield f"sd_{sampler}_alpha_one", sampler, {**base, "set_alpha_to_one": True}, 10
        if sampler == "ddim":
            yield f"sd_{sampler}_clip", sampler, {**base, "clip_sample": True, "clip_sample_range": 0.3}, 10
        if sampler in ("euler", "dpm++2m"):
            for spacing in ("leading", "linspace", "trailing"):
                yield f"sd_{sampler}_karras_{spacing}", sampler, {**base, "use_karras_sigmas": True, "timestep_spacing": spacing}, 10
            yield f"sd_{sampler}_karras_v", sampler, {**base, "use_karras_sigmas": True, "prediction_type": "v_prediction"}, 10
            yield f"sd_{sampler}_sigma_min", sampler, {**base, "final_sigmas_type": "sigma_min", "timestep_spacing": "leading"}, 10
        if sampler == "dpm++2m":
            yield f"sd_{sampler}_20", sampler, base, 20
            yield f"sd_{sampler}_not_lower_order_final", sampler, {**base, "lower_order_final": False, "final_sigmas_type": "sigma_min", "timestep_spacing": "leading"}, 10
            yield f"sd_{sampler}_karras_20", sampler, {**base, "use_karras_sigmas": True}, 20


def later_cases():
    """The same for the other samplers: (name, sampler, settings, steps). `schedule` and `eta` are arguments, no settings."""
    for sampler in CLASSES:
        if sampler in FIRST_FIVE:
            continue
        signature = inspect.signature(getattr(diffusers, CLASSES[sampler]).__init__).parameters
        base = {**STABLE, "timestep_spacing": "leading", **BASE.get(sampler, {})}
        base = {key: value for key, value in base.items() if key in signature}
        for spacing in SPACINGS.get(sampler, ("linspace", "trailing")):
            yield f"sd_{sampler}_{spacing}", sampler, {**base, "timestep_spacing": spacing}, 7
        yield f"sd_{sampler}_v", sampler, {**base, "prediction_type": "v_prediction"}, 10
        yield f"sd_{sampler}_1", sampler, base, 1
        yield f"sd_{sampler}_20", sampler, base, 20
        if sampler not in ("dpm2", "dpm2_a", "dpm++sde", "dpm++2s_a"):
            yield f"sd_{sampler}_sample", sampler, {**base, "prediction_type": "sample"}, 10
        for schedule in ("karras", "exponential", "beta"):
            if f"use_{schedule}_sigmas" in signature:
                yield f"sd_{sampler}_{schedule}", sampler, {**base, f"use_{schedule}_sigmas": True}, 8
        for name, settings, steps in EXTRA.get(sampler, ()):
            yield f"sd_{sampler}_{name}", sampler, {**base, **settings}, steps
    for sampler in ("euler", "dpm++2m"):
        for schedule in ("exponential", "beta"):
            yield f"sd_{sampler}_{schedule}", sampler, {**STABLE, f"use_{schedule}_sigmas": True}, 9
    for sampler in ("euler", "dpm++2m", "heun", "dpm++2m_sde", "dpm++3m_sde", "dpm++2s"):
        for schedule in ("sgm_uniform", "simple"):
            offset = {"steps_offset": 1} if sampler in FIRST_FIVE or sampler in ("heun", *BASE) else {}
            yield f"sd_{sampler}_{schedule}", sampler, {**BETAS, **offset, **BASE.get(sampler, {}), "schedule": schedule}, 7
    for schedule, steps in (("ays", 10), ("ays", 14), ("given", 5)):
        yield f"sd_euler_{schedule}_{steps}", "euler", {**STABLE, "schedule": schedule}, steps
    yield "sd_dpm++2m_lu_9", "dpm++2m", {**STABLE, "use_lu_lambdas": True}, 9
    for eta in (0.4, 1.0):
        yield f"sd_ddim_eta_{eta}", "ddim", {**STABLE, "clip_sample": False, "set_alpha_to_one": False, "eta": eta}, 10
    yield "sd_ddim_eta_v", "ddim", {**STABLE, "clip_sample": True, "prediction_type": "v_prediction", "eta": 0.7}, 7
    yield "sd_heun_clip", "heun", {**STABLE, "clip_sample": True, "clip_sample_range": 0.7}, 10


# Settings of a sampler; what its class does not know of STABLE is left out by `later_cases`.
BASE = {
    "ddpm": {"clip_sample": False},
    "dpm++2m_sde": {"algorithm_type": "sde-dpmsolver++"},
    "dpm++3m_sde": {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
}
SPACINGS = {"lcm": (), "tcd": (), "dpm++2s": ()}  # their visits are those of the distillation; the last one's are even
THIRD_ORDER = [
    ("order_3", {"solver_order": 3}, 10), ("order_3_20", {"solver_order": 3}, 20), ("order_1", {"solver_order": 1}, 6),
    ("karras_20", {"use_karras_sigmas": True, "solver_order": 3}, 20),
]
SIGMA_MIN = [("sigma_min", {"final_sigmas_type": "sigma_min"}, 10)]
EXTRA = {
    "ddpm": [("large", {"variance_type": "fixed_large"}, 10), ("clip", {"clip_sample": True, "clip_sample_range": 0.5}, 10)],
    "unipc": [
        *THIRD_ORDER, *SIGMA_MIN, ("bh1", {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}, 10),
        ("not_lower_order_final", {"lower_order_final": False, "final_sigmas_type": "sigma_min", "solver_order": 3}, 8),
        ("zero_snr_v", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 8),
    ],
    "deis": THIRD_ORDER,
    "dpm++2s": [*SIGMA_MIN, ("order_1", {"solver_order": 1}, 6), ("odd", {}, 7), ("zero_lowered", {"lower_order_final": True}, 8)],
    "dpm++2m_sde": [*SIGMA_MIN, ("lu", {"use_lu_lambdas": True}, 10)],
    "dpm++3m_sde": [*SIGMA_MIN, ("10", {}, 10), ("lu", {"use_lu_lambdas": True}, 10)],
    "lcm": [("4", {}, 4), ("clip", {"clip_sample": True}, 4), ("original_20", {"original_inference_steps": 20}, 7)],
    "tcd": [("4", {}, 4), ("eta_1", {"eta": 1.0}, 4), ("eta_0", {"eta": 0.0}, 5)],
}
AYS = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
GIVEN = [13.0, 5.5, 2.25, 0.75, 0.125, 0.0]


def visits(schedule, steps):
    """The arguments of set_timesteps."""
    if schedule == "sgm_uniform":  # ComfyUI, sgm: even, of n + 1 points the last is left out
        return {"timesteps": numpy.linspace(999, 0, steps + 1)[:-1].tolist()}
    if schedule == "simple":  # ComfyUI: every (1000/n)th from the end
        return {"timesteps": [999 - int(i * 1000 / steps) for i in range(steps)]}
    if schedule == "ays":  # NVIDIA: the eleven levels, log-linear between them, the last one becomes 0
        levels = numpy.exp(numpy.interp(numpy.linspace(0, 1, steps + 1), numpy.linspace(0, 1, 11), numpy.log(AYS)))
        return {"sigmas": [*levels[:-1].tolist(), 0.0]}
    if schedule == "given":
        return {"sigmas": GIVEN}
    return {"num_inference_steps": steps}


class BrownianPath:
    """In place of diffusers' Brownian tree, which has a seed of its own: the same motion, drawn from the generator of the
    loop as it goes on. The first half of a step is asked for first, then the whole, of which it is a part."""

    def __init__(self, x, *_):
        self.shape, self.first = x.shape, None

    def __call__(self, sigma, to):
        fresh = torch.randn(self.shape, generator=torch.default_generator)
        if self.first is None:
            self.first = (to, fresh)
            return fresh
        (middle, noise), self.first = self.first, None
        return ((sigma - middle).sqrt() * noise + (middle - to).sqrt() * fresh) / (sigma - to).sqrt()


class TwoSAncestral(diffusers.KDPM2AncestralDiscreteScheduler):
    """DPM++ 2S a, which diffusers lacks: the formula of k-diffusion's sample_dpmpp_2s_ancestral in f64, on the walk of DPM2 a, which has the
    same noise levels: each step's, the one half way (in ln sigma) to the lower level of the ancestral step, and that lower level."""

    def step(self, output, t, sample, generator=None):
        index, self.calls = self.calls, self.calls + 1
        walk = self.walk
        i = index // 2
        sigma, to = walk[i], walk[i + 1]
        up = (to**2 * (sigma**2 - to**2) / sigma**2).sqrt()
        down = (to**2 - up**2).sqrt()
        middle = (sigma * down).sqrt()
        seen = sigma if index % 2 == 0 else middle
        x = sample.double()
        variance = seen**2 + 1
        v = self.config.prediction_type == "v_prediction"
        clean = x / variance - output.double() * seen / variance.sqrt() if v else x - seen * output.double()
        if index % 2 == 0:
            self.start = x
            target = middle if to > 0 else to
            x = target / sigma * x + (1 - target / sigma) * clean
        else:
            fresh = torch.randn(sample.shape, generator=generator).double()
            x = down / sigma * self.start + (1 - down / sigma) * clean + up * fresh
        return KDPM2AncestralDiscreteSchedulerOutput(prev_sample=x.float())

    def set_timesteps(self, num_inference_steps, *rest):
        super().set_timesteps(num_inference_steps, *rest)
        self.calls, self.walk = 0, self.sigmas[::2].double()
        if self.config.use_karras_sigmas:  # the class rounds them, k-diffusion does not
            whole = [self._sigma_to_t(sigma, self.log_sigmas.numpy()) for sigma in self.walk[:-1].float().numpy()]
            self.timesteps[::2] = torch.tensor(numpy.array(whole), dtype=self.timesteps.dtype)

    def scale_model_input(self, sample, t):
        i = self.calls // 2
        sigma = self.walk[i]
        if self.calls % 2:
            to = self.walk[i + 1]
            down = (to**2 - to**2 * (sigma**2 - to**2) / sigma**2).sqrt()
            sigma = (sigma * down).sqrt()
        return (sample.double() / (sigma**2 + 1).sqrt()).float()


def ramp():
    return (torch.arange(768).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)


def model(sample, t):
    return sample * t / (t + 1)


WHOLE = (diffusers.DPMSolverMultistepScheduler, diffusers.DPMSolverSinglestepScheduler)


def loop(scheduler, kind, arguments, noise_from, eta=None):
    if "timesteps" in arguments and isinstance(scheduler, WHOLE):
        arguments = {"timesteps": numpy.round(arguments["timesteps"]).tolist()}  # it would truncate them
    scheduler.set_timesteps(**arguments)
    generator = torch.manual_seed(0)
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    if eta is not None:
        extra["eta"] = eta
    sample = ramp() * scheduler.init_noise_sigma
    if kind == "prk":
        for t in scheduler.prk_timesteps:
            sample = scheduler.step_prk(model(sample, t), t, sample).prev_sample
        for t in scheduler.plms_timesteps:
            sample = scheduler.step_plms(model(sample, t), t, sample).prev_sample
        return sample
    timesteps = scheduler.timesteps
    if noise_from is not None:
        timesteps = timesteps[noise_from:]
    if noise_from is not None and kind != "from":
        # In the order of the permuted sample's memory, from the last value to the first.
        noise = (torch.arange(768).flip(-1).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)
        sample = scheduler.add_noise(sample, noise, timesteps[:1])
    for t in timesteps:
        scaled = scheduler.scale_model_input(sample, t)
        sample = scheduler.step(model(scaled, t), t, scaled if kind == "test" else sample, **extra).prev_sample
    return sample


def main():
    cases = [(n, s, {**TESTS[s], **settings}, 10, kind, noise, published) for n, s, settings, kind, noise, published in PUBLISHED]
    for own in (own_cases(), later_cases()):
        cases += [(n, s, settings, steps, "pipeline", None, None) for n, s, settings, steps in own]
    index, samples = [], {}
    for name, sampler, settings, steps, kind, noise_from, published in cases:
        if sampler == "dpm++sde":
            scheduling_dpmsolver_sde.BrownianTreeNoiseSampler = BrownianPath
        settings = dict(settings)
        schedule, eta, steps = settings.pop("schedule", None), settings.pop("eta", None), settings.pop("steps", steps)
        scheduler = (TwoSAncestral if sampler == "dpm++2s_a" else getattr(diffusers, CLASSES[sampler]))(**settings)
        sample = loop(scheduler, kind, visits(schedule, steps), noise_from, eta)
        ours = {k: v for k, v in {"eta": eta, "sigmas": GIVEN if schedule == "given" else None}.items() if v is not None}
        result = {"sum": sample.abs().sum().item(), "mean": sample.abs().mean().item()}
        limits = {"sum": 1e-2, "mean": 1e-3}  # the tests' own
        agrees = None if published is None else all(abs(result[k] - v) < limits[k] for k, v in published.items())
        print(f"{name:36} {result['sum']:14.4f} {result['mean']:10.6f} {published} {agrees}")
        samples[name] = sample.float().contiguous()
        index.append({
            "name": name, "sampler": sampler, "steps": steps, "loop": kind, "noise_from": noise_from,
            "result_sum": result["sum"], "result_mean": result["mean"], "published": published, "agrees_with_published": agrees,
            "schedule": schedule if schedule != "given" else None,
            "scheduler": {k: v for k, v in json.loads(scheduler.to_json_string()).items() if v is not None} | ours,
            "init_noise_sigma": float(scheduler.init_noise_sigma),
            "timesteps": scheduler.timesteps.tolist(),
            "sigmas": scheduler.sigmas.tolist() if hasattr(scheduler, "sigmas") else None,
        })
    write_json(HERE / "schedulers.json", index, width=160)
    save_file(samples, HERE / "schedulers.safetensors")


if __name__ == "__main__":
    main()
