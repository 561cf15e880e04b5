/**
 * Painting with mouse, pen and fingers. One pointer paints, or pans with the tool "Move" and the
 * middle button; two fingers zoom and pan; the wheel zooms with Ctrl, or while the canvas has the
 * focus.
 */

/** @import {Painter} from "./painter.js" */

import { source } from "./source.js";
import { inPicture, moved, zoomed } from "./view.js";

/** @typedef {[number, number]} Point In pixels of the canvas. */

/** @param {MouseEvent} event @returns {Point} */
const at = (event) => [event.offsetX, event.offsetY];

/** @param {Painter} painter */
export function listenToPointer(painter) {
  const { canvas } = painter;
  /** Where each pointer that is down was last. @type {Map<number, Point>} */
  const pointers = new Map();
  let isStroke = false;

  canvas.addEventListener("pointerdown", (event) => {
    if (!source.get()) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    if (pointers.size > 1 && isStroke) {
      // A second finger: the first did not mean to paint.
      isStroke = false;
      painter.mask.undo();
      painter.mask.undone = [];
      painter.changed();
    } else if (painter.isPaintable && painter.tool !== "move" && event.button === 0) {
      isStroke = true;
      painter.paint(inPicture(painter.view, at(event)));
    }
    event.preventDefault();
    canvas.focus({ preventScroll: true });
  });

  canvas.addEventListener("pointermove", (event) => {
    painter.cursor = inPicture(painter.view, at(event));
    const before = pointers.get(event.pointerId);
    if (before && isStroke) {
      // A fast hand makes several moves between two frames.
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const move of moves.length > 0 ? moves : [event]) {
        painter.mask.extend(inPicture(painter.view, at(move)));
      }
    } else if (before && pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) pinch(painter, before, at(event), other);
    } else if (before) {
      const [x, y] = at(event);
      painter.view = moved(painter.view, x - before[0], y - before[1]);
    }
    if (before) pointers.set(event.pointerId, at(event));
    painter.draw();
  });

  for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
    canvas.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      if (isStroke) painter.changed();
      isStroke = false;
    });
  }
  canvas.addEventListener("pointerleave", () => {
    painter.cursor = null;
    painter.draw();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return;
      event.preventDefault();
      painter.zoom(Math.exp(-event.deltaY / 400), at(event));
    },
    { passive: false },
  );
}

/**
 * Two fingers, one of them moving: their distance zooms, the middle between them pans.
 *
 * @param {Painter} painter
 * @param {Point} before
 * @param {Point} now
 * @param {Point} other
 */
function pinch(painter, before, now, other) {
  const distance = (/** @type {Point} */ [x, y]) =>
    Math.max(Math.hypot(x - other[0], y - other[1]), 1);
  const middle = /** @type {Point} */ ([(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  const zoomedView = zoomed(painter.view, distance(now) / distance(before), middle);
  painter.view = moved(zoomedView, (now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  painter.changed();
}
