"""diffusers' pictures of the model that is compiled into the program, for twenty prompts.

Writes embedded/pictures.png, a sheet of five columns, and embedded/cases.json. To be run again whenever model/embedded changes.
"""

import json

import torch
from common import HERE, write_json
from diffusers import StableDiffusionPipeline
from PIL import Image

OUT = HERE / "embedded"
MODEL = HERE.parents[1] / "model" / "embedded"
COLUMNS = 5
PROMPTS = """a penguin in the snow; a red car in the city; a castle at night; a blue butterfly; two green apples; a sailboat on the sea
a cactus in the desert; a cat; a slice of pizza; a fox in the forest; a smiling face; a rocket in space; an orange fish under water
a house in autumn; a cup of coffee; a dragon; flat style, a panda; a pixel art heart; a PURPLE octopus, please!; something it never saw""".replace("\n", "; ").split("; ")


def main():
    pipe = StableDiffusionPipeline.from_pretrained(MODEL, safety_checker=None, requires_safety_checker=False, torch_dtype=torch.float32)
    settings = json.loads((MODEL / "generation_config.json").read_text())
    cases = [{"prompt": prompt, "seed": seed} for seed, prompt in enumerate(PROMPTS)]
    pictures = [pipe(c["prompt"], generator=torch.Generator().manual_seed(c["seed"]), **settings).images[0] for c in cases]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (COLUMNS * width, len(pictures) // COLUMNS * height))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % COLUMNS * width, i // COLUMNS * height))
    write_json(OUT / "cases.json", cases)
    sheet.save(OUT / "pictures.png", optimize=True)


if __name__ == "__main__":
    main()
