"""Token merging and DeepCache by the programs of others, on small tensors and on the UNet of pipelines/sd1.

Needs tomesd (pip install --no-deps tomesd). Writes approximations.safetensors: what tomesd's merge and unmerge make of
random tokens (`use_rand=False`), what diffusers' UNet makes with tomesd's patch, and two steps of which the second sees
only the outermost layer: diffusers' modules, called one after the other with what entered the last of them before.
"""

import torch
from safetensors.torch import save_file

import tomesd
from common import HERE
from diffusers import UNet2DConditionModel
from tomesd.merge import bipartite_soft_matching_random2d

SIZES = [((8, 8), 0.5), ((6, 9), 0.3), ((5, 7), 0.75), ((4, 4), 0.1)]  # (height, width), ratio
CHANNELS = 12


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def main():
    tensors = {}
    for i, ((height, width), ratio) in enumerate(SIZES):
        tokens = randn(i, 1, height * width, CHANNELS)
        values = randn(100 + i, 1, height * width, CHANNELS)
        merge, unmerge = bipartite_soft_matching_random2d(tokens, width, height, 2, 2, int(height * width * ratio), no_rand=True)
        tensors[f"{i}/tokens"], tensors[f"{i}/values"] = tokens[0], values[0]
        tensors[f"{i}/there_and_back"] = unmerge(merge(values))[0].contiguous()
        tensors[f"{i}/count"] = torch.tensor([merge(values).shape[1]], dtype=torch.int32)
    unet = UNet2DConditionModel.from_pretrained(HERE / "pipelines" / "sd1" / "unet").eval()
    text = randn(200, 2, 77, unet.config.cross_attention_dim)
    latents = [randn(201 + i, 1, 4, 16, 12) for i in range(2)]
    times = [torch.tensor([t]) for t in (741, 721)]
    double = [x.repeat(2, 1, 1, 1) for x in latents]
    tensors |= {"text": text, "latents": torch.cat(latents), "timesteps": torch.cat(times).float()}

    kept = {}
    hook = unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(lambda _, inputs: kept.update(joined=inputs[0]))
    tensors["exact"] = unet(double[0], times[0], text).sample
    hook.remove()
    first = unet.conv_in(double[1])
    x = torch.cat([kept["joined"][:, : -first.shape[1]], first], dim=1)
    temb = unet.time_embedding(unet.time_proj(times[1].expand(2)).float())
    x = unet.up_blocks[-1].resnets[-1](x, temb)
    x = unet.up_blocks[-1].attentions[-1](x, encoder_hidden_states=text, return_dict=False)[0]
    tensors["cached"] = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))

    tomesd.apply_patch(unet, ratio=0.5, use_rand=False)
    tensors["merged"] = unet(double[0], times[0], text).sample
    difference = lambda a, b: float((tensors[a] - tensors[b]).abs().max())
    print(f"merged {difference('merged', 'exact'):.3f}, cached {difference('cached', 'exact'):.3f} from exact")
    assert difference("merged", "exact") > 0.01 and difference("cached", "exact") > 0.01
    save_file({name: x.contiguous() for name, x in tensors.items()}, HERE / "approximations.safetensors")


if __name__ == "__main__":
    main()
