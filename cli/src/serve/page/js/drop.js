/**
 * Pictures that come from outside: dropped anywhere on the page, pasted, or chosen as files.
 *
 * A dropped or pasted picture can mean two things: "start from it" and "take its settings over".
 * While a file is dragged over the page, a sheet with one field for each is shown.
 */

import { guarded, say } from "./announce.js";
import { ApiError } from "./api.js";
import { byId, isTyping } from "./dom.js";
import { form } from "./form/form.js";
import { source } from "./painter/source.js";
import { restoreFile } from "./pictures/restore.js";

/** @param {File} file */
async function useAsSource(file) {
  await source.set(file, file.name || "pasted picture");
  if (form.kind() === "txt2img") form.setKind("img2img");
  say("The picture is the input now.");
}

export function startDrop() {
  chosen("source-file", useAsSource);
  chosen("restore-file", restoreFile);
  startPaste();
  startDrag();
}

/** A file input, and its button. @param {string} id @param {(file: File) => Promise<void>} use */
function chosen(id, use) {
  const input = byId(id, HTMLInputElement);
  input.addEventListener(
    "change",
    guarded(async () => {
      const file = input.files?.[0];
      input.value = "";
      if (file) await use(file);
    }),
  );
  for (const opener of document.querySelectorAll(`[data-opens="${id}"]`)) {
    opener.addEventListener("click", () => input.click());
  }
}

function startPaste() {
  document.addEventListener(
    "paste",
    guarded(async (event) => {
      const file = imageOf(event.clipboardData);
      // Text that is pasted into a field stays what it is.
      if (!file || (isTyping(event.target) && event.clipboardData?.types.includes("text/plain")))
        return;
      event.preventDefault();
      await useAsSource(file);
    }),
  );
}

function startDrag() {
  const sheet = byId("drop-sheet", HTMLElement);
  /** Whether the drag began on this page: then it is no file from outside. */
  let isOurs = false;
  document.addEventListener("dragstart", () => (isOurs = true));
  document.addEventListener("dragend", () => (isOurs = false));
  document.addEventListener("dragenter", (event) => {
    if (!isOurs && event.dataTransfer?.types.includes("Files")) sheet.hidden = false;
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) sheet.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    sheet.hidden = true;
  });
  dropped("drop-settings", restoreFile);
  dropped("drop-source", useAsSource);
  dropped("drop-zone", useAsSource);
}

/** @param {string} id @param {(file: File) => Promise<void>} use */
function dropped(id, use) {
  const place = byId(id, HTMLElement);
  place.addEventListener("dragenter", () => place.classList.add("is-over"));
  place.addEventListener("dragleave", () => place.classList.remove("is-over"));
  place.addEventListener(
    "drop",
    guarded(async (event) => {
      event.preventDefault();
      place.classList.remove("is-over");
      const file = imageOf(event.dataTransfer);
      if (!file) throw new ApiError("This is not a picture.");
      await use(file);
    }),
  );
}

/** @param {DataTransfer | null} data */
function imageOf(data) {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
}
