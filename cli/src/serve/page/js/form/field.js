/**
 * One setting as a labelled control.
 *
 * A field that the person has not touched has no value: the request leaves it out and the model
 * decides. Its default is shown, and changes when another model is loaded.
 */

/** @import * as T from "../types.js" */

import { element } from "../dom.js";
import { LISTS, LONG, SLIDERS, UNSAID } from "./layout.js";

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {T.Setting} setting
 * @property {HTMLElement} element
 * @property {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} control
 * @property {() => T.Value | undefined} get Undefined if the model decides.
 * @property {(value: T.Value | undefined) => void} set
 * @property {(setting: T.Setting) => void} setDefault
 * @property {(message: string | null) => void} showProblem
 */

/**
 * @param {T.Setting} setting
 * @param {() => void} onchange
 * @returns {Field}
 */
export function makeField(setting, onchange) {
  const id = `field-${setting.name}`;
  const control = makeControl(setting, id);
  const slider = makeSlider(setting, control);
  const help = element("span", { class: "help", id: `${id}-help` }, helpOf(setting));
  const problem = element("p", { class: "problem", id: `${id}-problem`, role: "alert" });
  control.setAttribute("aria-describedby", `${problem.id} ${help.id}`);
  const label = element("label", { for: id }, setting.label);
  const isFlag = setting.kind === "flag";
  const isNumber = setting.kind === "integer" || setting.kind === "number";
  const whole = element(
    "div",
    { class: `field ${isFlag ? "flag" : setting.kind}`, "data-setting": setting.name },
    isFlag ? control : null,
    element("div", { class: "label-line" }, label, help),
    isFlag ? null : slider ? element("div", { class: "with-slider" }, slider, control) : control,
    problem,
  );
  let isTouched = false;
  let current = setting;

  /** @param {T.Value | undefined} value */
  function display(value) {
    if (control instanceof HTMLInputElement && control.type === "checkbox")
      control.checked = Boolean(value);
    else control.value = value === null || value === undefined ? "" : String(value);
    moveSlider();
    showHelp();
  }

  /** A choice that has something to say says it in the place of the field's own help. */
  function showHelp() {
    if (setting.kind !== "choice") return;
    const chosen = current.choices?.find(({ value }) => String(value) === control.value);
    help.textContent = chosen?.help ?? helpOf(current);
  }

  /** A slider without a value lies in the middle, and looks as if it did not count. */
  function moveSlider() {
    if (!slider) return;
    slider.classList.toggle("is-unset", control.value === "");
    if (control.value !== "") slider.value = control.value;
  }

  control.addEventListener("input", () => {
    isTouched = isFlag || control.value !== "";
    moveSlider();
    showHelp();
    field.showProblem(null);
    onchange();
  });
  slider?.addEventListener("input", () => {
    control.value = slider.value;
    isTouched = true;
    moveSlider();
    field.showProblem(null);
    onchange();
  });

  /** @type {Field} */
  const field = {
    name: setting.name,
    setting,
    element: whole,
    control,
    get: () => (isTouched ? read(control, setting) : undefined),
    set(value) {
      isTouched =
        value !== undefined && value !== null && value !== "" && value !== UNSAID[setting.name];
      display(isTouched ? value : plainDefault(current));
      field.showProblem(null);
    },
    setDefault(next) {
      current = next;
      if (!isFlag && !(control instanceof HTMLSelectElement))
        control.placeholder = isNumber ? "auto" : "";
      if (!isTouched) display(plainDefault(next));
    },
    showProblem(message) {
      problem.textContent = message ?? "";
      control.setAttribute("aria-invalid", String(message !== null));
    },
  };
  field.setDefault(setting);
  field.showProblem(null);
  return field;
}

/** @param {T.Setting} setting @param {string} id */
function makeControl(setting, id) {
  const { name, kind, min, max, step } = setting;
  if (LONG.includes(name))
    return element("textarea", { id, name, rows: name === "prompt" ? 3 : 2 });
  switch (kind) {
    case "choice":
      return element("select", { id, name }, ...options(setting));
    case "flag":
      return element("input", { id, name, type: "checkbox" });
    case "integer":
    case "number":
      return element("input", {
        id,
        name,
        type: "number",
        min,
        max,
        step: kind === "integer" ? (step ?? 1) : "any",
        inputmode: kind === "integer" ? "numeric" : "decimal",
      });
    default:
      return element("input", { id, name, type: "text", autocomplete: "off" });
  }
}

/**
 * The choices, and before them the model's own if none of them is the default.
 *
 * @param {T.Setting} setting
 */
function options(setting) {
  const choices = setting.choices ?? [];
  const made = choices.map(({ value, label, help }) =>
    element("option", { value, title: help }, label),
  );
  const hasDefault = choices.some(({ value }) => value === setting.default);
  return hasDefault ? made : [element("option", { value: "" }, "The model’s own"), ...made];
}

/** @param {T.Setting} setting @param {HTMLElement} control */
function makeSlider(setting, control) {
  const ends = SLIDERS[setting.name];
  if (!ends || !(control instanceof HTMLInputElement)) return null;
  const [min, max, step] = ends;
  return element("input", {
    type: "range",
    min,
    max,
    step,
    "aria-label": `${setting.label}, slider`,
    tabindex: -1,
  });
}

/**
 * @param {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} control
 * @param {T.Setting} setting
 */
function read(control, setting) {
  if (control instanceof HTMLInputElement && control.type === "checkbox") return control.checked;
  if (setting.kind === "choice") {
    return setting.choices?.find(({ value }) => String(value) === control.value)?.value;
  }
  if (LISTS.includes(setting.name)) return listOf(control.value);
  if (setting.kind !== "integer" && setting.kind !== "number") return control.value;
  const number = Number(control.value);
  return control.value === "" || Number.isNaN(number) ? undefined : number;
}

/**
 * Numbers with commas or spaces between them; what is no number is left for the server to name.
 *
 * @param {string} text
 */
function listOf(text) {
  const words = text.split(/[\s,;]+/).filter(Boolean);
  const numbers = words.map(Number);
  return numbers.some(Number.isNaN) ? text : numbers;
}

/** A default that can be shown as a value; words cannot. @param {T.Setting} setting */
function plainDefault(setting) {
  const { name, kind, default: value } = setting;
  if (value === UNSAID[name]) return undefined;
  if (kind === "flag") return value === true;
  if (kind === "choice") {
    return setting.choices?.some((choice) => choice.value === value) ? value : "";
  }
  if (kind === "integer" || kind === "number") return typeof value === "number" ? value : undefined;
  return undefined;
}

/** The help, and the default where no value can be shown for it. @param {T.Setting} setting */
function helpOf({ kind, help = "", default: value, default_text: words = "none" }) {
  const isNumber = kind === "integer" || kind === "number";
  return isNumber && value === null && words !== "none" ? `${help} Default: ${words}.` : help;
}
