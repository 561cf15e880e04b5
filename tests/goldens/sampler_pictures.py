"""Pictures that diffusers makes with the samplers and schedules that came after the first five.

Run after pipelines.py, whose folders sd1 and sd2 it reads. Adds to pipelines/pictures/ and writes
pipelines/sampler_cases.json, in the format of pipelines/cases.json, with the same demands: the picture in f64 must be the
same within 1 level, and another word in the prompt must show.
"""

import json

import numpy
import torch
from PIL import Image

import diffusers
from common import error_levels, write_json
from diffusers.schedulers import (
    scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_k_dpm_2_ancestral_discrete, scheduling_lcm,
    scheduling_tcd,
)
from pipelines import OUT, double, exchange_a_word, load_folder, patch_double
from schedulers import CLASSES, visits

SDE = {"algorithm_type": "sde-dpmsolver++"}
# What the name of a sampler says besides its class, and diffusers takes as a setting.
NAMED = {"dpm++2m_sde": SDE, "dpm++3m_sde": {**SDE, "solver_order": 3}}
DRAWING = [
    scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_k_dpm_2_ancestral_discrete, scheduling_lcm,
    scheduling_tcd,
]

# (name, pipeline, sampler, schedule, prompt, negative prompt, (width, height), steps, guidance, seed, scheduler settings)
CASES = [
    ("ddpm", "sd1", "ddpm", "normal", "a lamp on a table", None, (64, 64), 10, 7.5, 31, {}),
    ("v_ddpm", "sd2", "ddpm", "normal", "a lamp on a table", None, (64, 64), 10, 5.0, 31, {}),
    ("ddim_eta", "sd1", "ddim", "normal", "a red house", None, (64, 64), 10, 7.5, 32, {"eta": 0.6}),
    ("v_ddim_eta_1", "sd2", "ddim", "normal", "a red house", None, (64, 64), 10, 5.0, 32, {"eta": 1.0}),
    ("lms", "sd1", "lms", "normal", "a bridge in fog", None, (64, 64), 10, 7.5, 33, {}),
    ("v_lms_karras", "sd2", "lms", "karras", "a bridge in fog", None, (64, 64), 10, 5.0, 33, {}),
    ("heun", "sd1", "heun", "normal", "a horse by the river", None, (64, 64), 6, 7.5, 34, {}),
    ("v_heun_beta", "sd2", "heun", "beta", "a horse by the river", "people", (64, 64), 6, 5.0, 34, {}),
    ("dpm2", "sd1", "dpm2", "normal", "a glass of water", None, (64, 64), 6, 7.5, 35, {}),
    ("v_dpm2_exponential", "sd2", "dpm2", "exponential", "a glass of water", None, (64, 64), 6, 5.0, 35, {}),
    ("dpm2_a", "sd1", "dpm2_a", "normal", "a train at dawn", None, (64, 64), 6, 7.5, 36, {}),
    ("v_dpm2_a_karras", "sd2", "dpm2_a", "karras", "a train at dawn", None, (64, 64), 6, 5.0, 36, {}),
    ("euler_exponential", "sd1", "euler", "exponential", "a photo of a cat", None, (64, 64), 8, 7.5, 37, {}),
    ("euler_beta", "sd1", "euler", "beta", "a photo of a cat", None, (64, 64), 8, 7.5, 37, {}),
    ("euler_sgm_uniform", "sd1", "euler", "sgm_uniform", "a photo of a cat", None, (64, 64), 8, 7.5, 37, {}),
    ("euler_simple", "sd1", "euler", "simple", "a photo of a cat", None, (64, 64), 7, 7.5, 37, {}),
    ("euler_ays", "sd1", "euler", "ays", "a photo of a cat", None, (64, 64), 10, 7.5, 37, {}),
    ("dpmpp_2m_exponential", "sd1", "dpm++2m", "exponential", "a city at night", None, (64, 64), 8, 7.5, 38, {}),
    ("v_dpmpp_2m_beta", "sd2", "dpm++2m", "beta", "a city at night", None, (64, 64), 8, 5.0, 38, {}),
    ("dpmpp_2m_lu", "sd1", "dpm++2m", "lu", "a city at night", None, (64, 64), 8, 7.5, 38, {}),
    ("dpmpp_2m_sde", "sd1", "dpm++2m_sde", "normal", "a city at noon", None, (64, 64), 10, 7.5, 39, {}),
    ("v_dpmpp_2m_sde_karras", "sd2", "dpm++2m_sde", "karras", "a city at noon", None, (64, 64), 16, 5.0, 39, {}),
    ("dpmpp_3m_sde_exponential", "sd1", "dpm++3m_sde", "exponential", "a city at dusk", None, (64, 64), 16, 7.5, 40, {}),
    ("v_dpmpp_3m_sde", "sd2", "dpm++3m_sde", "normal", "a city at dusk", None, (64, 64), 10, 5.0, 40, {}),
    ("unipc", "sd1", "unipc", "normal", "a garden with roses", None, (64, 64), 10, 7.5, 41, {}),
    ("unipc_order_3", "sd1", "unipc", "normal", "a garden with roses", None, (64, 64), 16, 7.5, 41, {"solver_order": 3}),
    ("v_unipc_karras", "sd2", "unipc", "karras", "a garden with roses", None, (64, 64), 10, 5.0, 41, {}),
    ("deis", "sd1", "deis", "normal", "a kite above the beach", None, (64, 64), 10, 7.5, 42, {}),
    ("v_deis_karras", "sd2", "deis", "karras", "a kite above the beach", None, (64, 64), 10, 5.0, 42, {}),
    ("lcm", "sd1", "lcm", "normal", "a bowl of soup", None, (64, 64), 4, 1.5, 43, {}),
    ("v_lcm", "sd2", "lcm", "normal", "a bowl of soup", None, (64, 64), 4, 1.0, 43, {}),
    ("tcd", "sd1", "tcd", "normal", "an owl in a tree", None, (64, 64), 4, 1.5, 44, {}),
    ("v_tcd_eta", "sd2", "tcd", "normal", "an owl in a tree", None, (64, 64), 6, 1.0, 44, {"eta": 0.8}),
]
CLASS_ETA = {"tcd": 0.3}  # the class's own default, which the pipeline replaces by 0


def run(pipe, prompt, negative, size, steps, guidance, seed, walk, eta):
    """The picture as 8-bit values, rounded as diffusers rounds it."""
    pipe.scheduler.set_timesteps(steps)  # leaves nothing behind from the case before
    image = pipe(prompt, negative_prompt=negative, width=size[0], height=size[1], guidance_scale=guidance, eta=eta, **walk,
                 generator=torch.Generator("cpu").manual_seed(seed)).images[0]
    return numpy.asarray(image)


def draw_in_f32():
    wide_timesteps = patch_double()
    for module in DRAWING:
        draw = module.randn_tensor
        module.randn_tensor = lambda shape, generator=None, device=None, dtype=None, draw=draw, **_: draw(
            shape, generator=generator, device=device, dtype=torch.float32
        ).to(dtype)
    return wide_timesteps


def main():
    wide_timesteps = draw_in_f32()
    pipes = {name: load_folder(name) for name in ("sd1", "sd2")}
    index, bad = [], []
    for name, which, sampler, schedule, prompt, negative, size, steps, guidance, seed, settings in CASES:
        pipe = pipes[which]
        stock = pipe.scheduler
        eta = settings.get("eta")
        overrides = {**NAMED.get(sampler, {}), **{k: v for k, v in settings.items() if k != "eta"}}
        for word, key in (("karras", "use_karras_sigmas"), ("exponential", "use_exponential_sigmas"),
                          ("beta", "use_beta_sigmas"), ("lu", "use_lu_lambdas")):
            if schedule == word:
                overrides[key] = True
        pipe.scheduler = getattr(diffusers, CLASSES[sampler]).from_config(stock.config, **overrides)
        arguments = (negative, size, steps, guidance, seed, visits(schedule, steps), CLASS_ETA.get(sampler, 0.0) if eta is None else eta)
        picture = run(pipe, prompt, *arguments)
        twin = double(pipe)
        twin.unet.time_proj.__class__ = wide_timesteps
        worst, equal = error_levels(picture, run(twin, prompt, *arguments))
        moved = numpy.abs(picture.astype(int) - run(pipe, exchange_a_word(prompt), *arguments).astype(int))
        if worst > 1 or equal < 0.9995 or moved.max() <= 8:
            bad.append(name)
        Image.fromarray(picture).save(OUT / "pictures" / f"{name}.png", optimize=True)
        run(pipe, prompt, *arguments)
        figures = {
            "f64_worst_level": worst, "f64_equal_share": round(equal, 6),
            "exchanged_word_max": int(moved.max()), "exchanged_word_mean": round(float(moved.mean()), 2),
            "mean": round(float(picture.mean()), 1), "deviation": round(float(picture.std()), 1),
            "saturated_share": round(float(((picture == 0) | (picture == 255)).mean()), 4),
        }
        print(f"{name:26} {figures}", flush=True)
        ours = {} if eta is None else {"eta": eta}
        index.append({
            "name": name, "pipeline": which, "prompt": prompt, "negative_prompt": negative, "width": size[0], "height": size[1],
            "steps": steps, "guidance_scale": guidance, "seed": seed, "sampler": sampler, "schedule": schedule,
            "picture": f"pictures/{name}.png", "settings": settings,
            "scheduler": {k: v for k, v in json.loads(pipe.scheduler.to_json_string()).items() if v is not None} | ours,
            "timesteps": pipe.scheduler.timesteps.tolist(),
            "sigmas": pipe.scheduler.sigmas.tolist() if hasattr(pipe.scheduler, "sigmas") else None,
            "figures": figures,
        })
        pipe.scheduler = stock
    write_json(OUT / "sampler_cases.json", index)
    if bad:
        raise SystemExit(f"not fit to be goldens: {', '.join(bad)}")


if __name__ == "__main__":
    main()
