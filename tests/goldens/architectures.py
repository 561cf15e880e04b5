"""Tensor names, shapes and configs of Stable Diffusion 1.5 and 2.1 at full size; no weights are made (meta device).

Writes architectures.json: for `sd15` and `sd21` the JSON files of the folder, and per part the file's name, the number of
parameters and every tensor with its shape, as `StableDiffusionPipeline.save_pretrained` writes them. Text encoder names
carry the prefix `text_model.` of published folders; transformers 5 leaves it out (checked here: nothing else differs).

The configs are those of runwayml/stable-diffusion-v1-5 and stabilityai/stable-diffusion-2-1, written down here because
model hubs are out of reach; paths of the authors' machines are left out. Published files may differ from what is listed in two
ways that a loader must know: the VAE's attention may be called query, key, value, proj_attn, and the text encoders hold
a buffer `text_model.embeddings.position_ids` (I64 [1, 77]).
"""

import torch

from common import HERE, write_json
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

BETAS = {"beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085}
DOWN = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
UP = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
UNET = {
    "act_fn": "silu", "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": False, "down_block_types": DOWN,
    "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "up_block_types": UP,
}
VAE = {
    "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3,
    "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT = {
    "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2,
    "initializer_factor": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-05, "max_position_embeddings": 77,
    "model_type": "clip_text_model", "pad_token_id": 1, "torch_dtype": "float32", "vocab_size": 49408,
}
PARTS = {
    "scheduler": None, "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}


def tokenizer_files(pad):
    def token(content):
        return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    special = {"bos_token": token("<|startoftext|>"), "eos_token": token("<|endoftext|>"), "pad_token": pad, "unk_token": token("<|endoftext|>")}
    typed = {k: {"__type": "AddedToken", **v} if isinstance(v, dict) else v for k, v in special.items()}
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
              "tokenizer_class": "CLIPTokenizer", **typed}
    return {"tokenizer/special_tokens_map.json": special, "tokenizer/tokenizer_config.json": config}


FOLDERS = {
    "sd15": {
        "model_index.json": {
            "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0",
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            **PARTS, "scheduler": ["diffusers", "PNDMScheduler"],
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **BETAS, "num_train_timesteps": 1000,
            "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False,
        },
        "text_encoder/config.json": {
            **TEXT, "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
            "num_hidden_layers": 12, "projection_dim": 768, "transformers_version": "4.22.0.dev0",
        },
        **tokenizer_files("<|endoftext|>"),
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", **UNET, "attention_head_dim": 8,
            "cross_attention_dim": 768, "sample_size": 64,
        },
        "vae/config.json": {"_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", **VAE, "sample_size": 512},
    },
    "sd21": {
        "model_index.json": {
            "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.8.0",
            "feature_extractor": ["transformers", "CLIPImageProcessor"], "requires_safety_checker": False,
            "safety_checker": [None, None], **PARTS, "scheduler": ["diffusers", "DDIMScheduler"],
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **BETAS, "clip_sample": False, "num_train_timesteps": 1000,
            "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
        },
        "text_encoder/config.json": {
            **TEXT, "hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
            "num_hidden_layers": 23, "projection_dim": 512, "transformers_version": "4.25.0.dev0",
        },
        **tokenizer_files("!"),
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.10.0.dev0", **UNET, "attention_head_dim": [5, 10, 20, 20],
            "cross_attention_dim": 1024, "dual_cross_attention": False, "num_class_embeds": None, "only_cross_attention": False,
            "sample_size": 96, "upcast_attention": True, "use_linear_projection": True,
        },
        "vae/config.json": {"_class_name": "AutoencoderKL", "_diffusers_version": "0.10.0.dev0", **VAE, "sample_size": 768},
    },
}


def parts(files):
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(**{k: v for k, v in files["text_encoder/config.json"].items() if k not in ("torch_dtype", "dropout")}))
        unet = UNet2DConditionModel.from_config(files["unet/config.json"])
        vae = AutoencoderKL.from_config(files["vae/config.json"])
    made = {"text_encoder": ("model.safetensors", text), "unet": ("diffusion_pytorch_model.safetensors", unet),
            "vae": ("diffusion_pytorch_model.safetensors", vae)}
    listed = {}
    for name, (file, model) in made.items():
        shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
        if name == "text_encoder":
            assert not any(k.startswith("text_model.") for k in shapes), "this transformers writes the prefix itself"
            shapes = {f"text_model.{k}": v for k, v in shapes.items()}
        parameters = sum(p.numel() for p in model.parameters())
        assert parameters == sum(torch.Size(v).numel() for v in shapes.values()), "a buffer would be saved"
        listed[name] = {"file": f"{name}/{file}", "parameters": parameters, "tensor_count": len(shapes), "tensors": dict(sorted(shapes.items()))}
        print(f"{name:14}{parameters:12,} parameters {len(shapes):4} tensors")
    return listed


if __name__ == "__main__":
    write_json(HERE / "architectures.json", {name: {"files": files, "parts": parts(files)} for name, files in FOLDERS.items()}, width=150)
