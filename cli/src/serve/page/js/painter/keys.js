/**
 * Painting with the keyboard: arrow keys move the brush, space paints, `[` and `]` change its size,
 * `+` `-` `0` zoom, `B` `E` `M` choose the tool, `I` inverts, Ctrl+Z and Ctrl+Shift+Z undo and redo.
 */

/** @import {Painter} from "./painter.js" */

import { say } from "../announce.js";
import { source } from "./source.js";
import { moved, onCanvas } from "./view.js";

/** @param {Painter} painter */
export function listenToKeys(painter) {
  painter.canvas.addEventListener("keydown", (event) => {
    const isCommand = event.ctrlKey || event.metaKey;
    const actions = isCommand ? withControl(painter, event) : alone(painter, event);
    const action = actions[event.key.toLowerCase()];
    if (!action || event.altKey || !source.get() || !painter.isPaintable) return;
    event.preventDefault();
    action();
  });
}

/** @param {Painter} painter @param {KeyboardEvent} event @returns {Record<string, () => void>} */
function alone(painter, event) {
  const step = (event.shiftKey ? 4 : 1) * Math.max(painter.size / 4, 1);
  return {
    arrowleft: () => moveBrush(painter, -step, 0),
    arrowright: () => moveBrush(painter, step, 0),
    arrowup: () => moveBrush(painter, 0, -step),
    arrowdown: () => moveBrush(painter, 0, step),
    " ": () => dot(painter),
    enter: () => dot(painter),
    "[": () => painter.setSize(painter.size / 1.25),
    "]": () => painter.setSize(Math.ceil(painter.size * 1.25)),
    "+": () => painter.zoom(1.25),
    "=": () => painter.zoom(1.25),
    "-": () => painter.zoom(0.8),
    0: () => painter.fit(),
    b: () => painter.setTool("brush"),
    e: () => painter.setTool("eraser"),
    m: () => painter.setTool("move"),
    i: () => painter.do({ kind: "invert" }),
  };
}

/** @param {Painter} painter @param {KeyboardEvent} event @returns {Record<string, () => void>} */
function withControl(painter, event) {
  return {
    z: () => (event.shiftKey ? painter.redo() : painter.undo()),
    y: () => painter.redo(),
  };
}

/** Where the brush is; in the middle if it was not there yet. @param {Painter} painter */
function brush(painter) {
  const { width, height } = painter.mask.canvas;
  return (painter.cursor ??= [width / 2, height / 2]);
}

/** @param {Painter} painter @param {number} dx @param {number} dy In pixels of the picture. */
function moveBrush(painter, dx, dy) {
  const { canvas, view } = painter;
  const { width, height } = painter.mask.canvas;
  const [x, y] = brush(painter);
  const next = /** @type {[number, number]} */ ([
    Math.min(Math.max(x + dx, 0), width),
    Math.min(Math.max(y + dy, 0), height),
  ]);
  painter.cursor = next;
  const [left, top] = onCanvas(view, next);
  const isOutside = left < 0 || top < 0 || left > canvas.clientWidth || top > canvas.clientHeight;
  if (isOutside) painter.view = moved(view, -dx * view.scale, -dy * view.scale);
  const [across, down] = [next[0] / width, next[1] / height];
  say(`${Math.round(100 * across)}% across, ${Math.round(100 * down)}% down`);
  painter.draw();
}

/** @param {Painter} painter */
function dot(painter) {
  if (painter.tool === "move") return;
  painter.paint(brush(painter));
  say(painter.tool === "eraser" ? "Erased" : "Painted");
}
