"""One call of UNets whose configs differ from those of Stable Diffusion 1.5 and 2.1.

Writes unets/NAME/ (config.json and random weights) and unets/NAME.safetensors: sample, timestep,
encoder_hidden_states, out, and for a model that takes the guidance scale two outs, at 1 and at 8.
`no_middle` has no middle block, as BK-SDM small; `guided` takes the guidance scale, as LCM's; `deep`
has transformers of 1, 2 and 3 blocks, as SDXL's; `only_cross` attends to the text alone in its
outermost blocks, as SDXS 0.9's.
"""

import torch
from safetensors.torch import save_file

from common import HERE, randomise
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

OUT = HERE / "unets"
SIZES = dict(
    sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4, cross_attention_dim=12,
    attention_head_dim=2, block_out_channels=(8, 12, 16),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
)  # fmt: skip
CASES = {
    "no_middle": dict(mid_block_type=None),
    "guided": dict(time_cond_proj_dim=10),
    "deep": dict(transformer_layers_per_block=[1, 2, 3]),
    "only_cross": dict(only_cross_attention=[True, False, False], use_linear_projection=True),
}


def make(name, seed):
    unet = randomise(UNet2DConditionModel(**SIZES, **CASES[name]), seed, [])
    unet.save_pretrained(OUT / name)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    sample, timestep, context = draw(1, 4, 10, 12), torch.tensor([601.0]), draw(1, 7, 12)
    parts = {"sample": sample, "timestep": timestep, "encoder_hidden_states": context}
    for scale in (1.0, 8.0):
        cond = None
        if unet.config.time_cond_proj_dim:
            embedding = StableDiffusionPipeline.get_guidance_scale_embedding
            cond = embedding(None, torch.tensor([scale - 1.0]), unet.config.time_cond_proj_dim)
        out = unet(sample, timestep, encoder_hidden_states=context, timestep_cond=cond).sample
        parts[f"out_{scale:.0f}"] = out
    save_file({k: v.contiguous() for k, v in parts.items()}, OUT / f"{name}.safetensors")


if __name__ == "__main__":
    for i, name in enumerate(CASES):
        make(name, 71 + i)
