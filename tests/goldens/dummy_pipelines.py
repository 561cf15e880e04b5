"""The dummy components of diffusers' Stable Diffusion tests, with torch's own initialisation, and pictures from them.

Writes dummy/ (a folder in the layout that transformers 5 saves: text encoder names without `text_model.`), dummy/cases.json
and dummy/images.safetensors (whole pictures, [h, w, 3] in 0..1, and the final latents [4, h, w]).

The test's tokenizer (hf-internal-testing/tiny-random-clip) lives on a model hub and could not be fetched, so the prompts
are cut into tokens by a vocabulary of the same size, 1000, made of CLIP's first 486 merges. The tests' slices therefore
cannot be met exactly: each case states the published slice, ours, and the distance, and whether that is within the test's
1e-2. The pictures themselves are what diffusers makes of the stored weights and ids.
"""

import json
import shutil

import diffusers
import numpy
import torch
from safetensors.torch import save_file

from common import HERE, clip_merges, clip_vocabulary, write_json
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

OUT = HERE / "dummy"
PROMPT = "A painting of a squirrel eating a burger"

# (name, sampler, arguments on top of the test's, published image[0, -3:, -3:, -1])
CASES = [
    ("ddim", "ddim", {}, [0.1763, 0.4776, 0.4986, 0.2566, 0.3802, 0.4596, 0.5363, 0.3277, 0.3949]),
    ("ddim_factor_8", "ddim", {"height": 136, "width": 136}, [0.4720, 0.5426, 0.5160, 0.3961, 0.4696, 0.4296, 0.5738, 0.5888, 0.5481]),
    ("pndm", "pndm", {}, [0.1941, 0.4748, 0.4880, 0.2222, 0.4221, 0.4545, 0.5604, 0.3488, 0.3902]),
    ("k_euler_ancestral", "euler_a", {}, [0.2682, 0.4782, 0.4855, 0.2424, 0.4472, 0.4479, 0.5612, 0.3676, 0.3854]),
    ("k_euler", "euler", {}, [0.2681, 0.4785, 0.4857, 0.2426, 0.4473, 0.4481, 0.5610, 0.3676, 0.3855]),
    ("negative_prompt", "pndm", {"negative_prompt": "french fries"}, [0.1907, 0.4709, 0.4858, 0.2224, 0.4223, 0.4539, 0.5606, 0.3489, 0.3900]),
    ("dpmpp_2m", "dpm++2m", {"num_inference_steps": 5}, None),
    ("long_prompt", "euler", {"prompt": 100 * "@", "negative_prompt": "Hello"}, None),
]


def components():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=2,
    )
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=[4, 8], in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=2,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )
    torch.manual_seed(0)
    text_encoder = CLIPTextModel(CLIPTextConfig(
        bos_token_id=0, eos_token_id=2, pad_token_id=1, hidden_size=8, intermediate_size=16, layer_norm_eps=1e-05,
        num_attention_heads=2, num_hidden_layers=2, vocab_size=1000,
    ))
    merges = clip_merges(486)
    tokenizer = CLIPTokenizer(vocab=clip_vocabulary(merges), merges=merges, model_max_length=77)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=0
    )
    return {"unet": unet.eval(), "scheduler": scheduler, "vae": vae.eval(), "text_encoder": text_encoder.eval(), "tokenizer": tokenizer,
            "safety_checker": None, "feature_extractor": None}


def scheduler_for(sampler, stock):
    if sampler == "ddim":
        return stock
    if sampler == "pndm":
        return PNDMScheduler(skip_prk_steps=True)  # the test's: linear betas 1e-4 .. 0.02
    names = {"euler": "EulerDiscreteScheduler", "euler_a": "EulerAncestralDiscreteScheduler", "dpm++2m": "DPMSolverMultistepScheduler"}
    return getattr(diffusers, names[sampler]).from_config(stock.config)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    parts = components()
    # The pipeline would raise steps_offset to 1 in its own copy; the folder says what the pictures were made with.
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(OUT)
    stock = pipe.scheduler
    tensors, index = {}, []
    for name, sampler, arguments, published in CASES:
        pipe.scheduler = scheduler_for(sampler, stock)
        latents = {}

        def keep(pipe, step, timestep, values):
            latents["final"] = values["latents"]
            return values

        call = {"prompt": PROMPT, "num_inference_steps": 2, "guidance_scale": 6.0, **arguments}
        image = pipe(**call, generator=torch.Generator("cpu").manual_seed(0), output_type="np", callback_on_step_end=keep).images[0]
        ours = image[-3:, -3:, -1].flatten()
        distance = None if published is None else float(numpy.abs(ours - numpy.array(published)).max())
        tensors[f"{name}/image"] = torch.from_numpy(image.copy())
        tensors[f"{name}/latents"] = latents["final"][0].contiguous()

        def ids(text):
            return pipe.tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids

        index.append({
            "name": name, "prompt": call["prompt"], "negative_prompt": call.get("negative_prompt"),
            "width": image.shape[1], "height": image.shape[0], "steps": call["num_inference_steps"],
            "guidance_scale": call["guidance_scale"], "seed": 0, "sampler": sampler, "schedule": "normal",
            "ids": ids(call["prompt"]), "negative_ids": ids(call.get("negative_prompt") or ""),
            "scheduler": {k: v for k, v in json.loads(pipe.scheduler.to_json_string()).items() if v is not None},
            "timesteps": pipe.scheduler.timesteps.tolist(),
            "slice": [round(float(v), 6) for v in ours], "published_slice": published,
            "distance_from_published": None if distance is None else round(distance, 6),
            "within_published_tolerance": None if distance is None else distance < 1e-2,
        })
        print(f"{name:18} {distance}")
    write_json(OUT / "cases.json", index)
    save_file(tensors, OUT / "images.safetensors")


if __name__ == "__main__":
    main()
