"""Makes bf16 training pay on a CPU: `patch(model)` swaps the slow pieces of PyTorch 2.15 for faster ones with the same result.

Group norm (+ SiLU) is one pass each way in C++ (fastcpu.cpp, compiled here once), and attention is written out, because the flash
attention's bf16 backward is slow. Parameters and their names stay as they are, so checkpoints do not notice.
"""
import ctypes
import hashlib
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D


def _library():
    source = Path(__file__).with_name("fastcpu.cpp")
    built = Path(tempfile.gettempdir()) / f"fastcpu-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not built.exists():
        flags = "-O3 -march=native -ffast-math -fopenmp -shared -fPIC -std=c++17".split()
        subprocess.run(["g++", *flags, str(source), "-o", f"{built}.new"], check=True)
        Path(f"{built}.new").rename(built)
    return ctypes.CDLL(str(built))


_lib = _library()
_DTYPES = (torch.float32, torch.bfloat16)


def _pointers(*tensors):
    return [ctypes.c_void_p(t.data_ptr()) for t in tensors]


class _Norm(torch.autograd.Function):
    """x [images, rows, channels], contiguous."""

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps, silu):
        n, rows, c = x.shape
        y = torch.empty_like(x)
        a, b, stats = torch.empty(n, c), torch.empty(n, c), torch.empty(n, groups, 2)
        sizes = [ctypes.c_int64(v) for v in (n, rows, c, groups)]
        _lib.norm_forward(int(x.dtype == torch.bfloat16), *_pointers(x, y, weight, bias, a, b, stats), *sizes, ctypes.c_float(eps), int(silu))
        ctx.save_for_backward(x, weight, a, b, stats)
        ctx.silu = silu
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, a, b, stats = ctx.saved_tensors
        dy = dy.contiguous().to(x.dtype)
        dx, dw, db = torch.empty_like(x), torch.empty_like(a), torch.empty_like(a)
        sizes = [ctypes.c_int64(v) for v in (*x.shape, stats.shape[1])]
        _lib.norm_backward(int(x.dtype == torch.bfloat16), *_pointers(x, dy, dx, weight, a, b, stats, dw, db), *sizes, int(ctx.silu))
        return dx, dw.sum(0), db.sum(0), None, None, None


def group_norm(x, norm, silu=False):
    """`norm` (a GroupNorm) of x [n, c, ...], then SiLU if asked; the result is channels-last."""
    last = x.movedim(1, -1).contiguous()
    y = _Norm.apply(last.flatten(1, -2), norm.weight, norm.bias, norm.num_groups, norm.eps, silu)
    return y.view(last.shape).movedim(-1, 1)


def _resnet(self, x, temb=None, *_args, **_kwargs):
    h = self.conv1(group_norm(x, self.norm1, silu=True))
    if temb is not None:
        h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
    h = self.conv2(group_norm(h, self.norm2, silu=True))
    return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention:
    def __call__(self, attn, x, encoder_hidden_states=None, attention_mask=None, temb=None):
        given = x
        if x.ndim == 4:
            x = x.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
        context = x if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (f(t).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for f, t in ((attn.to_q, x), (attn.to_k, context), (attn.to_v, context)))
        p = torch.softmax(((q * attn.scale) @ k.transpose(-1, -2)).float(), -1).to(v.dtype)
        y = attn.to_out[0]((p @ v).transpose(1, 2).flatten(2))
        if given.ndim == 4:
            y = y.transpose(1, 2).unflatten(2, given.shape[2:])
        return (y + given if attn.residual_connection else y) / attn.rescale_output_factor


def patch(model):
    """The same model, faster: channels-last convolutions, fused norms, plain attention."""
    for m in list(model.modules()):
        if isinstance(m, torch.nn.GroupNorm):
            m.forward = partial(group_norm, norm=m)
        elif isinstance(m, ResnetBlock2D):
            m.forward = _resnet.__get__(m)
        elif isinstance(m, Attention):
            m.set_processor(_Attention())
    for m in list(model.modules()):
        if isinstance(getattr(m, "conv_act", None), torch.nn.SiLU):  # the SiLU behind the last norm joins it
            m.conv_norm_out.forward = partial(group_norm, norm=m.conv_norm_out, silu=True)
            m.conv_act = torch.nn.Identity()
    return model.to(memory_format=torch.channels_last)
