/** The buttons around the canvas, and what the painter adds to a request. */

/** @import * as T from "../types.js" */
/** @import {Painter, Tool} from "./painter.js" */

import { ApiError } from "../api.js";
import { byId } from "../dom.js";
import { form } from "../form/form.js";
import { fitSize } from "../form/size.js";
import { dataUrl, source } from "./source.js";

/** @param {Painter} painter */
export function startToolbar(painter) {
  const click = (/** @type {string} */ id, /** @type {() => void} */ action) => {
    const made = byId(id, HTMLButtonElement);
    made.addEventListener("click", action);
    return made;
  };
  click("invert", () => painter.do({ kind: "invert" }));
  const clear = click("clear", () => painter.do({ kind: "clear" }));
  const undo = click("undo", () => painter.undo());
  const redo = click("redo", () => painter.redo());
  click("zoom-in", () => painter.zoom(1.25));
  click("zoom-out", () => painter.zoom(0.8));
  click("zoom-fit", () => painter.fit());
  click("remove-source", () => source.clear());

  const tools = [...document.querySelectorAll("input[name=tool]")].filter(
    (input) => input instanceof HTMLInputElement,
  );
  for (const tool of tools) {
    tool.addEventListener("change", () => painter.setTool(/** @type {Tool} */ (tool.value)));
  }
  const size = byId("brush-size", HTMLInputElement);
  size.addEventListener("input", () => painter.setSize(Number(size.value)));

  let marginsBefore = painter.margins.toString();
  painter.subscribers.add(() => {
    undo.disabled = painter.mask.done.length === 0;
    redo.disabled = painter.mask.undone.length === 0;
    clear.disabled = painter.mask.done.length === 0;
    for (const tool of tools) tool.checked = tool.value === painter.tool;
    size.value = String(painter.size);
    byId("brush-size-value", HTMLElement).textContent = `${painter.size} px`;
    byId("zoom-value", HTMLElement).textContent = `${Math.round(100 * painter.view.scale)}%`;
    if (painter.margins.toString() !== marginsBefore) {
      marginsBefore = painter.margins.toString();
      suggestSize(painter);
    }
  });

  source.subscribe((picture) => {
    byId("drop-zone", HTMLElement).hidden = picture !== null;
    byId("painter", HTMLElement).hidden = picture === null;
    byId("source-name", HTMLElement).textContent = picture
      ? `${picture.name}, ${picture.width} × ${picture.height}`
      : "";
    suggestSize(painter);
    painter.fit();
  });
  form.subscribe(() => {
    const isInpaint = form.kind() === "inpaint";
    if (painter.isPaintable !== isInpaint) painter.setPaintable(isInpaint);
  });
  painter.setPaintable(form.kind() === "inpaint");
}

/** Sets width and height to those of the picture with its margins. @param {Painter} painter */
function suggestSize(painter) {
  const picture = source.get();
  if (!picture) return;
  const { left, right, top, bottom } = painter.margins.box(picture.width, picture.height);
  fitSize(right - left, bottom - top);
}

/**
 * What the picture and the mask add to a request, without their pixels.
 *
 * @param {Painter} painter
 * @returns {T.Request}
 */
export function paintedSettings(painter) {
  return form.kind() === "inpaint" && !painter.margins.isEmpty()
    ? { expand: painter.margins.toString() }
    : {};
}

/**
 * The same with the pixels.
 *
 * @param {Painter} painter
 * @returns {Promise<T.Request>}
 */
export async function paintedRequest(painter) {
  const kind = form.kind();
  if (kind === "txt2img") return {};
  const picture = source.get();
  if (!picture)
    throw new ApiError("Choose a picture to start from: drop one, paste one, or pick one below.");
  const request = { init_images: [await dataUrl(picture.blob)], ...paintedSettings(painter) };
  if (kind === "img2img") return request;
  if (painter.mask.isEmpty() && painter.margins.isEmpty()) {
    throw new ApiError("Paint over what should change, or drag an edge of the picture outwards.");
  }
  return { ...request, mask: await dataUrl(await painter.mask.toPng()) };
}
