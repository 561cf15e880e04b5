/**
 * The large view: a picture with its settings, or the one that is being drawn.
 */

/** @import * as T from "../types.js" */

import { guarded, say } from "../announce.js";
import { button, byId, element } from "../dom.js";
import { duration, sigma } from "../format.js";
import { jobs } from "../jobs.js";
import { parts } from "./infotext.js";

/** What is shown. @type {{job: number} | {picture: T.Picture} | null} */
let shown = null;
/** @type {Set<() => void>} */
const subscribers = new Set();
/** The buttons of a picture. @type {(picture: T.Picture) => HTMLElement[]} */
let actionsOf = () => [];
/** The job whose end has been announced. */
let announced = 0;

export const stage = {
  /** The picture that is shown. */
  picture: () => (shown && "picture" in shown ? shown.picture : null),

  /** @param {T.Picture} picture */
  showPicture(picture) {
    shown = { picture };
    render();
  },

  /** Shows a job while it is drawn and its first picture after that. @param {number} id */
  follow(id) {
    shown = { job: id };
    render();
  },

  /** @param {() => void} subscriber Called when something else is shown. */
  subscribe(subscriber) {
    subscribers.add(subscriber);
  },

  /** @param {(picture: T.Picture) => HTMLElement[]} actions The buttons under a picture. */
  start(actions) {
    actionsOf = actions;
    jobs.subscribe(({ step }) => {
      if (shown && "picture" in shown) {
        const { picture } = shown;
        const isGone = !jobs.get(picture.job.id)?.images[picture.index];
        if (isGone) shown = null;
      }
      // With nothing else on the screen, what is drawn is what is looked at.
      const drawn = jobs.pending().find(({ state }) => state === "running");
      if (!shown && drawn) shown = { job: drawn.id };
      const id = shown && "job" in shown ? shown.job : null;
      if (step && id === step.id) renderProgress(step.id);
      else if (!step) render();
    });
  },
};

function render() {
  if (shown && "job" in shown) renderJob(shown.job);
  else if (shown) renderPicture(shown.picture);
  else renderNothing();
  for (const subscriber of subscribers) subscriber();
}

function renderNothing() {
  const newest = jobs.pictures()[0];
  if (newest) {
    shown = { picture: newest };
    renderPicture(newest);
    return;
  }
  setParts({ image: null, hint: "Describe a picture and press Draw.", isFirst: true });
}

/** @param {number} id */
function renderJob(id) {
  const job = jobs.get(id);
  if (!job) {
    shown = null;
    renderNothing();
    return;
  }
  if (job.state === "queued" || job.state === "running") {
    renderProgress(id);
    return;
  }
  document.title = "aquatint";
  announceEnd(job);
  if (job.images[0]) {
    shown = { picture: { job, image: job.images[0], index: 0 } };
    renderPicture(shown.picture);
  } else {
    const hint =
      job.state === "failed" ? (job.error ?? "The picture could not be drawn.") : "Cancelled.";
    setParts({ image: null, hint, isProblem: job.state === "failed" });
  }
}

/** @param {T.Job} job */
function announceEnd(job) {
  if (announced === job.id) return;
  announced = job.id;
  const many = job.images.length;
  const words = {
    done: many > 1 ? `${many} pictures are finished.` : "The picture is finished.",
    failed: "Drawing failed.",
    cancelled: "Cancelled.",
  };
  say(words[/** @type {"done"} */ (job.state)] ?? "");
}

/** @param {number} id */
function renderProgress(id) {
  const job = jobs.get(id);
  if (!job) return;
  const preview = jobs.lastStep(id)?.preview;
  const { hint, status, progress } = job.state === "queued" ? waiting(job) : running(job);
  setParts({
    image: preview ? { url: preview, alt: "Preview of the picture that is being drawn" } : null,
    hint: preview ? "" : hint,
    progress,
    status,
    toolsOf: `job ${id}`,
    tools: [
      button(
        "Cancel",
        guarded(() => jobs.remove(id)),
        { class: "cancel" },
      ),
    ],
  });
  const { done, all } = progress;
  document.title =
    all > 0 && done > 0 ? `${Math.round((100 * done) / all)}% · aquatint` : "aquatint";
}

/** @param {T.Job} job */
function waiting(job) {
  const before = jobs.pending().findIndex(({ id }) => id === job.id);
  return {
    hint: before === 0 ? "It is next." : `It waits: ${before} before it.`,
    status: "",
    progress: { done: 0, all: 0, isQueued: true },
  };
}

/** @param {T.Job} job */
function running(job) {
  const noise = jobs.lastStep(job.id)?.sigma;
  const status = [
    job.steps > 0 && `Step ${job.step} of ${job.steps}`,
    typeof noise === "number" && `σ ${sigma(noise)}`,
    job.eta_seconds !== null && `${duration(job.eta_seconds)} left`,
  ];
  return {
    hint: "Getting ready…",
    status: status.filter(Boolean).join(" · "),
    progress: { done: job.step, all: job.steps, isQueued: false },
  };
}

/** @param {T.Picture} picture */
function renderPicture({ job, image, index }) {
  const picture = { job: jobs.get(job.id) ?? job, image, index };
  const { prompt } = parts(image.infotext);
  setParts({
    image: { url: image.url, alt: prompt || "A picture without a prompt" },
    toolsOf: `${image.url} of ${jobs.pictures().length}`,
    tools: actionsOf(picture),
    siblings: picture.job.images.length > 1 ? picture : null,
    details: image.infotext,
  });
}

/**
 * @param {object} what
 * @param {{url: string, alt: string} | null} what.image
 * @param {string} [what.hint]
 * @param {boolean} [what.isProblem]
 * @param {boolean} [what.isFirst] Nothing was drawn yet.
 * @param {{done: number, all: number, isQueued: boolean} | null} [what.progress]
 * @param {string} [what.status]
 * @param {Node[]} [what.tools]
 * @param {string} [what.toolsOf] The buttons are made anew when this changes.
 * @param {T.Picture | null} [what.siblings]
 * @param {string} [what.details] An infotext.
 */
function setParts({
  image,
  hint = "",
  isProblem = false,
  isFirst = false,
  progress = null,
  status = "",
  tools = [],
  toolsOf = "",
  siblings = null,
  details = "",
}) {
  const img = byId("stage-image", HTMLImageElement);
  img.hidden = image === null;
  if (image) {
    if (img.getAttribute("src") !== image.url) img.src = image.url;
    img.alt = image.alt;
  } else {
    img.removeAttribute("src");
    img.alt = "";
  }
  const hintPlace = byId("stage-hint", HTMLElement);
  hintPlace.textContent = hint;
  hintPlace.hidden = hint === "";
  hintPlace.classList.toggle("problem", isProblem);
  byId("embedded-note", HTMLElement).hidden = !isFirst;

  const bar = byId("stage-bar", HTMLProgressElement);
  byId("stage-progress", HTMLElement).hidden = progress === null;
  if (progress) {
    bar.max = Math.max(progress.all, 1);
    if (progress.isQueued) bar.removeAttribute("value");
    else bar.value = progress.done;
  }
  byId("stage-status", HTMLElement).textContent = status;

  // Buttons stay the same while only the numbers change: one may have the focus.
  const toolPlace = byId("stage-tools", HTMLElement);
  if (toolPlace.dataset.of !== toolsOf) toolPlace.replaceChildren(...tools);
  toolPlace.dataset.of = toolsOf;
  showSiblings(siblings);
  showDetails(details);
}

/** The other pictures of a batch. @param {T.Picture | null} picture */
function showSiblings(picture) {
  const place = byId("stage-siblings", HTMLElement);
  place.hidden = picture === null;
  if (!picture) return;
  const batch = `${picture.job.id} ${picture.job.images.length}`;
  if (place.dataset.batch === batch) {
    [...place.children].forEach((each, index) =>
      each.setAttribute("aria-pressed", String(index === picture.index)),
    );
    return;
  }
  place.dataset.batch = batch;
  place.replaceChildren(
    ...picture.job.images.map((image, index) =>
      element(
        "button",
        {
          type: "button",
          class: "thumbnail small",
          "aria-label": `Picture ${index + 1} of ${picture.job.images.length}`,
          "aria-pressed": String(index === picture.index),
          onclick: () => stage.showPicture({ job: picture.job, image, index }),
        },
        element("img", {
          src: image.thumbnail_url,
          alt: "",
          width: image.width,
          height: image.height,
        }),
      ),
    ),
  );
}

/** @param {string} infotext */
function showDetails(infotext) {
  const place = byId("stage-details", HTMLElement);
  place.hidden = infotext === "";
  if (place.dataset.infotext === infotext) return;
  place.dataset.infotext = infotext;
  const { prompt, negative, settings } = parts(infotext);
  const rows = [
    { key: "Prompt", value: prompt },
    { key: "Negative prompt", value: negative },
    ...settings,
  ];
  byId("stage-settings", HTMLElement).replaceChildren(
    ...rows
      .filter(({ value }) => value !== "")
      .map(({ key, value }) =>
        element("div", {}, element("dt", {}, key), element("dd", {}, value)),
      ),
  );
}
