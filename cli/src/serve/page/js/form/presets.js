/**
 * Presets: the library's, for models of few steps, and one's own, which the browser keeps.
 *
 * A preset sets what it speaks of and leaves the prompts as they are.
 */

/** @import * as T from "../types.js" */

import { notify, say } from "../announce.js";
import { api } from "../api.js";
import { button, byId, element } from "../dom.js";
import { stored } from "../stored.js";
import { form } from "./form.js";

const own = stored("presets", /** @type {T.Preset[]} */ ([]));

/** What one's own leaves out: it is about how, not about what. */
const NOT_KEPT = ["prompt", "negative_prompt", "seed"];

export async function startPresets() {
  const library = await api.presets();
  const select = element("select", { "aria-label": "Presets", id: "preset" });
  const dialog = byId("preset-dialog", HTMLDialogElement);
  const name = byId("preset-name", HTMLInputElement);

  function show() {
    select.replaceChildren(
      element("option", { value: "" }, "Presets…"),
      ...group("For models of few steps", library),
      ...group("My own", own.get()),
      element("option", { value: "save" }, "Save these settings…"),
      element("option", { value: "reset" }, "Back to the model’s settings"),
    );
    removal.hidden = own.get().length === 0;
  }

  select.addEventListener("change", () => {
    const chosen = select.value;
    select.value = "";
    if (chosen === "save") {
      name.value = "";
      dialog.showModal();
    } else if (chosen === "reset") {
      const { prompt, negative_prompt } = form.values();
      form.restore({ prompt, negative_prompt });
      say("All settings are the model’s own again.");
    } else if (chosen) {
      const preset = [...library, ...own.get()].find(({ name: known }) => known === chosen);
      if (!preset) return;
      form.apply(preset.request);
      notify(`The settings are those of “${preset.name}”.`);
    }
  });

  byId("preset-form", HTMLFormElement).addEventListener("submit", () => {
    const kept = Object.entries(form.request()).filter(([key]) => !NOT_KEPT.includes(key));
    const others = own.get().filter((preset) => preset.name !== name.value);
    own.set([...others, { name: name.value, request: Object.fromEntries(kept) }]);
    show();
    notify(`Saved as “${name.value}”.`);
  });

  const list = byId("preset-list", HTMLElement);
  const removal = byId("preset-removal", HTMLDetailsElement);
  removal.addEventListener("toggle", () => {
    list.replaceChildren(
      ...own.get().map((preset) => {
        const row = element(
          "li",
          {},
          preset.name,
          button("Remove", () => {
            own.set(own.get().filter((each) => each !== preset));
            row.remove();
            show();
          }),
        );
        return row;
      }),
    );
  });
  byId("preset-tools", HTMLElement).append(select);
  show();
}

/** @param {string} label @param {T.Preset[]} presets */
function group(label, presets) {
  if (presets.length === 0) return [];
  const option = (/** @type {T.Preset} */ { name, what }) =>
    element("option", { value: name, title: what }, name);
  return [element("optgroup", { label }, ...presets.map(option))];
}
