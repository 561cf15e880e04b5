"""Train the denoiser and its text encoder on the latents of the autoencoder.

    python train_unet.py DATA OUT [--steps 40000] [--cooldown 10000] [--start MODEL | --resume]

OUT holds vae/ (train_vae.py). It gets latents.npy, unet.pt to resume from, unet.png (fixed prompts) and model/: a diffusers
StableDiffusionPipeline of the averaged weights in f16. The learning rate is constant, then falls to zero over the last `cooldown`
steps; until it falls, `--steps` may be changed at every resume.

The main process never waits: it takes a step with its own gradient and those that assistants have finished meanwhile, which are one
step old at most. So a core that is busy otherwise slows its assistant down and nobody else.

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
import words
from muon import Muon

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data"), parser.add_argument("out")
parser.add_argument("--steps", type=int, default=40000)
parser.add_argument("--cooldown", type=int, default=10000)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
parser.add_argument("--start", help="folder of a model whose denoiser and text encoder to start from, as ../embedded")
parser.add_argument("--resume", action="store_true", help="go on from OUT/unet.pt")
parser.add_argument("--colors", type=float, default=1, help="how often pictures of things in unusual colours are visited, to others")
parser.add_argument("--common", type=float, default=1, help="how often pictures of things that newcomers ask for are visited, to others")
parser.add_argument("--average", type=float, default=0.9995, help="decay of the averaged weights; 0.99 for a short run")
parser.add_argument("--report", type=int, default=500, help="steps between reports and checkpoints")
parser.add_argument("--assistants", type=int, default=1, help="further processes, one core each, that send gradients as they find time")
args = parser.parse_args()
torch.set_num_threads(1), torch.set_flush_denormal(True), torch.manual_seed(0)

PROMPTS = ["a penguin in the snow", "a red car in the city", "a castle at night", "a blue butterfly", "two green apples", "a sailboat on the sea",
           "a cactus in the desert", "a cat", "a slice of pizza", "a fox in the forest", "a smiling face", "a rocket in space",
           "an orange fish under water", "a house in autumn", "a cup of coffee", "a dragon"]
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction")
OTHER_STYLES = 0.4  # how often they are visited: a prompt that names no style means the 3D one
SETTINGS = dict(num_inference_steps=20, guidance_scale=4.0)  # what suits the model; aquatint takes its defaults from there
scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2, steps_offset=1, timestep_spacing="trailing", **SCHEDULE)
alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
noise_share = torch.cumsum(1 - alphas, 0)  # a noise level is visited in proportion to sigma^2: what is drawn is decided at the high ones
noise_share /= noise_share[-1].clone()

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


def tokenized(texts):
    """Every caption's tokens, [texts, 77]; made once."""
    file = f"{args.out}/tokens.npy"
    if not os.path.exists(file):
        np.save(file, np.array(tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids, np.int16))
    return torch.from_numpy(np.load(file))


latents = encoded()
rows = [r for r in map(json.loads, open(f"{args.data}/captions.jsonl")) if r["split"] == "train"]
texts = [""] + [c for r in rows for c in r["captions"]]
tokens = tokenized(texts)
first = np.cumsum([1] + [len(r["captions"]) for r in rows])  # row i's captions are texts[first[i]:first[i + 1]]
row_of = np.array([r["row"] for r in rows])
weight = np.array([r["weight"] * (1 if r["style"] == "3d" else OTHER_STYLES) for r in rows])
weight *= np.array([args.colors if r["kind"] == "color" else 1 for r in rows])
things = [f" {r['concept'].partition(' | ')[0]}" for r in rows]  # "penguin | snow": a thing and where it is
weight *= np.array([args.common if thing.endswith(tuple(f" {name}" for name in words.COMMON)) else 1 for thing in things])
is_icon = np.array([r["kind"] == "icon" for r in rows])
icon_share, scene_share = (np.cumsum(np.where(kind, weight, 0)) / weight[kind].sum() for kind in (is_icon, ~is_icon))

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
if args.start:
    unet.load_state_dict(load_file(f"{args.start}/unet/diffusion_pytorch_model.safetensors"))
    text.load_state_dict({k.removeprefix("text_model."): v for k, v in load_file(f"{args.start}/text_encoder/model.safetensors").items()})
ema_unet.load_state_dict(unet.state_dict()), ema_text.load_state_dict(text.state_dict())
ema_unet.eval(), ema_text.eval()
everything = [*unet.named_parameters(), *text.named_parameters()]
matrices = [p for name, p in everything if p.ndim > 1 and "embedding" not in name and not name.startswith(("conv_in", "conv_out"))]
others = [p for _, p in everything if not any(p is m for m in matrices)]
muon = Muon(matrices, lr=args.lr)
adam = torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
step, samples, checkpoint = 0, 0, f"{args.out}/unet.pt"
parts = dict(unet=unet, text=text, ema_unet=ema_unet, ema_text=ema_text, muon=muon, adam=adam)
if args.resume:
    saved = torch.load(checkpoint)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    step, samples = saved["step"], saved["samples"]
rng = np.random.default_rng(step)
torch.manual_seed(step)


def batch():
    n_icons = int(args.batch * 0.4)
    u = rng.random(args.batch)
    picked = np.concatenate([np.searchsorted(icon_share, u[:n_icons], "right"), np.searchsorted(scene_share, u[n_icons:], "right")])
    caption = np.where(rng.random(args.batch) < 0.1, 0, rng.integers(first[picked], first[picked + 1]))
    return latents[row_of[picked]].float(), tokens[caption].long()


def backward():
    """Adds a batch's gradient to the parameters' and gives its loss."""
    x, ids = batch()
    t = torch.searchsorted(noise_share, (torch.randperm(args.batch) + torch.rand(args.batch)) / args.batch)
    alpha, sigma = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
    noise = torch.randn_like(x)
    with torch.autocast("cpu", torch.bfloat16):
        v = unet(alpha * x + sigma * noise, t, text(ids)[0]).sample
    loss = F.mse_loss(v.float(), alpha * noise - sigma * x)
    loss.backward()
    return loss.item()


class Assistant:
    """A process that computes gradients of the shared parameters and puts each into a mailbox."""

    def __init__(self, number):
        context = torch.multiprocessing.get_context("fork")
        self.mailbox, self.full = [torch.zeros_like(p).share_memory_() for p in matrices + others], context.Event()
        context.Process(target=self.run, args=(number,), daemon=True).start()

    def run(self, number):
        global rng
        os.nice(9)
        signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.SIG_DFL)
        rng = np.random.default_rng((step, number))
        torch.manual_seed(step * 1000 + number)
        while True:
            backward()
            for g, p in zip(self.mailbox, matrices + others):
                g.copy_(p.grad)
                p.grad = None
            self.full.set()
            while self.full.is_set():
                time.sleep(0.002)

    def add_gradients(self):
        """1 if there was a gradient to add, else 0."""
        if not self.full.is_set():
            return 0
        for g, p in zip(self.mailbox, matrices + others):
            p.grad += g
        self.full.clear()
        return 1


def train_step():
    """The loss, and how many samples the step has learned from."""
    loss = backward()
    batches = 1 + sum(a.add_gradients() for a in assistants)
    torch._foreach_div_([p.grad for p in matrices + others], batches)
    torch.nn.utils.clip_grad_norm_(matrices + others, 1.0)
    for optimizer in (muon, adam):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss, batches * args.batch


@torch.no_grad()
def average():
    decay = min((1 + step) / (10 + step), args.average)
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
    with open(f"{folder}/generation_config.json", "w") as f:
        f.write(json.dumps(SETTINGS, indent=2) + "\n")


def edit(file, **changes):
    config = {k: v for k, v in (json.load(open(file)) | changes).items() if k not in changes or v is not None}
    with open(file, "w") as f:
        f.write(json.dumps(config, indent=2) + "\n")


def save():
    torch.save(dict({name: part.state_dict() for name, part in parts.items()}, step=step, samples=samples), checkpoint + ".new")
    os.replace(checkpoint + ".new", checkpoint)
    export(f"{args.out}/model")
    pipe = pipeline(ema_unet, ema_text, vae)
    pipe.set_progress_bar_config(disable=True)
    with torch.autocast("cpu", torch.bfloat16):
        made = pipe(PROMPTS, **SETTINGS, height=128, width=128, generator=torch.Generator().manual_seed(1)).images
    sheet = Image.new("RGB", (8 * 128, 2 * 128))
    for i, picture in enumerate(made):
        sheet.paste(picture, (i % 8 * 128, i // 8 * 128))
    sheet.save(f"{args.out}/unet.png")


began, losses = time.time(), []
stopped = []  # by Ctrl-C or kill: finish the step, save, end
for kind in (signal.SIGINT, signal.SIGTERM):
    signal.signal(kind, lambda *_: stopped.append(True))
for p in matrices + others:
    p.data.share_memory_()
assistants = [Assistant(i) for i in range(args.assistants)]
while step < args.steps and not stopped:
    rate = min(1, (step + 1) / 500, (args.steps - step) / args.cooldown)
    for group in muon.param_groups + adam.param_groups:
        group["lr"] = args.lr * rate
    loss, seen = train_step()
    losses.append(loss)
    step, samples = step + 1, samples + seen
    average()
    if step % args.report == 0 or step == args.steps or stopped:
        print(f"step {step}  samples {samples}  loss {np.mean(losses):.4f}  {(time.time() - began) / 60:.1f} min", flush=True)
        losses.clear()
        save()
