"""How strongly each pixel looks at each token in the UNets of the two small pipelines, by diffusers' attention processors.

Reads pipelines/sd1 and sd2 and the inputs in stages/{sd1,sd2}.safetensors (run stages.py first). Writes
stages/attention_maps.safetensors: for each pipeline and cross-attention, in the order of the calls, the mean over heads of
its probabilities for the first latent and text, [pixels, tokens].
"""

import torch
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file

from pipelines import load_folder
from stages import OUT


class Recorder(AttnProcessor):
    """diffusers' own processor; the probabilities are asked of the layer once more."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **rest):
        if encoder_hidden_states is not None:
            query = attn.head_to_batch_dim(attn.to_q(hidden_states))
            key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
            probabilities = attn.get_attention_scores(query, key)  # [heads, pixels, tokens] of the one image
            self.maps.append(probabilities.mean(0))
        return super().__call__(attn, hidden_states, encoder_hidden_states, **rest)


if __name__ == "__main__":
    tensors = {}
    for which in ("sd1", "sd2"):
        unet = load_folder(which).unet
        stored = load_file(OUT / f"{which}.safetensors")
        maps = []
        unet.set_attn_processor(Recorder(maps))
        with torch.no_grad():
            unet(stored["unet.sample"][:1], stored["unet.timestep"][:1], encoder_hidden_states=stored["unet.encoder_hidden_states"][:1])
        tensors |= {f"{which}.{i}": attention.contiguous() for i, attention in enumerate(maps)}
    save_file(tensors, OUT / "attention_maps.safetensors")
