"""Pictures of few steps: LCM with the guidance scale as an input, TCD with a LoRA, SD-Turbo.

Writes few_step/lcm_unet/ (a UNet with time_cond_proj_dim, f16; the other parts are sd1's),
few_step/pictures/*.png and few_step/cases.json. `lcm` is LatentConsistencyModelPipeline; `tcd` is
StableDiffusionPipeline with TCDScheduler and adapters/peft.safetensors fused; `turbo` is the same
pipeline with sd2's networks, Euler's scheduler as stabilityai/sd-turbo has it, and guidance 0;
`dmd2` has sd1's, LCMScheduler, and the timesteps that tianweiy/DMD2 asks for.

Needs pipelines/ and adapters/, and peft. Each picture also runs in f64, which must be within a
level and equal in 99.95 % of the values.
"""

import shutil

import numpy
import torch
from PIL import Image

import diffusers
from common import HERE, error_levels, randomise, write_json
from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline, UNet2DConditionModel
from few_step_architectures import EULER_TRAILING, LCM
from pipelines import UNET_GAINS, UNETS, double, load_folder, patch_double

OUT = HERE / "few_step"
# (name, kind, (width, height), steps, guidance, seed)
CASES = [
    ("lcm_4", "lcm", (64, 64), 4, 8.0, 7),
    ("lcm_guidance_2", "lcm", (72, 64), 2, 2.0, 8),
    ("lcm_1", "lcm", (64, 64), 1, 8.0, 9),
    ("tcd_4", "tcd", (64, 64), 4, 0.0, 7),
    ("tcd_8", "tcd", (64, 72), 8, 1.0, 8),
    ("dmd2_4", "dmd2", (64, 64), 4, 0.0, 7),
    ("turbo_1", "turbo", (96, 96), 1, 0.0, 7),
    ("turbo_4", "turbo", (96, 64), 4, 0.0, 8),
]
PROMPT = "a fox in the snow"


def save_lcm_unet():
    kinds, up = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    sizes = {**UNETS["sd1"], "layers_per_block": 1, "block_out_channels": [16, 16, 24, 24]}
    unet = UNet2DConditionModel(down_block_types=kinds, up_block_types=up, time_cond_proj_dim=32, **sizes)
    randomise(unet, 4001, [(r"cond_proj", 3.0), *UNET_GAINS]).half().save_pretrained(OUT / "lcm_unet")


def pipe_of(kind):
    if kind == "turbo":
        pipe = load_folder("sd2")
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(EULER_TRAILING)
        return pipe
    pipe = load_folder("sd1")
    if kind == "lcm":
        unet = UNet2DConditionModel.from_pretrained(OUT / "lcm_unet", dtype=torch.float32)
        parts = {name: pipe.components[name] for name in ("vae", "text_encoder", "tokenizer")}
        scheduler = diffusers.LCMScheduler.from_config(LCM)
        return LatentConsistencyModelPipeline(unet=unet, scheduler=scheduler, **parts, safety_checker=None, feature_extractor=None,
                                              requires_safety_checker=False)
    if kind == "dmd2":
        pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
        return pipe
    pipe.load_lora_weights(HERE / "adapters" / "peft.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.scheduler = diffusers.TCDScheduler.from_config(pipe.scheduler.config)
    return pipe


def run(pipe, kind, size, steps, guidance, seed):
    pipe.set_progress_bar_config(disable=True)
    more = {"eta": 0.3} if kind == "tcd" else {}
    count = {"timesteps": [999, 749, 499, 249]} if kind == "dmd2" else {"num_inference_steps": steps}
    made = pipe(PROMPT, width=size[0], height=size[1], guidance_scale=guidance, **count,
                generator=torch.Generator("cpu").manual_seed(seed), **more)
    return numpy.asarray(made.images[0])


def patch_noise():
    """The draws of these pipelines and schedulers, too, are f32 whatever the compute type."""
    from diffusers.pipelines.latent_consistency_models import pipeline_latent_consistency_text2img as lcm
    from diffusers.schedulers import scheduling_lcm, scheduling_tcd

    draw = lcm.randn_tensor
    for module in (lcm, scheduling_lcm, scheduling_tcd):
        module.randn_tensor = lambda shape, generator=None, device=None, dtype=None, **_: draw(
            shape, generator=generator, device=device, dtype=torch.float32
        ).to(dtype)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    save_lcm_unet()
    wide_timesteps = patch_double()
    patch_noise()
    pipes = {kind: pipe_of(kind) for kind in ("lcm", "tcd", "dmd2", "turbo")}
    index, bad = [], []
    for name, kind, size, steps, guidance, seed in CASES:
        pipe = pipes[kind]
        made = run(pipe, kind, size, steps, guidance, seed)
        twin = double(pipe)
        twin.unet.time_proj.__class__ = wide_timesteps
        worst, equal = error_levels(made, run(twin, kind, size, steps, guidance, seed))
        figures = {"f64_worst_level": worst, "f64_equal_share": round(equal, 6), "deviation": round(float(made.std()), 1)}
        if worst > 1 or equal < 0.9995 or made.std() < 15:
            bad.append(name)
        print(f"{name:16} {figures}", flush=True)
        Image.fromarray(made).save(OUT / "pictures" / f"{name}.png", optimize=True)
        index.append({"name": name, "kind": kind, "width": size[0], "height": size[1], "steps": steps, "guidance_scale": guidance,
                      "seed": seed, "figures": figures})
    write_json(OUT / "cases.json", index)
    if bad:
        raise SystemExit(f"not fit to be goldens: {', '.join(bad)}")


if __name__ == "__main__":
    main()
