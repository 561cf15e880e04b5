/**
 * Where each setting has its place. What settings there are, what they are called and what they
 * take is the server's to say; one that this table does not know comes under "More settings".
 */

/** @import * as T from "../types.js" */

/**
 * @typedef {object} Group
 * @property {string} id The element of index.html that its fields go into.
 * @property {string[]} names
 * @property {string} [enabledBy] A setting that has to be true for these to count.
 * @property {T.Kind[]} [kinds] Tasks that have these settings; all if absent.
 */

/** @type {Group[]} */
export const GROUPS = [
  { id: "prompt-fields", names: ["prompt", "negative_prompt"] },
  { id: "size-fields", names: ["width", "height"] },
  { id: "strength-fields", names: ["denoising_strength"], kinds: ["img2img", "inpaint"] },
  { id: "sampling-fields", names: ["steps", "cfg_scale", "sampler_name", "scheduler"] },
  { id: "seed-fields", names: ["seed"] },
  { id: "batch-fields", names: ["n_iter", "batch_size"] },
  {
    id: "hires-fields",
    names: ["hr_scale", "hr_upscaler", "hr_second_pass_steps", "hr_strength"],
    enabledBy: "enable_hr",
    kinds: ["txt2img"],
  },
  { id: "source-fields", names: ["resize_mode"], kinds: ["img2img", "inpaint"] },
  {
    id: "mask-fields",
    names: ["mask_blur", "inpaint_full_res", "inpaint_full_res_padding", "composite"],
    kinds: ["inpaint"],
  },
];

export const MORE = "more-fields";

/** Settings that the painter sets, not a field. */
export const PAINTED = ["init_images", "mask", "inpainting_mask_invert", "expand"];

/**
 * Settings that also get a slider, and its ends: the range that is useful, not all that is allowed.
 */
export const SLIDERS = /** @type {Record<string, [number, number, number]>} */ ({
  steps: [1, 60, 1],
  cfg_scale: [1, 20, 0.5],
  denoising_strength: [0, 1, 0.01],
});

/** Values that mean "not said": the field is shown empty. */
export const UNSAID = /** @type {Record<string, T.Value>} */ ({ seed: -1 });

/** Settings whose value is a list of numbers, typed with commas. */
export const LISTS = ["sigmas"];

/** Settings that take several lines. */
export const LONG = ["prompt", "negative_prompt"];

/** The group of a setting, null if it belongs to "More settings". @param {string} name */
export function groupOf(name) {
  return GROUPS.find((group) => group.names.includes(name)) ?? null;
}

/** Whether a task has a setting. @param {string} name @param {T.Kind} kind */
export function applies(name, kind) {
  return groupOf(name)?.kinds?.includes(kind) ?? true;
}
