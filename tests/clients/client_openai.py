"""PyPI's `openai` against `aquatint serve`."""

import base64
import io
import sys
import urllib.request

import openai
from PIL import Image

client = openai.OpenAI(base_url=sys.argv[1].rstrip("/") + "/v1", api_key="any", max_retries=0)
MORE = {"seed": 7, "steps": 3}


def decoded(data):
    return Image.open(io.BytesIO(base64.b64decode(data.b64_json)))


assert [model.id for model in client.models.list()] == ["embedded"]
assert client.models.retrieve("embedded").owned_by == "aquatint"

made = client.images.generate(
    model="embedded", prompt="a fox", n=2, size="64x64", response_format="b64_json", extra_body=MORE
)
fox = decoded(made.data[0])
assert len(made.data) == 2 and fox.size == (64, 64) and made.created > 0
assert "Seed: 7" in fox.info["parameters"]

linked = client.images.generate(prompt="a fox", size="64x64", extra_body=MORE)
with urllib.request.urlopen(linked.data[0].url) as answer:
    assert answer.read() == base64.b64decode(made.data[0].b64_json), "the address leads to the same bytes"

jpeg = client.images.generate(prompt="a fox", size="64x64", output_format="jpeg", extra_body=MORE)
assert decoded(jpeg.data[0]).format == "JPEG"


def png(image):
    file = io.BytesIO()
    image.save(file, "png")
    return ("picture.png", file.getvalue(), "image/png")


mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
mask.paste((0, 0, 0, 0), (32, 0, 64, 64))
edited = client.images.edit(
    image=png(fox), mask=png(mask), prompt="a cat", response_format="b64_json", extra_body={**MORE, "mask_blur": 0}
)
cat = decoded(edited.data[0])
left = (0, 0, 24, 64)
assert cat.crop(left).tobytes() == fox.crop(left).tobytes(), "outside of the mask nothing changes"
assert cat.tobytes() != fox.tobytes()
varied = client.images.edit(image=png(fox), prompt="a cat", response_format="b64_json", extra_body=MORE)
assert decoded(varied.data[0]).size == (64, 64)

for wrong, param in [({"n": 11}, "n"), ({"size": "big"}, "size"), ({"model": "no-such"}, None), ({"quality": "hd"}, "quality")]:
    try:
        client.images.generate(**{"prompt": "a fox", "size": "64x64", "extra_body": MORE, **wrong})
    except openai.BadRequestError as error:
        assert error.param == param, (wrong, error.body)
    else:
        raise AssertionError(f"{wrong} is taken")
print("openai: as it expects")
