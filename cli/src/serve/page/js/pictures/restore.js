/** Takes all settings over from a picture: one of the history, or any file that says them. */

/** @import * as T from "../types.js" */
/** @import {Painter} from "../painter/painter.js" */

import { notify } from "../announce.js";
import { api, ApiError } from "../api.js";
import { form } from "../form/form.js";
import { dataUrl, fetched, source } from "../painter/source.js";

/** @type {Painter | null} */
let painter = null;

/** @param {Painter} with_ */
export function startRestore(with_) {
  painter = with_;
}

/** @param {T.Picture} picture */
export async function restoreJob({ job, image }) {
  const request = image.request ?? (await readText(await fetched(image.url))).request;
  await takeOver({ ...request, seed: image.seed }, job.kind, job.request);
  notify("The form has the settings of this picture.");
}

/** Takes up a job that has no picture: it failed, was cancelled, or waits. @param {T.Job} job */
export async function restoreRequest(job) {
  await takeOver(job.request, job.kind, job.request);
  notify("The form has the settings of this job.");
}

/** @param {File} file */
export async function restoreFile(file) {
  const { request, kind = "txt2img", not_taken_over: left = [] } = await readText(file);
  if (Object.keys(request).length === 0) {
    throw new ApiError(`${file.name} says nothing about how it was made.`);
  }
  form.restore(request, kind);
  notify(
    [
      `The form has the settings of ${file.name}.`,
      left.length > 0 && `Not taken over: ${left.join(", ")}.`,
      kind !== "txt2img" && "It was made from another picture, which is not in the file.",
    ]
      .filter(Boolean)
      .join(" "),
  );
}

/** @param {Blob} blob */
async function readText(blob) {
  const url = await dataUrl(blob);
  return api.pngInfo(url.slice(url.indexOf(",") + 1));
}

/**
 * @param {T.Request} request
 * @param {T.Kind} kind
 * @param {T.Request} sent What the job was sent with: it says where its pictures are.
 */
async function takeOver(request, kind, { init_images, mask, expand }) {
  const input = Array.isArray(init_images) ? init_images[0] : null;
  if (kind !== "txt2img" && typeof input === "string") {
    await source.set(await fetched(input), "input.png");
    if (kind === "inpaint" && painter) {
      if (typeof mask === "string") {
        painter.do({ kind: "picture", bitmap: await createImageBitmap(await fetched(mask)) });
      }
      if (typeof expand === "string") painter.margins.parse(expand);
    }
  }
  // After the picture: that one suggests a size.
  form.restore(request, kind);
}
