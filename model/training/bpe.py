"""A small byte-level BPE in CLIP's file format (vocab.json, merges.txt), trained on the captions; deterministic."""
import json
import re
from collections import Counter


def bytes_to_unicode():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs, n = bs[:], 0
    for b in range(256):
        if b not in bs:
            bs.append(b)
            cs.append(256 + n)
            n += 1
    return dict(zip(bs, map(chr, cs)))


CLIP_PAT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")


def train_bpe(captions, size, out):
    """Byte-level BPE in CLIP's format (vocab.json + merges.txt), deterministic."""
    enc = bytes_to_unicode()
    freq = Counter(w for t in captions for w in CLIP_PAT.findall(t.lower()))
    wordsplit = {w: [enc[b] for b in w.encode()] for w in freq}
    for p in wordsplit.values():
        p[-1] += "</w>"
    base = list(enc.values())
    vocab = base + [b + "</w>" for b in base]
    merges = []
    while len(vocab) + 2 < size:
        pairs = Counter()
        for w, p in wordsplit.items():
            for ab in zip(p, p[1:]):
                pairs[ab] += freq[w] ** 0.75  # damped, so that rare names get tokens too
        if not pairs:
            break
        (a, b), n = max(pairs.items(), key=lambda kv: (kv[1], kv[0]))
        merges.append((a, b))
        vocab.append(a + b)
        for w, p in wordsplit.items():
            i = 0
            while i < len(p) - 1:
                if p[i] == a and p[i + 1] == b:
                    p[i:i + 2] = [a + b]
                else:
                    i += 1
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}, ensure_ascii=False))
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    eot = "<|endoftext|>"
    (out / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": eot, "pad_token": eot, "unk_token": eot,
         "do_lower_case": True, "errors": "replace", "model_max_length": 77}, indent=1))
    (out / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<|startoftext|>", "eos_token": eot, "pad_token": eot, "unk_token": eot}, indent=1))
    return len(vocab)
