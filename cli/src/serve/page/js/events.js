/**
 * Listens to the server: jobs as they change, steps as they are done.
 *
 * `EventSource` connects again by itself, but gives up after some errors (a proxy's 502, a server
 * that is away for long); then a new one is made, at growing intervals.
 */

import { guarded, say } from "./announce.js";
import { byId } from "./dom.js";
import { jobs } from "./jobs.js";

const LONGEST_WAIT = 10_000;

export function startEvents() {
  let wait = 500;
  let wasLost = false;

  /** @param {boolean} isConnected */
  function show(isConnected) {
    byId("offline", HTMLElement).hidden = isConnected;
    if (!isConnected && !wasLost) say("The connection to the server is lost.");
    if (isConnected && wasLost) say("The server answers again.");
    wasLost = !isConnected;
  }

  function connect() {
    const source = new EventSource("/api/events");
    const onopen = guarded(async () => {
      wait = 500;
      show(true);
      await jobs.reload();
    });
    source.addEventListener("open", () => onopen());
    source.addEventListener("error", () => {
      show(false);
      if (source.readyState !== EventSource.CLOSED) return;
      window.setTimeout(connect, wait);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    });
    source.addEventListener("job", (event) => jobs.onJob(JSON.parse(event.data)));
    source.addEventListener("step", (event) => jobs.onStep(JSON.parse(event.data)));
    source.addEventListener("removed", (event) => jobs.forget(JSON.parse(event.data).id));
  }
  connect();
}
