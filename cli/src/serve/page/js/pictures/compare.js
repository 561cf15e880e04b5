/** Two pictures on top of each other under a slider. */

/** @import * as T from "../types.js" */

import { byId, element } from "../dom.js";
import { parts } from "./infotext.js";

/** @param {T.Picture} first @param {T.Picture} second */
export function openCompare(first, second) {
  const dialog = byId("compare-dialog", HTMLDialogElement);
  const frame = byId("compare-frame", HTMLElement);
  const slider = byId("compare-slider", HTMLInputElement);
  const [left, right] = [first, second].map(({ image }) =>
    element("img", { src: image.url, alt: "", draggable: "false" }),
  );
  right.className = "upper";
  frame.replaceChildren(left, right);
  frame.setAttribute("aria-label", `Left: ${described(first)}. Right: ${described(second)}.`);

  /** @param {number} percent */
  function split(percent) {
    const at = Math.min(Math.max(percent, 0), 100);
    slider.value = String(at);
    frame.style.setProperty("--split", `${at}%`);
  }
  slider.oninput = () => split(Number(slider.value));
  frame.onpointerdown = frame.onpointermove = (event) => {
    if (event.type === "pointermove" && event.buttons === 0) return;
    const { left: start, width } = frame.getBoundingClientRect();
    split((100 * (event.clientX - start)) / width);
  };
  split(50);
  byId("compare-table", HTMLElement).replaceChildren(...differences(first, second));
  dialog.showModal();
  slider.focus();
}

/** @param {T.Picture} picture */
function described({ image }) {
  return `${parts(image.infotext).prompt || "no prompt"}, seed ${image.seed}`;
}

/**
 * Rows for the settings that are not the same.
 *
 * @param {T.Picture} first
 * @param {T.Picture} second
 */
function differences(first, second) {
  const [left, right] = [first, second].map(({ image }) => {
    const { prompt, negative, settings } = parts(image.infotext);
    const all = settings.map(({ key, value }) => /** @type {const} */ ([key, value]));
    return new Map([["Prompt", prompt], ["Negative prompt", negative], ...all]);
  });
  const keys = [...new Set([...left.keys(), ...right.keys()])].filter(
    (key) => left.get(key) !== right.get(key),
  );
  if (keys.length === 0) {
    return [element("tr", {}, element("td", { colspan: 3 }, "Both have the same settings."))];
  }
  return keys.map((key) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, key),
      element("td", {}, left.get(key) || "–"),
      element("td", {}, right.get(key) || "–"),
    ),
  );
}
