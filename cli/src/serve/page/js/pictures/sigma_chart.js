/** The noise level σ of each step on a logarithmic scale, as a small drawing. */

import { sigma as rounded } from "../format.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [480, 140];
const EDGE = { left: 44, right: 12, top: 12, bottom: 24 };

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 */
function shape(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** @param {number[]} sigmas */
export function sigmaChart(sigmas) {
  // The last σ may be 0, which no logarithm has: it is drawn at the lower end.
  const positive = sigmas.filter((sigma) => sigma > 0);
  const high = Math.max(...positive, 1);
  const low = Math.min(...positive, high / 2);
  const across = (/** @type {number} */ index) =>
    EDGE.left + (index / Math.max(sigmas.length - 1, 1)) * (WIDTH - EDGE.left - EDGE.right);
  const down = (/** @type {number} */ sigma) => {
    const share = Math.log(high / Math.max(sigma, low)) / Math.log(high / low);
    return EDGE.top + share * (HEIGHT - EDGE.top - EDGE.bottom);
  };
  const points = sigmas.map((sigma, index) => `${across(index)},${down(sigma)}`);
  const mark = shape("circle", { r: 6, class: "chart-mark" });
  const svg = shape("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": `The noise level falls from ${rounded(sigmas[0] ?? 0)} to ${rounded(sigmas.at(-1) ?? 0)} in ${sigmas.length} steps.`,
  });
  svg.append(
    ...[high, Math.sqrt(high * low), low].flatMap((sigma) => [
      shape("line", {
        x1: EDGE.left,
        x2: WIDTH - EDGE.right,
        y1: down(sigma),
        y2: down(sigma),
        class: "chart-line",
      }),
      shape(
        "text",
        { x: EDGE.left - 6, y: down(sigma) + 4, class: "chart-label end" },
        rounded(sigma),
      ),
    ]),
    shape("text", { x: WIDTH - EDGE.right, y: HEIGHT - 6, class: "chart-label end" }, "step"),
    shape("text", { x: 4, y: HEIGHT - 6, class: "chart-label" }, "σ"),
    shape("polyline", { points: points.join(" "), class: "chart-curve" }),
    ...sigmas.map((sigma, index) =>
      shape("circle", { cx: across(index), cy: down(sigma), r: 2.5, class: "chart-dot" }),
    ),
    mark,
  );
  return {
    element: svg,
    /** @param {number} index */
    mark(index) {
      mark.setAttribute("cx", String(across(index)));
      mark.setAttribute("cy", String(down(sigmas[index] ?? 0)));
    },
  };
}
