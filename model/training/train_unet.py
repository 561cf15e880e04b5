"""Train the denoiser and its text encoder on the latents of the autoencoder.

    python train_unet.py DATA OUT [--steps 40000] [--cooldown 10000] [--resume]

OUT holds vae/ (train_vae.py). It gets latents.npy, unet.pt to resume from, unet.png (fixed prompts) and model/: a diffusers
StableDiffusionPipeline of the averaged weights in f16. The learning rate is constant, then falls to zero over the last `cooldown`
steps; until it falls, `--steps` may be changed at every resume.

loss = | unet(alpha x + sigma n, t, text(caption)) - (alpha n - sigma x) |^2      one caption in ten is empty, for guidance
"""
import argparse
import json
import os
import shutil
import signal
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a waiting thread gives its core to others
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import fastcpu

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data"), parser.add_argument("out")
parser.add_argument("--steps", type=int, default=40000)
parser.add_argument("--cooldown", type=int, default=10000)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--lr", type=float, default=1e-3, help="the denoiser's; the text encoder's is half of it")
parser.add_argument("--resume", action="store_true", help="go on from OUT/unet.pt")
parser.add_argument("--report", type=int, default=500, help="steps between reports and checkpoints")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
torch.set_num_threads(args.threads), torch.set_flush_denormal(True), torch.manual_seed(0)

PROMPTS = ["a penguin in the snow", "a red car in the city", "a castle at night", "a blue butterfly", "two green apples", "a sailboat on the sea",
           "a cactus in the desert", "a cat", "a slice of pizza", "a fox in the forest", "a smiling face", "a rocket in space",
           "an orange fish under water", "a house in autumn", "a cup of coffee", "a dragon"]
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction")
scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2, steps_offset=1, timestep_spacing="trailing", **SCHEDULE)
alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod

vae = fastcpu.patch(AutoencoderKL.from_pretrained(f"{args.out}/vae", low_cpu_mem_usage=False).eval())
channels = vae.config.latent_channels
tokenizer = CLIPTokenizer.from_pretrained(f"{args.data}/tokenizer")


def encoded():
    """Every picture's latent, f16 [rows, channels, 16, 16]; made once."""
    file = f"{args.out}/latents.npy"
    if not os.path.exists(file):
        images = np.load(f"{args.data}/images128.npy", mmap_mode="r")
        z = np.empty((len(images), channels, 16, 16), np.float16)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for i in range(0, len(images), 64):
                x = torch.from_numpy(np.array(images[i:i + 64])).permute(0, 3, 1, 2).float() / 127.5 - 1
                z[i:i + 64] = vae.encode(x).latent_dist.mode().float().numpy()
        np.save(file, z)
    return torch.from_numpy(np.load(file))


latents = encoded()
rows = [r for r in map(json.loads, open(f"{args.data}/captions.jsonl")) if r["split"] == "train"]
texts = [""] + [c for r in rows for c in r["captions"]]
tokens = torch.tensor(tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids, dtype=torch.int16)
first = np.cumsum([1] + [len(r["captions"]) for r in rows])  # row i's captions are texts[first[i]:first[i + 1]]
row_of = np.array([r["row"] for r in rows])
icons = np.array([i for i, r in enumerate(rows) if r["kind"] == "icon"])
scenes = np.array([i for i, r in enumerate(rows) if r["kind"] != "icon"])
icon_share = np.array([rows[i]["weight"] for i in icons]) / sum(rows[i]["weight"] for i in icons)

unet_config = dict(sample_size=16, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(128, 128),
                   down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                   cross_attention_dim=128, attention_head_dim=4, norm_num_groups=32)
text_config = CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
                             max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=128, bos_token_id=tokenizer.bos_token_id,
                             eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)


def models():
    text = CLIPTextModel(text_config)
    text.set_attn_implementation("eager")  # the fused one's bf16 backward is slow
    return fastcpu.patch(UNet2DConditionModel(**unet_config)), text


(unet, text), (ema_unet, ema_text) = models(), models()
ema_unet.load_state_dict(unet.state_dict()), ema_text.load_state_dict(text.state_dict())
ema_unet.eval(), ema_text.eval()
optimizer = torch.optim.AdamW([dict(params=unet.parameters(), peak=args.lr), dict(params=text.parameters(), peak=args.lr / 2)], lr=args.lr,
                              betas=(0.9, 0.99), weight_decay=0.01, fused=True)
step, cpu_hours, checkpoint = 0, 0.0, f"{args.out}/unet.pt"
parts = dict(unet=unet, text=text, ema_unet=ema_unet, ema_text=ema_text, optimizer=optimizer)
if args.resume:
    saved = torch.load(checkpoint)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    step, cpu_hours = saved["step"], saved["cpu_hours"]
rng = np.random.default_rng(step)
torch.manual_seed(step)


def batch():
    n_icons = int(args.batch * 0.4)
    picked = np.concatenate([rng.choice(icons, n_icons, p=icon_share), rng.choice(scenes, args.batch - n_icons)])
    caption = np.where(rng.random(args.batch) < 0.1, 0, rng.integers(first[picked], first[picked + 1]))
    return latents[row_of[picked]].float(), tokens[caption].long()


def train_step():
    x, ids = batch()
    t = ((torch.randperm(args.batch) + torch.rand(args.batch)) / args.batch * 1000).long()
    alpha, sigma = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
    noise = torch.randn_like(x)
    with torch.autocast("cpu", torch.bfloat16):
        v = unet(alpha * x + sigma * noise, t, text(ids)[0]).sample
    loss = F.mse_loss(v.float(), alpha * noise - sigma * x)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def average():
    decay = min((1 + step) / (10 + step), 0.9995)
    for mean, model in ((ema_unet, unet), (ema_text, text)):
        torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - decay)


def pipeline(unet, text, vae):
    return StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
                                   feature_extractor=None, requires_safety_checker=False)


def in_f16(model, like):
    like.load_state_dict(model.state_dict())
    return like.half()


def export(folder):
    """The averaged model in f16, in the layout of the published Stable Diffusion 1.x folders."""
    fresh = UNet2DConditionModel(**unet_config), CLIPTextModel(text_config), AutoencoderKL.from_config(vae.config)
    pipeline(*(in_f16(m, f) for m, f in zip((ema_unet, ema_text, vae), fresh))).save_pretrained(folder)
    shutil.rmtree(f"{folder}/tokenizer")  # vocab.json and merges.txt instead of tokenizer.json
    shutil.copytree(f"{args.data}/tokenizer", f"{folder}/tokenizer")
    file = f"{folder}/text_encoder/model.safetensors"  # names begin with text_model, as they did before transformers 5
    save_file({f"text_model.{k}": v for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    edit(f"{folder}/text_encoder/config.json", dtype="float32")  # the type to compute in: transformers would take the file's
    edit(f"{folder}/scheduler/scheduler_config.json", lambda_min_clipped=None)  # diffusers' default -Infinity is not JSON


def edit(file, **changes):
    config = {k: v for k, v in (json.load(open(file)) | changes).items() if k not in changes or v is not None}
    with open(file, "w") as f:
        f.write(json.dumps(config, indent=2) + "\n")


def save():
    torch.save(dict({name: part.state_dict() for name, part in parts.items()}, step=step, cpu_hours=cpu_hours), checkpoint + ".new")
    os.replace(checkpoint + ".new", checkpoint)
    export(f"{args.out}/model")
    pipe = pipeline(ema_unet, ema_text, vae)
    pipe.set_progress_bar_config(disable=True)
    with torch.autocast("cpu", torch.bfloat16):
        made = pipe(PROMPTS, num_inference_steps=20, guidance_scale=4, height=128, width=128, generator=torch.Generator().manual_seed(1)).images
    sheet = Image.new("RGB", (8 * 128, 2 * 128))
    for i, picture in enumerate(made):
        sheet.paste(picture, (i % 8 * 128, i // 8 * 128))
    sheet.save(f"{args.out}/unet.png")


began, cpu, losses = time.time(), time.process_time(), []
stopped = []  # by Ctrl-C or kill: finish the step, save, end
for kind in (signal.SIGINT, signal.SIGTERM):
    signal.signal(kind, lambda *_: stopped.append(True))
while step < args.steps and not stopped:
    rate = min(1, (step + 1) / 500, (args.steps - step) / args.cooldown)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate
    losses.append(train_step())
    step += 1
    average()
    if step % args.report == 0 or step == args.steps or stopped:
        cpu_hours, cpu = cpu_hours + (time.process_time() - cpu) / 3600, time.process_time()
        print(f"step {step}  loss {np.mean(losses):.4f}  {cpu_hours:.2f} cpu h  wall {(time.time() - began) / 60:.1f} min", flush=True)
        losses.clear()
        save()
