/**
 * What the browser keeps between visits: the form as it was left, presets, the theme.
 *
 * A browser may forbid storage; then the value lasts until the page is closed.
 */

/**
 * @template V
 * @param {string} name
 * @param {V} otherwise The value before anything is stored, or if what is stored cannot be read.
 */
export function stored(name, otherwise) {
  const key = `aquatint.${name}`;
  let value = otherwise;
  try {
    const text = localStorage.getItem(key);
    if (text !== null) value = JSON.parse(text);
  } catch {
    value = otherwise;
  }
  return {
    get: () => value,
    /** @param {V} next */
    set(next) {
      value = next;
      try {
        localStorage.setItem(key, JSON.stringify(next));
      } catch {
        // Storage is full or forbidden: the value counts for this visit.
      }
    },
  };
}
