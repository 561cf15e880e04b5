"use strict";
// Shows the run in the element "data". All numbers were computed by the program; nothing is fetched.

const run = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

/** A new element with text and children. */
function element(name, text = "", ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

/** Draws a map of bytes in base64 as brightness. */
function draw(canvas, map, [height, width]) {
  const bytes = Uint8Array.from(atob(map.bytes), (character) => character.charCodeAt(0));
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  bytes.forEach((byte, i) => {
    // Dark blue over teal to pale yellow: brightness rises evenly, so that it also reads on paper.
    const share = byte / 255;
    pixels.data.set([255 * share ** 1.4, 30 + 215 * share ** 0.9, 70 + 90 * share, 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** A token as people read it. */
const readable = (token) => token.text.replace("</w>", "").replace("<|startoftext|>", "start").replace("<|endoftext|>", "end");

/** One small map for each token. */
function showWords(container, maps) {
  container.replaceChildren(
    ...maps.tokens.map((map, i) => {
      const word = readable(run.tokens[i]);
      const canvas = draw(document.createElement("canvas"), map, maps.size);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `How strongly each pixel looks at ${word}`);
      return element("figure", "", canvas, element("figcaption", word));
    }),
  );
}

/** σ of every step on a logarithmic scale, with the chosen step marked. */
function showSchedule(chosen) {
  const [width, height, margin] = [320, 150, 26];
  const sigmas = run.steps.map((step) => Math.log10(Math.max(step.sigma, 1e-3)));
  const [low, high] = [Math.min(...sigmas), Math.max(...sigmas)];
  const x = (i) => margin + (i / Math.max(sigmas.length - 1, 1)) * (width - 2 * margin);
  const y = (value) => margin / 2 + ((high - value) / Math.max(high - low, 1e-6)) * (height - 1.5 * margin);
  const dots = sigmas
    .map((value, i) => `<circle cx="${x(i)}" cy="${y(value)}" r="${i === chosen ? 6 : 3}" fill="${i === chosen ? "var(--accent)" : "currentColor"}"/>`)
    .join("");
  const svg = byId("schedule");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML =
    `<polyline fill="none" stroke="currentColor" opacity=".35" points="${sigmas.map((value, i) => `${x(i)},${y(value)}`).join(" ")}"/>${dots}` +
    `<text x="${margin}" y="${height - 4}" font-size="11" fill="currentColor">first step</text>` +
    `<text x="${width - margin}" y="${height - 4}" font-size="11" text-anchor="end" fill="currentColor">last step</text>`;
}

function showStep(index) {
  const step = run.steps[index];
  byId("step-number").textContent = `${index + 1} of ${run.steps.length}`;
  byId("input").src = step.input;
  byId("predicted").src = step.predicted;
  const alphaBar = 1 / (1 + step.sigma ** 2);
  byId("level").textContent =
    `t = ${Math.round(step.timestep)}, σ = ${step.sigma.toPrecision(3)}, ᾱ = ${alphaBar.toPrecision(3)} (σ of each step, logarithmic)`;
  showSchedule(index);
  if (step.guidance) {
    byId("unconditional").src = step.guidance.unconditional;
    byId("conditional").src = step.guidance.conditional;
    byId("guided").src = step.predicted;
    draw(byId("difference"), step.guidance.difference, run.latents.shape.slice(1));
  }
  if (step.words) showWords(byId("words"), step.words);
}

function row(...cells) {
  return element("tr", "", ...cells.map((cell) => element("td", cell)));
}

byId("title").textContent = `“${run.prompt}”`;
byId("settings").textContent =
  `${run.size.join("×")} pixels, ${run.steps.length} evaluations of the UNet, seed ${run.seed}, ${run.seconds.toFixed(1)} s with all that this page shows`;
byId("picture").src = run.image;
byId("tokens").replaceChildren(
  ...run.tokens.map((token) => element("span", `${readable(token)} `, element("small", String(token.id)))),
);

const slider = byId("step");
slider.max = run.steps.length - 1;
slider.value = Math.floor(run.steps.length / 3);
slider.addEventListener("input", () => showStep(Number(slider.value)));

byId("scale").textContent = String(run.guidance_scale);
byId("guidance").hidden = !run.steps.some((step) => step.guidance);

byId("attention").hidden = run.layers.length === 0;
const layers = byId("layer");
layers.replaceChildren(
  ...run.layers.map((layer, i) => {
    const option = element("option", `attention ${i + 1} of ${run.layers.length}, ${layer.size.join("×")} pixels`);
    option.value = String(i);
    return option;
  }),
);
layers.addEventListener("change", () => showWords(byId("layer-words"), run.layers[Number(layers.value)]));
if (run.layers.length > 0) showWords(byId("layer-words"), run.layers[0]);

const [channels, height, width] = run.latents.shape;
byId("latents-text").textContent =
  `The loop above worked on ${channels} channels of ${height}×${width} numbers, ${channels * height * width} in all; the VAE's decoder ` +
  `made ${run.size[0] * run.size[1] * 3} numbers of pixels from them.`;
byId("channels").replaceChildren(
  ...run.latents.channels.map((map, i) => {
    const canvas = draw(document.createElement("canvas"), map, [height, width]);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Channel ${i} of the latents`);
    return element("figure", "", canvas, element("figcaption", `channel ${i}: ${map.min.toFixed(1)} to ${map.max.toFixed(1)}`));
  }),
);

byId("levels").replaceChildren(
  ...run.levels.map(({ size, channels }, i) =>
    row(String(i), size.join(" × "), String(channels), (size[0] * size[1] * channels).toLocaleString("en")),
  ),
);
const total = run.work.reduce((sum, work) => sum + work.seconds, 0);
byId("work").replaceChildren(
  ...run.work.map(({ kind, count, seconds, flops }) =>
    row(kind, String(count), seconds.toFixed(3), `${((100 * seconds) / total).toFixed(0)} %`, flops ? (flops / seconds / 1e9).toFixed(0) : "–"),
  ),
);

showStep(Number(slider.value));
