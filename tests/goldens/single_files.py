"""One-file checkpoints in the names of Latent Diffusion, and the pictures that diffusers' from_single_file makes of them.

Reads pipelines/ and tasks/unet9 (pipelines.py and tasks.py come first). Writes single_files/cases.json,
single_files/names.json, single_files/pictures/*.png and the pickles single_files/*.ckpt. The safetensors files are not
kept: a test writes them again from the folders by the same renames, and `sha256` says whether it wrote the same.

`names.json` has the names of the real SD 1.5 and SD 2.1, by running diffusers' converters over markers.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
from common import HERE, error_levels, write_json
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils as converters
from pipelines import SAMPLERS
from tasks import mask, scene
from tasks import run as run_task

OUT = HERE / "single_files"
UNET, VAE, CLIP, OPEN_CLIP = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.", "cond_stage_model.model."

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_TOP = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
            "conv_norm_out": "out.0", "conv_out": "out.2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
                 "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}


def ldm_unet_name(name, layers, with_attention):
    """`with_attention`: the numbers of the upward blocks that have attention."""
    stem, kind = name.rsplit(".", 1)
    if stem in UNET_TOP:
        return f"{UNET_TOP[stem]}.{kind}"
    path = stem.split(".")
    block = int(path[1]) if path[0] != "mid_block" else None
    what, i, rest = (path[2], int(path[3]), path[4:]) if block is not None else (path[1], int(path[2]), path[3:])
    if what == "resnets":
        rest = [RESNET[rest[0]]]
    if path[0] == "mid_block":
        place = [f"middle_block.{2 * i if what == 'resnets' else 1}"]
    elif path[0] == "down_blocks":
        if what == "downsamplers":
            place, rest = [f"input_blocks.{(block + 1) * (layers + 1)}.0"], ["op"]
        else:
            place = [f"input_blocks.{1 + block * (layers + 1) + i}.{0 if what == 'resnets' else 1}"]
    elif what == "upsamplers":
        place = [f"output_blocks.{block * (layers + 1) + layers}.{2 if block in with_attention else 1}"]
    else:
        place = [f"output_blocks.{block * (layers + 1) + i}.{0 if what == 'resnets' else 1}"]
    return ".".join([*place, *rest, kind])


def ldm_vae_name(name, levels):
    if name.startswith(("quant_conv", "post_quant_conv")):
        return name
    side, rest = name.split(".", 1)
    stem, kind = rest.rsplit(".", 1)
    path = stem.split(".")
    if path[0] == "conv_norm_out":
        path = ["norm_out"]
    elif path[0] == "mid_block":
        if path[1] == "resnets":
            path = ["mid", f"block_{int(path[2]) + 1}", *path[3:]]
        else:
            path = ["mid", "attn_1", VAE_ATTENTION[".".join(path[3:])]]
    elif path[0] in ("down_blocks", "up_blocks"):
        level = int(path[1]) if path[0] == "down_blocks" else levels - 1 - int(path[1])
        way = path[0].split("_")[0]
        path = [way, str(level), *(["block", *path[3:]] if path[2] == "resnets" else [f"{way}sample", "conv"])]
    path = ["nin_shortcut" if part == "conv_shortcut" else part for part in path]
    return ".".join([side, *path, kind])


def open_clip(tensors):
    """The text encoder as OpenCLIP saves it: q, k and v are one matrix; the tables have no `.weight`."""
    made = {}
    for name, value in tensors.items():
        name = name.removeprefix("text_model.")
        if name == "embeddings.token_embedding.weight":
            made["token_embedding.weight"] = value
        elif name == "embeddings.position_embedding.weight":
            made["positional_embedding"] = value
        elif name.startswith("final_layer_norm"):
            made[name.replace("final_layer_norm", "ln_final")] = value
        elif ".q_proj." in name:
            joined = torch.cat([value, *(tensors["text_model." + name.replace("q_proj", part)] for part in ("k_proj", "v_proj"))])
            layer, kind = name.split(".")[2], name.rsplit(".", 1)[1]
            made[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = joined
        elif ".k_proj." not in name and ".v_proj." not in name:
            for new, old in {"encoder.layers": "transformer.resblocks", "self_attn": "attn", "layer_norm": "ln_", "fc1": "c_fc", "fc2": "c_proj"}.items():
                name = name.replace(new, old)
            made[name] = value
    return made


def parts_of(which):
    """The stored tensors of a folder's three parts, and their configs."""
    folder = HERE / "pipelines" / ("sd1" if which == "unet9" else which)
    places = {part: folder / part for part in ("unet", "vae", "text_encoder")}
    if which == "unet9":
        places["unet"] = HERE / "tasks/unet9"
    if which == "dummy":
        places = {part: HERE / "dummy" / part for part in places}
    configs = {part: json.loads((place / "config.json").read_text()) for part, place in places.items()}
    tensors = {part: {k: v for file in sorted(place.glob("*.safetensors")) for k, v in load_file(file).items()} for part, place in places.items()}
    return tensors, configs


def unet_names(tensors, config):
    up = {i for i, kind in enumerate(config["up_block_types"]) if kind.startswith("CrossAttn")}
    return {name: ldm_unet_name(name, config["layers_per_block"], up) for name in tensors}


def ldm(which, kernels=True, text="clip"):
    """A whole checkpoint. `kernels`: the attention of the VAE as 1×1 kernels, as it was first published."""
    tensors, configs = parts_of(which)
    made = {UNET + new: tensors["unet"][old] for old, new in unet_names(tensors["unet"], configs["unet"]).items()}
    levels = len(configs["vae"]["block_out_channels"])
    for name, value in tensors["vae"].items():
        new = ldm_vae_name(name, levels)
        square = ".mid.attn_1." in new and ".norm." not in new and value.ndim == 2
        made[VAE + new] = value[:, :, None, None] if square and kernels else value
    if text == "clip":
        prefixed = {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in tensors["text_encoder"].items()}
        made.update({CLIP + k: v for k, v in prefixed.items()})
    else:
        made.update({OPEN_CLIP + k: v for k, v in open_clip(tensors["text_encoder"]).items()})
    return made


def cast(tensors, dtype, only=lambda name, value: True):
    floats = {k: v.to(dtype) if v.is_floating_point() and only(k, v) else v for k, v in tensors.items()}
    return {k: v.contiguous() for k, v in floats.items()}


def scaled(tensors, suffix):
    """The UNet's matrices in 8 bits, each with a factor that makes its largest value 448, the others in f16."""
    made = {}
    for name, value in tensors.items():
        if name.startswith(UNET) and name.endswith(".weight") and value.ndim > 1:
            factor = value.float().abs().max() / 448
            made[name] = (value.float() / factor).to(torch.float8_e4m3fn)
            made[name.removesuffix("weight") + suffix] = factor.reshape([])
        else:
            made[name] = value.half() if value.is_floating_point() else value
    return made


def restored(tensors, suffix):
    """What those mean."""
    factors = {k: v for k, v in tensors.items() if k.endswith("." + suffix)}
    return {k: v.float() * factors[k.removesuffix("weight") + suffix] if v.dtype == torch.float8_e4m3fn else v
            for k, v in tensors.items() if k not in factors}


def with_ema(tensors):
    """`model_ema.`: names without dots, the weights a little larger, so that it shows which are taken."""
    made = dict(tensors)
    for name, value in tensors.items():
        if name.startswith(UNET):
            made["model_ema." + "".join(name.split(".")[1:])] = value * 1.0625
    made["model_ema.decay"] = torch.tensor(0.9999)
    made["model_ema.num_updates"] = torch.tensor(7, dtype=torch.int32)
    return made


def leftovers():
    """What training leaves in a file."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return {"betas": betas, "alphas_cumprod": torch.cumprod(1 - betas, 0), "logvar": torch.zeros(1000), "scale_factor": torch.tensor(0.18215),
            "first_stage_model.loss.logvar": torch.zeros([]), "first_stage_model.loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4),
            "cond_stage_model.logit_scale": torch.tensor(4.6), "lr_scheduler_step": torch.tensor(3)}


def matrices(tensors):
    return {k: v[:, :, 0, 0] if k.endswith((".proj_in.weight", ".proj_out.weight")) and v.ndim == 4 and k.startswith(UNET) else v for k, v in tensors.items()}


def kernels(tensors):
    return {k: v[:, :, None, None] if k.endswith((".proj_in.weight", ".proj_out.weight")) and v.ndim == 2 else v for k, v in tensors.items()}


def one_layer_more(tensors):
    """As published SD 2.x: OpenCLIP's last layer is there and not used; a projection; the temperature."""
    made = dict(tensors)
    width = tensors[OPEN_CLIP + "ln_final.weight"].shape[0]
    last = max(int(k.split(".")[4]) for k in tensors if k.startswith(OPEN_CLIP + "transformer.resblocks."))
    for name, value in tensors.items():
        if f".resblocks.{last}." in name:
            made[name.replace(f".resblocks.{last}.", f".resblocks.{last + 1}.")] = value * -0.5
    made[OPEN_CLIP + "text_projection"] = torch.eye(width, dtype=torch.float16)
    made[OPEN_CLIP + "logit_scale"] = torch.tensor(4.6052, dtype=torch.float16)
    return made


def without(tensors, *prefixes):
    return {k: v for k, v in tensors.items() if not k.startswith(prefixes)}


def stripped(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


# name: (folder of the configs, how the tensors are made, what differs for diffusers)
def variants():
    sd1, sd2 = ldm("sd1"), ldm("sd2", text="open_clip")
    tensors1, _ = parts_of("sd1")
    e4, e5 = torch.float8_e4m3fn, torch.float8_e5m2
    of_unet = lambda name, value: name.startswith(UNET) and value.ndim > 1
    more = without(sd1, CLIP + "text_model.embeddings.position_ids")
    fp8 = {"weight_scale": scaled(sd1, "weight_scale"), "scale_weight": scaled(sd1, "scale_weight")}
    return {
        "sd1": ("sd1", sd1, {}),
        "sd1_f16": ("sd1", cast(sd1, torch.float16), {}),
        "sd1_bf16": ("sd1", cast(sd1, torch.bfloat16), {}),
        "sd1_fp8_e4m3fn": ("sd1", cast(sd1, e4, of_unet), {}),
        "sd1_fp8_e5m2": ("sd1", cast(sd1, e5, of_unet), {}),
        "sd1_fp8_weight_scale": ("sd1", fp8["weight_scale"], {"meaning": restored(fp8["weight_scale"], "weight_scale")}),
        "sd1_fp8_scale_weight": ("sd1", {**fp8["scale_weight"], "scaled_fp8": torch.zeros(2).to(e4)}, {"meaning": restored(fp8["scale_weight"], "scale_weight")}),
        "sd1_no_position_ids": ("sd1", more, {}),
        "sd1_ema": ("sd1", with_ema(sd1), {}),
        "sd1_ema_taken": ("sd1", with_ema(sd1), {"extract_ema": True}),
        "sd1_leftovers": ("sd1", {**sd1, **leftovers()}, {}),
        "sd1_vae_matrices": ("sd1", ldm("sd1", kernels=False), {}),
        "sd1_proj_matrices": ("sd1", matrices(sd1), {"meaning": sd1}),
        "sd1_text_without_prefix": ("sd1", {k.replace(CLIP + "text_model.", CLIP): v for k, v in sd1.items()}, {"meaning": sd1}),
        "sd1_unet": ("sd1", without(sd1, VAE, CLIP), {"meaning": sd1, "lacks": ["vae", "text_encoder"]}),
        "sd1_unet_without_prefix": ("sd1", stripped(sd1, UNET), {"meaning": sd1, "lacks": ["vae", "text_encoder"]}),
        "sd1_unet_diffusers": ("sd1", tensors1["unet"], {"meaning": sd1, "lacks": ["vae", "text_encoder"]}),
        "sd1_no_vae": ("sd1", without(sd1, VAE), {"meaning": sd1, "lacks": ["vae"]}),
        "sd1_no_text_encoder": ("sd1", without(sd1, CLIP), {"meaning": sd1, "lacks": ["text_encoder"]}),
        "sd1_vae_without_prefix": ("sd1", stripped(sd1, VAE), {"meaning": sd1, "lacks": ["unet", "text_encoder"]}),
        "sd2": ("sd2", sd2, {}),
        "sd2_bf16": ("sd2", cast(sd2, torch.bfloat16), {}),
        "sd2_last_layer": ("sd2", one_layer_more(sd2), {}),
        "sd2_proj_kernels": ("sd2", kernels(sd2), {"meaning": sd2}),
        "sd2_clip_names": ("sd2", ldm("sd2"), {}),
        "sd2_fp8_e4m3fn": ("sd2", cast(sd2, e4, of_unet), {}),
        "unet9": ("unet9", ldm("unet9"), {}),
    }


def sha256(tensors):
    """Over name, type, shape and bytes of each tensor, in the order of the names."""
    digest = hashlib.sha256()
    types = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
             torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {types[value.dtype]} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


REQUESTS = {
    "sd1": ("pndm", "a fox in the snow", None, (64, 64), 10, 7.5, 7),
    "sd2": ("ddim", "a fox in the snow", None, (96, 96), 10, 7.5, 7),
    "dummy": ("pndm", "a fox in the snow", None, (64, 64), 6, 6.0, 7),
}


def config_folder(which, work):
    """A folder as diffusers' `config=` wants it."""
    source = HERE / ("dummy" if which == "dummy" else f"pipelines/{'sd1' if which == 'unet9' else which}")
    folder = work / f"config_{which}"
    if not folder.exists():
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
        if which == "unet9":
            shutil.copy(HERE / "tasks/unet9/config.json", folder / "unet/config.json")
    return folder


def picture_of(file, which, work, **options):
    pipeline = StableDiffusionInpaintPipeline if which == "unet9" else StableDiffusionPipeline
    pipe = pipeline.from_single_file(file, config=str(config_folder(which, work)), torch_dtype=torch.float32, safety_checker=None,
                                     feature_extractor=None, local_files_only=True, **options)
    pipe.set_progress_bar_config(disable=True)
    if which == "unet9":
        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
        return run_task(pipe, scene(88, 72), mask("soft", 88, 72), "a boat", "dark", 10, 0.7, 5.0, 7, None)
    sampler, prompt, negative, size, steps, guidance, seed = REQUESTS[which]
    pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(pipe.scheduler.config)
    made = pipe(prompt, negative_prompt=negative, width=size[0], height=size[1], num_inference_steps=steps, guidance_scale=guidance,
                generator=torch.Generator("cpu").manual_seed(seed))
    return numpy.asarray(made.images[0])


def as_f32(tensors):
    """diffusers keeps 8-bit tensors as they are; they are widened here before it sees them."""
    eight = (torch.float8_e4m3fn, torch.float8_e5m2)
    return {k: v.float() if v.dtype in eight else v for k, v in tensors.items()}


def names():
    """LDM name → diffusers' name for SD 1.5 and 2.1, by our renames; diffusers' converters agree on a marker for each tensor."""
    real = json.loads((HERE / "architectures.json").read_text())
    shapes = {part: real["sd15"]["parts"][part]["tensors"] for part in ("unet", "vae")}
    assert all(list(shapes[part]) == list(real["sd21"]["parts"][part]["tensors"]) for part in shapes)
    configs = {part: real["sd15"]["files"][f"{part}/config.json"] for part in shapes}
    unet = {new: old for old, new in unet_names(shapes["unet"], configs["unet"]).items()}
    vae = {ldm_vae_name(old, 4): old for old in shapes["vae"]}
    # Newer names of the VAE's attention; the converters make these.
    newer = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
    for name, old in vae.items():
        for before, after in newer.items():
            old = old.replace(before, after)
        vae[name] = old
    for table, prefix, convert, config in (
        (unet, UNET, converters.convert_ldm_unet_checkpoint, configs["unet"]),
        (vae, VAE, converters.convert_ldm_vae_checkpoint, configs["vae"]),
    ):
        markers = {prefix + name: torch.full([1], i) for i, name in enumerate(table)}
        made = convert(markers, config)
        assert {k: int(v) for k, v in made.items()} == {table[name]: i for i, name in enumerate(table)}
    return {"unet": unet, "vae": vae}


class Pickles:
    """Files by torch.save: the dummy pipeline whole, and a few tensors in every form in which one may be stored."""

    @staticmethod
    def whole():
        return {"epoch": 3, "global_step": 470000, "state_dict": {k: v.half() if v.is_floating_point() else v for k, v in ldm("dummy").items()}}

    @staticmethod
    def forms():
        base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
        shared = torch.arange(6, dtype=torch.float16)
        from collections import OrderedDict

        return OrderedDict([
            ("contiguous", base), ("transposed", base.T), ("rows", base[1:3]), ("columns", base[:, 1:5:2]), ("shared", shared), ("shared_again", shared),
            ("expanded", torch.tensor([1.5]).expand(3, 2)), ("scalar", torch.tensor(2.5)), ("empty", torch.zeros(0, 3)),
            ("bf16", base.bfloat16()), ("f64", base.double()), ("i64", torch.arange(3)), ("i32", torch.arange(3, dtype=torch.int32)),
            ("u8", torch.arange(3, dtype=torch.uint8)), ("bool", torch.tensor([True, False])), ("parameter", torch.nn.Parameter(base[0].clone())),
        ])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    save_file(leftovers(), OUT / "leftovers.safetensors")
    cases, pictures = [], {}
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for name, (which, tensors, more) in variants().items():
            seen = as_f32(more.get("meaning", tensors))
            save_file({k: v.contiguous() for k, v in seen.items()}, work / "model.safetensors", {"format": "pt"})
            made = picture_of(str(work / "model.safetensors"), which, work, **({"extract_ema": True} if more.get("extract_ema") else {}))
            folder = {"sd1": "pipelines/pictures/pndm.png", "sd2": "pipelines/pictures/v_ddim.png", "unet9": "tasks/pictures/n_ddim.png"}[which]
            worst, equal = error_levels(made, numpy.asarray(Image.open(HERE / folder)))
            same = next((file for file, other in pictures.items() if numpy.array_equal(other, made)), folder if worst == 0 else None)
            if same is None:
                same = f"single_files/pictures/{name}.png"
                Image.fromarray(made).save(HERE / same, optimize=True)
                pictures[same] = made
            cases.append({"name": name, "folder": which, "sha256": sha256(tensors), "tensors": len(tensors), "lacks": more.get("lacks", []),
                          "ema": bool(more.get("extract_ema")), "by_diffusers": "meaning" not in more, "picture": same,
                          "from_the_folders": {"worst_level": worst, "equal_share": round(equal, 6)}})
            print(f"{name:26} {len(tensors):4} tensors {worst:3} {equal:.4f} {same}", flush=True)
        for name, form in {"zip": True, "legacy": False}.items():
            torch.save(Pickles.whole(), OUT / f"dummy_{name}.ckpt", _use_new_zipfile_serialization=form)
            torch.save(Pickles.forms(), OUT / f"forms_{name}.pt", _use_new_zipfile_serialization=form)
            made = picture_of(str(OUT / f"dummy_{name}.ckpt"), "dummy", work)
            if name == "zip":
                Image.fromarray(made).save(OUT / "pictures/dummy.png", optimize=True)
                first = made
            assert numpy.array_equal(made, first)
        save_file({k: v.detach().contiguous().clone() for k, v in Pickles.forms().items()}, OUT / "forms.safetensors")
    write_json(OUT / "cases.json", cases)
    write_json(OUT / "names.json", names())


if __name__ == "__main__":
    main()
