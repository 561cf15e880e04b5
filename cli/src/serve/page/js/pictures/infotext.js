/**
 * The text in a picture, as A1111 writes it, taken apart for display:
 *
 *     a fox in the snow
 *     Negative prompt: blurry
 *     Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Version: …
 *
 * What it means for a request is the server's to say (`/api/png-info`).
 */

const PAIR = /\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)/g;
const NEGATIVE = "Negative prompt: ";

/** @param {string} infotext */
export function parts(infotext) {
  const lines = infotext.trim().split("\n");
  const pairs = [...(lines.at(-1) ?? "").matchAll(PAIR)].map(([, key, value]) => ({
    key,
    value: unquoted(value),
  }));
  // As A1111 does: fewer than three pairs are words of a prompt.
  const settings = pairs.length >= 3 ? pairs : [];
  if (settings.length > 0) lines.pop();
  const at = lines.findIndex((line) => line.startsWith(NEGATIVE));
  const prompt = (at < 0 ? lines : lines.slice(0, at)).join("\n");
  const negative = at < 0 ? "" : lines.slice(at).join("\n").slice(NEGATIVE.length);
  return { prompt, negative, settings };
}

/** @param {string} value */
function unquoted(value) {
  if (!value.startsWith('"')) return value.trim();
  try {
    return String(JSON.parse(value));
  } catch {
    return value;
  }
}
