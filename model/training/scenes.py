"""Composed pictures: sprites on procedural backdrops, on plain colours, recoloured, counted and in pairs."""
import io
import random
import re
from collections import defaultdict

import numpy as np
import resvg_py
from PIL import Image

import backdrops as bd
import words as wd
from captions import article, plural
from colors import recolor
from sources import h01
from sprites import M, premul_resize


KINDS = {"scene": 0.50, "plain": 0.12, "color": 0.12, "count": 0.08, "pair": 0.18}


class Painter:
    """Composes sprites on backdrops at master size."""

    def __init__(self, seed, variants):
        self.bank = defaultdict(list)
        for name in bd.SCENES:
            for k in range(variants):
                svg, ground = bd.scene_svg(name, random.Random(f"{seed}/{name}/{k}"))
                im = Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg, width=M, height=M))).convert("RGBA")
                self.bank[name].append((im, ground))

    def backdrop(self, rng, name):
        if name in self.bank:
            im, g = rng.choice(self.bank[name])
            return im.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else im.copy(), g
        c = bd.PLAIN.get(name, (255, 255, 255))
        if name != "white" and name not in ("black",):
            c = tuple(int(max(0, min(255, v + rng.uniform(-9, 9)))) for v in c)
        return Image.new("RGBA", (M, M), c + (255,)), None

    @staticmethod
    def place(canvas, sprite, size, cx, bottom=None, cy=None, shadow=False):
        """Paste the sprite scaled to `size` (longer side), standing at `bottom` or centred at `cy`."""
        box = sprite.getbbox()
        s = sprite.crop(box)
        k = size / max(s.size)
        s = premul_resize(s, (max(1, round(s.width * k)), max(1, round(s.height * k))))
        x = round(cx - s.width / 2)
        y = round(bottom - s.height) if bottom is not None else round(cy - s.height / 2)
        if shadow:
            w, h = s.width * 0.84, 7
            yy, xx = np.mgrid[0:M, 0:M]
            d = ((xx - cx) / (w / 2)) ** 2 + ((yy - (y + s.height - 1)) / (h / 2)) ** 2
            alpha = (np.clip(1.25 - d, 0, 1) * 70).astype(np.uint8)
            canvas.alpha_composite(Image.fromarray(np.dstack([np.zeros((M, M, 3), np.uint8), alpha]), "RGBA"))
        layer = Image.new("RGBA", (M, M), (0, 0, 0, 0))
        layer.paste(s, (x, y))
        canvas.alpha_composite(layer)


FLIPPABLE_NOT = re.compile(r"left|right|front|letter|clock|text|book|calendar|keyboard|guitar|violin|facing")
RIDERS = {"person-role", "person-fantasy", "animal-mammal", "animal-bird", "face-costume", "cat-face", "animal-reptile", "animal-amphibian"}
MOUNTS = {"horse", "unicorn", "elephant", "camel", "turtle", "dolphin", "whale", "skateboard", "bicycle", "motorcycle", "motor scooter", "rocket", "llama",
          "giraffe", "dragon", "rhinoceros", "pig", "cow", "sheep", "goat", "zebra", "deer", "crocodile", "snail", "kick scooter", "sled", "racing car",
          "tractor", "canoe", "sailboat", "ewe", "ram", "bear", "tiger", "ox", "hippopotamus", "t-rex dinosaur", "long-necked dinosaur", "kangaroo", "cloud",
          "magic wand", "broom", "ufo", "car", "pickup truck", "swan", "shark"}
NUMBER = {2: "two", 3: "three", 4: "four", 5: "five"}
LAYOUT = {2: [(-.5, 0), (.5, 0)], 3: [(-.62, .5), (.62, .5), (0, -.5)], 4: [(-.52, -.52), (.52, -.52), (-.52, .52), (.52, .52)],
          5: [(-.66, -.62), (.66, -.62), (0, 0), (-.66, .62), (.66, .62)]}


def pick_backdrop(rng, sub):
    suits = bd.SUITS.get(sub, bd.LAND)
    if rng.random() < 0.16:
        return rng.choice(list(bd.SCENES))
    return rng.choices(list(suits), list(suits.values()))[0]


def on_color(place):
    return f" on a{'n' if place == 'orange' else ''} {place} background"


class Scene:
    """One composed picture in the making. Each kind is a method giving (canvas, captions, concept, what must be held out together)."""

    def __init__(self, rng, painter, pool, sprites):
        self.rng, self.painter, self.pool, self.sprites = rng, painter, pool, sprites

    def one(self, suits=lambda c: True):
        while True:
            c = self.rng.choices(self.pool[0], cum_weights=self.pool[1])[0]
            if c.hex in self.sprites and suits(c):
                return c

    def flipped(self, im, c):
        return im.transpose(Image.FLIP_LEFT_RIGHT) if self.rng.random() < 0.5 and not FLIPPABLE_NOT.search(c.name) else im

    def art(self, c):
        return self.flipped(self.sprites[c.hex], c)

    def name(self, c):
        return c.name if self.rng.random() < 0.75 else self.rng.choice(c.names)

    def scene(self):
        rng, c = self.rng, self.one()
        place = pick_backdrop(rng, c.sub)
        canvas, ground = self.painter.backdrop(rng, place)
        size, cx = rng.uniform(62, 84), 64 + rng.uniform(-10, 10)
        flies = c.sub in ("transport-air", "sky-weather", "animal-bird") and place not in ("table", "room")
        if ground is None or (flies and rng.random() < 0.35):
            self.painter.place(canvas, self.art(c), size, cx, cy=62 + rng.uniform(-8, 8))
        else:
            self.painter.place(canvas, self.art(c), size, cx, bottom=ground + rng.uniform(-3, 5), shadow=place != "sea")
        n = article(self.name(c))
        _, phrases, noun = bd.SCENES[place]
        bare = noun.split(" ", 1)[1] if noun.startswith(("a ", "an ")) else noun
        captions = [f"{n} {phrases[0]}", f"{n} {rng.choice(phrases)}", rng.choice([f"{noun} with {n}", f"{n}, {bare}"])]
        return canvas, captions, f"{c.name} | {place}", (c.base_name, place)

    def plain(self):
        rng = self.rng
        c, place = self.one(), rng.choice(list(bd.PLAIN))
        canvas, _ = self.painter.backdrop(rng, place)
        self.painter.place(canvas, self.art(c), rng.uniform(84, 104), 64 + rng.uniform(-5, 5), cy=64 + rng.uniform(-5, 5))
        n = article(self.name(c))
        return canvas, [f"{n}{on_color(place)}", f"{n}, {place} background"], f"{c.name} | {place} background", (c.base_name, place)

    def color(self):
        rng = self.rng
        for _ in range(40):
            c = self.one(lambda c: not wd.COLOR_WORDS & set(c.name.split()) and not c.people and article(c.name) != c.name)
            color = rng.choice(list(bd.COLORS))
            im = recolor(self.sprites[c.hex], color)
            if im is not None:
                break
        else:
            return None
        im = self.flipped(im, c)
        n = article(f"{color} {self.name(c)}")
        if rng.random() < 0.6:
            canvas, _ = self.painter.backdrop(rng, "white")
            self.painter.place(canvas, im, rng.uniform(96, 114), 64, cy=64)
            captions = [n, f"{n} on a white background", f"{c.name}, {color}"]
        else:
            place = pick_backdrop(rng, c.sub)
            canvas, ground = self.painter.backdrop(rng, place)
            where = dict(cy=62) if ground is None else dict(bottom=ground + rng.uniform(-3, 5), shadow=place != "sea")
            self.painter.place(canvas, im, rng.uniform(64, 84), 64 + rng.uniform(-8, 8), **where)
            captions = [f"{n} {p}" for p in rng.sample(bd.SCENES[place][1], 2)]
        return canvas, captions, f"{color} {c.name}", (c.base_name, color)

    def count(self):
        rng = self.rng
        c = self.one(lambda c: plural(c.name) is not None and article(c.name) != c.name and not c.tone)
        k = rng.choices([2, 3, 4, 5], [4, 4, 2, 1])[0]
        place = rng.choice(["white", "white", "white", rng.choice(list(bd.PLAIN))])
        canvas, _ = self.painter.backdrop(rng, place)
        size, spread = {2: (56, 60), 3: (50, 54), 4: (50, 56), 5: (40, 58)}[k]
        im = self.art(c)
        for dx, dy in LAYOUT[k]:
            self.painter.place(canvas, im, size * rng.uniform(0.94, 1.04), 64 + dx * spread + rng.uniform(-2, 2), cy=64 + dy * spread + rng.uniform(-2, 2))
        n = f"{NUMBER[k]} {plural(c.name)}"
        captions = [n, f"{k} {plural(c.name)}"] if place == "white" else [n + on_color(place)]
        return canvas, captions, f"{k} {c.name}", (c.base_name, k)

    def pair(self):
        a = self.one()
        b = self.one(lambda c: c.hex != a.hex)
        na, nb = article(self.name(a)), article(self.name(b))
        how = self.rng.choices([self.beside, self.above, self.riding], [6, 2, 2])[0]
        if how == self.riding:
            a, b = self.one(lambda c: c.sub in RIDERS), self.one(lambda c: c.base_name in MOUNTS)
            na, nb = article(self.name(a)), article(self.name(b))
        canvas, captions = how(a, b, na, nb)
        return canvas, captions, f"{a.name} + {b.name}", tuple(sorted([a.base_name, b.base_name]))

    def beside(self, a, b, na, nb):
        rng = self.rng
        place = rng.choice(["white", "white", pick_backdrop(rng, a.sub)])
        canvas, ground = self.painter.backdrop(rng, place)
        where = dict(cy=64) if ground is None else dict(bottom=ground + rng.uniform(-2, 3), shadow=place != "sea")
        if place == "white":
            where = dict(bottom=96)
        self.painter.place(canvas, self.art(a), rng.uniform(50, 58), 34, **where)
        self.painter.place(canvas, self.art(b), rng.uniform(50, 58), 94, **where)
        tail = self.tail(place)
        return canvas, [f"{na} and {nb}{tail}", f"{na} next to {nb}{tail}", f"{na} to the left of {nb}{tail}", f"{nb} to the right of {na}{tail}"]

    def above(self, a, b, na, nb):
        rng = self.rng
        place = rng.choice(["white", "sky", rng.choice(list(bd.PLAIN))])
        canvas, _ = self.painter.backdrop(rng, place)
        self.painter.place(canvas, self.art(a), rng.uniform(52, 58), 64, cy=33)
        self.painter.place(canvas, self.art(b), rng.uniform(52, 58), 64, cy=95)
        tail = {"white": "", "sky": " in the sky"}.get(place, on_color(place))
        return canvas, [f"{na} above {nb}{tail}", f"{nb} below {na}{tail}", f"{nb} under {na}{tail}"]

    def riding(self, a, b, na, nb):
        rng = self.rng
        place = pick_backdrop(rng, b.sub) if rng.random() < 0.6 else "white"
        canvas, ground = self.painter.backdrop(rng, place)
        bottom = 118 if ground is None else ground + 3
        left, top, right, low = self.sprites[b.hex].getbbox()
        height = 70 * (low - top) / max(low - top, right - left)
        self.painter.place(canvas, self.art(b), 70, 64, bottom=bottom, shadow=ground is not None and place != "sea")
        self.painter.place(canvas, self.art(a), 50, 64, bottom=bottom - height * 0.66)
        tail = self.tail(place)
        return canvas, [f"{na} riding {nb}{tail}", f"{na} on top of {nb}{tail}"]

    def tail(self, place):
        return "" if place == "white" else " " + self.rng.choice(bd.SCENES[place][1])


def make_scene(rng, kind, painter, pool, by_style, style_share):
    """One composed picture: (image, captions, style, concept, held out?), or None where nothing suits."""
    style = rng.choices(list(style_share), list(style_share.values()))[0]
    made = getattr(Scene(rng, painter, pool, by_style[style]), kind)()
    if made is None:
        return None
    canvas, captions, concept, combination = made
    return canvas, captions, style, concept, h01("held", kind, *combination) < 1 / 12  # one combination in twelve is never trained
