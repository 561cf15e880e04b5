"""The tiny VAE (TAESD): diffusers' AutoencoderTiny with random weights, alone and in whole pipelines.

Writes tiny_vae/vae/ (config.json and weights, 12 channels in place of the published 64),
tiny_vae/stages.safetensors (image, latents of it, latents, image of them), tiny_vae/cases.json with
pictures of pipelines/sd1 in which it stands for the VAE, and tiny_vae/names.json: of each tensor of
the published size the name in madebyollin/taesd, whose modules are built here from their order in
that repository's taesd.py and must compute what diffusers' compute.

Needs pipelines/ and tasks/. Each picture also runs in f64, which must be within a level.
"""

import shutil

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from common import HERE, error_levels, randomise, write_json
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from pipelines import double, load_folder, patch_double
from tasks import patch_noise

OUT = HERE / "tiny_vae"
SIZES = dict(
    encoder_block_out_channels=(12,) * 4, decoder_block_out_channels=(12,) * 4, num_encoder_blocks=(1, 2, 3, 2),
    num_decoder_blocks=(2, 3, 2, 1),
)  # fmt: skip
# What the blocks add is kept small, and the picture is brought into its range.
GAINS = [(r"conv\.4\.", 0.5), (r"decoder\.layers\.15\.", 0.3)]


class Clamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        conv = lambda: nn.Conv2d(n, n, 3, padding=1)
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())

    def forward(self, x):
        return torch.relu(self.conv(x) + x)


def first_form():
    """Encoder and decoder as published first."""
    conv = lambda a, b, **kw: nn.Conv2d(a, b, 3, padding=1, **kw)
    blocks = lambda count: [Block(64) for _ in range(count)]
    encoder = [conv(3, 64), *blocks(1)]
    for _ in range(3):
        encoder += [conv(64, 64, stride=2, bias=False), *blocks(3)]
    decoder = [Clamp(), conv(4, 64), nn.ReLU()]
    for _ in range(3):
        decoder += [*blocks(3), nn.Upsample(scale_factor=2), conv(64, 64, bias=False)]
    return nn.Sequential(*encoder, conv(64, 4)), nn.Sequential(*decoder, *blocks(1), conv(64, 3))


def names():
    """diffusers' name of each tensor -> the first one, checked by what both compute."""
    vae = randomise(AutoencoderTiny(), 5, GAINS)
    halves = dict(zip(("encoder", "decoder"), first_form()))
    table = {}
    for half, first in halves.items():
        own, theirs = list(first.state_dict()), [k for k in vae.state_dict() if k.startswith(half)]
        assert len(own) == len(theirs)
        first.load_state_dict({a: vae.state_dict()[b] for a, b in zip(own, theirs)})
        table.update({b: f"taesd_{half}.{a}" for a, b in zip(own, theirs)})
    image, latents = torch.rand(1, 3, 32, 24), torch.randn(1, 4, 4, 3)
    assert torch.equal(halves["encoder"](image), vae.encode(image * 2 - 1).latents)
    assert torch.equal(halves["decoder"](latents) * 2 - 1, vae.decode(latents).sample)
    write_json(OUT / "names.json", table)


def stages(vae):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 40, 56, generator=generator) * 2 - 1
    latents = torch.randn(2, 4, 6, 5, generator=generator) * 2
    parts = {"encode.image": image, "encode.latents": vae.encode(image).latents,
             "decode.latents": latents, "decode.image": vae.decode(latents).sample}
    save_file({k: v.contiguous() for k, v in parts.items()}, OUT / "stages.safetensors")


def run(pipe, task, seed):
    generator = torch.Generator("cpu").manual_seed(seed)
    settings = dict(prompt="a fox in the snow", num_inference_steps=6, guidance_scale=5.0, generator=generator, width=64, height=64)
    if task == "txt2img":
        return numpy.asarray(pipe(**settings).images[0])
    inputs = HERE / "tasks" / "inputs"
    image = Image.open(inputs / "scene_64x64.png").convert("RGB")
    if task == "img2img":
        del settings["width"], settings["height"]
        return numpy.asarray(StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)(
            image=image, strength=0.7, **settings).images[0])
    mask = Image.open(inputs / "disc_64x64.png").convert("L")
    return numpy.asarray(StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)(
        image=image, mask_image=mask, strength=0.8, **settings).images[0])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    names()
    vae = randomise(AutoencoderTiny(**SIZES), 77, GAINS)
    vae.save_pretrained(OUT / "vae")
    stages(vae)
    wide_timesteps = patch_double()
    patch_noise()
    pipe = load_folder("sd1")
    pipe.register_modules(vae=vae)
    cases = []
    for task, seed in (("txt2img", 7), ("img2img", 8), ("inpaint", 9)):
        picture = run(pipe, task, seed)
        twin = double(pipe)
        twin.unet.time_proj.__class__ = wide_timesteps
        worst, equal = error_levels(picture, run(twin, task, seed))
        assert worst <= 1 and equal >= 0.9995, (task, worst, equal)
        spread = int(picture.max()) - int(picture.min())
        assert spread > 60, (task, spread)
        Image.fromarray(picture).save(OUT / "pictures" / f"{task}.png")
        cases.append({"task": task, "seed": seed, "f64": [worst, equal], "spread": spread})
        print(cases[-1])
    write_json(OUT / "cases.json", cases)


if __name__ == "__main__":
    main()
