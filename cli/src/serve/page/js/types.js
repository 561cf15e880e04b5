/**
 * The shapes of what the server sends and takes; names of a request are those of A1111's API.
 *
 * @typedef {"txt2img" | "img2img" | "inpaint"} Kind What is made from what.
 *
 * @typedef {string | number | boolean | null | string[] | number[]} Value A setting's value.
 *
 * @typedef {Record<string, Value | undefined>} Request Settings by name; what is absent is left to
 * the model.
 *
 * @typedef {object} Choice
 * @property {string | number} value
 * @property {string} label
 * @property {string | null} [help]
 *
 * @typedef {object} Setting A row of the server's table of settings.
 * @property {string} name
 * @property {string} label
 * @property {string} [help]
 * @property {"integer" | "number" | "text" | "choice" | "flag" | "image"} kind
 * @property {Value} [default] Null where it depends on the rest.
 * @property {string} [default_text] The same in words.
 * @property {number | null} [min]
 * @property {number | null} [max]
 * @property {number | null} [step]
 * @property {Choice[]} [choices]
 *
 * @typedef {object} Info
 * @property {string} version
 * @property {{name: string, family: string, default_width: number, default_height: number,
 *   vae_factor: number, embedded: boolean}} model
 * @property {number} threads
 * @property {string} precision
 * @property {string} isa
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {string} [family]
 * @property {number} [bytes]
 * @property {boolean} [loaded]
 *
 * @typedef {object} Adapter A LoRA or an embedding.
 * @property {string} name
 * @property {string[]} [trigger_words]
 *
 * @typedef {object} Estimate
 * @property {number | null} seconds
 * @property {number | null} bytes
 * @property {string[]} [warnings]
 *
 * @typedef {object} JobImage
 * @property {string} url
 * @property {string} thumbnail_url
 * @property {number} width
 * @property {number} height
 * @property {number} seed
 * @property {string} infotext
 * @property {Request} [request]
 *
 * @typedef {object} Job
 * @property {number} id Later jobs have larger ones.
 * @property {"queued" | "running" | "done" | "failed" | "cancelled"} state
 * @property {Kind} kind
 * @property {Request} request
 * @property {string | null} created
 * @property {string | null} started
 * @property {string | null} finished
 * @property {number} step
 * @property {number} steps
 * @property {number | null} eta_seconds
 * @property {string | null} error
 * @property {number | null} [position]
 * @property {JobImage[]} images
 *
 * @typedef {object} Step
 * @property {number} id
 * @property {number} step
 * @property {number} steps
 * @property {number | null} sigma
 * @property {number | null} eta_seconds
 * @property {string | null} preview
 *
 * @typedef {object} Token
 * @property {number} id
 * @property {string} text
 * @property {number} [weight] How much it counts; 1 if nothing is said.
 *
 * @typedef {object} Explanation
 * @property {Token[]} tokens
 * @property {Token[]} negative_tokens
 * @property {{step: number, timestep: number, sigma: number, preview_url: string | null}[]} steps
 *
 * @typedef {object} PngInfo
 * @property {string} infotext
 * @property {Request} request
 * @property {string[]} [not_taken_over]
 * @property {Kind} [kind]
 *
 * @typedef {object} Preset
 * @property {string} name
 * @property {string} [what] For what it is.
 * @property {Request} request
 *
 * @typedef {{job: Job, image: JobImage, index: number}} Picture A finished picture and whose it is.
 */

export {};
