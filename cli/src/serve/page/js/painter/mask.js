/**
 * A mask is the list of what was done to it: strokes, inversions, a mask that was loaded.
 *
 * The pixels follow from the list, so undo is to take the last entry off and to draw the rest
 * again, and nothing but the entries has to be kept. Opaque is repainted, transparent is kept.
 */

/**
 * @typedef {{kind: "stroke", isErasing: boolean, size: number, points: [number, number][]}} Stroke
 * @typedef {{kind: "picture", bitmap: ImageBitmap}} Loaded
 * @typedef {Stroke | Loaded | {kind: "invert"} | {kind: "clear"}} Operation
 */

/** What paint looks like in the mask itself; on the screen `overlay.js` draws it. */
const COLOUR = "#000000";

export class Mask {
  /** @param {number} width @param {number} height Pixels of the picture. */
  constructor(width, height) {
    this.canvas = new OffscreenCanvas(width, height);
    const context = this.canvas.getContext("2d", { willReadFrequently: false });
    if (!context) throw new Error("the browser has no 2D canvas");
    this.context = context;
    /** @type {Operation[]} */
    this.done = [];
    /** @type {Operation[]} */
    this.undone = [];
  }

  /** @param {Operation} operation */
  add(operation) {
    this.done.push(operation);
    this.undone = [];
    this.#draw(operation);
  }

  /**
   * Makes the stroke that was added last longer.
   *
   * @param {[number, number]} point In pixels of the picture.
   */
  extend(point) {
    const stroke = this.done.at(-1);
    if (stroke?.kind !== "stroke") return;
    const previous = stroke.points.at(-1) ?? point;
    stroke.points.push(point);
    this.#draw({ ...stroke, points: [previous, point] });
  }

  undo() {
    const last = this.done.pop();
    if (last) this.undone.push(last);
    this.#drawAll();
  }

  redo() {
    const next = this.undone.pop();
    if (!next) return;
    this.done.push(next);
    this.#draw(next);
  }

  /** Whether anything is to be repainted. */
  isEmpty() {
    if (this.done.length === 0) return true;
    const { width, height } = this.canvas;
    // A small copy is enough: a dab of one pixel still leaves a trace in it.
    const small = new OffscreenCanvas(Math.min(width, 256), Math.min(height, 256));
    const context = small.getContext("2d");
    context?.drawImage(this.canvas, 0, 0, small.width, small.height);
    const pixels = context?.getImageData(0, 0, small.width, small.height).data ?? [];
    for (let alpha = 3; alpha < pixels.length; alpha += 4) if (pixels[alpha] > 0) return false;
    return true;
  }

  /** As a PNG, white where it is repainted and black elsewhere. */
  async toPng() {
    const { width, height } = this.canvas;
    const whole = new OffscreenCanvas(width, height);
    const context = whole.getContext("2d");
    if (!context) throw new Error("the browser has no 2D canvas");
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "black";
    context.fillRect(0, 0, width, height);
    return whole.convertToBlob({ type: "image/png" });
  }

  #drawAll() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const operation of this.done) this.#draw(operation);
  }

  /** @param {Operation} operation */
  #draw(operation) {
    const { context } = this;
    const { width, height } = this.canvas;
    context.save();
    context.fillStyle = context.strokeStyle = COLOUR;
    switch (operation.kind) {
      case "stroke":
        context.globalCompositeOperation = operation.isErasing ? "destination-out" : "source-over";
        drawStroke(context, operation);
        break;
      case "invert":
        // xor with all-opaque: alpha becomes 1 − alpha.
        context.globalCompositeOperation = "xor";
        context.fillRect(0, 0, width, height);
        break;
      case "clear":
        context.clearRect(0, 0, width, height);
        break;
      case "picture":
        drawMaskPicture(context, operation.bitmap, width, height);
        break;
    }
    context.restore();
  }
}

/** @param {OffscreenCanvasRenderingContext2D} context @param {Stroke} stroke */
function drawStroke(context, { points, size }) {
  context.lineWidth = size;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  const [first, ...rest] = points;
  if (rest.length === 0) {
    // A line of no length is not drawn.
    context.arc(...first, size / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.moveTo(...first);
  for (const point of rest) context.lineTo(...point);
  context.stroke();
}

/**
 * Takes over a mask that is stored as a picture: its brightness becomes the opacity.
 *
 * @param {OffscreenCanvasRenderingContext2D} context
 * @param {ImageBitmap} bitmap
 * @param {number} width
 * @param {number} height
 */
function drawMaskPicture(context, bitmap, width, height) {
  context.clearRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  for (let at = 0; at < image.data.length; at += 4) image.data.set([0, 0, 0, image.data[at]], at);
  context.putImageData(image, 0, 0);
}
