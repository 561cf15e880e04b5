/** Queue and history: every job that the server knows, with what can be done about it. */

/** @import * as T from "../types.js" */

import { guarded, say } from "../announce.js";
import { button, byId, element } from "../dom.js";
import { shortened, when } from "../format.js";
import { jobs } from "../jobs.js";
import { restoreRequest } from "./restore.js";
import { stage } from "./stage.js";

const KINDS = { txt2img: "Text to image", img2img: "Image to image", inpaint: "Inpaint" };
const STATES = {
  queued: "waits",
  running: "is being drawn",
  done: "done",
  failed: "failed",
  cancelled: "cancelled",
};

export function startHistory() {
  jobs.subscribe(({ step }) => {
    if (!step) render();
  });
  byId("cancel-all", HTMLButtonElement).addEventListener(
    "click",
    guarded(async () => {
      // Those that wait first, so that none of them begins.
      for (const { id } of jobs.pending().reverse()) await jobs.remove(id);
      say("All jobs are cancelled.");
    }),
  );
}

function render() {
  const pending = jobs.pending();
  const finished = jobs.all().filter((job) => !pending.includes(job));
  const list = byId("history-list", HTMLElement);
  const focused = document.activeElement?.closest("li")?.dataset.job;
  list.replaceChildren(...[...pending, ...finished].map((job, index) => row(job, index)));
  byId("history-empty", HTMLElement).hidden = list.childElementCount > 0;
  byId("cancel-all", HTMLElement).hidden = pending.length < 2;
  byId("queue-count", HTMLElement).textContent = pending.length > 0 ? String(pending.length) : "";
  const again = focused && list.querySelector(`li[data-job="${CSS.escape(focused)}"] button`);
  if (again instanceof HTMLElement) again.focus();
}

/** @param {T.Job} job @param {number} index */
function row(job, index) {
  const { id, state, kind, request, error } = job;
  const isPending = state === "queued" || state === "running";
  const prompt = shortened(String(request.prompt || "(no prompt)"), 120);
  const place = state === "queued" ? (index === 0 ? "next" : `${index} before it`) : "";
  const about = [
    KINDS[kind],
    [STATES[state], place].filter(Boolean).join(", "),
    when(job.finished ?? job.created),
  ];
  return element(
    "li",
    { "data-job": id, class: `job ${state}` },
    job.images[0]
      ? element("img", { src: job.images[0].thumbnail_url, alt: "", class: "tiny" })
      : element("span", { class: "tiny" }),
    element(
      "div",
      { class: "job-text" },
      element("p", { class: "job-prompt" }, prompt),
      element("p", { class: "help" }, about.filter(Boolean).join(" · ")),
      error ? element("p", { class: "problem" }, error) : null,
    ),
    element(
      "div",
      { class: "job-tools" },
      isPending || job.images.length > 0
        ? button("Show", () => show(job), { "aria-label": `Show: ${prompt}` })
        : button(
            "Settings again",
            guarded(() => restoreRequest(job)),
            { "aria-label": `Settings again: ${prompt}` },
          ),
      isPending
        ? button(
            "Cancel",
            guarded(() => jobs.remove(id)),
            { "aria-label": `Cancel: ${prompt}` },
          )
        : button(
            "Remove",
            guarded(() => jobs.remove(id)),
            { class: "danger", "aria-label": `Remove from the history: ${prompt}` },
          ),
    ),
  );
}

/** @param {T.Job} job */
function show(job) {
  if (job.images[0]) stage.showPicture({ job, image: job.images[0], index: 0 });
  else stage.follow(job.id);
  byId("result-pane", HTMLElement).scrollIntoView({ block: "nearest" });
}
