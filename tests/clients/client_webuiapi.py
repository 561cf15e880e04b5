"""PyPI's `webuiapi`, a client for A1111's web UI, against `aquatint serve`: what it can ask for is answered as it expects."""

import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse

import webuiapi
from PIL import Image, ImageDraw

address, program = urlparse(sys.argv[1]), sys.argv[2]
api = webuiapi.WebUIApi(host=address.hostname, port=address.port, sampler="Euler a", steps=3)

SMALL = {"width": 64, "height": 64, "seed": 7, "steps": 3}


def pixels(image):
    return image.convert("RGB").tobytes()


made = api.txt2img(prompt="a fox", negative_prompt="snow", n_iter=2, **SMALL)
assert len(made.images) == 2 and made.info["all_seeds"] == [7, 8], made.info
assert made.image.size == (64, 64)
assert "Steps: 3, Sampler: Euler a" in made.image.info["parameters"], made.image.info
assert made.info["infotexts"][0] == made.image.info["parameters"]

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "fox.png"
    flags = "-W 64 -H 64 -s 7 --steps 3 --cfg-scale 7 --sampler Euler_a --prompt-syntax a1111"
    command = [program, "txt2img", "a fox", "-n", "snow", "-o", str(path), *flags.split()]
    subprocess.run(command, check=True, capture_output=True)
    assert pixels(Image.open(path)) == pixels(made.images[0]), "the command line draws another picture"

again = api.img2img(prompt="a fox", images=[made.image], denoising_strength=0.6, **SMALL)
assert again.image.size == (64, 64) and pixels(again.image) != pixels(made.image)

mask = Image.new("RGB", (64, 64), "black")
ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill="white")
painted = api.img2img(
    prompt="a cat", images=[made.image], mask_image=mask, mask_blur=0, denoising_strength=0.9, inpainting_fill=1, **SMALL
)
left = (0, 0, 24, 64)
assert pixels(painted.image.crop(left)) == pixels(made.image.crop(left)), "outside of the mask nothing changes"

info = api.png_info(made.image)
assert info.info == made.image.info["parameters"]

assert api.get_progress()["progress"] == 0
names = [sampler["name"] for sampler in api.get_samplers()]
assert "Euler a" in names and "DPM++ 2M" in names, names
assert any(entry["label"] == "karras" for entry in api.get_schedulers())
models = api.util_get_model_names()
assert len(models) == 1 and models[0].startswith("embedded ["), models
assert api.util_get_current_model().startswith("embedded")
api.util_set_model("embedded")
assert api.get_options()["CLIP_stop_at_last_layers"] == 1
api.set_options({"CLIP_stop_at_last_layers": 2})
assert api.get_options()["CLIP_stop_at_last_layers"] == 2
skipped = api.txt2img(prompt="a fox", **SMALL)
assert "Clip skip: 2" in skipped.image.info["parameters"]
api.set_options({"CLIP_stop_at_last_layers": 1})
assert [upscaler["name"] for upscaler in api.get_upscalers()] == ["None", "Lanczos"]
larger = api.extra_single_image(made.image, upscaler_1="Lanczos", upscaling_resize=2)
assert larger.image.size == (128, 128)
both = api.extra_batch_images(made.images, upscaler_1="Lanczos", upscaling_resize=1.5)
assert [image.size for image in both.images] == [(96, 96)] * 2
for empty in [api.get_hypernetworks(), api.get_face_restorers(), api.get_realesrgan_models(), api.get_prompt_styles()]:
    assert empty == []
assert api.get_memory()["ram"]["total"] > 0
assert api.get_cmd_flags()["api"] is True
api.refresh_checkpoints()
api.interrupt()
api.skip()

for wrong, sentence in [
    ({"sampler_name": "none"}, "unknown sampler"),
    ({"width": 100}, "multiple of 8"),
    ({"restore_faces": True}, "restore_faces"),
    ({"alwayson_scripts": {"ControlNet": {}}}, "ControlNet"),
]:
    try:
        api.txt2img(prompt="a fox", **{**SMALL, **wrong})
    except RuntimeError as error:
        assert sentence in str(error), (wrong, error)
    else:
        raise AssertionError(f"{wrong} is taken")
print("webuiapi: as it expects")
