"""What the golden scripts share: a quiet, offline, deterministic oracle, seeded weights, CLIP's merges, tidy JSON.

Read pipelines.py next; it makes the goldens that matter most.
"""

import gzip
import json
import os
import re
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import diffusers
import numpy
import torch
import transformers

HERE = Path(__file__).resolve().parent

torch.set_num_threads(1)  # more threads may add up in another order
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def write_json(path, value, width=110):
    """Writes JSON for people: objects indented, whatever fits into `width` characters on one line."""

    def render(value, indent):
        flat = json.dumps(value, ensure_ascii=False)
        if not isinstance(value, (dict, list)) or len(flat) + indent <= width:
            return flat
        inner = " " * (indent + 2)
        if isinstance(value, dict):
            parts = [f"{inner}{json.dumps(k, ensure_ascii=False)}: {render(v, indent + 2)}" for k, v in value.items()]
            return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
        if all(isinstance(v, (int, float)) for v in value):  # long rows of numbers fill their lines
            lines, line = [], ""
            for part in (json.dumps(v) for v in value):
                if line and len(inner) + len(line) + len(part) + 3 > width:
                    lines.append(inner + line + ",")
                    line = ""
                line += (", " if line else "") + part
            return "[\n" + "\n".join([*lines, inner + line]) + "\n" + " " * indent + "]"
        return "[\n" + ",\n".join(inner + render(v, indent + 2) for v in value) + "\n" + " " * indent + "]"

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(value, 0) + "\n", encoding="utf-8")


def randomise(module, seed, gains):
    """Fills every parameter from one seeded generator, in the order of the names.

    Weights: normal, standard deviation gain / sqrt(fan in). The gain is that of the first pattern in `gains` that is
    found in the name, else 1. Norm weights lie around 1, biases around 0, both wide enough that leaving them out shows.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator)
        if "embedding.weight" in name:
            parameter.data = values * next((g for pattern, g in gains if re.search(pattern, name)), 1.0)
        elif parameter.ndim > 1:
            gain = next((g for pattern, g in gains if re.search(pattern, name)), 1.0)
            parameter.data = values * gain / parameter[0].numel() ** 0.5
        else:
            parameter.data = (1 + 0.2 * values) if "norm" in name and name.endswith("weight") else 0.1 * values
    return module.eval()


def clip_merges(count=49152 - 256 - 2):
    """The first `count` merges of CLIP's byte-pair encoding, as open_clip ships them (MIT), as pairs."""
    import open_clip

    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")
    return [tuple(line.split()) for line in lines[1 : count + 1]]


def clip_vocabulary(merges):
    """CLIP's numbering: 256 byte symbols, the same with </w>, one per merge, then the two special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges]
    return {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def error_levels(a, b):
    """Largest difference of two 8-bit pictures and the share of equal values."""
    difference = numpy.abs(a.astype(int) - b.astype(int))
    return int(difference.max()), float((difference == 0).mean())
