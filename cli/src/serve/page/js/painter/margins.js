/**
 * Outpainting: how far the picture is continued on each side.
 *
 * Each side has a handle on the picture and a number in the toolbar; both are the same value. The
 * handle is a slider for the keyboard as well.
 */

/** @import {Box, View} from "./view.js" */

import { byId, element } from "../dom.js";
import { onCanvas } from "./view.js";

/** @typedef {"left" | "right" | "top" | "bottom"} Side */

/** In the order in which the request has them. @type {Side[]} */
export const SIDES = ["left", "right", "top", "bottom"];

/** Pixels; sides of pictures are multiples of this. */
const STEP = 8;
const LARGEST = 1024;

export class Margins {
  /** @param {() => void} onchange @param {() => void} onend When a handle is let go. */
  constructor(onchange, onend) {
    this.values = { left: 0, right: 0, top: 0, bottom: 0 };
    this.onchange = onchange;
    this.onend = onend;
    /** @type {View} */
    this.view = { scale: 1, x: 0, y: 0 };
    this.handles = new Map(SIDES.map((side) => [side, this.#handle(side)]));
    this.inputs = new Map(SIDES.map((side) => [side, this.#input(side)]));
    byId("canvas-frame", HTMLElement).append(...this.handles.values());
    for (const [side, input] of this.inputs) {
      byId("margin-fields", HTMLElement).append(
        element("label", { class: "small-field" }, side[0].toUpperCase() + side.slice(1), input),
      );
    }
  }

  isEmpty() {
    return SIDES.every((side) => this.values[side] === 0);
  }

  /** As a request says it. */
  toString() {
    return SIDES.map((side) => this.values[side]).join(",");
  }

  /** @param {string} text "left,right,top,bottom" */
  parse(text) {
    const numbers = text.split(",").map(Number);
    SIDES.forEach((side, index) => this.set(side, numbers[index] || 0));
  }

  /** @param {Side} side @param {number} pixels */
  set(side, pixels) {
    const value = Math.min(Math.max(Math.round(pixels / STEP) * STEP, 0), LARGEST);
    this.values[side] = value;
    const handle = this.handles.get(side);
    handle?.setAttribute("aria-valuenow", String(value));
    handle?.setAttribute("aria-valuetext", `${value} pixels`);
    const input = this.inputs.get(side);
    if (input && input !== document.activeElement) input.value = String(value);
    this.onchange();
  }

  clear() {
    for (const side of SIDES) this.set(side, 0);
  }

  /** The picture and its margins. @param {number} width @param {number} height @returns {Box} */
  box(width, height) {
    const { left, right, top, bottom } = this.values;
    return { left: -left, top: -top, right: width + right, bottom: height + bottom };
  }

  /** Puts the handles on the edges. @param {View} view @param {Box} box */
  place(view, box) {
    this.view = view;
    const middle = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
    for (const [side, handle] of this.handles) {
      const isAcross = side === "left" || side === "right";
      const [x, y] = onCanvas(view, isAcross ? [box[side], middle[1]] : [middle[0], box[side]]);
      handle.style.setProperty("left", `${x}px`);
      handle.style.setProperty("top", `${y}px`);
    }
  }

  /** @param {Side} side */
  #handle(side) {
    const isAcross = side === "left" || side === "right";
    const handle = element("div", {
      class: `margin-handle ${side}`,
      role: "slider",
      tabindex: 0,
      "aria-label": `Continue the picture to the ${side}`,
      "aria-orientation": isAcross ? "horizontal" : "vertical",
      "aria-valuemin": 0,
      "aria-valuemax": LARGEST,
      "aria-valuenow": 0,
      "aria-valuetext": "0 pixels",
      title: "Drag to continue the picture beyond this edge",
    });
    const outwards = side === "left" || side === "top" ? -1 : 1;
    handle.addEventListener("pointerdown", (down) => {
      down.preventDefault();
      handle.focus();
      handle.setPointerCapture(down.pointerId);
      const before = this.values[side];
      const { scale } = this.view;
      const onmove = (/** @type {PointerEvent} */ move) => {
        const pixels = isAcross ? move.clientX - down.clientX : move.clientY - down.clientY;
        this.set(side, before + (outwards * pixels) / scale);
      };
      handle.addEventListener("pointermove", onmove);
      handle.addEventListener(
        "lostpointercapture",
        () => {
          handle.removeEventListener("pointermove", onmove);
          this.onend();
        },
        { once: true },
      );
    });
    handle.addEventListener("keydown", (event) => {
      const steps = {
        ArrowRight: 1,
        ArrowUp: 1,
        ArrowLeft: -1,
        ArrowDown: -1,
        PageUp: 8,
        PageDown: -8,
      }[event.key];
      if (event.key === "Home") this.set(side, 0);
      else if (steps) this.set(side, this.values[side] + steps * STEP);
      else return;
      event.preventDefault();
      this.onend();
    });
    return handle;
  }

  /** @param {Side} side */
  #input(side) {
    const input = element("input", { type: "number", min: 0, max: LARGEST, step: STEP, value: 0 });
    input.addEventListener("change", () => {
      this.set(side, Number(input.value));
      input.value = String(this.values[side]);
      this.onend();
    });
    return input;
  }
}
