/** Pickers for LoRAs and embeddings: they write into the prompt, as A1111's users know it. */

/** @import * as T from "../types.js" */

import { say } from "../announce.js";
import { api } from "../api.js";
import { byId, element } from "../dom.js";
import { form } from "./form.js";

const WEIGHT = 0.8;

export async function startAdapters() {
  const [loras, embeddings] = await Promise.all([api.loras(), api.embeddings()]);
  const place = byId("adapter-tools", HTMLElement);
  place.append(
    ...picker("Add a LoRA…", loras, ({ name, trigger_words }) =>
      [`<lora:${name}:${WEIGHT}>`, ...(trigger_words ?? [])].join(" "),
    ),
    ...picker("Add an embedding…", embeddings, ({ name }) => name),
  );
  place.hidden = place.childElementCount === 0;
}

/**
 * @param {string} label
 * @param {T.Adapter[]} adapters
 * @param {(adapter: T.Adapter) => string} written
 */
function picker(label, adapters, written) {
  if (adapters.length === 0) return [];
  const select = element(
    "select",
    { "aria-label": label },
    element("option", { value: "" }, label),
    ...adapters.map(({ name }, index) => element("option", { value: index }, name)),
  );
  select.addEventListener("change", () => {
    const adapter = adapters[Number(select.value)];
    if (select.value !== "" && adapter) add(written(adapter), adapter.name);
    select.value = "";
  });
  return [select];
}

/** Appends to the prompt, once. @param {string} text @param {string} name */
function add(text, name) {
  const prompt = String(form.field("prompt")?.get() ?? "");
  if (prompt.includes(text)) {
    say(`${name} is already in the prompt.`);
    return;
  }
  form.set("prompt", [prompt.trimEnd(), text].filter(Boolean).join(" "));
  say(`${name} is in the prompt now.`);
}
