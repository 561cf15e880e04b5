"""Train the autoencoder: 128x128 pictures to 16x16x4 latents and back (Stable Diffusion's factor of 8).

    python train_vae.py DATA OUT [--steps 12000] [--resume]

DATA holds images128.npy and captions.jsonl (prepare.py). OUT gets vae/ (diffusers' AutoencoderKL, averaged weights), vae.pt to
resume from and vae.png (held-out pictures above, reconstructed below). The learning rate follows the step, not the clock, so a
paused or slowed run loses nothing.

loss = L1 + MSE + 0.5 edges + 0.5 (the same for half-size latents) + 2e-5 KL
"""
import argparse
import json
import math
import os
import signal
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a waiting thread gives its core to others
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

import fastcpu

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data"), parser.add_argument("out")
parser.add_argument("--steps", type=int, default=12000)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--start", help="folder of an autoencoder to start from")
parser.add_argument("--resume", action="store_true", help="go on from OUT/vae.pt")
parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder only: latents made before stay valid")
parser.add_argument("--report", type=int, default=500, help="steps between reports and checkpoints")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

os.makedirs(args.out, exist_ok=True)
torch.set_num_threads(args.threads), torch.set_flush_denormal(True), torch.manual_seed(0)
images = np.load(f"{args.data}/images128.npy", mmap_mode="r")
rows = [json.loads(line) for line in open(f"{args.data}/captions.jsonl")]
train = np.array([r["row"] for r in rows if r["split"] == "train"])
held_out = np.array([r["row"] for r in rows if r["split"] == "val"])[:64]

CONFIG = dict(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 64, 64), layers_per_block=1, norm_num_groups=8,
              sample_size=128, scaling_factor=1.0, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
vae, ema = fastcpu.patch(AutoencoderKL(**CONFIG)), fastcpu.patch(AutoencoderKL(**CONFIG).eval())
if args.start:
    vae.load_state_dict(AutoencoderKL.from_pretrained(args.start, low_cpu_mem_usage=False).state_dict())
ema.load_state_dict(vae.state_dict())
if args.freeze_encoder:
    vae.encoder.requires_grad_(False), vae.quant_conv.requires_grad_(False)
trained = [p for p in vae.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=args.lr, betas=(0.9, 0.99), weight_decay=0, fused=True)
step, cpu_hours, checkpoint = 0, 0.0, f"{args.out}/vae.pt"
if args.resume:
    saved = torch.load(checkpoint)
    vae.load_state_dict(saved["vae"]), ema.load_state_dict(saved["ema"]), optimizer.load_state_dict(saved["optimizer"])
    step, cpu_hours = saved["step"], saved["cpu_hours"]
rng = np.random.default_rng(step)
torch.manual_seed(step)


def pictures(picked):
    x = torch.from_numpy(images[np.sort(picked)]).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def distance(a, b):
    """L1 + MSE + L1 of the differences between neighbours at three scales: soft outlines, which one sees first in flat art, cost."""
    loss = F.l1_loss(a, b) + F.mse_loss(a, b)
    for _ in range(3):
        dx, dy = F.l1_loss(a[..., 1:] - a[..., :-1], b[..., 1:] - b[..., :-1]), F.l1_loss(a[..., 1:, :] - a[..., :-1, :], b[..., 1:, :] - b[..., :-1, :])
        loss = loss + 0.5 * (dx + dy)
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return loss


@torch.no_grad()
def report(model):
    """Mean PSNR of held-out pictures, in dB."""
    x = pictures(held_out)
    y = model.decode(model.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
    shown = torch.cat([torch.cat(list(v[:16]), 2) for v in (x, y)], 1)
    Image.fromarray(((shown.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()).save(f"{args.out}/vae.png")
    return (-10 * torch.log10(((x - y) ** 2).mean((1, 2, 3)) / 4)).mean().item()


def save():
    state = dict(vae=vae.state_dict(), ema=ema.state_dict(), optimizer=optimizer.state_dict(), step=step, cpu_hours=cpu_hours)
    torch.save(state, checkpoint + ".new")
    os.replace(checkpoint + ".new", checkpoint)
    ema.save_pretrained(f"{args.out}/vae")


def train_step():
    x = pictures(rng.choice(train, args.batch))
    with torch.autocast("cpu", torch.bfloat16):
        with torch.set_grad_enabled(not args.freeze_encoder):
            posterior = vae.encode(x).latent_dist
            z = posterior.sample()
        z = z + 0.1 * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z) * z.detach().std()  # the denoiser's latents will not be perfect
        y = vae.decode(z).sample.float()
        half = slice(0, len(z) // 2)  # half-size latents must mean half-size pictures: smooth latents are easier to denoise
        y_half = vae.decode(F.avg_pool2d(z[half], 2)).sample.float()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
    fit = distance(y, x)
    loss = fit + 0.5 * distance(y_half, F.avg_pool2d(x[half], 2)) + 2e-5 * kl
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    return fit.item()


@torch.no_grad()
def average():
    decay = min((1 + step) / (10 + step), 0.999)
    torch._foreach_lerp_(list(ema.parameters()), list(vae.parameters()), 1 - decay)


@torch.no_grad()
def fold():
    """Shift and scale each latent channel inside the 1x1 convolutions so that white is z = 0 and the training set has unit variance:
    scaling_factor stays 1, and sampling that starts from noise is centred on a white background."""
    mu = ema.encode(torch.ones(1, 3, 128, 128)).latent_dist.mode().mean((0, 2, 3))
    picked = rng.choice(train, 2048, replace=False)
    z = torch.cat([ema.encode(pictures(picked[i:i + 32])).latent_dist.mode() for i in range(0, len(picked), 32)])
    s = ((z - mu.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3)).sqrt()
    n, q, p = len(mu), ema.quant_conv, ema.post_quant_conv
    p.bias += p.weight[:, :, 0, 0] @ mu
    p.weight *= s.view(1, -1, 1, 1)
    q.weight[:n] /= s.view(-1, 1, 1, 1)
    q.bias[:n] = (q.bias[:n] - mu) / s
    q.bias[n:] -= 2 * s.log()
    print(f"folded: white {mu.tolist()}, scale {s.tolist()}")
    ema.save_pretrained(f"{args.out}/vae")


began, cpu, losses = time.time(), time.process_time(), []
stopped = []  # by Ctrl-C or kill: finish the step, save, end
for kind in (signal.SIGINT, signal.SIGTERM):
    signal.signal(kind, lambda *_: stopped.append(True))
while step < args.steps and not stopped:
    for group in optimizer.param_groups:
        group["lr"] = args.lr * min(1, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
    losses.append(train_step())
    step += 1
    average()
    if step % args.report == 0 or step == args.steps or stopped:
        cpu_hours, cpu = cpu_hours + (time.process_time() - cpu) / 3600, time.process_time()
        print(f"step {step}  loss {np.mean(losses):.4f}  held-out PSNR {report(ema):.2f} dB  {cpu_hours:.2f} cpu h  wall {(time.time() - began) / 60:.1f} min", flush=True)
        losses.clear()
        save()
if not args.freeze_encoder and not stopped:
    fold()
print(f"held-out PSNR {report(ema):.2f} dB")
