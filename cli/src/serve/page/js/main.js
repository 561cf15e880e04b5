/**
 * Starts the page. The order is that of reading:
 *
 *     form/      what the person asks for          painter/   a picture and a mask over it
 *     jobs.js    what the server has and does      pictures/  what comes of it
 *     events.js  how the page hears of it          api.js     every call of the server
 */

import { complain, guarded, say } from "./announce.js";
import { ApiError, api } from "./api.js";
import { startApiKey } from "./api_key.js";
import { byId } from "./dom.js";
import { startDrop } from "./drop.js";
import { startEvents } from "./events.js";
import { startAdapters } from "./form/adapters.js";
import { startEstimate } from "./form/estimate.js";
import { form } from "./form/form.js";
import { startModels } from "./form/models.js";
import { startPresets } from "./form/presets.js";
import { startSeed } from "./form/seed.js";
import { setModelSize, startSize } from "./form/size.js";
import { jobs } from "./jobs.js";
import { Painter } from "./painter/painter.js";
import { source } from "./painter/source.js";
import { paintedRequest, paintedSettings, startToolbar } from "./painter/toolbar.js";
import { actionsOf } from "./pictures/actions.js";
import { gallery } from "./pictures/gallery.js";
import { startHistory } from "./pictures/history.js";
import { startRestore } from "./pictures/restore.js";
import { stage } from "./pictures/stage.js";
import { tabs } from "./tabs.js";
import { startTheme } from "./theme.js";

async function start() {
  startTheme();
  startApiKey();
  startDialogs();
  const [info, settings] = await Promise.all([api.info(), api.settings()]);
  setModelSize(info);
  form.start(settings);
  const painter = new Painter();
  const panes = tabs(byId("stage-tabs", HTMLElement), () => painter.fit());
  tabs(byId("lower-tabs", HTMLElement));
  startToolbar(painter);
  startRestore(painter);
  startSize();
  startSeed();
  startDrop();
  stage.start(actionsOf);
  gallery.start();
  startHistory();
  startPanes(panes);
  startDrawing(painter, panes);
  startEvents();
  startEstimate(() => paintedSettings(painter));
  document.body.dataset.ready = "";
  await Promise.all([startModels(info), startPresets(), startAdapters()]);
}

/** Dialogs close by their button and by a click beside them. */
function startDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      const isClose = event.target instanceof HTMLElement && event.target.matches("[data-close]");
      if (isClose || event.target === dialog) dialog.close();
    });
  }
}

/**
 * Input and result share a place; tasks without an input have only the result.
 *
 * @param {ReturnType<typeof tabs>} panes
 */
function startPanes(panes) {
  let before = "";
  const update = () => {
    const kind = form.kind();
    byId("stage-tabs", HTMLElement).hidden = kind === "txt2img";
    if (kind !== before) panes.show(kind === "txt2img" ? "result-pane" : "source-pane");
    before = kind;
  };
  form.subscribe(update);
  update();
  source.subscribe((picture) => {
    if (picture && form.kind() !== "txt2img") panes.show("source-pane");
  });
  stage.subscribe(() => {
    // A picture that is picked from the gallery is to be seen.
    if (stage.picture() && document.activeElement?.closest("#lower")) panes.show("result-pane");
  });
}

/** @param {Painter} painter @param {ReturnType<typeof tabs>} panes */
function startDrawing(painter, panes) {
  const draw = byId("draw", HTMLButtonElement);
  let isBusy = false;
  const place = byId("draw-problem", HTMLElement);

  async function submit() {
    if (isBusy) return;
    place.textContent = "";
    const invalid = form.firstInvalid();
    if (invalid) {
      form.showProblem(invalid.name, invalid.control.validationMessage);
      return;
    }
    // Not `disabled`: that would take the focus away.
    isBusy = true;
    draw.setAttribute("aria-disabled", "true");
    try {
      const request = { ...form.request(), ...(await paintedRequest(painter)) };
      const id = await jobs.submit(form.kind(), request);
      stage.follow(id);
      panes.show("result-pane");
      say("The job is in the queue.");
      if (window.matchMedia("(max-width: 60rem)").matches) {
        byId("main", HTMLElement).scrollIntoView({ block: "start" });
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!form.showProblem(error.field, error.message)) place.textContent = error.message;
    } finally {
      isBusy = false;
      draw.removeAttribute("aria-disabled");
    }
  }
  byId("form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(submit)();
  });
  document.addEventListener("keydown", (event) => {
    const isDraw = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (!isDraw || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    guarded(submit)();
  });
}

start().catch((error) => {
  byId("stage-hint", HTMLElement).textContent =
    "The page could not start. Reload it when the server runs.";
  complain(error);
});
