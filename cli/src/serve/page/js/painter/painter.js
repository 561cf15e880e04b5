/**
 * The canvas on which a mask is painted over a picture.
 *
 *     source.js   the picture            mask.js     what is painted
 *     view.js     zoom and pan           overlay.js  how that looks
 *     pointer.js  mouse, pen, fingers    margins.js  what is added around
 *     keys.js     the same without them
 */

/** @import {View} from "./view.js" */

import { say } from "../announce.js";
import { byId } from "../dom.js";
import { listenToKeys } from "./keys.js";
import { Margins } from "./margins.js";
import { Mask } from "./mask.js";
import { drawOverlay } from "./overlay.js";
import { listenToPointer } from "./pointer.js";
import { source } from "./source.js";
import { fitted, zoomed } from "./view.js";

/** Canvas pixels around the picture, so that the handles can be reached. */
const BORDER = 28;

/** @typedef {"brush" | "eraser" | "move"} Tool */

export class Painter {
  constructor() {
    this.canvas = byId("canvas", HTMLCanvasElement);
    const context = this.canvas.getContext("2d");
    if (!context) throw new Error("the browser has no 2D canvas");
    this.context = context;
    this.mask = new Mask(1, 1);
    this.margins = new Margins(
      () => this.changed(),
      () => this.fit(),
    );
    /** @type {Tool} */
    this.tool = "brush";
    /** Of the brush, in pixels of the picture. */
    this.size = 32;
    /** @type {View} */
    this.view = { scale: 1, x: 0, y: 0 };
    /** Where the brush is, in pixels of the picture. @type {[number, number] | null} */
    this.cursor = null;
    this.isPaintable = true;
    /** @type {Set<() => void>} */
    this.subscribers = new Set();
    this.isFrameAsked = false;

    source.subscribe((picture) => {
      this.mask = new Mask(picture?.width ?? 1, picture?.height ?? 1);
      this.size = Math.max(
        4,
        Math.round(Math.min(this.mask.canvas.width, this.mask.canvas.height) / 8),
      );
      this.cursor = null;
      this.margins.clear();
      this.fit();
      this.changed();
    });
    new ResizeObserver(() => this.fit()).observe(this.canvas);
    listenToPointer(this);
    listenToKeys(this);
    this.canvas.addEventListener("focus", () => {
      this.cursor ??= [this.mask.canvas.width / 2, this.mask.canvas.height / 2];
      this.draw();
    });
  }

  /** Whether this task has a mask. @param {boolean} isPaintable */
  setPaintable(isPaintable) {
    this.isPaintable = isPaintable;
    for (const handle of this.margins.handles.values()) handle.hidden = !isPaintable;
    this.fit();
  }

  /** Called after every change of mask, margins or brush. */
  changed() {
    for (const subscriber of this.subscribers) subscriber();
    this.draw();
  }

  /** @param {import("./mask.js").Operation} operation */
  do(operation) {
    this.mask.add(operation);
    this.changed();
  }

  undo() {
    this.mask.undo();
    say("Undone");
    this.changed();
  }

  redo() {
    this.mask.redo();
    say("Redone");
    this.changed();
  }

  /** @param {number} size */
  setSize(size) {
    this.size = Math.min(Math.max(Math.round(size), 1), 1024);
    this.changed();
  }

  /** Shows the whole picture. */
  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    if (clientWidth === 0 || !source.get()) return;
    this.view = fitted(this.#box(), clientWidth, clientHeight, BORDER);
    this.changed();
  }

  /**
   * Zooms around a point of the canvas, or its middle.
   *
   * @param {number} factor
   * @param {[number, number]} [at]
   */
  zoom(factor, at = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    this.view = zoomed(this.view, factor, at);
    this.changed();
  }

  #box() {
    const { width, height } = this.mask.canvas;
    return this.isPaintable
      ? this.margins.box(width, height)
      : { left: 0, top: 0, right: width, bottom: height };
  }

  /** Draws with the next frame. */
  draw() {
    if (this.isFrameAsked) return;
    this.isFrameAsked = true;
    requestAnimationFrame(() => {
      this.isFrameAsked = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    const { canvas, context, view } = this;
    const ratio = window.devicePixelRatio || 1;
    const [across, down] = [canvas.clientWidth, canvas.clientHeight].map((side) =>
      Math.round(side * ratio),
    );
    if (canvas.width !== across || canvas.height !== down)
      Object.assign(canvas, { width: across, height: down });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, across, down);
    const picture = source.get();
    if (!picture || across === 0 || down === 0) return;

    const box = this.#box();
    this.margins.place(view, box);
    context.setTransform(
      ratio * view.scale,
      0,
      0,
      ratio * view.scale,
      ratio * view.x,
      ratio * view.y,
    );
    context.imageSmoothingEnabled = view.scale < 3;
    // The style sheet knows the theme: the canvas's text colour is that of what is added around.
    context.fillStyle = getComputedStyle(canvas).color;
    context.fillRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    context.drawImage(picture.bitmap, 0, 0);
    if (!this.isPaintable) return;
    drawOverlay(context, this.mask.canvas);
    if (this.cursor && this.tool !== "move") this.#drawCursor(this.cursor);
  }

  /** Two rings, so that one of them is seen on any picture. @param {[number, number]} at */
  #drawCursor([x, y]) {
    const { context, view, size } = this;
    const hair = 1 / view.scale;
    for (const [colour, grown] of /** @type {const} */ ([
      ["black", hair],
      ["white", 0],
    ])) {
      context.beginPath();
      context.arc(x, y, Math.max(size / 2 + grown, hair), 0, 2 * Math.PI);
      context.strokeStyle = colour;
      context.lineWidth = hair;
      context.setLineDash(this.tool === "eraser" && colour === "white" ? [4 * hair, 4 * hair] : []);
      context.stroke();
    }
    context.setLineDash([]);
  }

  /**
   * Begins a stroke, or paints a dot.
   *
   * @param {[number, number]} point In pixels of the picture.
   */
  paint(point) {
    const isErasing = this.tool === "eraser";
    this.do({ kind: "stroke", isErasing, size: this.size, points: [point] });
  }

  /** @param {Tool} tool */
  setTool(tool) {
    this.tool = tool;
    this.changed();
  }
}
