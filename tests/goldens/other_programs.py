"""PNG files with the settings of other programs, and what PyPI's sd-parsers reads in them.

Writes other_programs/*.png and other_programs/read.json. The texts have the form of files that these programs write;
no program was run. Needs pillow and sd-parsers.
"""

import json
from pathlib import Path

from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager

OUT = Path(__file__).resolve().parent / "other_programs"

NODES = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 156680208700286, "steps": 25, "cfg": 6.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0,
        "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dreamshaper_8.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox in the snow, 狐", "clip": ["10", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["10", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    "10": {"class_type": "LoraLoader", "inputs": {
        "lora_name": "detail.safetensors", "strength_model": 0.8, "strength_clip": 0.8, "model": ["4", 0], "clip": ["4", 1]}},
}
TYPES = {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT", "clip": "CLIP",
         "samples": "LATENT", "vae": "VAE", "images": "IMAGE"}
LINKS = [
    [0, int(value[0]), value[1], int(node), 0, TYPES[name]]
    for node, content in NODES.items() for name, value in content["inputs"].items() if isinstance(value, list)
]

FILES = {
    "comfyui": {"prompt": NODES, "workflow": {"links": LINKS}},
    "invokeai": {"invokeai_metadata": {
        "generation_mode": "txt2img", "positive_prompt": "a fox in the snow", "negative_prompt": "blurry", "width": 512,
        "height": 640, "seed": 1234567, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30, "scheduler": "euler_a",
        "model": {"model_name": "dreamshaper_8", "base_model": "sd-1", "model_type": "main"}, "app_version": "3.7.0"}},
    "sd_metadata": {"sd-metadata": {
        "model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "app_version": "2.2.4", "image": {
            "prompt": [{"prompt": "a fox in the snow [blurry]", "weight": 1.0}], "steps": 50, "cfg_scale": 7.5,
            "sampler": "k_lms", "seed": 2034785, "width": 512, "height": 512, "type": "txt2img"}}},
    "dream": {"Dream": '"a fox in the snow [blurry]" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_euler'},
    "novelai": {
        "Title": "AI generated image", "Description": "a fox in the snow", "Software": "NovelAI",
        "Source": "Stable Diffusion 1D44365E", "Comment": {
            "steps": 28, "sampler": "k_euler_ancestral", "seed": 3593361337, "scale": 11.0, "uc": "blurry"}},
    "fooocus": {"parameters": {
        "prompt": "a fox in the snow", "negative_prompt": "blurry", "steps": 30, "resolution": "(1024, 768)",
        "guidance_scale": 4.0, "sharpness": 2.0, "base_model": "dreamshaper_8", "base_model_hash": "879db523c3",
        "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": 123, "version": "Fooocus v2.5.5"},
        "fooocus_scheme": "fooocus"},
}


def main():
    OUT.mkdir(exist_ok=True)
    found = {}
    for name, texts in FILES.items():
        info = PngImagePlugin.PngInfo()
        for keyword, text in texts.items():
            info.add_text(keyword, text if isinstance(text, str) else json.dumps(text))
        Image.new("RGB", (2, 2)).save(OUT / f"{name}.png", pnginfo=info)
        sampler = ParserManager().parse(OUT / f"{name}.png").samplers[0]
        found[name] = {
            "prompt": ", ".join(prompt.value for prompt in sampler.prompts),
            "negative_prompt": ", ".join(prompt.value for prompt in sampler.negative_prompts),
            "sampler": sampler.name,
            **{key: sampler.parameters.get(key) for key in ("steps", "cfg_scale", "seed")},
            "model": sampler.model and sampler.model.name,
        }
    (OUT / "read.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


main()
