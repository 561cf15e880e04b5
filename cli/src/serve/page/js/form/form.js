/**
 * The form: all fields together, the task that is chosen, and the request that they make.
 *
 * It is kept in the browser between visits, so that a reload loses no prompt.
 */

/** @import * as T from "../types.js" */
/** @import {Field} from "./field.js" */

import { byId, debounced } from "../dom.js";
import { stored } from "../stored.js";
import { makeField } from "./field.js";
import { GROUPS, MORE, PAINTED, applies, groupOf } from "./layout.js";

/** @type {Map<string, Field>} */
const fields = new Map();
/** @type {Set<() => void>} */
const subscribers = new Set();
const draft = stored("draft", {
  kind: /** @type {T.Kind} */ ("txt2img"),
  request: /** @type {T.Request} */ ({}),
});

const kindInputs = () =>
  [...document.querySelectorAll("input[name=kind]")].filter(
    (input) => input instanceof HTMLInputElement,
  );

const save = debounced(300, () => draft.set({ kind: form.kind(), request: form.values() }));

function changed() {
  save();
  for (const subscriber of subscribers) subscriber();
}

export const form = {
  /** Makes the fields and fills in what the last visit left. @param {T.Setting[]} settings */
  start(settings) {
    for (const setting of settings) {
      if (PAINTED.includes(setting.name) || setting.kind === "image") continue;
      fields.set(setting.name, makeField(setting, changed));
    }
    for (const { id, names } of GROUPS) {
      byId(id, HTMLElement).append(...names.flatMap((name) => fields.get(name)?.element ?? []));
    }
    const rest = [...fields.values()].filter(({ name }) => !groupOf(name));
    byId(MORE, HTMLElement).append(...rest.map((field) => field.element));
    for (const input of kindInputs()) {
      input.addEventListener("change", () => {
        showKind();
        changed();
      });
    }
    form.restore(draft.get().request, draft.get().kind);
  },

  /** Shows another model's defaults where nothing was said. @param {T.Setting[]} settings */
  setDefaults(settings) {
    for (const setting of settings) fields.get(setting.name)?.setDefault(setting);
    changed();
  },

  /** @returns {T.Kind} */
  kind: () =>
    /** @type {T.Kind} */ (kindInputs().find((input) => input.checked)?.value ?? "txt2img"),

  /** @param {T.Kind} kind */
  setKind(kind) {
    for (const input of kindInputs()) input.checked = input.value === kind;
    showKind();
    changed();
  },

  /** @param {string} name */
  field: (name) => fields.get(name),

  /** What the person has set, for any task. @returns {T.Request} */
  values() {
    const said = [...fields.values()].map(({ name, get }) => [name, get()]);
    return Object.fromEntries(said.filter(([, value]) => value !== undefined));
  },

  /** What the person has set, as far as the chosen task has it. @returns {T.Request} */
  request() {
    const kind = form.kind();
    const said = Object.entries(form.values()).filter(([name]) => applies(name, kind));
    const enabled = said.flatMap(([name]) => groupOf(name)?.enabledBy ?? []);
    return Object.fromEntries([...said, ...enabled.map((name) => [name, true])]);
  },

  /** Sets one field. @param {string} name @param {T.Value | undefined} value */
  set(name, value) {
    fields.get(name)?.set(value);
    changed();
  },

  /**
   * Sets all fields; what the request does not say goes back to the model's.
   *
   * @param {T.Request} request
   * @param {T.Kind} [kind]
   */
  restore(request, kind = form.kind()) {
    for (const field of fields.values()) field.set(request[field.name]);
    form.setKind(kind);
  },

  /** Sets the fields that a request speaks of, and leaves the others. @param {T.Request} request */
  apply(request) {
    for (const [name, value] of Object.entries(request)) fields.get(name)?.set(value);
    changed();
  },

  /**
   * Shows a message beside its field and goes there. False if there is no such field.
   *
   * @param {string | null} name
   * @param {string} message
   */
  showProblem(name, message) {
    const field = name === null ? undefined : fields.get(name);
    if (!field) return false;
    field.element.closest("details")?.setAttribute("open", "");
    field.showProblem(message);
    field.control.focus();
    return true;
  },

  /** The first field whose value the browser itself finds wrong. */
  firstInvalid: () => [...fields.values()].find(({ control }) => !control.checkValidity()) ?? null,

  /** @param {() => void} subscriber Called after every change. */
  subscribe(subscriber) {
    subscribers.add(subscriber);
  },
};

/** Shows the groups that the chosen task has. */
function showKind() {
  const kind = form.kind();
  document.body.dataset.kind = kind;
  for (const { id, kinds } of GROUPS) {
    const group = byId(id, HTMLElement);
    const isEmpty = group.childElementCount === 0;
    const section = group.closest("[data-group]") ?? group;
    section.toggleAttribute("hidden", isEmpty || (kinds !== undefined && !kinds.includes(kind)));
  }
}
