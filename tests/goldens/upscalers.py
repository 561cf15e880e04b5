"""Small random upscalers in every spelling, and what spandrel's networks make of a picture with them.

Needs spandrel (pip install --no-deps spandrel einops; a stand-in replaces torchvision, which its other networks import).
Writes upscalers/*.pth, upscalers/*.safetensors and upscalers/outputs.safetensors. That the spellings are those of
published files is checked first: spandrel's own loader must find the same network in files of full growth.
"""

import importlib.abc
import importlib.machinery
import re
import shutil
import sys
import tempfile
import types

import torch
from safetensors.torch import save_file

from common import HERE, randomise

OUT = HERE / "upscalers"


class Nothing(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


class Stand(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

    def create_module(self, spec):
        return Nothing(spec.name)

    def exec_module(self, module):
        module.__path__ = []


sys.meta_path.insert(0, Stand())
from spandrel import ModelLoader  # noqa: E402
from spandrel.architectures.__arch_helpers import block as B  # noqa: E402
from spandrel.architectures.Compact import Compact  # noqa: E402
from spandrel.architectures.ESRGAN import ESRGAN  # noqa: E402

GAINS = [(r"conv5", 0.7), (r"model\.\d+\.weight$", 1.2)]
FILTERS, BLOCKS, GROWTH = 8, 2, 4


def esrgan(seed, scale, shuffle=None, growth=GROWTH):
    inputs = 3 * (shuffle or 1) ** 2
    net = ESRGAN(in_nc=inputs, num_filters=FILTERS, num_blocks=BLOCKS, scale=scale, shuffle_factor=shuffle)
    for i in range(BLOCKS):
        net.model[1].sub[i] = B.RRDB(nf=FILTERS, kernel_size=3, gc=growth, stride=1, bias=True, pad_type="zero",
                                     norm_type=None, act_type="leakyrelu", mode="CNA")
    return randomise(net, seed, GAINS)


def compact(seed, scale):
    net = randomise(Compact(num_feat=FILTERS, num_conv=3, upscale=scale), seed, [(r"", 1.0)])
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in net.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):  # slopes
            parameter.data = 0.25 + 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


def spelled(state, spelling):
    """The tensors of ESRGAN's numbered layers under other names."""
    if spelling == "numbered":
        return dict(state)
    numbers = sorted({int(key.split(".")[1]) for key in state})
    trunk = spelling == "trunk"
    fixed = {"model.0": "conv_first", f"model.1.sub.{BLOCKS}": "trunk_conv" if trunk else "conv_body",
             f"model.{numbers[-2]}": "HRconv" if trunk else "conv_hr", f"model.{numbers[-1]}": "conv_last"}
    fixed |= {f"model.{n}": f"{'upconv' if trunk else 'conv_up'}{n // 3}" for n in numbers[2:-2]}
    named = {}
    for key, value in state.items():
        layer, kind = key.rsplit(".", 1)
        if layer not in fixed:
            pattern = r"RRDB_trunk.\1.RDB\2.conv\3" if trunk else r"body.\1.rdb\2.conv\3"
            layer = re.sub(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0$", pattern, layer)
        named[f"{fixed.get(layer, layer)}.{kind}"] = value
    return named


def check_spellings(picture):
    for spelling in ("numbered", "trunk", "body"):
        net = esrgan(7, 4, growth=32)
        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            torch.save(spelled(net.state_dict(), spelling), file.name)
            found = ModelLoader().load_from_file(file.name)
        assert torch.equal(found.model(picture), net(picture)) and found.scale == 4, spelling


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    picture = torch.rand(1, 3, 23, 18, generator=torch.Generator().manual_seed(1))
    check_spellings(picture)
    other = {key: torch.zeros_like(value) for key, value in spelled(esrgan(1, 4).state_dict(), "body").items()}
    nets = {
        "numbered_x4.pth": (esrgan(1, 4), lambda s: spelled(s, "numbered")),
        "numbered_x1.pth": (esrgan(2, 1), lambda s: spelled(s, "numbered")),
        "trunk_x2.safetensors": (esrgan(3, 2), lambda s: spelled(s, "trunk")),
        "body_x4.pth": (esrgan(4, 4), lambda s: {"params": other, "params_ema": spelled(s, "body")}),
        "body_unshuffled_x2.pth": (esrgan(5, 4, 2), lambda s: {"params_ema": spelled(s, "body")}),
        "body_unshuffled_x1.safetensors": (esrgan(6, 4, 4), lambda s: spelled(s, "body")),
        "compact_x4.pth": (compact(7, 4), lambda s: {"params": dict(s)}),
        "compact_x2.safetensors": (compact(8, 2), dict),
    }
    tensors = {"input": picture}
    for name, (net, file) in nets.items():
        state = {key: value.contiguous() for key, value in net.state_dict().items()}
        if name.endswith(".pth"):
            torch.save(file(state), OUT / name)
        else:
            save_file(file(state), OUT / name)
        tensors[name] = net(picture).contiguous()
        wide = net.double()(picture.double())
        error = float((wide - tensors[name]).abs().max() / wide.pow(2).mean().sqrt())
        print(f"{name:32} {tuple(wide.shape)} mean {float(wide.mean()):.2f} deviation {float(wide.std()):.2f} f64 {error:.1e}")
        assert error < 1e-5
    save_file(tensors, OUT / "outputs.safetensors")


if __name__ == "__main__":
    main()
