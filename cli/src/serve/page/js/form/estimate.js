/** How long a picture will take and how much memory it needs, before one asks for it. */

import { api, ApiError } from "../api.js";
import { byId, debounced, element } from "../dom.js";
import { bytes, duration } from "../format.js";
import { jobs } from "../jobs.js";
import { form } from "./form.js";

const PAUSE = 400;

/** @param {() => import("../types.js").Request} painted What the painter adds, without pictures. */
export function startEstimate(painted) {
  const place = byId("estimate", HTMLElement);
  const warnings = byId("warnings", HTMLElement);
  let latest = 0;

  const ask = debounced(PAUSE, async () => {
    const mine = ++latest;
    const request = { ...form.request(), ...painted() };
    let text = "";
    /** @type {string[]} */
    let cautions = [];
    try {
      const { seconds, bytes: memory, warnings: found } = await api.estimate(form.kind(), request);
      text = [seconds !== null && `about ${duration(seconds)}`, memory !== null && bytes(memory)]
        .filter(Boolean)
        .join(" · ");
      cautions = found ?? [];
    } catch (error) {
      // What is wrong with the request is said here already; the rest is said when it is sent.
      if (error instanceof ApiError && error.status === 422) cautions = [error.message];
    }
    if (mine !== latest) return;
    place.textContent = text;
    warnings.replaceChildren(...cautions.map((caution) => element("li", {}, caution)));
    warnings.hidden = cautions.length === 0;
  });
  form.subscribe(ask);
  // Each job that ends teaches the server how fast it is.
  jobs.subscribe(({ job }) => {
    if (job?.state === "done") ask();
  });
  ask();
}
