/** All finished pictures as a grid of thumbnails. */

/** @import * as T from "../types.js" */

import { guarded, say } from "../announce.js";
import { byId, element } from "../dom.js";
import { jobs } from "../jobs.js";
import { parts } from "./infotext.js";
import { stage } from "./stage.js";

/** Who waits for a picture to be picked. @type {((picture: T.Picture) => void) | null} */
let picking = null;
/**
 * Thumbnails by their picture's address, so that a change makes only what is new.
 *
 * @type {Map<string, HTMLButtonElement>}
 */
const made = new Map();

export const gallery = {
  start() {
    jobs.subscribe(({ step }) => {
      if (!step) render();
    });
    stage.subscribe(markShown);
    byId("older", HTMLButtonElement).addEventListener(
      "click",
      guarded(() => jobs.loadOlder()),
    );
    byId("pick-cancel", HTMLButtonElement).addEventListener("click", endPicking);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && picking) endPicking();
    });
  },

  /**
   * Lets the person pick a picture.
   *
   * @param {string} hint
   * @param {(picture: T.Picture) => void} then
   */
  pickFor(hint, then) {
    picking = then;
    byId("pick-hint", HTMLElement).textContent = hint;
    byId("pick", HTMLElement).hidden = false;
    byId("gallery", HTMLElement).classList.add("is-picking");
    say(hint);
    const others = [...made.values()].filter(
      (thumbnail) => thumbnail.getAttribute("aria-pressed") !== "true",
    );
    others[0]?.focus();
    others[0]?.scrollIntoView({ block: "nearest" });
  },
};

function endPicking() {
  picking = null;
  byId("pick", HTMLElement).hidden = true;
  byId("gallery", HTMLElement).classList.remove("is-picking");
}

function render() {
  const pictures = jobs.pictures();
  const grid = byId("gallery-grid", HTMLElement);
  const wanted = pictures.map((picture) => {
    const key = picture.image.url;
    const thumbnail = made.get(key) ?? makeThumbnail(picture);
    made.set(key, thumbnail);
    return thumbnail;
  });
  for (const [key, thumbnail] of made) {
    if (!wanted.includes(thumbnail)) {
      made.delete(key);
      thumbnail.parentElement?.remove();
    }
  }
  wanted.forEach((thumbnail, index) => {
    const item = thumbnail.parentElement ?? element("li", {}, thumbnail);
    if (grid.children[index] !== item) grid.insertBefore(item, grid.children[index] ?? null);
  });
  byId("gallery-empty", HTMLElement).hidden = pictures.length > 0;
  byId("older", HTMLElement).hidden = !jobs.hasOlder();
  markShown();
}

/** @param {T.Picture} picture */
function makeThumbnail(picture) {
  const { image } = picture;
  const { prompt } = parts(image.infotext);
  return element(
    "button",
    {
      type: "button",
      class: "thumbnail",
      title: prompt,
      "aria-pressed": "false",
      onclick: () => {
        if (picking) {
          const then = picking;
          endPicking();
          then(picture);
        } else {
          stage.showPicture(picture);
          byId("result-pane", HTMLElement).scrollIntoView({ block: "nearest" });
        }
      },
    },
    element("img", {
      src: image.thumbnail_url,
      alt: prompt || "A picture without a prompt",
      width: image.width,
      height: image.height,
      loading: "lazy",
    }),
  );
}

function markShown() {
  const url = stage.picture()?.image.url;
  for (const [key, thumbnail] of made) thumbnail.setAttribute("aria-pressed", String(key === url));
}
