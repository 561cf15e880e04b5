"""Tensors and settings of published few-step and small models, as diffusers writes them.

Writes few_step_architectures.json: of each model the files of its folder but weights and
vocabulary, and of each network the number of parameters and every tensor's name and shape; where
both are those of another model's, its name ("as"). The configs are written down from public copies;
the parameters of BK-SDM's and Segmind's UNets are those that their authors give. Needs
architectures.json.
"""

import json

import torch

from architectures import BETAS, FOLDERS, PARTS, TEXT, UNET, VAE, tokenizer_files
from common import HERE, write_json
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

SD15, SD21 = FOLDERS["sd15"], FOLDERS["sd21"]

# What diffusers 0.16 to 0.24 add to a UNet's config, all at values that change nothing.
DEFAULTS = {
    "addition_embed_type": None, "addition_embed_type_num_heads": 64, "addition_time_embed_dim": None, "attention_type": "default",
    "class_embed_type": None, "class_embeddings_concat": False, "conv_in_kernel": 3, "conv_out_kernel": 3, "cross_attention_norm": None,
    "dropout": 0.0, "dual_cross_attention": False, "encoder_hid_dim": None, "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None, "mid_block_type": "UNetMidBlock2DCrossAttn", "num_attention_heads": None,
    "num_class_embeds": None, "only_cross_attention": False, "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": False, "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None, "time_cond_proj_dim": None, "time_embedding_act_fn": None, "time_embedding_dim": None,
    "time_embedding_type": "positional", "timestep_post_act": None, "transformer_layers_per_block": 1, "upcast_attention": False,
    "use_linear_projection": False,
}
TINY_VAE = json.loads((HERE.parents[1] / "model/assets/taesd/config.json").read_text())


def unet(version, **changes):
    return {"_class_name": "UNet2DConditionModel", "_diffusers_version": version, **UNET, **DEFAULTS, "sample_size": 64, **changes}


def scheduler(kind, version, **changes):
    return {"_class_name": kind, "_diffusers_version": version, **BETAS, "clip_sample": False, "num_train_timesteps": 1000,
            "prediction_type": "epsilon", "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
            **changes}


def folder(like, version, unet_config, scheduler_config, vae=None, pipeline="StableDiffusionPipeline"):
    """A folder with the text encoder and the tokenizer of `like`."""
    vae = vae or {"_class_name": "AutoencoderKL", "_diffusers_version": version, **VAE, "force_upcast": True, "sample_size": 512,
                  "scaling_factor": 0.18215}
    index = {
        "_class_name": pipeline, "_diffusers_version": version, "feature_extractor": [None, None], "requires_safety_checker": False,
        "safety_checker": [None, None], **PARTS, "scheduler": ["diffusers", scheduler_config["_class_name"]],
        "vae": ["diffusers", vae["_class_name"]],
    }
    return {"model_index.json": index, "scheduler/scheduler_config.json": scheduler_config,
            "text_encoder/config.json": like["text_encoder/config.json"],
            "tokenizer/tokenizer_config.json": like["tokenizer/tokenizer_config.json"],
            "unet/config.json": unet_config, "vae/config.json": vae}


EULER_TRAILING = scheduler("EulerDiscreteScheduler", "0.24.0.dev0", interpolation_type="linear", sample_max_value=1.0, sigma_max=None,
                           sigma_min=None, timestep_spacing="trailing", timestep_type="discrete", use_karras_sigmas=False)
PNDM = scheduler("PNDMScheduler", "0.15.0")
LCM = scheduler("LCMScheduler", "0.22.0.dev0", beta_schedule="scaled_linear", clip_sample_range=1.0, dynamic_thresholding_ratio=0.995,
                original_inference_steps=50, rescale_betas_zero_snr=False, sample_max_value=1.0, set_alpha_to_one=True, steps_offset=0,
                thresholding=False, timestep_scaling=10.0, timestep_spacing="leading")
CROSS, CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
THREE = {"block_out_channels": [320, 640, 1280], "layers_per_block": 1, "mid_block_type": None}
SD1 = {"attention_head_dim": 8, "cross_attention_dim": 768}

MODELS = {
    # stabilityai/sd-turbo
    "sd-turbo": folder(SD21, "0.24.0.dev0", unet("0.24.0.dev0", attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024,
                       upcast_attention=None, use_linear_projection=True), EULER_TRAILING),
    # IDKiro/sdxs-512-0.9: 1024 channels of text, of which alone the outermost blocks attend
    "sdxs": folder(SD21, "0.26.3", unet("0.26.3", **THREE, attention_head_dim=[5, 10, 20], cross_attention_dim=1024,
                   down_block_types=[CROSS] * 3, only_cross_attention=[True, False, False], up_block_types=[CROSS_UP] * 3,
                   use_linear_projection=True), EULER_TRAILING, vae=TINY_VAE),
    # IDKiro/sdxs-512-dreamshaper: no attention in the outermost blocks
    "sdxs-dreamshaper": folder(SD15, "0.26.3", unet("0.26.3", **THREE, **SD1, down_block_types=["DownBlock2D", CROSS, CROSS],
                               up_block_types=[CROSS_UP, CROSS_UP, "UpBlock2D"]), EULER_TRAILING, vae=TINY_VAE),
    # nota-ai/bk-sdm-small, bk-sdm-tiny
    "bk-sdm-small": folder(SD15, "0.15.0", unet("0.15.0", **SD1, layers_per_block=1, mid_block_type=None), PNDM),
    "bk-sdm-tiny": folder(SD15, "0.15.0", unet("0.15.0", **THREE, **SD1, down_block_types=[CROSS] * 3, up_block_types=[CROSS_UP] * 3), PNDM),
    # segmind/tiny-sd, small-sd
    "tiny-sd": folder(SD15, "0.19.0.dev0", unet("0.19.0.dev0", **THREE, **SD1, down_block_types=[CROSS] * 3, up_block_types=[CROSS_UP] * 3),
                      scheduler("DPMSolverMultistepScheduler", "0.19.0.dev0", algorithm_type="dpmsolver++", dynamic_thresholding_ratio=0.995,
                                lambda_min_clipped=None, lower_order_final=True, sample_max_value=1.0, solver_order=2,
                                solver_type="midpoint", thresholding=False, timestep_spacing="linspace", use_karras_sigmas=False,
                                variance_type=None)),
    "small-sd": folder(SD15, "0.19.0.dev0", unet("0.19.0.dev0", **SD1, layers_per_block=1), PNDM),
    # SimianLuo/LCM_Dreamshaper_v7
    "lcm-sd15": folder(SD15, "0.22.0.dev0", unet("0.22.0.dev0", **SD1, time_cond_proj_dim=256), LCM,
                       pipeline="LatentConsistencyModelPipeline"),
}
# As the authors give them; LCM's is SD 1.5's and 320 x 256.
UNET_PARAMETERS = {
    "sd-turbo": 865_910_724, "bk-sdm-small": 482_346_884, "bk-sdm-tiny": 323_384_964, "tiny-sd": 323_384_964, "small-sd": 579_384_964,
    "lcm-sd15": 859_520_964 + 320 * 256,
}


def networks(files):
    text = {k: v for k, v in files["text_encoder/config.json"].items() if k not in ("torch_dtype", "dropout")}
    vae = AutoencoderTiny if files["vae/config.json"]["_class_name"] == "AutoencoderTiny" else AutoencoderKL
    with torch.device("meta"):
        return {"text_encoder": CLIPTextModel(CLIPTextConfig(**text)), "unet": UNet2DConditionModel.from_config(files["unet/config.json"]),
                "vae": vae.from_config(files["vae/config.json"])}


def main():
    published = json.loads((HERE / "architectures.json").read_text())
    known = {name: entry["parts"] for name, entry in published.items()}
    made = {}
    for name, files in MODELS.items():
        parts = {}
        for part, model in networks(files).items():
            prefix = "text_model." if part == "text_encoder" else ""
            tensors = {prefix + k: list(v.shape) for k, v in sorted(model.state_dict().items())}
            parameters = sum(p.numel() for p in model.parameters())
            other = next((other for other, parts in known.items() if parts[part].get("tensors") == tensors), None)
            parts[part] = {"parameters": parameters, "as": other} if other else {"parameters": parameters, "tensors": tensors}
            print(f"{name:17}{part:14}{parameters:12,} parameters {len(tensors):4} tensors {other or ''}")
        assert UNET_PARAMETERS.get(name, parts["unet"]["parameters"]) == parts["unet"]["parameters"], name
        known[name] = parts
        made[name] = {"files": files, "parts": parts}
    write_json(HERE / "few_step_architectures.json", made, width=150)


if __name__ == "__main__":
    main()
