/** The model: what is loaded, and the choice of another. */

/** @import * as T from "../types.js" */

import { complain, notify } from "../announce.js";
import { api } from "../api.js";
import { byId, element } from "../dom.js";
import { bytes } from "../format.js";
import { form } from "./form.js";
import { setModelSize } from "./size.js";

/** @param {T.Info} info */
export async function startModels(info) {
  const select = byId("model", HTMLSelectElement);
  const models = await api.models();
  if (models.length === 0) models.push({ ...info.model, loaded: true });
  select.replaceChildren(
    ...models.map(({ name, family, bytes: size }) =>
      element(
        "option",
        { value: name },
        [name, family, size && bytes(size)].filter(Boolean).join(" · "),
      ),
    ),
  );
  let loaded = models.find((model) => model.loaded)?.name ?? info.model.name;
  select.value = loaded;
  describe(info);

  select.addEventListener("change", async () => {
    const chosen = select.value;
    select.disabled = true;
    try {
      await api.useModel(chosen);
      loaded = chosen;
      const [now, settings] = await Promise.all([api.info(), api.settings()]);
      describe(now);
      form.setDefaults(settings);
      notify(`${chosen} is the model now.`);
    } catch (error) {
      select.value = loaded;
      complain(error);
    } finally {
      select.disabled = false;
    }
  });
}

/** @param {T.Info} info */
function describe(info) {
  setModelSize(info);
  const { model, threads, precision, isa, version } = info;
  byId("about", HTMLElement).textContent =
    `aquatint ${version} · ${isa}, ${precision}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  document.body.toggleAttribute("data-embedded", model.embedded);
}
