"""Textual inversion in the forms that people have, what the prompts then become, and the pictures.

Reads pipelines/ (pipelines.py comes first). Writes embeddings/*.pt and *.safetensors (learned vectors, seeded),
embeddings/cases.json, embeddings/expected.safetensors and embeddings/pictures/*.png, by diffusers' load_textual_inversion.
The script stops unless each embedding moves the picture by more than 8 levels.
"""

import shutil

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
from common import HERE, write_json
from pipelines import load_folder

OUT = HERE / "embeddings"
# name of the file: (folder, form, vectors, token inside the file)
FILES = {
    "sparkle.pt": ("sd1", "a1111", 3, "*"),
    "old-map.safetensors": ("sd1", "emb_params", 2, None),
    "cat-toy.safetensors": ("sd1", "diffusers", 1, "<cat-toy>"),
    "many.safetensors": ("sd1", "emb_params", 40, None),
    "learned_embeds.bin": ("sd1", "diffusers", 1, "<style>"),
    "fog2.pt": ("sd2", "a1111", 2, "*"),
}
# (name, folder, files, prompt, negative prompt); a file's name works in a prompt without its ending, a token as it is
CASES = [
    ("a1111_pt", "sd1", ["sparkle.pt"], "a fox in sparkle snow", None),
    ("negative", "sd1", ["old-map.safetensors"], "a fox in the snow", "old-map, dark"),
    ("diffusers", "sd1", ["cat-toy.safetensors"], "a photo of <cat-toy> in the snow", None),
    ("pickled", "sd1", ["learned_embeds.bin"], "a fox, <style>", None),
    ("both", "sd1", ["sparkle.pt", "old-map.safetensors"], "sparkle and sparkle, a house", "old-map"),
    ("sd2", "sd2", ["fog2.pt"], "a fox in fog2", None),
]


def vectors(name, count, width):
    generator = torch.Generator().manual_seed(sum(name.encode()))
    return torch.randn(count, width, generator=generator) * 0.8


def write(name):
    folder, form, count, token = FILES[name]
    values = vectors(name, count, {"sd1": 32, "sd2": 48}[folder])
    if form == "a1111":
        torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(values)}, "name": name.rsplit(".", 1)[0],
                    "step": 1500, "sd_checkpoint": "cc6cb27103", "sd_checkpoint_name": "v1-5-pruned-emaonly"}, OUT / name)
    elif name.endswith(".bin"):
        torch.save({token: values[0]}, OUT / name)
    else:
        save_file({"emb_params": values} if form == "emb_params" else {token: values[0] if count == 1 else values}, OUT / name)
        (OUT / name).chmod(0o644)
    return values


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    values = {name: write(name) for name in FILES}
    cases, tensors, bad = [], {}, []
    for name, which, files, prompt, negative in CASES:
        pipe = load_folder(which)
        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)

        def run():
            pipe.scheduler.set_timesteps(6)
            made = pipe(prompt, negative_prompt=negative, width=64, height=64, num_inference_steps=6, guidance_scale=5.0,
                        generator=torch.Generator("cpu").manual_seed(5))
            return numpy.asarray(made.images[0])

        plain = run()
        for file in files:
            token = FILES[file][3] if FILES[file][1] == "diffusers" else file.rsplit(".", 1)[0]
            given = load_file(OUT / file) if file.endswith(".safetensors") else torch.load(OUT / file, weights_only=False)
            pipe.load_textual_inversion({token: given["emb_params"]} if "emb_params" in given else given, token=token)
        made = run()
        text, uncond = (t for t in pipe.encode_prompt(prompt, "cpu", 1, True, negative))
        tensors[f"{name}/embeddings"] = torch.cat([uncond, text]).contiguous()
        moved = int(numpy.abs(made.astype(int) - plain.astype(int)).max())
        if moved <= 8:
            bad.append(name)
        Image.fromarray(made).save(OUT / "pictures" / f"{name}.png", optimize=True)
        ids = pipe.tokenizer(pipe.maybe_convert_prompt(prompt, pipe.tokenizer)).input_ids
        cases.append({"name": name, "pipeline": which, "files": files, "prompt": prompt, "negative_prompt": negative, "tokens": len(ids) - 2,
                      "vectors": [len(values[file]) for file in files], "width": 64, "height": 64, "steps": 6, "guidance_scale": 5.0, "seed": 5, "moved": moved})
        print(f"{name:12} {moved} {len(ids) - 2} tokens", flush=True)
    write_json(OUT / "cases.json", cases)
    save_file(tensors, OUT / "expected.safetensors")
    (OUT / "expected.safetensors").chmod(0o644)
    if bad:
        raise SystemExit(f"not fit to be goldens: {', '.join(bad)}")


if __name__ == "__main__":
    main()
