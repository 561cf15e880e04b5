/**
 * How a mask looks on the screen: stripes of a dark and a light colour, so that it differs from any
 * picture under it, whatever its colours.
 */

const STRIPE = 12;
const DARK = "rgb(190 24 93 / 62%)";
const LIGHT = "rgb(255 228 240 / 62%)";

/** One tile of the stripes, which run from lower left to upper right. */
function tile() {
  const canvas = new OffscreenCanvas(STRIPE, STRIPE);
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  context.fillStyle = DARK;
  context.fillRect(0, 0, STRIPE, STRIPE);
  context.strokeStyle = LIGHT;
  context.lineWidth = STRIPE / 6;
  for (const shift of [-STRIPE, 0, STRIPE]) {
    context.beginPath();
    context.moveTo(shift, STRIPE);
    context.lineTo(shift + STRIPE, 0);
    context.stroke();
  }
  return canvas;
}

/** @type {OffscreenCanvas | null} */
let stripes = null;
/** As large as the screen's canvas. @type {OffscreenCanvas | null} */
let layer = null;

/**
 * Draws the mask where the context's transform puts the picture.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {OffscreenCanvas} mask
 */
export function drawOverlay(context, mask) {
  const { width, height } = context.canvas;
  stripes ??= tile();
  if (layer?.width !== width || layer.height !== height) layer = new OffscreenCanvas(width, height);
  const above = layer.getContext("2d");
  const pattern = above?.createPattern(stripes, "repeat");
  if (!above || !pattern) return;

  above.setTransform(1, 0, 0, 1, 0, 0);
  above.clearRect(0, 0, width, height);
  above.setTransform(context.getTransform());
  above.drawImage(mask, 0, 0);
  // Keep the mask's opacity, take the stripes' colours; these do not grow with the zoom.
  above.setTransform(1, 0, 0, 1, 0, 0);
  above.globalCompositeOperation = "source-in";
  above.fillStyle = pattern;
  above.fillRect(0, 0, width, height);
  above.globalCompositeOperation = "source-over";

  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(layer, 0, 0);
  context.restore();
}
