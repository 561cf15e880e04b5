"""Measure the trained model and draw its contact sheets: writes EVALUATION.json, EVALUATION.md and sheet-*.png to OUT.

    python evaluate.py DATA MODEL OUT [--pairs 200] [--colors 200]

autoencoder  PSNR of held-out pictures, there and back
matching     of ten captions (the right one and nine of other pictures of the split) the right one has the lowest v-loss; chance 10 %
colours      "a {colour} {thing}", never trained: the asked colour covers the most (white, black and gray aside unless asked)
sheets       64 prompts, one seed a sheet
"""
import argparse
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

import fastcpu
from colors import COLORS, main_colors

PROMPTS = """a penguin in the snow; a red car in the city; a castle at night; a blue butterfly; two green apples; a sailboat on the sea; a cactus in the desert; a cat
a slice of pizza; a fox in the forest; a smiling face; a rocket in space; an orange fish under water; a house in autumn; a cup of coffee; a dragon
a dog on the beach; a pink flower; a purple octopus; three bananas; a lion in the desert; an owl at night; a tractor on a field; a birthday cake
a bear riding a bicycle; a cat and a dog; a robot; a ghost at night; a green frog; a snowman in the snow; a mushroom in the forest; a crab on the beach
a yellow bus in the city; a hot air balloon in the sky; a rainbow; a strawberry; a burger; an ice cream; a glass of wine; sushi
a unicorn on a rainbow; a whale in the sea; a shark under water; a turtle on the beach; a bee on flowers; a horse on a meadow; a pig in the mountains; a mouse
a pixel art sword; a pixel art heart; flat style, a panda; cartoon style, a monkey; a blob emoji, happy face; a crying face; a face with sunglasses; a red heart
an astronaut in space; a wizard; a mermaid under water; a vampire at night; a guitar; a book on a wooden table; a blue teapot; a key""".replace("\n", "; ").split("; ")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data"), parser.add_argument("model"), parser.add_argument("out", type=Path)
parser.add_argument("--pairs", type=int, default=200, help="pictures a split for matching")
parser.add_argument("--colors", type=int, default=200, help="colour prompts")
parser.add_argument("--pictures", type=int, default=1024, help="held-out pictures for the PSNR")
parser.add_argument("--seeds", type=int, default=2, help="contact sheets")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(args.threads), torch.set_grad_enabled(False)

pipe = StableDiffusionPipeline.from_pretrained(args.model, safety_checker=None, requires_safety_checker=False, low_cpu_mem_usage=False)
pipe.set_progress_bar_config(disable=True)
vae, unet, text, tokenizer = fastcpu.patch(pipe.vae), fastcpu.patch(pipe.unet), pipe.text_encoder, pipe.tokenizer
images = np.load(f"{args.data}/images128.npy", mmap_mode="r")
splits = defaultdict(list)
for r in map(json.loads, open(f"{args.data}/captions.jsonl")):
    splits[r["split"]].append(r)
train_captions = {c for r in splits.pop("train") for c in r["captions"]}
rng = np.random.default_rng(0)


def pictures(rows):
    return torch.from_numpy(np.stack([images[r["row"]] for r in rows])).permute(0, 3, 1, 2).float() / 127.5 - 1


def sample(rows, n):
    return [rows[i] for i in sorted(rng.choice(len(rows), min(n, len(rows)), replace=False))]


def embed(captions):
    return text(tokenizer(captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt").input_ids)[0]


def generate(prompts, seed):
    made = []
    for i in range(0, len(prompts), 16):
        generator = torch.Generator().manual_seed(seed + i)
        made += pipe(prompts[i:i + 16], num_inference_steps=20, guidance_scale=4, height=128, width=128, generator=generator).images
    return made


def psnr():
    rows, out = sample([r for s in splits.values() for r in s], args.pictures), []
    for i in range(0, len(rows), 32):
        x = pictures(rows[i:i + 32])
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        y = (y * 127.5 + 127.5).round() / 127.5 - 1  # 8 bits, as they are saved
        out += (-10 * torch.log10(((x - y) ** 2).mean((1, 2, 3)) / 4)).tolist()
    return round(float(np.mean(out)), 2)


def matching(rows):
    """Share of pictures whose own caption explains them better than nine others do, in percent."""
    alphas, levels, hits = DDIMScheduler.from_config(pipe.scheduler.config).alphas_cumprod, torch.tensor([200, 400, 600, 800]), 0
    asked = sample(rows, args.pairs)
    for k, r in enumerate(asked):
        others = [o for o in rows if o["concept"] != r["concept"]]
        captions = [r["captions"][0]] + [others[i]["captions"][0] for i in rng.choice(len(others), 9, replace=False)]
        x = vae.encode(pictures([r])).latent_dist.mode()
        noise = torch.randn(4, *x.shape[1:], generator=torch.Generator().manual_seed(k))
        alpha, sigma = alphas[levels].sqrt().view(-1, 1, 1, 1), (1 - alphas[levels]).sqrt().view(-1, 1, 1, 1)
        noisy, target = alpha * x + sigma * noise, alpha * noise - sigma * x
        v = unet(noisy.repeat(10, 1, 1, 1), levels.repeat(10), embed(captions).repeat_interleave(4, 0)).sample
        loss = ((v - target.repeat(10, 1, 1, 1)) ** 2).mean((1, 2, 3)).view(10, 4).mean(1)
        hits += int(loss.argmin() == 0)
    return round(100 * hits / len(asked), 1)


def color_hit(picture, color):
    rgb = np.asarray(picture.convert("RGB"))
    alpha = np.where((rgb < 238).any(-1), 255, 0).astype(np.uint8)
    found = [n for n, _ in main_colors(np.dstack([rgb, alpha])) if n == color or n not in ("white", "black", "gray")] if alpha.any() else []
    return bool(found) and found[0] == color


def colors():
    """Percent of generated pictures in the asked colour, and of the real ones: the measure's own ceiling."""
    wanted = []
    for r in splits["test_color"]:
        for c in r["captions"]:
            m = re.fullmatch(r"an? (\w+) (.+)", c)
            if m and m[1] in COLORS and " background" not in c and not re.search(r" (in|on|at|under|among|with) ", c) and c not in train_captions:
                wanted.append((r, c, m[1]))
                break
    wanted = sample(wanted, args.colors)
    made = generate([c for _, c, _ in wanted], 1000)
    grid(made[:64], args.out / "sheet-colours.png")
    hits = [color_hit(p, c) for p, (_, _, c) in zip(made, wanted)]
    real = [color_hit(Image.fromarray(images[r["row"]]), c) for r, _, c in wanted]
    missed = Counter(c for h, (_, _, c) in zip(hits, wanted) if not h)
    return dict(prompts=len(wanted), hits=round(100 * np.mean(hits), 1), real_pictures=round(100 * np.mean(real), 1), missed=dict(missed))


def grid(made, path):
    sheet = Image.new("RGB", (8 * 128, -(-len(made) // 8) * 128), "white")
    for i, picture in enumerate(made):
        sheet.paste(picture, (i % 8 * 128, i // 8 * 128))
    sheet.save(path)


result = dict(psnr=psnr(), matching={s: matching(rows) for s, rows in sorted(splits.items())}, colors=colors())
for seed in range(args.seeds):
    grid(generate(PROMPTS, seed), args.out / f"sheet-{seed}.png")
table = [("autoencoder, PSNR of held-out pictures", f"{result['psnr']} dB")]
table += [(f"right caption of ten, `{s}`", f"{v} %") for s, v in result["matching"].items()]
table += [("asked colour, combinations never trained", f"{result['colors']['hits']} %"), ("the same, real pictures", f"{result['colors']['real_pictures']} %")]
(args.out / "EVALUATION.json").write_text(json.dumps(result, indent=1) + "\n")
(args.out / "EVALUATION.md").write_text("| measure | value |\n| --- | ---: |\n" + "".join(f"| {a} | {b} |\n" for a, b in table))
print((args.out / "EVALUATION.md").read_text())
