/**
 * Calls of the server. Each either resolves with what was asked for or throws an {@link ApiError}
 * whose message can be shown as it is.
 */

/** @import * as T from "./types.js" */

/** Something that the server or the way to it refused, in words for the person at the screen. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, field?: string, retryAfter?: number}} [about]
   */
  constructor(message, about = {}) {
    super(message);
    this.name = "ApiError";
    /** HTTP status, 0 if there was no answer. */
    this.status = about.status ?? 0;
    /** The setting that is to blame. */
    this.field = about.field ?? null;
    /** Seconds to wait before another try. */
    this.retryAfter = about.retryAfter ?? null;
  }
}

/** Asks the person for the server's key; set by `api_key.js`. */
let askForKey = async () => false;

/** @param {() => Promise<boolean>} ask Resolves with true when the server has accepted a key. */
export function whenKeyIsNeeded(ask) {
  askForKey = ask;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>} The answer's JSON, or null if it is empty.
 */
async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch {
    throw new ApiError("The server does not answer. Is `aquatint serve` still running?");
  }
  if (response.status === 401 && path !== "/api/session" && (await askForKey())) {
    return call(method, path, body);
  }
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** @param {Response} response */
async function refusal(response) {
  const { status } = response;
  const retryAfter = Number(response.headers.get("Retry-After")) || undefined;
  const { message, field } = await response.json().then(
    (body) => body?.error ?? {},
    () => ({}),
  );
  return new ApiError(message || inPlainWords(status, retryAfter), { status, field, retryAfter });
}

/**
 * What a status means where the server says no more.
 *
 * @param {number} status
 * @param {number} [wait]
 */
function inPlainWords(status, wait) {
  switch (status) {
    case 401:
      return "The server wants its key.";
    case 404:
      return "The server no longer has this.";
    case 413:
      return "The picture is larger than the server accepts. Make it smaller and try again.";
    case 429:
      return `The queue is full. Try again in ${wait ?? 10} seconds, or cancel something.`;
    default:
      return `The server answered with the status ${status} and no explanation.`;
  }
}

/** @template A @param {string} path @returns {Promise<A>} */
const get = (path) => call("GET", path);

/**
 * Null for what the server no longer has.
 *
 * @template A
 * @param {string} path
 * @returns {Promise<A | null>}
 */
async function getIfThere(path) {
  try {
    return await call("GET", path);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

const job = (/** @type {number} */ id) => `/api/jobs/${id}`;

export const api = {
  /** @returns {Promise<T.Info>} */
  info: () => get("/api/info"),
  /** @returns {Promise<T.Setting[]>} */
  settings: () => get("/api/settings"),
  /** @returns {Promise<T.Model[]>} */
  models: () => get("/api/models"),
  /** Loads another model. @param {string} name @returns {Promise<void>} */
  useModel: (name) => call("POST", "/api/model", { name }),
  /** @returns {Promise<T.Adapter[]>} */
  loras: () => get("/api/loras"),
  /** @returns {Promise<T.Adapter[]>} */
  embeddings: () => get("/api/embeddings"),
  /** @returns {Promise<T.Preset[]>} */
  presets: () => get("/api/presets"),
  /** @param {T.Kind} kind @param {T.Request} request @returns {Promise<T.Estimate>} */
  estimate: (kind, request) => call("POST", "/api/estimate", { kind, request }),
  /** @param {T.Kind} kind @param {T.Request} request @returns {Promise<{id: number}>} */
  submit: (kind, request) => call("POST", "/api/jobs", { kind, request }),
  /** Newest first. @param {number} limit @param {number} [before] @returns {Promise<T.Job[]>} */
  jobs: (limit, before) =>
    get(`/api/jobs?limit=${limit}${before === undefined ? "" : `&before=${before}`}`),
  /** @param {number} id @returns {Promise<T.Job>} */
  job: (id) => get(job(id)),
  /**
   * Cancels a job that waits or runs; takes another from the history.
   *
   * @param {number} id
   * @returns {Promise<void>}
   */
  remove: (id) => call("DELETE", job(id)),
  /** @param {number} id @returns {Promise<T.Explanation | null>} */
  explain: (id) => getIfThere(`${job(id)}/explain`),
  /** @param {string} image Base64. @returns {Promise<T.PngInfo>} */
  pngInfo: (image) => call("POST", "/api/png-info", { image }),
  /** @param {string} key @returns {Promise<void>} */
  openSession: (key) => call("POST", "/api/session", { key }),
};
