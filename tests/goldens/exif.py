"""The text in JPEG and WebP files: written the way A1111 writes it, and read from ours by sd-parsers and piexif.

A1111 saves the picture with Pillow and inserts piexif.dump({"Exif": {UserComment: UserComment.dump(text, "unicode")}}). Writes
parameters/a1111.jpg and a1111.webp. parameters/ours.jpg and ours.webp are by

    aquatint txt2img -m <random-model tiny> -p "東京, a fox" -n dark -s 7 --steps 1 -W 16 -H 16 --sampler "Euler a" -o ours.jpg

and the same with ours.webp; exif.json records what sd-parsers and piexif read in all four.
"""

import piexif
from PIL import Image
from piexif.helper import UserComment
from sd_parsers import ParserManager

from common import HERE, write_json

FOLDER = HERE / "parameters"
TEXT = (
    "a Bär, 熊\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, "
    "Size: 512x768, Model hash: 45dee52b12, Model: v1-5, Version: v1.10.1"
)


def main():
    block = piexif.dump({"Exif": {piexif.ExifIFD.UserComment: UserComment.dump(TEXT, encoding="unicode")}})
    for name in ("a1111.jpg", "a1111.webp"):
        Image.new("RGB", (16, 16), (90, 120, 30)).save(FOLDER / name, quality=80)
        piexif.insert(block, str(FOLDER / name))
    read = []
    for name in ("a1111.jpg", "a1111.webp", "ours.jpg", "ours.webp"):
        exif = piexif.load(str(FOLDER / name))["Exif"]
        found = ParserManager().parse(FOLDER / name)
        sampler = found.samplers[0]
        read.append({
            "file": name, "piexif": UserComment.load(exif[piexif.ExifIFD.UserComment]), "generator": str(found.generator),
            "prompt": sampler.prompts[0].value, "negative_prompt": sampler.negative_prompts[0].value, "sampler": sampler.name,
            "model": sampler.model.name, "model_hash": sampler.model.hash, "sampler_parameters": sampler.parameters,
        })
        print(read[-1])
    write_json(FOLDER / "exif.json", read)


if __name__ == "__main__":
    main()
