"""What people would type for a picture: articles, plurals, everyday names, style words, keywords, now and then empty words."""
import re

import words as wd
from colors import main_colors

STYLE_WORDS = {
    "3d": ["3d style", "3d render", "3d emoji"], "flat": ["flat style", "flat vector art", "flat emoji"],
    "noto": ["noto style", "cartoon style", "noto emoji"], "blob": ["blob style", "blob emoji"], "pixel": ["pixel art", "pixel art style", "pixelated"],
}
FILLER = ["a picture of", "a drawing of", "an illustration of", "an image of", "a photo of", "an emoji of", "a painting of", "draw"]
ADJECTIVE = ["cute", "nice", "beautiful", "little", "funny", "lovely", "detailed", "pretty", "simple", "colorful"]


def article(name):
    first, last = name.split()[0], name.split()[-1]
    if name in wd.MASS or first in ("two", "three", "four", "a", "an", "the"):
        return name
    if first not in ("person", "man", "woman") and last.endswith("s") and not last.endswith("ss") and last not in wd.SINGULAR_S and name not in wd.SINGULAR_S and "'s" not in last:
        if not re.search(r" (with|in|on|of|from|behind|and) ", f" {name} "):
            return name
    an = name[0] in "aeiou" and not name.startswith(("uni", "one-", "ufo", "euro", "ewe")) or name.startswith(("hour", "suv"))
    return ("an " if an else "a ") + name


def plural(name):
    head, sep, tail = name.partition(" of ")
    if not sep:
        head, sep, tail = re.match(r"^(.*?)( (?:with|in|on|from|behind) .*|)$", name).groups() + ("",)
        sep, tail = sep, ""
    parts = head.split()
    last = parts[-1]
    if head in wd.MASS or name in wd.MASS or last.endswith("ing") and len(parts) > 1 or " and " in name:
        return None
    if last in ("meat", "can", "corn", "note", "right", "left", "up", "down", "front"):
        return None
    if last in wd.IRREGULAR_PLURAL:
        p = wd.IRREGULAR_PLURAL[last]
    elif last.endswith(("s", "sh", "ch", "x")):
        p = last + "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        p = last[:-1] + "ies"
    elif last in ("potato", "tomato", "mango"):
        p = last + "es"
    else:
        p = last + "s"
    return " ".join(parts[:-1] + [p]) + sep + tail


def spoken(label, tone=None):
    """Everyday names of a CLDR label, canonical first."""
    names = wd.ALIASES.get(label)
    if names is None:
        n = label.lower().replace("’", "'")
        m = re.match(r"^(person|man|woman): (.*)$", n)
        if m:
            who, what = m.groups()
            n = {"bald": f"bald {who}", "beard": f"{who} with a beard"}.get(what, f"{who} with {what}")
        n = re.sub(r"(bouncing|rowing) (ball|boat)", r"\1 a \2", n).replace("in manual", "in a").replace("in motorized", "in a motorized")
        n = re.sub(r"^(person|man|woman) with (veil|crown|white cane)$", r"\1 with a \2", re.sub(r"wearing turban", "wearing a turban", n))
        names = [n]
    names = [n.lower() for n in names]
    if tone:
        names = [f"{n} with {wd.TONES[tone]} skin" for n in names]
    return names


def chatty(rng, text):
    """Now and then the empty words of real prompts, so that the model learns to see past them."""
    r = rng.random()
    if r < 0.06:
        return f"{rng.choice(FILLER)} {text}"
    if r < 0.12 and text.startswith(("a ", "an ")):
        return f"a {rng.choice(ADJECTIVE)} {text.split(' ', 1)[1]}"
    return text


def styled(rng, text, style):
    """Add the style words: always for the other sets, in 40 % of the captions for the default one."""
    text = chatty(rng, text)
    if style == "3d" and rng.random() > 0.4:
        return text
    words = STYLE_WORDS[style]
    w = words[0] if rng.random() < 0.6 else rng.choice(words)
    return rng.choice([f"{text}, {w}", f"{text}, {w}", f"{w}, {text}", f"{text} in {w}" if w.endswith(("style", "art")) else f"{text}, {w}"])


def icon_captions(c, style, sprite, rng):
    art = article(c.name)
    caps = [styled(rng, art, style), styled(rng, c.name, style)]
    caps += [styled(rng, article(n), style) for n in c.names[1:]]
    kw = rng.sample(c.tags, min(len(c.tags), 3))
    if kw:
        caps.append(styled(rng, f"{c.name}, {', '.join(kw)}", style))
    for t in rng.sample(c.rare_tags, min(1, len(c.rare_tags))):
        caps.append(styled(rng, f"{c.name}, {t}", style))
    caps.append(styled(rng, rng.choice([f"{art} on a white background", f"an emoji of {art}", f"an icon of {art}"]), style))
    col = main_colors(sprite)
    if not c.people and col and col[0][1] > 0.5 and not wd.COLOR_WORDS & set(c.name.split()) and col[0][0] not in c.tags:
        tail = article(c.name)
        if tail != c.name:  # countable: "a red car"
            caps.append(styled(rng, article(f"{col[0][0]} {c.name}"), style))
    for hyp in wd.HYPERNYM.get(c.sub, [])[:1]:
        caps.append(styled(rng, f"{article(hyp)}, {c.name}" if rng.random() < .5 else f"{c.name}, {hyp}", style))
    return list(dict.fromkeys(caps))
