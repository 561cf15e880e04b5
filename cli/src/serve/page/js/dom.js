/**
 * The few helpers that make elements bearable without a framework.
 *
 * Text is only ever added as text, never parsed as HTML, so nothing that a prompt or a picture
 * says can become part of the page.
 */

/** @typedef {string | number | boolean | null | undefined | ((event: any) => void)} Attribute */

/**
 * Makes an element: `element("button", {type: "button", onclick: draw}, "Draw")`.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Attribute>} [attributes] True adds the bare attribute; false and null add
 * nothing; a function listens to the event after "on".
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/**
 * The element of index.html with an id and of a class; a mistake of the programmer throws.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} with the id ${id}`);
  return found;
}

/**
 * A button that shows text.
 *
 * @param {string} text
 * @param {(event: MouseEvent) => void} onclick
 * @param {Record<string, Attribute>} [attributes]
 */
export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

/**
 * Waits for a pause: calls come through `milliseconds` after the last.
 *
 * @param {number} milliseconds
 * @param {() => void} call
 */
export function debounced(milliseconds, call) {
  let timer = 0;
  return () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(call, milliseconds);
  };
}

/**
 * Whether a key goes into a text field and is not ours to act on.
 *
 * @param {EventTarget | null} target
 */
export function isTyping(target) {
  return (
    target instanceof HTMLElement &&
    (target.matches("input, select, textarea") || target.isContentEditable)
  );
}
