#!/usr/bin/env python3
"""Build the data set of the embedded model: one command, deterministic, about four minutes and 4 GB of memory.

    python prepare.py DATA

Emoji artwork in several styles (packages.json, fetched with `npm pack`) becomes sprites, used twice: alone on white ("icons") and
composed into scenes on procedural backdrops, in colours, in counts and in pairs. DATA gets

    images128.npy        uint8 [pictures, 128, 128, 3]
    captions.jsonl       one line a picture: row, kind, split, style, concept, captions, weight, licence
    tokenizer/           a byte-level BPE in CLIP's file format
    COUNTS.json, ATTRIBUTION.md, sheet_*.png
"""
import argparse
import hashlib
import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from bpe import train_bpe
from captions import icon_captions, styled
from scenes import KINDS, Painter, make_scene
from sources import PACKAGES, STYLES, concepts, h01
from sprites import M, load_style, pixelate

# How often the trainer visits an icon: the default style and the things people ask for come first.
STYLE_WEIGHT = {"3d": 1.0, "noto": 0.35, "flat": 0.35, "blob": 0.2, "pixel": 0.2}
GROUP_WEIGHT = {"animals-nature": 1.5, "food-drink": 1.3, "travel-places": 1.2, "smileys-emotion": 1.0, "activities": 0.8, "objects": 0.7,
                "symbols": 0.8, "people-body": 0.6}
TONE_WEIGHT = 0.25

# How often a group appears in composed pictures; smileys and people less, so that they do not dominate.
GROUP_SHARE = {"animals-nature": 3.0, "food-drink": 2.0, "travel-places": 1.6, "objects": 0.8, "activities": 0.8, "smileys-emotion": 0.8,
               "people-body": 0.35, "symbols": 0.0}
NOT_IN_SCENES = {"family", "hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands", "hand-prop",
                 "body-parts", "place-map", "time", "geometric", "person-gesture", "emotion", "lock", "office", "mail", "money"}
STYLE_SHARE = {"3d": 0.64, "flat": 0.15, "noto": 0.15, "blob": 0.06}


class Dataset:
    def __init__(self):
        self.images, self.records = [], []

    def add(self, im, **record):
        self.images.append(np.asarray(im.convert("RGB")))
        self.records.append({"row": len(self.records), **record})


def load(cache):
    """The concepts that at least two styles draw, and {style: {concept hex: sprite}}."""
    cs = concepts(cache)
    wanted = {c.hex: c for c in cs}
    by_style = {s: load_style(s, cache, wanted) for s in STYLES}
    # LobeHub's 3D package also holds pictures that are not Microsoft's; keep those with a Microsoft flat twin.
    # (Checked by hand: outlines of all the rest agree with Microsoft's colour SVGs, median IoU 0.98; see DROP_3D.)
    by_style["3d"] = {k: v for k, v in by_style["3d"].items() if k in by_style["flat"]}
    # The 2013-2017 blobs differ from today's Noto mostly in faces and animals; the people are left out.
    by_style["blob"] = {k: v for k, v in by_style["blob"].items() if not wanted[k].people}
    return [c for c in cs if sum(c.hex in by_style[s] for s in STYLES) >= 2], by_style


def on_white(sprite):
    canvas = Image.new("RGBA", (M, M), (255, 255, 255, 255))
    canvas.alpha_composite(sprite)
    return canvas


def add_icons(data, cs, by_style, seed):
    def add(c, style, sprite, split, licence):
        rng = random.Random(f"{seed}/{'pixel' if style == 'pixel' else f'icon/{style}'}/{c.hex}")
        weight = round(STYLE_WEIGHT[style] * GROUP_WEIGHT[c.group] * (TONE_WEIGHT if c.tone else 1), 3)
        data.add(on_white(sprite), kind="icon", split=split, style=style, concept=c.name, group=c.group,
                 captions=icon_captions(c, style, sprite, rng), weight=weight, licence=licence)

    seen, untoned = set(), {}
    n_styles = Counter(c.hex for c in cs for s in STYLES if c.hex in by_style[s])
    for s in STYLES:
        for c in cs:
            if c.hex not in by_style[s]:
                continue
            sprite = by_style[s][c.hex]
            # Skip what another caption already shows: same drawing, or a skin tone that cannot be seen.
            small = np.asarray(on_white(sprite).convert("RGB").resize((64, 64), Image.BICUBIC), np.int16)
            if not c.tone:
                untoned[s, c.base_name] = small
            elif np.abs(small - untoned.get((s, c.base_name), 0)).mean() < 1.0:
                continue
            key = (s, hashlib.sha256(small.tobytes()).digest())
            if key in seen:
                continue
            seen.add(key)
            split = "train"
            if c.tone and h01("tone", c.base_name, c.tone) < 0.06:
                split = "test_tone"  # this skin tone of this thing is unseen in every style
            elif not c.tone and s != "3d" and n_styles[c.hex] >= 3 and h01("style", c.name) < 0.10 and h01("which", c.name, s) < 0.5:
                split = "test_style"  # this thing is unseen in this style
            add(c, s, sprite, split, STYLES[s]["licence"])
    for c in cs:  # pixel art, made from Noto
        if not c.people and c.hex in by_style["noto"]:
            add(c, "pixel", pixelate(by_style["noto"][c.hex]), "test_style" if h01("pixel", c.name) < 0.05 else "train", STYLES["noto"]["licence"])


def fills_its_box(sprite):
    """Drawings like a photograph (a night sky, a sunset) are scenes themselves."""
    return (np.asarray(sprite.crop(sprite.getbbox()))[..., 3] > 200).mean() > 0.92


def add_scenes(data, cs, by_style, seed, n, variants):
    pool = [c for c in cs if not c.tone and c.sub not in NOT_IN_SCENES and GROUP_SHARE.get(c.group, 0) and c.hex in by_style["3d"]
            and not re.match(r"(man|woman) ", c.name) and (c.group == "food-drink" or not fills_its_box(by_style["3d"][c.hex]))]
    share = np.cumsum([GROUP_SHARE[c.group] * (0.25 if c.sub in ("place-geographic", "place-other") else 1) for c in pool]).tolist()
    painter = Painter(seed, variants)
    for k in range(n):
        rng = random.Random(f"{seed}/scene/{k}")
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        made = make_scene(rng, kind, painter, (pool, share), by_style, STYLE_SHARE)
        if made is None:
            continue
        canvas, captions, style, concept, held_out = made
        captions = list(dict.fromkeys(styled(rng, t, style) for t in captions))
        split = f"test_{kind}" if held_out else ("val" if h01("val", k) < 0.01 else "train")
        data.add(canvas, kind=kind, split=split, style=style, concept=concept, captions=captions, weight=1.0, licence=STYLES[style]["licence"])


def write_counts(data, vocab, out):
    def count(key, rows=data.records):
        return Counter(r[key] for r in rows)

    icons = [r for r in data.records if r["kind"] == "icon"]
    counts = {"pictures": len(data.records), "captions": sum(len(r["captions"]) for r in data.records), "things": len(count("concept", icons)), "vocab": vocab,
              "by_kind": count("kind"), "by_split": count("split"), "by_style": count("style"), "by_licence": count("licence"),
              "icons_by_group": count("group", icons), "sha256": {"images128.npy": hashlib.sha256((out / "images128.npy").read_bytes()).hexdigest()}}
    (out / "COUNTS.json").write_text(json.dumps(counts, indent=1) + "\n")
    print(json.dumps(counts, indent=1))


def write_attribution(path):
    lines = ["# Attribution of the training pictures\n"]
    for s, info in STYLES.items():
        name, version, _ = PACKAGES[info["pkg"]]
        lines.append(f"- **{s}**: {info['holder']}; {info['licence']}; <{info['url']}>; taken from npm `{name}` {version}. Cropped, rescaled, recoloured and composed.")
    name, version, _ = PACKAGES["emojibase"]
    lines.append(f"- **names and keywords**: npm `{name}` {version} (MIT, Copyright (c) Miles Johnson), derived from Unicode CLDR (Unicode License v3).")
    lines.append("- **backdrops, captions, aliases, pixel-art rendering**: made by the scripts in this folder.")
    path.write_text("\n".join(lines) + "\n")


def write_sheets(data, out):
    rng = random.Random(1)
    for name, key in [(f"icon_{s}", ("icon", s)) for s in [*STYLES, "pixel"]] + [(k, (k, None)) for k in KINDS]:
        rows = [r["row"] for r in data.records if r["kind"] == key[0] and key[1] in (None, r["style"])]
        rows = sorted(rng.sample(rows, min(200, len(rows))))
        sheet = Image.new("RGB", (20 * M, -(-len(rows) // 20) * M), "white")
        for i, row in enumerate(rows):
            sheet.paste(Image.fromarray(data.images[row]), (i % 20 * M, i // 20 * M))
        sheet.save(out / f"sheet_{name}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / "cache", help="where the packages are kept")
    parser.add_argument("--scenes", type=int, default=48000, help="composed pictures")
    parser.add_argument("--variants", type=int, default=48, help="drawings per backdrop")
    parser.add_argument("--vocab", type=int, default=3072)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    cs, by_style = load(args.cache)
    data = Dataset()
    add_icons(data, cs, by_style, args.seed)
    add_scenes(data, cs, by_style, args.seed, args.scenes, args.variants)

    array = np.lib.format.open_memmap(args.out / "images128.npy", mode="w+", dtype=np.uint8, shape=(len(data.images), M, M, 3))
    for i, im in enumerate(data.images):
        array[i] = im
    array.flush()
    with open(args.out / "captions.jsonl", "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in data.records)
    vocab = train_bpe([t for r in data.records if r["split"] == "train" for t in r["captions"]], args.vocab, args.out / "tokenizer")
    write_counts(data, vocab, args.out)
    write_attribution(args.out / "ATTRIBUTION.md")
    write_sheets(data, args.out)


if __name__ == "__main__":
    main()
