"""Drawings from the packages as framed 128x128 RGBA sprites, and a pixel-art version of them."""
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

import words as wd
from sources import STYLES, fetch, member, norm

M = 128  # size of sprites and scenes
BOX = 114  # a sprite's longer side


def premul_resize(im, size):
    return im.convert("RGBa").resize(size, Image.BICUBIC).convert("RGBA")


def frame(im):
    """Crop to the drawing, fit into BOX, centre on the master canvas; None if (nearly) empty."""
    a = np.asarray(im)[..., 3]
    if (a > 24).mean() < 0.01:
        return None
    ys, xs = np.where(a > 12)
    im = im.crop((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    k = BOX / max(im.size)
    im = premul_resize(im, (max(1, round(im.width * k)), max(1, round(im.height * k))))
    out = Image.new("RGBA", (M, M), (0, 0, 0, 0))
    out.paste(im, ((M - im.width) // 2, (M - im.height) // 2))
    return out


def load_style(style, cache, wanted):
    """{concept hex: master RGBA sprite} of one set."""
    info = STYLES[style]
    path, out = fetch(info["pkg"], cache), {}
    if style == "3d":
        with tarfile.open(path) as t:
            for m in t.getmembers():
                key = norm(Path(m.name).stem)
                # This package has two skin tones exchanged (seen against Microsoft's own SVGs), but not in the technologists.
                key = key if "1f4bb" in key else re.sub("1f3f[cd]", lambda t: {"1f3fc": "1f3fd", "1f3fd": "1f3fc"}[t[0]], key)
                if m.name.endswith(".webp") and key in wanted and wanted[key].label not in wd.DROP_3D:
                    out[key] = frame(Image.open(io.BytesIO(t.extractfile(m).read())).convert("RGBA"))
    else:
        d = json.loads(member(path, "icons.json"))
        try:
            names = {norm(k): v for k, v in json.loads(member(path, "chars.json")).items()}
        except (KeyError, ValueError):
            names = {}
        if not names:  # old sets have no code points: go by the slug of the CLDR name
            names = {h: c.slug for h, c in wanted.items() if c.slug in d["icons"]}
        for key, icon in names.items():
            if key not in wanted or icon not in d["icons"]:
                continue
            i = d["icons"][icon]
            w, h = i.get("width", d.get("width", 16)), i.get("height", d.get("height", 16))
            svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{w}" height="{h}" '
                   f'viewBox="{i.get("left", 0)} {i.get("top", 0)} {w} {h}">{i["body"]}</svg>')
            out[key] = frame(Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256))).convert("RGBA"))
    return {k: v for k, v in out.items() if v is not None}


def pixelate(sprite, grid=32):
    """A pixel-art rendering of a sprite: small grid, hard edges, 14 colours."""
    small = premul_resize(sprite, (grid, grid))
    a = np.asarray(small)[..., 3] > 110
    rgb = small.convert("RGB").quantize(14, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    rgba = np.dstack([np.asarray(rgb), np.where(a, 255, 0).astype(np.uint8)])
    return Image.fromarray(rgba, "RGBA").resize((M, M), Image.NEAREST)
