"""What prompts become: weighted embeddings, CLIP skip, and the text in a PNG as others read it.

Writes prompts/cases.json, prompts/embeddings.safetensors and prompts/pictures/*.png with the small pipeline `sd1` of
pipelines.py, and parameters/: PNG files that Pillow wrote the way A1111 does, with what sd-parsers reads from them.

A1111 itself is not run. Its rules are applied here to pieces and weights that are written out, so that this script
knows nothing of brackets: tokens of each piece, chunks of 75, z * weight * mean(z) / mean(z * weight).
"""

import shutil

import numpy
import torch
from common import HERE, write_json
from PIL import Image, PngImagePlugin
from pipelines import error_levels, load_folder
from safetensors.torch import save_file

OUT = HERE / "prompts"
TEXTS = HERE / "parameters"
ROOM = 75

LONG = [("a quiet village by the sea with boats and gulls and nets drying in the wind", 1.0), (" old men ", 1.3)] * 5
# name: (prompt as a user writes it, negative prompt, the pieces of each; None starts a new chunk)
WEIGHTED = {
    "weights": ("a (red:1.5) fox [in the snow]", "(dark)", [("a ", 1), ("red", 1.5), (" fox ", 1), ("in the snow", 1 / 1.1)], [("dark", 1.1)]),
    "break": ("two boats BREAK at ((sea))", "", [("two boats", 1), None, ("at ", 1), ("sea", 1.1 * 1.1)], [("", 1)]),
    "long": ("".join(t if w == 1 else f"({t}:{w})" for t, w in LONG), "fog", LONG, [("fog", 1)]),
}
SKIPS = {"skip_2": 2, "skip_3": 3}  # as A1111 counts; diffusers' clip_skip is one less

PARAMETERS = {
    "latin_1": "a photo of a Bär, sharp\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, "
               "Seed: 965400086, Size: 512x768, Model hash: 45dee52b12, Model: v1-5, RNG: CPU, Emphasis: None, Version: aquatint 0.1.0",
    "unicode": "東京の夜 🦊\nSteps: 31, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 18446744073709551615, Size: 64x64, "
               "Model hash: 0123456789, Model: tiny, Clip skip: 2, RNG: NV, Version: aquatint 0.1.0",
}


def chunks(tokenizer, pieces):
    """Lists of 77 tokens and of their weights. The cases are chosen so that no comma is near a border."""
    made, tokens = [], []
    for piece in [*pieces, None]:
        if piece is None:
            made.append(tokens)
            tokens = []
            continue
        for token in tokenizer(piece[0], add_special_tokens=False).input_ids:
            if len(tokens) == ROOM:
                made.append(tokens)
                tokens = []
            tokens.append((token, piece[1]))
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = [[start, *(t for t, _ in c), end, *[pad] * (ROOM - len(c))] for c in made]
    return ids, [[1, *(w for _, w in c), 1, *[1] * (ROOM - len(c))] for c in made]


def embed(pipe, pieces, count):
    ids, weights = chunks(pipe.tokenizer, pieces)
    while len(ids) < count:  # an empty text, so that both prompts have as many tokens
        ids += chunks(pipe.tokenizer, [])[0]
        weights.append([1] * (ROOM + 2))
    parts = []
    for i, w in zip(ids, weights):
        z = pipe.text_encoder(torch.tensor([i])).last_hidden_state.double()
        weighed = z * torch.tensor(w, dtype=torch.float64)[None, :, None]
        parts.append((weighed * z.mean() / weighed.mean()).float())
    return torch.cat(parts, 1), [t for i in ids for t in i]


def main():
    for folder in (OUT, TEXTS):
        shutil.rmtree(folder, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    TEXTS.mkdir()
    pipe = load_folder("sd1")
    # For clip_skip, diffusers 0.42 looks for the final norm under a name that transformers 5 has dropped. Not as a submodule: it would hold itself.
    object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    common = {"width": 64, "height": 64, "num_inference_steps": 6, "guidance_scale": 6.0}
    cases, tensors = [], {}

    def add(name, text, negative, syntax, skip, seed, **inputs):
        generator = torch.Generator("cpu").manual_seed(seed)
        pipe.scheduler.set_timesteps(common["num_inference_steps"])
        picture = numpy.asarray(pipe(**inputs, **common, generator=generator).images[0])
        Image.fromarray(picture).save(OUT / "pictures" / f"{name}.png", optimize=True)
        cases.append({"name": name, "prompt": text, "negative_prompt": negative, "syntax": syntax, "clip_skip": skip, "width": 64,
                      "height": 64, "steps": 6, "guidance_scale": 6.0, "seed": seed, "picture": f"pictures/{name}.png"})
        return picture

    for name, (prompt, negative, pieces, negative_pieces) in WEIGHTED.items():
        count = max(len(chunks(pipe.tokenizer, p)[0]) for p in (pieces, negative_pieces))
        text, ids = embed(pipe, pieces, count)
        uncond, negative_ids = embed(pipe, negative_pieces, count)
        tensors[f"{name}/ids"] = torch.tensor([negative_ids, ids], dtype=torch.int32)
        tensors[f"{name}/embeddings"] = torch.cat([uncond, text])
        weighed = add(name, prompt, negative, "a1111", 1, 5, prompt_embeds=text, negative_prompt_embeds=uncond)
        plain, _ = embed(pipe, [p and (p[0], 1) for p in pieces], count)
        pipe.scheduler.set_timesteps(6)
        other = pipe(prompt_embeds=plain, negative_prompt_embeds=uncond, **common, generator=torch.Generator("cpu").manual_seed(5)).images[0]
        print(name, count, "chunks; without weights:", error_levels(weighed, numpy.asarray(other)))
    last = None
    for name, skip in SKIPS.items():
        picture = add(name, "a fox in the snow", "dark", "plain", skip, 6, prompt="a fox in the snow", negative_prompt="dark", clip_skip=skip - 1)
        if last is not None:
            print(name, "against the skip before:", error_levels(picture, last))
        last = picture
    write_json(OUT / "cases.json", cases)
    save_file(tensors, OUT / "embeddings.safetensors")

    from sd_parsers import ParserManager

    read = []
    for name, text in PARAMETERS.items():
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", text)  # tEXt if Latin-1 can hold it, else iTXt
        Image.new("RGB", (2, 1)).save(TEXTS / f"{name}.png", pnginfo=info)
        found = ParserManager().parse(TEXTS / f"{name}.png")
        sampler = found.samplers[0]
        read.append({
            "file": f"{name}.png", "text": text, "prompt": sampler.prompts[0].value,
            "negative_prompt": sampler.negative_prompts[0].value if sampler.negative_prompts else "",
            "sampler": sampler.name, "model": sampler.model.name, "model_hash": sampler.model.hash,
            "sampler_parameters": sampler.parameters, "metadata": found.metadata,
        })
    write_json(TEXTS / "sd_parsers.json", read)


if __name__ == "__main__":
    main()
