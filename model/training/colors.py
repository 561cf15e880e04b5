"""Colours of sprites: which ones they have, by name, and the same sprite in another."""
from collections import Counter

import numpy as np
from PIL import Image

from backdrops import COLORS


def hsv_of(sprite):
    px = np.asarray(sprite, np.float32)
    rgb, a = px[..., :3] / 255, px[..., 3] / 255
    mx, mn = rgb.max(-1), rgb.min(-1)
    d = mx - mn
    safe = np.where(d == 0, 1, d)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = np.where(mx == r, (g - b) / safe % 6, np.where(mx == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    return np.where(d == 0, 0, hue), np.where(mx == 0, 0, d / np.where(mx == 0, 1, mx)), mx, a


def main_colors(sprite):
    """Basic colour names by area, largest first: [(name, share), ...]."""
    h, s, v, a = hsv_of(sprite)
    name = np.full(h.shape, "gray", object)
    name[:] = "red"
    for lo, hi, c in ((13, 40, "orange"), (40, 68, "yellow"), (68, 168, "green"), (168, 252, "blue"), (252, 296, "purple"), (296, 346, "pink")):
        name[(h >= lo) & (h < hi)] = c
    name[(h >= 10) & (h < 44) & (v < 0.68)] = "brown"
    name[((h < 13) | (h >= 346)) & (s < 0.45) & (v > 0.8)] = "pink"
    name[(h < 13) & (s < 0.6) & (v < 0.6)] = "brown"
    name[s < 0.16] = "gray"
    name[(s < 0.16) & (v > 0.86)] = "white"
    name[v < 0.24] = "black"
    m = a > 0.5
    n = Counter(name[m].tolist())
    return [(k, c / m.sum()) for k, c in n.most_common()]


def recolor(sprite, target):
    """The sprite with its one dominant hue moved to `target`; None where it has no single hue."""
    h, s, v, a = hsv_of(sprite)
    m = (a > 0.3) & (s > 0.22) & (v > 0.2)
    if m.sum() < 0.4 * (a > 0.3).sum():
        return None
    hist = np.bincount((h[m] / 10).astype(int) % 36, weights=(s * a)[m], minlength=36)
    peak = int(np.argmax(hist + np.roll(hist, 1) + np.roll(hist, -1))) * 10 + 5
    off = (h - peak + 180) % 360 - 180
    hit = m & (np.abs(off) < 38)
    if hit.sum() < 0.62 * m.sum():
        return None
    th, ks, kv = COLORS[target][1]
    if target != "gray" and abs((peak - th + 180) % 360 - 180) < 24 and target not in ("brown", "pink"):
        return None
    nh, ns, nv = (th + off * 0.35) % 360, np.clip(s * ks, 0, 1), np.clip(v * kv, 0, 1)
    if target == "yellow":
        nv = np.clip(0.25 + 0.75 * nv, 0, 1)
    i = (nh / 60).astype(int) % 6
    f = nh / 60 - np.floor(nh / 60)
    p, q, t = nv * (1 - ns), nv * (1 - ns * f), nv * (1 - ns * (1 - f))
    rgb = np.choose(i[..., None], [np.stack(c, -1) for c in ((nv, t, p), (q, nv, p), (p, nv, t), (p, q, nv), (t, p, nv), (nv, p, q))])
    px = np.asarray(sprite).copy()
    px[..., :3] = np.where(hit[..., None], np.clip(rgb * 255, 0, 255).astype(np.uint8), px[..., :3])
    return Image.fromarray(px, "RGBA")
