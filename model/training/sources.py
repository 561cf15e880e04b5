"""The pinned npm packages: fetched once, checked by SHA-256, and what they say is in them (names, keywords, groups)."""
import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import words as wd
from captions import spoken

# name: (npm package, version, sha256 of the tarball)
PACKAGES = json.loads((Path(__file__).parent / "packages.json").read_text())
# style key: package, licence, holder
# style: package, licence, holder
STYLES = {
    "3d": dict(pkg="fluent3d", licence="MIT",
               holder="Fluent Emoji (3D), Copyright (c) Microsoft Corporation", url="https://github.com/microsoft/fluentui-emoji"),
    "flat": dict(pkg="fluentflat", licence="MIT",
                 holder="Fluent Emoji (flat), Copyright (c) Microsoft Corporation", url="https://github.com/microsoft/fluentui-emoji"),
    "noto": dict(pkg="noto", licence="Apache-2.0",
                 holder="Noto Emoji, Copyright Google LLC", url="https://github.com/googlefonts/noto-emoji"),
    "blob": dict(pkg="notov1", licence="Apache-2.0",
                 holder="Noto Emoji (2013-2017 design), Copyright Google LLC", url="https://github.com/googlefonts/noto-emoji"),
}


def fetch(key, cache):
    """Path of a pinned npm tarball; downloads it on the first run."""
    name, version, digest = PACKAGES[key]
    path = cache / (name.lstrip("@").replace("/", "-") + f"-{version}.tgz")
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=cache, check=True, stdout=subprocess.DEVNULL)
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != digest:
        sys.exit(f"{path}: SHA-256 {got}, expected {digest}")
    return path


def member(path, name):
    with tarfile.open(path) as t:
        return t.extractfile(f"package/{name}").read()


def norm(hexcode):
    """Emoji sequence key without variation selectors."""
    return "-".join(p for p in hexcode.lower().split("-") if p != "fe0f")


def slug(label):
    label = label.lower().replace("’", "").replace("'", "").replace(".", "").replace("ñ", "n")
    return re.sub(r"[^a-z0-9]+", "-", label).strip("-")


def h01(*parts):
    """Stable hash of strings in [0, 1)."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:6], "big") / 2**48


class Concept:
    """One thing to draw: an emoji, possibly with a skin tone."""

    def __init__(self, entry, groups, tone=None, base=None):
        src = base or entry
        self.hex, self.tone = norm(entry["hexcode"]), tone
        self.group, self.sub = groups["groups"][str(src["group"])], groups["subgroups"][str(src["subgroup"])]
        self.label = src["label"]
        self.names = spoken(src["label"], tone)
        if self.sub.startswith("face-") and not tone:  # "smiley" is what most people call these
            more = [re.sub(r"\bface\b", "smiley", n) for n in self.names if re.search(r"^face | face$|face with", n)]
            self.names = list(dict.fromkeys(self.names + more))
        self.name = self.names[0]
        self.base_name = spoken(src["label"])[0]
        self.tags = [t for t in src.get("tags", []) if re.fullmatch(r"[a-z][a-z \-]{1,18}", t)]
        self.people = self.group == "people-body"
        self.slug = slug(entry["label"])


def concepts(cache):
    path = fetch("emojibase", cache)
    data, groups = json.loads(member(path, "en/data.json")), json.loads(member(path, "meta/groups.json"))
    out = []
    for e in data:
        if e.get("group") is None or groups["groups"][str(e["group"])] == "flags":
            continue
        sub = groups["subgroups"][str(e["subgroup"])]
        if sub in wd.DROP_SUBGROUPS or e["label"] in wd.DROP_LABELS or "facing right" in e["label"]:
            continue
        if "bunny ears" in e["label"] or (sub == "time" and re.search(r"o’clock|thirty", e["label"])):
            continue
        out.append(Concept(e, groups))
        if sub in wd.TONED_SUBGROUPS:
            for s in e.get("skins", []):
                if isinstance(s.get("tone"), int):
                    out.append(Concept(s, groups, s["tone"], e))
    # A tag shared by at most three concepts is close to a name; only those serve as one-word captions.
    seen = Counter(t for c in out if not c.tone for t in set(c.tags))
    for c in out:
        rare = [t for t in c.tags if seen[t] <= 2 and t not in c.name and len(t) > 3 and not t.endswith(("ly", "ed", "ful"))]
        c.rare_tags = [] if c.people else rare
        known = set(" ".join(c.names).split())
        c.tags = [t for t in c.tags if not set(t.split()) & known]
    return out
