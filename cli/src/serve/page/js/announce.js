/**
 * What happened, for eyes and for ears.
 *
 * `say` is read aloud by screen readers and seen by no one else; `notify` also shows a note that
 * goes away by itself, unless it is an error.
 */

import { ApiError } from "./api.js";
import { button, byId, element } from "./dom.js";

const SHOWN_FOR = 6000;

/** @param {string} message */
export function say(message) {
  byId("spoken", HTMLElement).textContent = message;
}

/** @param {string} message @param {"note" | "error"} [kind] */
export function notify(message, kind = "note") {
  const notes = byId("notes", HTMLElement);
  const note = element(
    "div",
    { class: `note ${kind}`, role: kind === "error" ? "alert" : "status" },
    message,
  );
  const close = button("×", () => note.remove(), {
    class: "quiet",
    "aria-label": "Close this note",
  });
  note.append(close);
  notes.append(note);
  while (notes.childElementCount > 3) notes.firstElementChild?.remove();
  if (kind === "note") window.setTimeout(() => note.remove(), SHOWN_FOR);
}

/** Shows why something failed. @param {unknown} error */
export function complain(error) {
  if (error instanceof ApiError) notify(error.message, "error");
  else {
    console.error(error);
    notify(`The page made a mistake: ${error instanceof Error ? error.message : error}`, "error");
  }
}

/**
 * A listener that shows what the action behind it throws.
 *
 * @template {unknown[]} Arguments
 * @param {(...given: Arguments) => Promise<void>} action
 * @returns {(...given: Arguments) => void}
 */
export function guarded(action) {
  return (...given) => void action(...given).catch(complain);
}
