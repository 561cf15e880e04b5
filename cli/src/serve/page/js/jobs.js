/**
 * The server's jobs as this page knows them.
 *
 * The server is the only owner of queue and history; the page asks for both when it (re)connects
 * and then listens to server-sent events. A view subscribes and is called after every change.
 */

/** @import * as T from "./types.js" */

import { api } from "./api.js";

const PAGE = 50;

/** @type {Map<number, T.Job>} */
const known = new Map();
/** The last step of each running job. @type {Map<number, T.Step>} */
const lastSteps = new Map();
/** @type {Set<(change: {job?: T.Job, step?: T.Step}) => void>} */
const subscribers = new Set();
let olderExist = false;

/** @param {{job?: T.Job, step?: T.Step}} change */
function tell(change) {
  for (const subscriber of subscribers) subscriber(change);
}

/** Whether nothing more will happen to it. @param {T.Job} job */
const isOver = (job) => ["done", "failed", "cancelled"].includes(job.state);

/** An answer may be older than the events that came meanwhile: what is over stays over. @param {T.Job} job */
function take(job) {
  const before = known.get(job.id);
  if (before && isOver(before) && !isOver(job)) return;
  known.set(job.id, job);
  if (job.state !== "running") lastSteps.delete(job.id);
}

export const jobs = {
  /** @param {(change: {job?: T.Job, step?: T.Step}) => void} subscriber */
  subscribe(subscriber) {
    subscribers.add(subscriber);
  },

  /** Newest first. */
  all: () => [...known.values()].sort((a, b) => b.id - a.id),

  /** Those that wait or run, in the order in which they are drawn. */
  pending: () =>
    jobs
      .all()
      .reverse()
      .filter((job) => job.state === "queued" || job.state === "running")
      .sort((a, b) => Number(b.state === "running") - Number(a.state === "running")),

  /** Every finished picture, newest first. @returns {T.Picture[]} */
  pictures: () =>
    jobs.all().flatMap((job) => job.images.map((image, index) => ({ job, image, index }))),

  /** @param {number} id */
  get: (id) => known.get(id),
  /** @param {number} id */
  lastStep: (id) => lastSteps.get(id),
  hasOlder: () => olderExist,

  /** Draws. Resolves with the job's id. @param {T.Kind} kind @param {T.Request} request */
  async submit(kind, request) {
    const { id } = await api.submit(kind, request);
    // It is accepted: should this question fail, the answer comes with the next `reload`.
    await jobs.update(id).catch(() => {});
    return id;
  },

  /** Asks the server for one job. @param {number} id */
  async update(id) {
    const job = await api.job(id);
    take(job);
    tell({ job: known.get(id) });
  },

  /** Cancels, or takes from the history. @param {number} id */
  async remove(id) {
    const state = known.get(id)?.state;
    await api.remove(id);
    if (state === "queued" || state === "running")
      await jobs.update(id).catch(() => jobs.forget(id));
    else jobs.forget(id);
  },

  /** @param {number} id */
  forget(id) {
    known.delete(id);
    lastSteps.delete(id);
    tell({});
  },

  /** Asks for queue and history as they are now. */
  async reload() {
    const newest = await api.jobs(PAGE);
    const oldest = newest.at(-1);
    // What is newer than the oldest that was sent, and was not sent, is gone.
    for (const job of known.values()) {
      if (!oldest || job.id >= oldest.id) known.delete(job.id);
    }
    if (known.size === 0) olderExist = newest.length === PAGE;
    newest.forEach(take);
    tell({});
  },

  /** Asks for the next page of the history. */
  async loadOlder() {
    const older = await api.jobs(PAGE, jobs.all().at(-1)?.id);
    olderExist = older.length === PAGE;
    older.forEach(take);
    tell({});
  },

  /** An event of the server. @param {T.Job} job */
  onJob(job) {
    take(job);
    tell({ job });
  },

  /** An event of the server. @param {T.Step} step */
  onStep(step) {
    const job = known.get(step.id);
    if (job && isOver(job)) return;
    // A preview lasts until the next one.
    const preview = step.preview ?? lastSteps.get(step.id)?.preview ?? null;
    const full = { ...step, preview };
    lastSteps.set(step.id, full);
    if (job) {
      Object.assign(job, {
        state: "running",
        step: step.step,
        steps: step.steps,
        eta_seconds: step.eta_seconds,
      });
    }
    tell({ step: full });
  },
};
