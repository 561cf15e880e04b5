"""Pictures that diffusers makes from pictures: image to image, and inpainting with 4 and with 9 channels.

Reads pipelines/sd1 and pipelines/sd2 (pipelines.py comes first). Writes tasks/inputs/*.png (pictures and masks, drawn
from a formula), tasks/unet9 (a UNet of 9 channels in the shape of sd1's, f16; the other parts are sd1's),
tasks/pictures/*.png and tasks/cases.json.

As in pipelines.py every case also runs in f64, and with the picture replaced by its mirror image; the script stops unless
the f64 picture is within 1 level and equal in at least 99.95 % of the values, and unless the mirror image moves it by more
than 4 levels.
"""

import json
import shutil

import numpy
import torch
from PIL import Image

import diffusers
from common import HERE, error_levels, randomise, write_json
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, UNet2DConditionModel
from pipelines import SAMPLERS, UNET_GAINS, UNETS, double, load_folder, patch_double

OUT = HERE / "tasks"
MORE_SAMPLERS = {  # those whose walk from the middle could differ: several calls a step, or a history
    "heun": "HeunDiscreteScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
}
CLASSES = {"img2img": StableDiffusionImg2ImgPipeline, "inpaint": StableDiffusionInpaintPipeline}

# (name, task, pipeline, sampler, schedule, input, mask, prompt, negative, steps, strength, guidance, seed, settings, padding of the crop)
CASES = [
    ("i_pndm", "img2img", "sd1", "pndm", "normal", "scene_64x64", None, "a fox in the snow", None, 10, 0.75, 7.5, 7, {}, None),
    ("i_pndm_all", "img2img", "sd1", "pndm", "normal", "scene_64x64", None, "a fox in the snow", None, 8, 1.0, 5.0, 8, {}, None),
    ("i_pndm_late", "img2img", "sd1", "pndm", "normal", "scene_88x72", None, "two boats at sea", None, 10, 0.29, 5.0, 9, {}, None),
    ("i_ddim", "img2img", "sd1", "ddim", "normal", "scene_64x64", None, "a red house", "dark", 10, 0.5, 7.5, 1, {}, None),
    ("i_ddim_one_step", "img2img", "sd1", "ddim", "normal", "scene_64x64", None, "a red house", None, 10, 0.1, 7.5, 1, {}, None),
    ("i_euler", "img2img", "sd1", "euler", "normal", "scene_64x64", None, "a photo of a cat", None, 10, 0.6, 7.5, 2, {}, None),
    ("i_euler_all", "img2img", "sd1", "euler", "normal", "scene_64x64", None, "a photo of a cat", None, 8, 1.0, 5.0, 2, {}, None),
    ("i_euler_karras", "img2img", "sd1", "euler", "karras", "scene_64x64", None, "a photo of a cat", None, 10, 0.7, 5.0, 3, {}, None),
    ("i_euler_a", "img2img", "sd1", "euler_a", "normal", "scene_64x64", None, "the moon", None, 10, 0.7, 7.5, 2**32 + 5, {}, None),
    ("i_dpmpp_2m", "img2img", "sd1", "dpm++2m", "normal", "scene_64x64", None, "a city at night", None, 10, 0.8, 5.0, 21, {}, None),
    ("i_no_guidance", "img2img", "sd1", "ddim", "normal", "scene_64x64", None, "a city at night", None, 10, 0.5, 1.0, 22, {}, None),
    ("i_resized", "img2img", "sd1", "ddim", "normal", "scene_101x75", None, "a tree", None, 10, 0.5, 5.0, 23, {}, None),
    ("i_v_ddim", "img2img", "sd2", "ddim", "normal", "scene_88x72", None, "a fox in the snow", None, 10, 0.6, 7.5, 7, {}, None),
    ("i_v_euler_a", "img2img", "sd2", "euler_a", "normal", "scene_64x64", None, "an old man", "fog", 10, 0.7, 5.0, 10, {}, None),
    ("i_v_dpmpp_2m_karras", "img2img", "sd2", "dpm++2m", "karras", "scene_64x64", None, "a bowl of fruit", None, 12, 0.75, 5.0, 13, {}, None),
    ("i_heun", "img2img", "sd1", "heun", "normal", "scene_64x64", None, "a lamp", None, 8, 0.6, 5.0, 31, {}, None),
    ("i_dpm2", "img2img", "sd1", "dpm2", "normal", "scene_64x64", None, "a lamp", None, 8, 0.6, 5.0, 32, {}, None),
    ("i_unipc", "img2img", "sd1", "unipc", "normal", "scene_64x64", None, "a lamp", None, 8, 0.6, 5.0, 34, {}, None),
    ("i_deis", "img2img", "sd1", "deis", "normal", "scene_64x64", None, "a lamp", None, 8, 0.6, 5.0, 35, {}, None),
    ("m_pndm_all", "inpaint", "sd1", "pndm", "normal", "scene_64x64", "disc_64x64", "a fox", None, 8, 1.0, 5.0, 7, {}, None),
    ("m_pndm", "inpaint", "sd1", "pndm", "normal", "scene_88x72", "soft_88x72", "two boats", None, 10, 0.8, 5.0, 7, {}, None),
    ("m_ddim_all", "inpaint", "sd1", "ddim", "normal", "scene_64x64", "disc_64x64", "a red house", None, 8, 1.0, 5.0, 1, {}, None),
    ("m_euler_all", "inpaint", "sd1", "euler", "normal", "scene_64x64", "disc_64x64", "a cat", None, 8, 1.0, 5.0, 2, {}, None),
    ("m_euler", "inpaint", "sd1", "euler", "normal", "scene_64x64", "disc_64x64", "a cat", None, 10, 0.7, 5.0, 2, {}, None),
    ("m_euler_a", "inpaint", "sd1", "euler_a", "normal", "scene_64x64", "disc_64x64", "the moon", None, 10, 0.75, 5.0, 5, {}, None),
    ("m_dpmpp_2m_karras", "inpaint", "sd1", "dpm++2m", "karras", "scene_64x64", "disc_64x64", "a city", None, 10, 0.8, 5.0, 6, {}, None),
    ("m_only_masked", "inpaint", "sd1", "ddim", "normal", "scene_101x75", "spot_101x75", "a bird", None, 8, 0.9, 5.0, 4, {}, 5),
    ("m_v_ddim", "inpaint", "sd2", "ddim", "normal", "scene_64x64", "disc_64x64", "a fox", None, 10, 0.9, 5.0, 7, {}, None),
    ("m_v_euler_a", "inpaint", "sd2", "euler_a", "normal", "scene_64x64", "disc_64x64", "a fox", None, 8, 1.0, 5.0, 8, {}, None),
    ("m_heun", "inpaint", "sd1", "heun", "normal", "scene_64x64", "disc_64x64", "a lamp", None, 8, 0.6, 5.0, 41, {}, None),
    ("m_dpm2", "inpaint", "sd1", "dpm2", "normal", "scene_64x64", "disc_64x64", "a lamp", None, 8, 0.6, 5.0, 42, {}, None),
    ("m_unipc", "inpaint", "sd1", "unipc", "normal", "scene_64x64", "disc_64x64", "a lamp", None, 8, 0.6, 5.0, 43, {}, None),
    ("n_pndm_all", "inpaint", "unet9", "pndm", "normal", "scene_64x64", "disc_64x64", "a fox", None, 8, 1.0, 5.0, 7, {}, None),
    ("n_ddim", "inpaint", "unet9", "ddim", "normal", "scene_88x72", "soft_88x72", "a boat", "dark", 10, 0.7, 5.0, 7, {}, None),
    ("n_euler_a_all", "inpaint", "unet9", "euler_a", "normal", "scene_64x64", "disc_64x64", "a cat", None, 8, 1.0, 5.0, 9, {}, None),
    ("n_euler_a", "inpaint", "unet9", "euler_a", "normal", "scene_64x64", "disc_64x64", "a cat", None, 8, 0.8, 1.0, 9, {}, None),
]


def scene(width, height):
    """A sky, a ground, a sun, and some grain."""
    y, x = numpy.mgrid[0:height, 0:width] / numpy.array([height, width]).reshape(2, 1, 1)
    sky = numpy.stack([0.3 + 0.4 * y, 0.5 + 0.3 * y, 0.9 - 0.2 * x], -1)
    ground = numpy.stack([0.4 + 0.3 * numpy.sin(9 * x), 0.45 - 0.2 * y, 0.2 + 0.1 * x], -1)
    picture = numpy.where((y > 0.6 + 0.05 * numpy.sin(11 * x))[..., None], ground, sky)
    sun = (x - 0.7) ** 2 + (y - 0.25) ** 2 < 0.02
    picture[sun] = [1.0, 0.9, 0.3]
    grain = torch.randn(height, width, 3, generator=torch.Generator().manual_seed(width)).numpy()
    return Image.fromarray(((picture + 0.03 * grain).clip(0, 1) * 255).round().astype("uint8"))


def mask(kind, width, height):
    y, x = numpy.mgrid[0:height, 0:width] / numpy.array([height, width]).reshape(2, 1, 1)
    centre, radius = ((0.55, 0.3), 0.09) if kind == "spot" else ((0.45, 0.55), 0.28)
    distance = numpy.hypot(x - centre[0], y - centre[1]) / radius
    grey = (1.5 - distance).clip(0, 1) if kind == "soft" else (distance < 1).astype(float)
    return Image.fromarray((grey * 255).round().astype("uint8"))


def save_unet9():
    kinds = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    up = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    sizes = {**UNETS["sd1"], "layers_per_block": 1, "block_out_channels": [16, 16, 24, 24]}
    unet = UNet2DConditionModel(in_channels=9, down_block_types=kinds, up_block_types=up, **sizes)
    randomise(unet, 3001, UNET_GAINS).half().save_pretrained(OUT / "unet9")


def patch_noise():
    """The draws of these pipelines, too, are f32 whatever the compute type."""
    from diffusers.models.autoencoders import vae
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as inpaint

    draw = vae.randn_tensor
    for module in (vae, img2img, inpaint):
        module.randn_tensor = lambda shape, generator=None, device=None, dtype=None, **_: draw(
            shape, generator=generator, device=device, dtype=torch.float32
        ).to(dtype)


def run(pipe, image, mask, prompt, negative, steps, strength, guidance, seed, padding):
    """The picture as 8-bit values, rounded as diffusers rounds it."""
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler.set_timesteps(steps)  # leaves nothing behind from the case before
    more = {}
    if mask is not None:
        width, height = (side - side % 8 for side in image.size)
        more = {"mask_image": mask, "width": width, "height": height, "padding_mask_crop": padding}
    made = pipe(prompt, image=image, negative_prompt=negative, num_inference_steps=steps, strength=strength,
                guidance_scale=guidance, generator=torch.Generator("cpu").manual_seed(seed), **more)
    return numpy.asarray(made.images[0])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for folder in ("inputs", "pictures"):
        (OUT / folder).mkdir(parents=True)
    save_unet9()
    wide_timesteps = patch_double()
    patch_noise()
    folders = {name: load_folder(name) for name in ("sd1", "sd2")}
    folders["unet9"] = load_folder("sd1")
    folders["unet9"].register_modules(unet=UNet2DConditionModel.from_pretrained(OUT / "unet9", dtype=torch.float32))
    index, bad = [], []
    for name, task, which, sampler, schedule, picture, cover, prompt, negative, steps, strength, guidance, seed, settings, padding in CASES:
        stock = folders[which]
        parts = {key: part for key, part in stock.components.items() if key not in ("image_encoder", "safety_checker", "feature_extractor")}
        pipe = CLASSES[task](**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        overrides = dict(settings, **({"use_karras_sigmas": True} if schedule == "karras" else {}))
        pipe.scheduler = getattr(diffusers, {**SAMPLERS, **MORE_SAMPLERS}[sampler]).from_config(stock.scheduler.config, **overrides)
        image = scene(*map(int, picture.split("_")[1].split("x")))
        image.save(OUT / "inputs" / f"{picture}.png", optimize=True)
        shape = None
        if cover:
            shape = mask(cover.split("_")[0], *image.size)
            shape.save(OUT / "inputs" / f"{cover}.png", optimize=True)
        arguments = (shape, prompt, negative, steps, strength, guidance, seed, padding)
        made = run(pipe, image, *arguments)
        twin = double(pipe)
        twin.unet.time_proj.__class__ = wide_timesteps
        worst, equal = error_levels(made, run(twin, image, *arguments))
        moved, _ = error_levels(made, run(pipe, image.transpose(Image.FLIP_LEFT_RIGHT), *arguments))
        if worst > 1 or equal < 0.9995 or moved <= 4:
            bad.append(name)
        Image.fromarray(made).save(OUT / "pictures" / f"{name}.png", optimize=True)
        figures = {"f64_worst_level": worst, "f64_equal_share": round(equal, 6), "mirrored_max": moved,
                   "deviation": round(float(made.std()), 1)}
        print(f"{name:22} {figures}", flush=True)
        index.append({
            "name": name, "task": task, "pipeline": which, "sampler": sampler, "schedule": schedule, "image": picture, "mask": cover,
            "prompt": prompt, "negative_prompt": negative, "steps": steps, "strength": strength, "guidance_scale": guidance,
            "seed": seed, "padding": padding, "width": image.width - image.width % 8, "height": image.height - image.height % 8,
            "figures": figures,
        })
    write_json(OUT / "cases.json", index)
    if bad:
        raise SystemExit(f"not fit to be goldens: {', '.join(bad)}")


if __name__ == "__main__":
    main()
