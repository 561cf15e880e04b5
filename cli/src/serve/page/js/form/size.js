/** Shapes, and the sides changed for each other. */

/** @import * as T from "../types.js" */

import { button, byId, element } from "../dom.js";
import { form } from "./form.js";

/** Width to height, by the names of photographers. */
const SHAPES = [
  { label: "Square", ratio: 1 },
  { label: "Landscape 4:3", ratio: 4 / 3 },
  { label: "Landscape 3:2", ratio: 3 / 2 },
  { label: "Wide 16:9", ratio: 16 / 9 },
  { label: "Portrait 3:4", ratio: 3 / 4 },
  { label: "Portrait 2:3", ratio: 2 / 3 },
  { label: "Tall 9:16", ratio: 9 / 16 },
];

/** The model's own size and the multiple that sides must have. */
const model = { width: 512, height: 512, multiple: 8 };

/** @param {T.Info} info */
export function setModelSize({ model: { default_width, default_height, vae_factor } }) {
  Object.assign(model, {
    width: default_width,
    height: default_height,
    multiple: Math.max(vae_factor, 8),
  });
}

/**
 * Sides of a ratio whose area is at most the model's own.
 *
 * @param {number} ratio
 * @param {number} [area]
 * @returns {[number, number]}
 */
export function sized(ratio, area = model.width * model.height) {
  const nearest = (/** @type {number} */ side) =>
    Math.max(1, Math.round(side / model.multiple)) * model.multiple;
  return [nearest(Math.sqrt(area * ratio)), nearest(Math.sqrt(area / ratio))];
}

/** How much larger than the model's own size a picture may be and keep its size. */
const STRETCH = 2;

/**
 * The size at which to work on a picture: its own, unless the model would be lost in it.
 *
 * @param {number} width
 * @param {number} height
 */
export function fitSize(width, height) {
  const most = STRETCH * model.width * model.height;
  form.apply(sizeRequest(sized(width / height, Math.min(width * height, most))));
}

/** @param {[number, number]} sides @returns {T.Request} */
const sizeRequest = ([width, height]) => ({ width, height });

export function startSize() {
  const current = () =>
    /** @type {[number, number]} */ (
      ["width", "height"].map(
        (name) => Number(form.field(name)?.control.value) || model[/** @type {"width"} */ (name)],
      )
    );
  const swap = button(
    "⇄",
    () => {
      const [width, height] = current();
      form.apply(sizeRequest([height, width]));
    },
    { class: "icon", title: "Swap width and height", "aria-label": "Swap width and height" },
  );
  const shapes = element(
    "select",
    { id: "shape", "aria-label": "Shape" },
    element("option", { value: "" }, "Shape…"),
    ...SHAPES.map(({ label, ratio }) => element("option", { value: ratio }, label)),
  );
  shapes.addEventListener("change", () => {
    if (shapes.value) form.apply(sizeRequest(sized(Number(shapes.value))));
    shapes.value = "";
  });
  byId("size-tools", HTMLElement).append(swap, shapes);
}
