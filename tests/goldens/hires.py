"""Latents in another size by torch's interpolate, and pictures with a second pass by two of diffusers' pipelines.

Reads pipelines/sd1 (pipelines.py comes first). Writes hires/latents.safetensors, hires/pictures/*.png and
hires/cases.json. The second pass is A1111's: `made` steps, the last of a schedule of `int(made / strength)`, from latents
that were enlarged by interpolate (or decoded, enlarged by Pillow and encoded, at the mean), with the noise that the seed
gives anew at the larger size. StableDiffusionImg2ImgPipeline makes it from latents.

The script stops unless the f64 picture is within 1 level and equal in at least 99.9 % of the values; 99.5 % where
the first picture is rounded to bytes on its way.
"""

import shutil

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file

import diffusers
from common import HERE, error_levels, write_json
from diffusers import StableDiffusionImg2ImgPipeline
from pipelines import SAMPLERS, double, load_folder, patch_double
from tasks import MORE_SAMPLERS, patch_noise

OUT = HERE / "hires"
MODES = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
SIZES = [((8, 8), (16, 16)), ((5, 7), (9, 16)), ((8, 12), (11, 15)), ((9, 8), (5, 6))]

# (name, sampler, schedule, width, height, scale, steps, second steps, strength, upscaler, seed)
CASES = [
    ("latent_euler", "euler", "normal", 64, 64, 1.5, 6, 0, 0.7, "Latent", 7),
    ("bicubic_dpmpp_2m_karras", "dpm++2m", "karras", 64, 48, 2.0, 8, 5, 0.55, "Latent (bicubic antialiased)", 8),
    ("nearest_exact_euler_a", "euler_a", "normal", 48, 64, 1.3, 6, 4, 0.9, "Latent (nearest-exact)", 2**32 + 5),
    ("heun", "heun", "normal", 64, 64, 1.25, 5, 4, 0.6, "Latent (antialiased)", 9),
    ("lanczos_ddim", "ddim", "normal", 64, 64, 1.5, 6, 5, 0.5, "Lanczos", 10),
    ("nearest_pndm", "pndm", "normal", 64, 64, 1.5, 6, 5, 0.5, "Nearest", 11),
]
PROMPT, NEGATIVE, GUIDANCE = "a fox in the snow", "dark", 5.0


def interpolate(latents, upscaler, size):
    mode, antialias = MODES[upscaler]
    return torch.nn.functional.interpolate(latents, size=size, mode=mode, antialias=antialias)


def pixels(pipe, latents, upscaler, size):
    scale = pipe.vae.config.scaling_factor
    decoded = pipe.vae.decode(latents / scale, return_dict=False)[0]
    image = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
    filters = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
    image = image.resize((8 * size[1], 8 * size[0]), filters[upscaler])
    signed = pipe.image_processor.preprocess(image).to(latents.dtype)
    return pipe.vae.encode(signed).latent_dist.mean * scale


def run(pipe, scheduler, width, height, scale, steps, second, strength, upscaler, seed):
    pipe.set_progress_bar_config(disable=True)
    generator = lambda: torch.Generator("cpu").manual_seed(seed)
    pipe.scheduler = scheduler()
    text = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE}
    latents = pipe(**text, width=width, height=height, num_inference_steps=steps, generator=generator(), output_type="latent").images
    size = [int(side * scale) // 8 for side in (height, width)]
    latents = (interpolate if upscaler in MODES else lambda *a: pixels(pipe, *a))(latents, upscaler, size)
    parts = {key: part for key, part in pipe.components.items() if key not in ("image_encoder", "safety_checker", "feature_extractor")}
    again = StableDiffusionImg2ImgPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    again.scheduler = scheduler()
    made = second or steps
    whole = int(made / min(strength, 0.999))
    done = again(**text, image=latents, num_inference_steps=whole, strength=min((made + 0.5) / whole, 1.0), generator=generator())
    return numpy.asarray(done.images[0])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    tensors = {}
    for i, (old, new) in enumerate(SIZES):
        latents = torch.randn(1, 2, *old, generator=torch.Generator().manual_seed(i))
        tensors[f"{i}/latents"] = latents
        for upscaler in MODES:
            tensors[f"{i}/{upscaler}"] = interpolate(latents, upscaler, new).contiguous()
    save_file(tensors, OUT / "latents.safetensors")
    wide_timesteps = patch_double()
    patch_noise()
    stock, index, bad = load_folder("sd1"), [], []
    config = stock.scheduler.config
    for name, sampler, schedule, *arguments in CASES:
        kind = getattr(diffusers, {**SAMPLERS, **MORE_SAMPLERS}[sampler])
        overrides = {"use_karras_sigmas": True} if schedule == "karras" else {}
        scheduler = lambda: kind.from_config(config, **overrides)
        made = run(stock, scheduler, *arguments)
        twin = double(stock)
        twin.unet.time_proj.__class__ = wide_timesteps
        worst, equal = error_levels(made, run(twin, scheduler, *arguments))
        if worst > 1 or equal < (0.999 if arguments[6] in MODES else 0.995):
            bad.append(name)
        Image.fromarray(made).save(OUT / "pictures" / f"{name}.png", optimize=True)
        figures = {"f64_worst_level": worst, "f64_equal_share": round(equal, 6), "deviation": round(float(made.std()), 1)}
        print(f"{name:26} {made.shape} {figures}", flush=True)
        keys = ("width", "height", "scale", "steps", "hires_steps", "strength", "upscaler", "seed")
        index.append({"name": name, "sampler": sampler, "schedule": schedule, **dict(zip(keys, arguments)), "prompt": PROMPT,
                      "negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, "figures": figures})
    write_json(OUT / "cases.json", index)
    if bad:
        raise SystemExit(f"not fit to be goldens: {', '.join(bad)}")


if __name__ == "__main__":
    main()
