"""LoRA files in every format that people have, what they make of the weights, and the pictures.

Reads pipelines/ (pipelines.py comes first). Writes adapters/*.safetensors (the adapters, small and seeded),
adapters/expected.safetensors, adapters/cases.json, adapters/first_format.json and adapters/pictures/*.png.

Oracles: diffusers' load_lora_weights + fuse_lora (with peft) where it reads the format, LyCORIS's modules for LoHa, LoKr,
(IA)³, DoRA, Tucker kernels, full differences and norms. diffusers 0.42.1 mixes the alphas of a file up where they differ, so its files have one rank and one alpha
(case `mixed` has several, by LyCORIS). Kept of each merged tensor are 16 numbers, evenly spaced; each
picture differs from the plain one by more than 8 levels.
"""

import json
import shutil

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
from common import HERE, error_levels, write_json
from diffusers import UNet2DConditionModel
from lycoris.functional.general import _weight_decompose, factorization, rebuild_tucker
from lycoris.functional.lokr import make_kron
from lycoris.modules import get_module, make_module
from lycoris.modules.ia3 import _ia3_weight
from pipelines import SAMPLERS, load_folder

OUT = HERE / "adapters"
SAMPLES = 16
REQUESTS = {"sd1": ("a fox in the snow", (64, 64), 8, 5.0, 7), "sd2": ("a fox in the snow", (64, 64), 8, 5.0, 7)}


def modules_of(pipe):
    """Name → layer, of both networks; the text encoder's names have the prefix that published folders have."""
    layers = (torch.nn.Linear, torch.nn.Conv2d)
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm)
    unet = {name: m for name, m in pipe.unet.named_modules() if isinstance(m, layers + norms)}
    text = {f"text_model.{name.removeprefix('text_model.')}": m for name, m in pipe.text_encoder.named_modules() if isinstance(m, layers + norms)}
    return {"unet": unet, "text_encoder": text}


def in_transformers(name, module):
    return ".transformer_blocks." in name and isinstance(module, torch.nn.Linear)


def in_text(name, module):
    return ("self_attn" in name or "mlp" in name) and isinstance(module, torch.nn.Linear)


def is_conv(name, module):
    return isinstance(module, torch.nn.Conv2d) and name not in ("conv_out",)


class Draw:
    """Seeded numbers; `size` sets how much a pair of factors changes a layer of this shape."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape, gain=1.0):
        return torch.randn(shape, generator=self.generator) * gain


def shapes(module):
    weight = module.weight
    return weight.shape[0], weight.shape[1], list(weight.shape[2:])


def pair(draw, module, rank, gain):
    """down [rank, in, kh, kw] and up [out, rank, 1, 1], or matrices."""
    out, width, kernel = shapes(module)
    fan = width * (kernel[0] * kernel[1] if kernel else 1)
    down = draw(rank, width, *kernel, gain=fan**-0.5)
    return down, draw(out, rank, *([1, 1] if kernel else []), gain=gain * rank**-0.5)


def kohya_name(part, name):
    return {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part] + name.replace(".", "_")


def kohya(modules, chosen, seed, ranks=(4,), alpha=lambda i, rank: rank / 2, gain=0.5):
    draw, made = Draw(seed), {}
    for i, (part, name) in enumerate(chosen):
        rank = ranks[i % len(ranks)]
        down, up = pair(draw, modules[part][name], rank, gain)
        stem = kohya_name(part, name)
        made |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        if alpha(i, rank) is not None:
            made[f"{stem}.alpha"] = torch.tensor(float(alpha(i, rank)))
    return made


def choose(modules, **which):
    return [(part, name) for part, test in which.items() for name, module in modules[part].items() if test(name, module)]


def half(tensors):
    return {k: v.half() if v.dtype == torch.float32 else v for k, v in tensors.items()}


def diffusers_names(modules, chosen, seed, style, gain=0.5):
    draw, made = Draw(seed), {}
    for part, name in chosen:
        down, up = pair(draw, modules[part][name], 4, gain)
        prefix = {"unet": "unet.", "text_encoder": "text_encoder."}[part]
        if style == "processor":  # the first that diffusers wrote
            stem, layer = name.rsplit(".to_", 1) if part == "unet" else name.rsplit(".", 1)
            layer = {"q": "q", "k": "k", "v": "v", "out.0": "out", "q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "out"}[layer]
            stem = f"{prefix}{stem}{'.processor' if part == 'unet' else ''}.to_{layer}_lora"
            names = f"{stem}.down.weight", f"{stem}.up.weight"
        elif style == "lora":
            stem = f"{prefix}{name}.{'lora' if part == 'unet' else 'lora_linear_layer'}"
            names = f"{stem}.down.weight", f"{stem}.up.weight"
        else:
            stem = {"peft": prefix, "peft_own": "base_model.model."}[style] + name
            names = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        made |= dict(zip(names, (down, up)))
    return made


def lycoris_file(modules, chosen, seed, algorithm):
    """Random factors of one of LyCORIS's algorithms for each chosen layer; the forms alternate."""
    draw, made = Draw(seed), {}
    for i, (part, name) in enumerate(chosen):
        module, stem = modules[part][name], kohya_name(part, name)
        out, width, kernel = shapes(module) if module.weight.ndim > 1 else (module.weight.shape[0], None, [])
        taps = kernel[0] * kernel[1] if kernel else 1
        size = (width * taps) ** -0.5 if width else None
        wide = bool(kernel) and taps > 1
        rank = 2
        if algorithm == "tucker":
            made |= {f"{stem}.lora_mid.weight": draw(rank, rank, *kernel, gain=0.7), f"{stem}.lora_down.weight": draw(rank, width, 1, 1, gain=size),
                     f"{stem}.lora_up.weight": draw(out, rank, 1, 1, gain=0.5), f"{stem}.alpha": torch.tensor(1.0)}
        elif algorithm == "loha":
            if wide and i % 2 == 0:
                for k in "12":
                    made |= {f"{stem}.hada_t{k}": draw(rank, rank, *kernel), f"{stem}.hada_w{k}_a": draw(rank, out, gain=0.6), f"{stem}.hada_w{k}_b": draw(rank, width, gain=size**0.5)}
            else:
                for k in "12":
                    made |= {f"{stem}.hada_w{k}_a": draw(out, rank, gain=0.6), f"{stem}.hada_w{k}_b": draw(rank, width * taps, gain=size**0.5)}
            made[f"{stem}.alpha"] = torch.tensor(1.0)
        elif algorithm == "lokr":
            a, c, form = factorization(out, 4)[0], factorization(width, 4)[0], i % 4
            if form == 3:
                made |= {f"{stem}.lokr_w1_a": draw(a, 1), f"{stem}.lokr_w1_b": draw(1, c)}
            else:
                made[f"{stem}.lokr_w1"] = draw(a, c)
            if form == 0 or (form == 2 and not wide):
                made[f"{stem}.lokr_w2"] = draw(out // a, width // c, *kernel, gain=0.5 * size)
            elif form == 2:
                made |= {f"{stem}.lokr_t2": draw(rank, rank, *kernel, gain=0.7), f"{stem}.lokr_w2_a": draw(rank, out // a), f"{stem}.lokr_w2_b": draw(rank, width // c, gain=0.5 * size)}
            else:
                made |= {f"{stem}.lokr_w2_a": draw(out // a, 1), f"{stem}.lokr_w2_b": draw(1, width // c * taps, gain=0.5 * size)}
            made[f"{stem}.alpha"] = torch.tensor(0.5)
        elif algorithm == "ia3":
            on_input = i % 2
            made |= {f"{stem}.weight": draw(*([width] if on_input else [out]) if not kernel else [1, width if on_input else out, 1, 1], gain=0.3),
                     f"{stem}.on_input": torch.tensor(on_input)}
        elif algorithm == "full":
            made[f"{stem}.diff"] = draw(*module.weight.shape, gain=0.4 * size)
            if module.bias is not None:
                made[f"{stem}.diff_b"] = draw(out, gain=0.2)
        elif algorithm == "norms":
            made |= {f"{stem}.w_norm": draw(out, gain=0.3), f"{stem}.b_norm": draw(out, gain=0.3)}
        elif algorithm == "dora":
            down, up = pair(draw, module, rank, 0.5)
            made |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
            rows = module.weight.reshape(out, -1).norm(dim=1)
            columns = module.weight.transpose(0, 1).reshape(width, -1).norm(dim=1)
            on_out = i % 3 != 2
            norm = rows.reshape(out, *[1] * (module.weight.ndim - 1)) if on_out else columns.reshape(1, width, *[1] * len(kernel))
            made[f"{stem}.dora_scale"] = norm * (1 + 0.2 * draw(*norm.shape))
    return made


def lokr(tensors, stem, shape):
    """By LyCORIS's functions, not by its module: version 4.1 of that multiplies by alpha / rank twice, and misreads the rank of `lokr_t2`."""
    part = {k.removeprefix(f"{stem}.lokr_"): v for k, v in tensors.items() if k.startswith(f"{stem}.lokr_")}
    w1 = part["w1"] if "w1" in part else part["w1_a"] @ part["w1_b"]
    rank = None if "w1" in part else part["w1_b"].shape[0]
    if "w2" in part:
        w2 = part["w2"]
    else:
        rank = part["w2_b"].shape[0]
        w2 = rebuild_tucker(part["t2"], part["w2_a"], part["w2_b"]) if "t2" in part else part["w2_a"] @ part["w2_b"]
    w2 = w2.reshape(w2.shape[0], shape[1] // w1.shape[1], *shape[2:])
    return make_kron(w1, w2, float(tensors[f"{stem}.alpha"]) / rank if rank else 1.0).reshape(shape)


def merged_by_lycoris(modules, tensors, chosen, algorithm):
    """(part, tensor name) → merged weight, at weight 1."""
    made = {}
    for part, name in chosen:
        module, stem = modules[part][name], kohya_name(part, name)
        if algorithm == "ia3":
            weight, on_input = tensors[f"{stem}.weight"], bool(tensors[f"{stem}.on_input"])
            made[part, f"{name}.weight"] = _ia3_weight(module.weight.data, weight, on_input, 1.0, False)
            continue
        if algorithm == "lokr":
            made[part, f"{name}.weight"] = module.weight.data + lokr(tensors, stem, module.weight.shape)
            continue
        if algorithm == "dora" and tensors[f"{stem}.dora_scale"].shape[0] == 1 != module.weight.shape[0]:
            plain = {k: v for k, v in tensors.items() if not k.endswith("dora_scale")}
            kind, params = get_module(plain, stem)
            weight = make_module(kind, params, stem, module).get_merged_weight(1.0)[0]
            weight, bias = _weight_decompose(weight, tensors[f"{stem}.dora_scale"], 1, False), None
        elif algorithm == "norms":
            weight, bias = module.weight.data + tensors[f"{stem}.w_norm"], module.bias.data + tensors[f"{stem}.b_norm"]
        elif algorithm == "loha":  # its `get_merged_weight` multiplies by alpha / rank twice
            kind, params = get_module(tensors, stem)
            weight, bias = module.weight.data + make_module(kind, params, stem, module).get_weight(module.weight.shape), None
        else:
            kind, params = get_module(tensors, stem)
            weight, bias = make_module(kind, params, stem, module).get_merged_weight(1.0, shape=module.weight.shape)
        made[part, f"{name}.weight"] = weight.data.clone()
        if bias is not None and algorithm in ("full", "norms"):
            made[part, f"{name}.bias"] = bias.data.clone()
    return made


def tensors_of(pipe):
    text = {("text_encoder", f"text_model.{k.removeprefix('text_model.')}"): v.data.clone() for k, v in pipe.text_encoder.named_parameters()}
    return {**{("unet", k): v.data.clone() for k, v in pipe.unet.named_parameters()}, **text}


def put(pipe, tensors):
    for (part, name), value in tensors.items():
        module = getattr(pipe, part)
        if part == "text_encoder" and not hasattr(module, "text_model"):
            name = name.removeprefix("text_model.")
        module.get_parameter(name).data.copy_(value)


def picture(pipe, which):
    prompt, size, steps, guidance, seed = REQUESTS[which]
    pipe.scheduler = getattr(diffusers, SAMPLERS["ddim"]).from_config(pipe.scheduler.config)
    made = pipe(prompt, width=size[0], height=size[1], num_inference_steps=steps, guidance_scale=guidance,
                generator=torch.Generator("cpu").manual_seed(seed))
    return numpy.asarray(made.images[0])


def sampled(tensor):
    flat = tensor.reshape(-1)
    return flat[[k * (len(flat) - 1) // (SAMPLES - 1) for k in range(SAMPLES)]].float()


def walk(unet):
    """The layers that the first format counts: the Linear children of attention and of GEGLU, as diffusers 0.10 registered them.

    There `ff` stood between the two attentions; the middle block was registered last, as it is today.
    """
    order = {"attn1": 0, "ff": 1, "attn2": 2}
    blocks = [(name, m) for name, m in unet.named_modules() if type(m).__name__ == "BasicTransformerBlock"]
    names = []
    for block, module in blocks:
        children = sorted((n for n, _ in module.named_children() if n in order), key=order.get)
        for child in children:
            for name, layer in getattr(module, child).named_modules():
                if isinstance(layer, torch.nn.Linear) and (child != "ff" or name == "net.0.proj"):
                    names.append(f"{block}.{child}.{name}")
    return names


def text_walk(layers):
    return [f"text_model.encoder.layers.{i}.self_attn.{name}" for i in range(layers) for name in ("k_proj", "v_proj", "q_proj", "out_proj")]


def first_format(modules, seed):
    """As the real file: no alpha, ranks in the metadata, two learned tokens."""
    draw, made, metadata = Draw(seed), {}, {"unet": '["GEGLU", "CrossAttention", "Attention"]', "text_encoder": '["CLIPAttention"]'}
    order = {"unet": walk(modules["model"]), "text_encoder": text_walk(3)}
    for part, names in order.items():
        for i, name in enumerate(names):
            down, up = pair(draw, modules[part][name], 1, 0.4)
            made |= {f"{part}:{i}:down": down, f"{part}:{i}:up": up}
            metadata[f"{part}:{i}:rank"] = "1"
    for token in ("<s1>", "<s2>"):
        made[token] = draw(32, gain=0.5)
        metadata[token] = "<embed>"
    return made, metadata, order


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "pictures").mkdir(parents=True)
    cases, expected, bad = [], {}, []
    plain = {}

    def add(name, which, tensors, oracle, weights=(1.0, 1.0), metadata=None, merged=None, dtype=torch.float16):
        tensors = half(tensors) if dtype == torch.float16 else tensors
        file = OUT / f"{name}.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, file, {"format": "pt", **(metadata or {})})
        file.chmod(0o644)
        pipe = load_folder(which)
        before = tensors_of(pipe)
        if which not in plain:
            plain[which] = picture(pipe, which)
        if oracle == "diffusers":
            pipe.load_lora_weights(OUT, weight_name=file.name, adapter_name="golden")
            pipe.set_adapters(["golden"], adapter_weights=[{"unet": weights[0], "text_encoder": weights[1]} if any("te" in k.split("_")[1:2] or k.startswith("text") for k in tensors) else weights[0]])
            pipe.fuse_lora()
            pipe.unload_lora_weights()
        else:
            put(pipe, merged(load_file(file)))
        after = tensors_of(pipe)
        assert list(after) == list(before), "the names must be those of the plain model"
        changed = sorted(key for key in after if not torch.equal(after[key], before[key]))
        made = picture(pipe, which)
        Image.fromarray(made).save(OUT / "pictures" / f"{name}.png", optimize=True)
        moved = int(numpy.abs(made.astype(int) - plain[which].astype(int)).max())
        if moved <= 8:
            bad.append(name)
        expected[name] = torch.stack([sampled(after[key]) for key in changed])
        cases.append({"name": name, "pipeline": which, "oracle": oracle, "weight_unet": weights[0], "weight_text": weights[1], "tensors": len(tensors),
                      "changed": {part: [n for p, n in changed if p == part] for part in ("unet", "text_encoder")},
                      "moved": moved})
        print(f"{name:16} {len(tensors):4} tensors, {len(changed):3} changed, moved {moved}, {file.stat().st_size} bytes", flush=True)

    sd1, sd2 = load_folder("sd1"), load_folder("sd2")
    one, two = modules_of(sd1), modules_of(sd2)
    attention = lambda name, module: in_transformers(name, module) and ".to_" in name
    early = lambda test: lambda name, module: test(name, module) and (name.startswith(("mid_block", "up_blocks.3")) or "layers" in name)
    self_attention = lambda name, module: "self_attn" in name
    projections = lambda name, module: in_transformers(name, module) or name.endswith(("proj_in", "proj_out"))
    ss = {"ss_base_model_version": "sd_v1-5", "ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_network_alpha": "2", "modelspec.title": "golden"}

    add("kohya", "sd1", kohya(one, choose(one, unet=projections, text_encoder=in_text), 1), "diffusers", (0.8, 0.8), ss)
    add("kohya_sd2", "sd2", kohya(two, choose(two, unet=projections, text_encoder=in_text), 2), "diffusers")
    add("processor", "sd1", diffusers_names(one, choose(one, unet=early(attention), text_encoder=self_attention), 3, "processor"), "diffusers", (0.7, 0.7))
    add("diffusers", "sd1", diffusers_names(one, choose(one, unet=early(in_transformers), text_encoder=self_attention), 4, "lora"), "diffusers", (0.7, 0.7))
    config = json.dumps({"unet.r": 4, "unet.lora_alpha": 8, "text_encoder.r": 4, "text_encoder.lora_alpha": 2,
                         "unet.target_modules": ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"],
                         "text_encoder.target_modules": ["q_proj", "k_proj", "v_proj", "out_proj"]})
    add("peft", "sd1", diffusers_names(one, choose(one, unet=early(in_transformers), text_encoder=self_attention), 5, "peft"), "diffusers", (0.8, 0.5), {"lora_adapter_metadata": config})
    everything = lambda name, module: isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name.startswith(("mid_block", "up_blocks.2", "down_blocks.0", "time_embedding", "conv_in"))
    add("lcm", "sd1", kohya(one, choose(one, unet=everything), 6, gain=0.4), "diffusers")
    for algorithm, test in {
        "mixed": early(lambda name, module: isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))),
        "tucker": lambda name, module: is_conv(name, module) and module.kernel_size == (3, 3) and name.startswith(("mid_block", "up_blocks.3")),
        "loha": early(lambda name, module: isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))),
        "lokr": early(lambda name, module: isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))),
        "ia3": early(lambda name, module: name.endswith(("to_k", "to_v", "ff.net.2", "conv1", "k_proj", "v_proj", "fc2"))),
        "dora": early(lambda name, module: isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))),
        "full": lambda name, module: name.startswith(("mid_block.attentions.0.proj", "mid_block.attentions.0.transformer_blocks.0.attn", "mid_block.resnets.0.time", "up_blocks.3.resnets.2")) and module.weight.ndim > 1,
        "norms": lambda name, module: module.weight.ndim == 1 and name.startswith(("mid_block", "up_blocks.3")),
    }.items():
        chosen = choose(one, unet=test, **({"text_encoder": test} if algorithm in ("mixed", "loha", "lokr", "ia3", "dora") else {}))
        if algorithm == "mixed":
            tensors = kohya(one, chosen, 6, ranks=(4, 2, 1), alpha=lambda i, rank: [0.5, 1, 4][i % 4 % 3])
        else:
            tensors = lycoris_file(one, chosen, 7, algorithm)
        add(algorithm, "sd1", tensors, "lycoris", merged=lambda read: merged_by_lycoris(one, {k: v.float() if v.dtype == torch.float16 else v for k, v in read.items()}, chosen, algorithm))
    tensors, metadata, order = first_format({**one, "model": sd1.unet}, 8)

    def by_walk(read):
        return {(part, f"{name}.weight"): one[part][name].weight.data + read[f"{part}:{i}:up"].float() @ read[f"{part}:{i}:down"].float()
                for part, names in order.items() for i, name in enumerate(names)}

    add("first_format", "sd1", tensors, "a walk of diffusers' modules", metadata=metadata, merged=by_walk)
    with torch.device("meta"):
        real = UNet2DConditionModel(**{k: v for k, v in json.loads((HERE / "architectures.json").read_text())["sd15"]["files"]["unet/config.json"].items() if not k.startswith("_")})
    write_json(OUT / "first_format.json", {"unet": walk(real), "text_encoder": text_walk(12)})
    save_file(expected, OUT / "expected.safetensors")
    (OUT / "expected.safetensors").chmod(0o644)
    write_json(OUT / "cases.json", cases)
    for which, made in plain.items():
        Image.fromarray(made).save(OUT / "pictures" / f"plain_{which}.png", optimize=True)
    if bad:
        raise SystemExit(f"not fit to be goldens: {', '.join(bad)}")


if __name__ == "__main__":
    main()
