/**
 * "How it works": what happened inside between the prompt and one picture.
 *
 * 1. the prompt became tokens     2. noise was drawn from the seed
 * 3. at each step the model predicted the finished picture, and some noise went
 * 4. the latents were decoded
 */

/** @import * as T from "../types.js" */

import { api, ApiError } from "../api.js";
import { byId, element } from "../dom.js";
import { sigma as rounded } from "../format.js";
import { parts } from "./infotext.js";
import { sigmaChart } from "./sigma_chart.js";

/** @param {T.Job} job @param {T.Picture} picture */
export async function openExplain(job, picture) {
  const explanation = await api.explain(job.id);
  if (!explanation) {
    throw new ApiError(
      "The server keeps the steps of its last pictures only. Draw this one again to see them.",
    );
  }
  const { tokens, negative_tokens: negatives, steps } = explanation;
  showTokens(byId("explain-tokens", HTMLElement), tokens);
  showTokens(byId("explain-negative", HTMLElement), negatives);
  byId("explain-negative-part", HTMLElement).hidden = negatives.length === 0;
  byId("explain-seed", HTMLElement).textContent = String(picture.image.seed);
  const { settings } = parts(picture.image.infotext);
  const sampler = settings.find(({ key }) => key === "Sampler")?.value ?? "the sampler";
  byId("explain-sampler", HTMLElement).textContent = sampler;
  const last = byId("explain-picture", HTMLImageElement);
  last.src = picture.image.url;
  showSteps(steps);
  byId("explain-dialog", HTMLDialogElement).showModal();
}

/** @param {HTMLElement} place @param {T.Token[]} tokens */
function showTokens(place, tokens) {
  place.replaceChildren(
    ...tokens.map(({ id, text }) =>
      element(
        "li",
        { class: /^<.*>$/.test(text) ? "token special" : "token" },
        element("span", { class: "token-text" }, text),
        element(
          "span",
          { class: "token-id" },
          element("span", { class: "spoken-only" }, "number "),
          String(id),
        ),
      ),
    ),
  );
}

/** @param {T.Explanation["steps"]} steps */
function showSteps(steps) {
  const slider = byId("explain-step", HTMLInputElement);
  const chart = sigmaChart(steps.map(({ sigma }) => sigma));
  byId("explain-chart", HTMLElement).replaceChildren(chart.element);
  slider.max = String(Math.max(steps.length - 1, 0));
  const strip = byId("explain-strip", HTMLElement);
  strip.replaceChildren(
    ...steps.map(({ preview_url, step }, index) =>
      element(
        "button",
        {
          type: "button",
          class: "thumbnail small",
          "aria-label": `Step ${step}`,
          onclick: () => show(index),
        },
        preview_url
          ? element("img", { src: preview_url, alt: "", loading: "lazy" })
          : element("span", {}, String(step)),
      ),
    ),
  );

  /** @param {number} index */
  function show(index) {
    const step = steps[index];
    if (!step) return;
    slider.value = String(index);
    const words = `Step ${step.step} of ${steps.length}: timestep ${Math.round(step.timestep)}, σ = ${rounded(step.sigma)}`;
    slider.setAttribute("aria-valuetext", words);
    byId("explain-caption", HTMLElement).textContent = words;
    const img = byId("explain-preview", HTMLImageElement);
    img.hidden = !step.preview_url;
    if (step.preview_url) img.src = step.preview_url;
    img.alt = `What the model predicted at step ${step.step}`;
    chart.mark(index);
    [...strip.children].forEach((each, at) =>
      each.setAttribute("aria-pressed", String(at === index)),
    );
  }
  slider.oninput = () => show(Number(slider.value));
  show(0);
}
