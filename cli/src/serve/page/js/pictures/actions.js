/** What can be done with a finished picture. */

/** @import * as T from "../types.js" */

import { guarded, notify, say } from "../announce.js";
import { button, byId, element } from "../dom.js";
import { form } from "../form/form.js";
import { jobs } from "../jobs.js";
import { fetched, source } from "../painter/source.js";
import { openCompare } from "./compare.js";
import { openExplain } from "./explain.js";
import { gallery } from "./gallery.js";
import { restoreJob } from "./restore.js";

/** The buttons under a picture. @param {T.Picture} picture @returns {HTMLElement[]} */
export function actionsOf(picture) {
  const { job, image } = picture;
  const name = `aquatint-${image.seed}.png`;

  /** @param {T.Kind} kind @param {string} done */
  const send = (kind, done) =>
    guarded(async () => {
      await source.set(await fetched(image.url), name);
      form.setKind(kind);
      byId("stage", HTMLElement).scrollIntoView({ block: "nearest" });
      say(done);
    });
  const all = [
    button(
      "Settings again",
      guarded(() => restoreJob(picture)),
      { title: "Fill the form with all its settings" },
    ),
    button("Image to image", send("img2img", "The picture is the input of image to image."), {
      title: "Use it as the input of image to image",
    }),
    button("Inpaint", send("inpaint", "The picture can be painted on."), {
      title: "Paint over a part of it and have that drawn anew",
    }),
    button(
      "Compare…",
      () =>
        gallery.pickFor("Choose the picture to compare with.", (other) =>
          openCompare(picture, other),
        ),
      {
        title: "See it beside another picture, under a slider",
        disabled: jobs.pictures().length < 2,
      },
    ),
    button(
      "How it works",
      guarded(() => openExplain(job, picture)),
      {
        title: "The tokens of its prompt and what the model saw at each step",
      },
    ),
    element("a", { class: "button", href: image.url, download: name }, "Save"),
  ];
  // Browsers give the clipboard only to pages that they hold for safe.
  if (navigator.clipboard) {
    all.push(
      button(
        "Copy settings",
        guarded(async () => {
          await navigator.clipboard.writeText(image.infotext);
          notify("The settings are in the clipboard, as text.");
        }),
      ),
    );
  }
  all.push(
    button(
      "Remove",
      guarded(async () => {
        const many = job.images.length;
        const what = many > 1 ? `all ${many} pictures of this batch` : "this picture";
        if (!window.confirm(`Remove ${what} from the history?`)) return;
        await jobs.remove(job.id);
        say("Removed.");
      }),
      { class: "danger" },
    ),
  );
  return all;
}
