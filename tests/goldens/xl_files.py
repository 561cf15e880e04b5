"""Files for Stable Diffusion XL in the names that people publish, and what diffusers makes of them.

Reads xl/ (xl.py comes first). Writes xl/files.json, xl/adapters/*.safetensors and xl/adapters/pictures/*.png.

- `architectures`: number of tensors and parameters of every network of `model/assets/`, and the SHA-256 of the sorted lines
  `name shape`, from diffusers and transformers on the meta device.
- `single_files`: the SHA-256 of base and refiner as one file in the names of Stability AI; the script stops unless
  `from_single_file` makes the folder's picture of it, to one level.
- `adapters`: LoRA in kohya's names (LDM's blocks, `lora_te1_`, `lora_te2_`) and in diffusers', by `load_lora_weights`, and a textual
  inversion for both encoders, by `load_textual_inversion`. Each moves the plain picture by more than 8 levels.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
import xl
from common import HERE, error_levels, write_json
from diffusers import AutoencoderKL, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from single_files import CLIP, OPEN_CLIP, UNET, VAE, ldm_unet_name, ldm_vae_name, open_clip
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

OUT = HERE / "xl"
ASSETS = HERE.parent.parent / "model" / "assets"
NAMES = ("sdxl", "sdxl-turbo", "sdxl-refiner", "ssd-1b", "segmind-vega")
REQUEST = ("a fox in the snow", None, (64, 64), 8, 5.0, 7)


def architectures():
    made = {}
    for name in NAMES:
        def config(part):
            places = [ASSETS / folder / part / "config.json" for folder in (name, "sdxl", "sd15")]
            return json.loads(next(place for place in places if place.exists()).read_text())

        def text(part, kind):
            return kind(CLIPTextConfig(**{k: v for k, v in config(part).items() if k != "dropout"}))

        with torch.device("meta"):
            networks = {"unet": UNet2DConditionModel.from_config(config("unet")), "vae": AutoencoderKL.from_config(config("vae")),
                        "text_encoder_2": text("text_encoder_2", CLIPTextModelWithProjection)}
            if name != "sdxl-refiner":
                networks["text_encoder"] = text("text_encoder", CLIPTextModel)
        made[name] = {}
        for part, network in networks.items():
            shapes = {k: list(v.shape) for k, v in network.state_dict().items()}
            if part.startswith("text"):  # published names; newer versions of transformers leave the prefix out
                shapes = {k if k.startswith(("text_model.", "text_projection.")) else f"text_model.{k}": v for k, v in shapes.items()}
            lines = "".join(f"{k} {json.dumps(v)}\n" for k, v in sorted(shapes.items()))
            parameters = sum(torch.Size(v).numel() for v in shapes.values())
            made[name][part] = {"tensors": len(shapes), "parameters": parameters, "sha256": hashlib.sha256(lines.encode()).hexdigest()}
            print(f"{name:14}{part:16}{parameters:14,} parameters {len(shapes):5} tensors")
    return made


def stored(folder, part):
    """The tensors of a part as they are stored; what the refiner lacks it has from base."""
    place = OUT / folder / part
    place = place if place.exists() else OUT / "base" / part
    return {k: v for file in sorted(place.glob("*.safetensors")) for k, v in load_file(file).items()}


def one_file(folder):
    config = json.loads((OUT / folder / "unet" / "config.json").read_text())
    up = {i for i, kind in enumerate(config["up_block_types"]) if kind.startswith("CrossAttn")}
    made = {}
    for name, value in stored(folder, "unet").items():
        added = {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
        stem, kind = name.rsplit(".", 1)
        new = f"{added[stem]}.{kind}" if stem in added else ldm_unet_name(name, config["layers_per_block"], up)
        made[UNET + new] = value
    for name, value in stored(folder, "vae").items():
        new = ldm_vae_name(name, 4)
        square = ".mid.attn_1." in new and ".norm." not in new and value.ndim == 2
        made[VAE + new] = value[:, :, None, None] if square else value
    published = lambda part: {k if k.startswith(("text_model.", "text_projection.")) else f"text_model.{k}": v for k, v in stored(folder, part).items()}
    if folder == "base":
        made.update({f"conditioner.embedders.0.transformer.{k}": v for k, v in published("text_encoder").items()})
    second = published("text_encoder_2")
    projection = second.pop("text_projection.weight")
    place = f"conditioner.embedders.{1 if folder == 'base' else 0}.model."
    made.update({place + k: v for k, v in open_clip(second).items()})
    made[place + "text_projection"] = projection.T
    return {k: v.contiguous() for k, v in made.items()}


def digest(tensors):
    sha = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}\n".encode())
        sha.update(value.numpy().tobytes())
    return sha.hexdigest()


def whole(folder, to):
    """The folder with everything that it shares with base."""
    shutil.copytree(OUT / "base", to)
    if folder != "base":
        shutil.rmtree(to / "unet")
        shutil.copytree(OUT / folder, to, dirs_exist_ok=True)
    if folder == "refiner":
        shutil.rmtree(to / "text_encoder")
        shutil.rmtree(to / "tokenizer")
    return to


def picture_of(pipe, kind, **more):
    prompt, negative, size, steps, guidance, seed = REQUEST
    if kind == "image":
        more |= {"image": Image.open(HERE / "tasks" / "inputs" / "scene_64x64.png").convert("RGB"), "strength": 0.5}
    else:
        more |= {"width": size[0], "height": size[1]}
    pipe.set_progress_bar_config(disable=True)
    prompt = more.pop("prompt", prompt)
    return numpy.asarray(pipe(prompt, negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance,
                              generator=torch.Generator("cpu").manual_seed(seed), **more).images[0])


def pipeline(folder, kind):
    settings = {"force_zeros_for_empty_prompt": folder != "refiner"}
    if folder == "refiner":
        settings["requires_aesthetics_score"] = True
    return xl.CLASSES[kind](**xl.load(folder), scheduler=diffusers.EulerDiscreteScheduler.from_config(xl.SCHEDULER), add_watermarker=False, **settings)


def single_files():
    made = {}
    for folder, kind, cls in (("base", "text", StableDiffusionXLPipeline), ("refiner", "image", StableDiffusionXLImg2ImgPipeline)):
        tensors = one_file(folder)
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "model.safetensors"
            save_file(tensors, file)
            config = whole(folder, Path(place) / "config")
            pipe = cls.from_single_file(str(file), config=str(config), local_files_only=True, torch_dtype=torch.float32)
            worst, equal = error_levels(picture_of(pipe, kind), picture_of(pipeline(folder, kind), kind))
        print(f"{folder}: {worst} levels, {equal} equal by from_single_file")
        assert worst <= 1 and equal > 0.999
        made[folder] = {"sha256": digest(tensors), "tensors": len(tensors)}
    return made


def layers(pipe):
    """(network, name, layer) of everything that an adapter here changes."""
    for network in ("unet", "text_encoder", "text_encoder_2"):
        for name, module in getattr(pipe, network).named_modules():
            inside = ".transformer_blocks." in name if network == "unet" else "self_attn" in name or "mlp" in name
            if inside and isinstance(module, torch.nn.Linear):
                yield network, name if network == "unet" else f"text_model.{name.removeprefix('text_model.')}", module


def lora(pipe, style, seed):
    generator = torch.Generator().manual_seed(seed)
    config = pipe.unet.config
    up = {i for i, kind in enumerate(config.up_block_types) if kind.startswith("CrossAttn")}
    made = {}
    for network, name, module in layers(pipe):
        rank = 2
        down = torch.randn(rank, module.in_features, generator=generator) / module.in_features**0.5
        up_factor = torch.randn(module.out_features, rank, generator=generator) * 0.35
        if style == "kohya":
            prefix = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[network]
            stem = ldm_unet_name(f"{name}.weight", config.layers_per_block, up).removesuffix(".weight") if network == "unet" else name
            key = f"{prefix}_{stem.replace('.', '_')}"
            made |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up_factor, f"{key}.alpha": torch.tensor(1.0)}
        else:
            made |= {f"{network}.{name}.lora_A.weight": down, f"{network}.{name}.lora_B.weight": up_factor}
    return {k: v.half() for k, v in made.items()}


def adapters():
    place, listed = OUT / "adapters", []
    shutil.rmtree(place, ignore_errors=True)
    (place / "pictures").mkdir(parents=True)
    plain = picture_of(pipeline("base", "text"), "text")
    for style, seed in (("kohya", 71), ("diffusers", 72)):
        pipe = pipeline("base", "text")
        save_file(lora(pipe, style, seed), place / f"{style}.safetensors")
        pipe.load_lora_weights(str(place / f"{style}.safetensors"))
        pipe.fuse_lora(lora_scale=0.8, components=["unet", "text_encoder", "text_encoder_2"])
        listed.append((style, "lora", REQUEST[0], picture_of(pipe, "text")))
    generator = torch.Generator().manual_seed(73)
    words = {"clip_l": torch.randn(2, 32, generator=generator), "clip_g": torch.randn(2, 24, generator=generator)}
    words = {k: v.half() for k, v in words.items()}
    save_file(words, place / "mist.safetensors")
    pipe = pipeline("base", "text")
    pipe.load_textual_inversion(words["clip_l"].float(), token="mist", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    pipe.load_textual_inversion(words["clip_g"].float(), token="mist", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)
    # transformers takes the largest token for the end mark, where the config says 2; new tokens are larger.
    pipe.text_encoder_2.config.eos_token_id = pipe.tokenizer_2.eos_token_id
    inner = getattr(pipe.text_encoder_2, "text_model", pipe.text_encoder_2)
    inner.eos_token_id = pipe.tokenizer_2.eos_token_id
    inner.config.eos_token_id = pipe.tokenizer_2.eos_token_id
    prompt = "a fox in the mist"
    listed.append(("mist", "embedding", prompt, picture_of(pipe, "text", prompt=prompt)))
    cases = []
    for name, kind, prompt, picture in listed:
        moved, _ = error_levels(picture, plain)
        print(f"{name}: moves the plain picture by {moved} levels")
        assert moved > 8
        Image.fromarray(picture).save(place / "pictures" / f"{name}.png", optimize=True)
        cases.append({"name": name, "kind": kind, "prompt": prompt, "moved": moved})
    return cases


if __name__ == "__main__":
    write_json(OUT / "files.json", {"architectures": architectures(), "single_files": single_files(), "adapters": adapters()})
