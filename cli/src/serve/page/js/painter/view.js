/**
 * Zoom and pan: how pixels of the picture lie on the canvas.
 *
 *     on the canvas = scale · in the picture + offset
 *
 * Pure functions; a view is never changed, only replaced.
 */

/**
 * @typedef {{scale: number, x: number, y: number}} View Scale in canvas pixels a picture pixel;
 * offset in canvas pixels.
 * @typedef {{left: number, top: number, right: number, bottom: number}} Box In picture pixels.
 */

export const LARGEST_SCALE = 32;
export const SMALLEST_SCALE = 0.05;

/**
 * Shows a box whole and in the middle.
 *
 * @param {Box} box
 * @param {number} width Of the canvas.
 * @param {number} height
 * @param {number} border Canvas pixels that are left free around it.
 * @returns {View}
 */
export function fitted(box, width, height, border) {
  const across = box.right - box.left;
  const down = box.bottom - box.top;
  const free = (/** @type {number} */ side) => Math.max(side - 2 * border, 1);
  const scale = clamped(Math.min(free(width) / across, free(height) / down));
  return {
    scale,
    x: (width - scale * (box.left + box.right)) / 2,
    y: (height - scale * (box.top + box.bottom)) / 2,
  };
}

/**
 * Zooms by a factor; the point of the canvas keeps its pixel of the picture.
 *
 * @param {View} view
 * @param {number} factor
 * @param {[number, number]} point
 * @returns {View}
 */
export function zoomed(view, factor, [x, y]) {
  const scale = clamped(view.scale * factor);
  const ratio = scale / view.scale;
  return { scale, x: x - ratio * (x - view.x), y: y - ratio * (y - view.y) };
}

/** @param {View} view @param {number} dx @param {number} dy @returns {View} */
export function moved(view, dx, dy) {
  return { ...view, x: view.x + dx, y: view.y + dy };
}

/**
 * From the canvas to the picture.
 *
 * @param {View} view
 * @param {[number, number]} point
 * @returns {[number, number]}
 */
export function inPicture({ scale, x, y }, [across, down]) {
  return [(across - x) / scale, (down - y) / scale];
}

/**
 * From the picture to the canvas.
 *
 * @param {View} view
 * @param {[number, number]} point
 * @returns {[number, number]}
 */
export function onCanvas({ scale, x, y }, [across, down]) {
  return [scale * across + x, scale * down + y];
}

/** @param {number} scale */
function clamped(scale) {
  return Math.min(Math.max(scale, SMALLEST_SCALE), LARGEST_SCALE);
}
