"""What each part of the two small pipelines makes on its own, CLIP's tokens, and torch's random numbers.

Reads pipelines/sd1 and sd2 (run pipelines.py first). Writes stages/{sd1,sd2}.safetensors (text encoder, one UNet call,
VAE encode and decode), stages/tokens.json (the small vocabularies, padded to 77), stages/clip_tokens.json (CLIP's full
vocabulary, not padded) and stages/rng.json (torch.randn on the CPU).
"""

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from common import HERE, clip_merges, clip_vocabulary, write_json
from pipelines import LONG, load_folder
from transformers import CLIPTokenizer

OUT = HERE / "stages"

PROMPTS = [
    "",
    "a photo of a cat",
    "a photo of an astronaut riding a horse on mars",
    "A Photo Of A CAT, HIGHLY DETAILED",
    "  odd \t whitespace\n\nand  trailing   ",
    "don't, can't, it's, I'll, we've, you're, she'd, I'm",
    "o'clock rock'n'roll 'quoted' ''twice''",
    "wow! such!! art!!! (much:1.3) [very] {wow}",
    "8k, 4K, 3.14159, 1920x1080, year 2024, #1, 50%",
    "semi-colon; colon: dash - en – em — slash/backslash\\ under_score",
    "café au lait, naïve façade, Ångström, Ærø, straße, ŁÓDŹ, İstanbul",
    "cafe\u0301 (a combining accent) and e\u0302\u0323",
    "東京の夜、雨 北京 서울의 밤",
    "лиса в снегу, ЗИМА",
    "αβγ Ωmega ∑ ∞ ≠ √2",
    "שלום עולם مرحبا بالعالم हिन्दी ไทย",
    "a fox 🦊 in the snow ❄️ 👩‍🚀🇯🇵",
    "½ ² ⁵ Ⅳ ① ﬁne ﬀ ＡＢＣ",
    "non\u00a0breaking, zero\u200bwidth, soft\u00adhyphen, ideographic\u3000space",
    "<|startoftext|>inside<|endoftext|> the prompt",
    "email@example.com http://example.com/?q=a&b=c",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis zxqvjkw",
    "a" * 100,
    "!!!!!!!!!! ?!?! ... …",
    "tab\tseparated\rcarriage\vvertical\fform",
    LONG,
    "cat " * 75 + "dog",
    "cat " * 76 + "dog",
]


def tokens():
    """ids: padded and cut to 77. full_length: how many there were, with start and end, before the cut."""
    rows = []
    for which in ("sd1", "sd2"):
        tokenizer = load_folder(which).tokenizer
        raw = Tokenizer.from_file(str(HERE / "pipelines/sd2/tokenizer/tokenizer.json")) if which == "sd2" else None
        for prompt in PROMPTS:
            ids = tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
            full = tokenizer(prompt).input_ids
            assert raw is None or raw.encode(prompt).ids == full, "tokenizer.json and the loaded tokenizer differ"
            rows.append({"pipeline": which, "text": prompt, "full_length": len(full), "ids": ids})
    write_json(OUT / "tokens.json", rows)


def clip_tokens():
    merges = clip_merges()
    tokenizer = CLIPTokenizer(vocab=clip_vocabulary(merges), merges=merges)
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    write_json(OUT / "clip_tokens.json", [{"text": p, "ids": tokenizer(p).input_ids} for p in PROMPTS])


def networks(which, seed):
    """One pass through each network. Names: text.*, unet.*, vae.*; images and latents are [n, c, h, w]."""
    pipe = load_folder(which)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    prompt = "a fox in the snow, Café 🦊!"
    ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    embeddings = pipe.text_encoder(ids)[0]
    # 9 x 12: three levels down neither 9 nor 12 is even any more, so the way up must drop a row and a column.
    sample, timestep = draw(2, 4, 9, 12), torch.tensor([601.0, 42.0])
    context = torch.cat([embeddings, draw(1, *embeddings.shape[1:])])
    image, latents = torch.tanh(draw(1, 3, 40, 56)), draw(1, 4, 6, 5)
    parts = {
        "text.ids": ids.int(),
        "text.embeddings": embeddings,
        "unet.sample": sample,
        "unet.timestep": timestep,
        "unet.encoder_hidden_states": context,
        "unet.out": pipe.unet(sample, timestep, encoder_hidden_states=context).sample,
        "unet.time_embedding": pipe.unet.time_embedding(pipe.unet.time_proj(timestep)),
        "vae.encode.image": image,
        "vae.encode.moments": pipe.vae.encode(image).latent_dist.parameters,
        "vae.decode.latents": latents,
        "vae.decode.image": pipe.vae.decode(latents).sample,
    }
    save_file({k: v.contiguous() for k, v in parts.items()}, OUT / f"{which}.safetensors", {"prompt": prompt})


def rng():
    """One row per generator: its draws follow each other. Fewer than 16 numbers at a time take torch's other path."""
    rows = []
    for seed in (0, 7, 2**32 + 5, 123456789012):
        for sizes in ([5], [15], [16], [17], [31], [64], [100], [64, 20], [5, 3], [3, 16, 1, 2], [1, 1, 1]):
            generator = torch.Generator("cpu").manual_seed(seed)
            draws = [torch.randn(n, generator=generator).tolist() for n in sizes]
            # The shortest decimals that give the same f32 back.
            draws = [[float(str(torch.tensor(v).numpy())) for v in row] for row in draws]
            rows.append({"seed": seed, "draws": draws})
    write_json(OUT / "rng.json", rows)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    tokens()
    clip_tokens()
    networks("sd1", 31)
    networks("sd2", 32)
    rng()
