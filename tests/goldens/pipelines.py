"""Two small Stable Diffusion folders with random weights, and the pictures that diffusers makes with them.

Writes pipelines/sd1 (the shape of SD 1.x: PNDM, vocab.json + merges.txt, f32, the VAE's old attention names),
pipelines/sd2 (the shape of SD 2.x: v-prediction, linear projections, head counts as a list, f16, sharded UNet, fp16
variant of the VAE, tokenizer.json), pipelines/pictures/*.png and pipelines/cases.json.

Every case also runs in f64, and with one word of the prompt exchanged. The script stops unless the f64 picture differs
from the f32 one by at most 1 level and is equal in at least 99.95 % of the values, and unless the exchanged word moves
the picture by more than 8 levels: a right answer must be reachable in f32, and a wrong one must show.
"""

import copy
import json
import shutil

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
from common import HERE, clip_merges, clip_vocabulary, error_levels, randomise, write_json
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

OUT = HERE / "pipelines"
MERGES = 700

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SCHEDULERS = {  # as the published folders have them
    "sd1": {
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **BETAS,
        "clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
    },
    "sd2": {
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **BETAS,
        "clip_sample": False, "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1, "trained_betas": None,
    },
}

UNETS = {
    "sd1": {
        "sample_size": 8, "block_out_channels": [16, 24, 32, 32], "layers_per_block": 2, "attention_head_dim": 8,
        "cross_attention_dim": 32, "norm_num_groups": 8,
    },
    "sd2": {
        "sample_size": 12, "block_out_channels": [16, 32, 48, 48], "layers_per_block": 1, "attention_head_dim": [2, 4, 6, 12],
        "cross_attention_dim": 48, "norm_num_groups": 16, "use_linear_projection": True, "upcast_attention": True,
    },
}
VAES = {
    "sd1": {"block_out_channels": [8, 16, 16, 24], "layers_per_block": 2, "norm_num_groups": 8, "sample_size": 64},
    "sd2": {"block_out_channels": [16, 16, 32, 32], "layers_per_block": 1, "norm_num_groups": 16, "sample_size": 96,
            "scaling_factor": 0.13025},
}
TEXTS = {
    "sd1": {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_act": "quick_gelu"},
    "sd2": {"hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 6, "hidden_act": "gelu"},
}

# Gains found by trial (figures in cases.json): what the residual branches add is kept small, or a rounding error grows
# from step to step; the scores of the attention are kept wide, or it would only average.
UNET_GAINS = [
    (r"to_[qk]\.", 1.3), (r"attn2\.to_(v|out)", 0.7), (r"(conv2|proj_out|to_out\.0|net\.2)\.", 0.5), (r"conv_out", 1.0),
]
VAE_GAINS = [(r"to_[qk]\.", 1.3), (r"decoder\.conv_out", 0.9)]
TEXT_GAINS = [(r"[qk]_proj", 1.3), (r"position_embedding", 0.5)]


def tokenizer(name):
    merges = clip_merges(MERGES)
    vocabulary = clip_vocabulary(merges)
    pad = "<|endoftext|>" if name == "sd1" else "!"  # as published
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=77), vocabulary, merges


def save_tokenizer(name, folder):
    made, vocabulary, merges = tokenizer(name)
    folder.mkdir(parents=True)
    if name == "sd1":
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
        lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    else:
        made.backend_tokenizer.no_padding()
        made.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": made.pad_token}
    write_json(folder / "special_tokens_map.json", special)
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
              "tokenizer_class": "CLIPTokenizer", **special}
    write_json(folder / "tokenizer_config.json", config)


def save_text_encoder(name, folder, seed):
    end = 256 * 2 + MERGES + 1
    config = CLIPTextConfig(**TEXTS[name], vocab_size=end + 1, max_position_embeddings=77, bos_token_id=end - 1,
                            eos_token_id=end, pad_token_id=1 if name == "sd1" else 0)
    model = randomise(CLIPTextModel(config), seed, TEXT_GAINS)
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    # Published folders carry the prefix that newer versions of transformers leave out, and SD 1.x this buffer.
    tensors = {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in tensors.items()}
    if name == "sd1":
        tensors["text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)
    else:
        tensors = {k: v.half() for k, v in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def save_unet(name, folder, seed):
    kinds = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    up = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    model = randomise(UNet2DConditionModel(down_block_types=kinds, up_block_types=up, **UNETS[name]), seed, UNET_GAINS)
    if name == "sd1":
        model.save_pretrained(folder)
    else:
        model.half().save_pretrained(folder, max_shard_size="900KB")


def save_vae(name, folder, seed):
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    model = randomise(AutoencoderKL(**blocks, latent_channels=4, **VAES[name]), seed, VAE_GAINS)
    if name == "sd2":
        model.half().save_pretrained(folder, variant="fp16")
        return
    model.save_pretrained(folder)
    path = folder / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # as the published SD 1.5 VAE
    tensors = load_file(path)
    for new, earlier in old.items():
        tensors = {k.replace(f".attentions.0.{new}.", f".attentions.0.{earlier}."): v for k, v in tensors.items()}
    save_file(tensors, path, {"format": "pt"})


def save_folder(name, seed):
    folder = OUT / name
    save_tokenizer(name, folder / "tokenizer")
    save_text_encoder(name, folder / "text_encoder", seed)
    save_unet(name, folder / "unet", seed + 1)
    save_vae(name, folder / "vae", seed + 2)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULERS[name])
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": SCHEDULERS[name]["_diffusers_version"],
        # SD 1.x folders name a checker; nobody needs its weights to make a picture, and this folder has none.
        "feature_extractor": ["transformers", "CLIPImageProcessor"] if name == "sd1" else [None, None],
        "requires_safety_checker": name == "sd1",
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"] if name == "sd1" else [None, None],
        "scheduler": ["diffusers", SCHEDULERS[name]["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index)


def load_folder(name):
    """The pipeline as diffusers loads it from the stored files, computing in f32."""
    folder = OUT / name
    parts = {"safety_checker": None, "feature_extractor": None}
    if name == "sd2":  # only the VAE has an fp16 variant, so it is loaded by hand
        parts["vae"] = AutoencoderKL.from_pretrained(folder / "vae", variant="fp16", dtype=torch.float32)
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def double(pipe):
    """A copy that computes in f64 and draws the same f32 noise."""
    twin = copy.deepcopy(pipe)
    for part in (twin.unet, twin.vae, twin.text_encoder):
        part.double()
    return twin


def patch_double():
    """Draws in f32 whatever the compute type; takes the timestep embedding in f64 if the model computes in f64."""
    from diffusers.models import embeddings
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion as pipeline
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral

    draw = pipeline.randn_tensor
    for module in (pipeline, ancestral):
        module.randn_tensor = lambda shape, generator=None, device=None, dtype=None, **_: draw(
            shape, generator=generator, device=device, dtype=torch.float32
        ).to(dtype)

    class Wide(embeddings.Timesteps):
        def forward(self, timesteps):
            half = self.num_channels // 2
            rates = torch.exp(-numpy.log(10000.0) * torch.arange(half, dtype=torch.float64) / (half - self.downscale_freq_shift))
            angles = timesteps[:, None].double() * rates[None, :]
            return torch.cat([torch.cos(angles), torch.sin(angles)] if self.flip_sin_to_cos else [torch.sin(angles), torch.cos(angles)], -1)

    return Wide


# How each sampler of the command line is called in diffusers.
SAMPLERS = {
    "pndm": "PNDMScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
}
LONG = ("a very long description of a quiet village by the sea, with boats, gulls, nets drying in the wind, old men on "
        "benches, children running after a red kite, white houses with blue doors, cats asleep on warm stones, and far "
        "away, under a sky full of tall clouds, one small sail, painted in oil, highly detailed, soft light, 8k, trending, "
        "by nobody in particular, and this tail is cut off")

# (name, pipeline, sampler, schedule, prompt, negative prompt, (width, height), steps, guidance, seed, scheduler settings)
CASES = [
    ("pndm", "sd1", "pndm", "normal", "a fox in the snow", None, (64, 64), 10, 7.5, 7, {}),
    ("pndm_negative", "sd1", "pndm", "normal", "a fox in the snow", "dark, blurry", (96, 64), 12, 7.5, 7, {}),
    ("pndm_odd_levels", "sd1", "pndm", "normal", "two boats at sea", None, (88, 72), 7, 5.0, 11, {}),
    ("pndm_linspace", "sd1", "pndm", "normal", "two boats at sea", None, (64, 64), 8, 5.0, 11, {"timestep_spacing": "linspace"}),
    ("pndm_trailing", "sd1", "pndm", "normal", "two boats at sea", None, (64, 64), 5, 5.0, 11, {"timestep_spacing": "trailing"}),
    ("ddim", "sd1", "ddim", "normal", "a red house and a tree", None, (64, 128), 10, 7.5, 0, {}),
    ("ddim_no_guidance", "sd1", "ddim", "normal", "a red house and a tree", "ignored at guidance 1", (64, 64), 10, 1.0, 0, {}),
    ("ddim_alpha_one", "sd1", "ddim", "normal", "a red house", None, (64, 64), 10, 7.5, 5, {"set_alpha_to_one": True}),
    ("ddim_sample_clip", "sd1", "ddim", "normal", "a red house", None, (64, 64), 10, 2.0, 5, {"prediction_type": "sample", "clip_sample": True}),
    ("euler", "sd1", "euler", "normal", "a photo of a cat", None, (64, 64), 10, 7.5, 1, {}),
    ("euler_unicode", "sd1", "euler", "normal", "Café au lait, naïve Ærø, 東京の夜 🦊 ½ ﬁn", "Ünschärfe", (72, 64), 10, 6.0, 3, {}),
    ("euler_karras", "sd1", "euler", "karras", "a photo of a cat", None, (64, 96), 10, 7.5, 1, {}),
    ("euler_trailing", "sd1", "euler", "normal", "a photo of a cat", None, (64, 64), 6, 7.5, 1, {"timestep_spacing": "trailing"}),
    ("euler_a", "sd1", "euler_a", "normal", "a painting of the moon", None, (64, 64), 10, 7.5, 2**32 + 5, {}),
    ("euler_a_long", "sd1", "euler_a", "normal", LONG, "low quality", (64, 96), 10, 5.0, 123456789012, {}),
    ("dpmpp_2m", "sd1", "dpm++2m", "normal", "a city at night", None, (64, 64), 10, 7.5, 21, {}),
    ("dpmpp_2m_karras", "sd1", "dpm++2m", "karras", "a city at night", "people", (128, 64), 10, 7.5, 21, {}),
    ("dpmpp_2m_karras_16", "sd1", "dpm++2m", "karras", "a city at night", None, (32, 32), 16, 4.0, 21, {}),
    ("dpmpp_2m_sample", "sd1", "dpm++2m", "normal", "a city", None, (64, 64), 10, 2.0, 22, {"prediction_type": "sample"}),
    ("v_ddim", "sd2", "ddim", "normal", "a fox in the snow", None, (96, 96), 10, 7.5, 7, {}),
    ("v_ddim_negative", "sd2", "ddim", "normal", "wow! a fox!! in the snow", "dark", (64, 96), 10, 9.0, 8, {}),
    ("v_ddim_trailing", "sd2", "ddim", "normal", "a fox in the snow", None, (64, 64), 10, 5.0, 7, {"timestep_spacing": "trailing"}),
    ("v_pndm", "sd2", "pndm", "normal", "a green field", None, (64, 64), 10, 7.5, 4, {}),
    ("v_euler_no_guidance", "sd2", "euler", "normal", "a green field", None, (96, 64), 10, 1.0, 4, {}),
    ("v_euler_leading", "sd2", "euler", "normal", "a green field", "fog", (64, 64), 10, 7.5, 4, {"timestep_spacing": "leading"}),
    ("v_euler_karras", "sd2", "euler", "karras", "an old man with a hat", None, (104, 72), 10, 7.5, 9, {}),
    ("v_euler_a", "sd2", "euler_a", "normal", "Ein Bär im Wald — 熊 🐻", None, (64, 64), 10, 7.5, 10, {}),
    ("v_dpmpp_2m", "sd2", "dpm++2m", "normal", LONG, None, (64, 96), 10, 7.5, 12, {}),
    ("v_dpmpp_2m_karras", "sd2", "dpm++2m", "karras", "a bowl of fruit", "plastic", (64, 64), 12, 7.5, 13, {}),
    ("v_dpmpp_2m_trailing", "sd2", "dpm++2m", "normal", "a bowl of fruit", None, (64, 64), 10, 7.5, 13, {"timestep_spacing": "trailing"}),
]


def run(pipe, prompt, negative, size, steps, guidance, seed):
    """The picture as 8-bit values, rounded as diffusers rounds it."""
    pipe.scheduler.set_timesteps(steps)  # leaves nothing behind from the case before
    image = pipe(prompt, negative_prompt=negative, width=size[0], height=size[1], num_inference_steps=steps, guidance_scale=guidance,
                 generator=torch.Generator("cpu").manual_seed(seed)).images[0]
    return numpy.asarray(image)


def exchange_a_word(prompt):
    words = prompt.split(" ")
    words[1] = "dog" if words[1] != "dog" else "man"
    return " ".join(words)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    save_folder("sd1", 1000)
    save_folder("sd2", 2000)
    wide_timesteps = patch_double()
    pipes = {name: load_folder(name) for name in ("sd1", "sd2")}
    index, bad = [], []
    for name, which, sampler, schedule, prompt, negative, size, steps, guidance, seed, settings in CASES:
        pipe = pipes[which]
        stock = pipe.scheduler
        overrides = dict(settings, **({"use_karras_sigmas": True} if schedule == "karras" else {}))
        scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(stock.config, **overrides)
        pipe.scheduler = scheduler
        arguments = (negative, size, steps, guidance, seed)
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
        print(f"{name:22} {figures}", flush=True)
        index.append({
            "name": name, "pipeline": which, "prompt": prompt, "negative_prompt": negative, "width": size[0], "height": size[1],
            "steps": steps, "guidance_scale": guidance, "seed": seed, "sampler": sampler, "schedule": schedule,
            "picture": f"pictures/{name}.png",
            "settings": settings,
            "scheduler": {k: v for k, v in json.loads(scheduler.to_json_string()).items() if v is not None},
            "timesteps": pipe.scheduler.timesteps.tolist(),
            "sigmas": pipe.scheduler.sigmas.tolist() if hasattr(pipe.scheduler, "sigmas") else None,
            "figures": figures,
        })
        pipe.scheduler = stock
    write_json(OUT / "cases.json", index)
    if bad:
        raise SystemExit(f"not fit to be goldens: {', '.join(bad)}")


if __name__ == "__main__":
    main()
