/**
 * The seed: empty is a new one each time; "again" takes that of the last picture, "next" the one
 * after it.
 */

import { say } from "../announce.js";
import { button, byId } from "../dom.js";
import { jobs } from "../jobs.js";
import { form } from "./form.js";

/** JSON numbers are exact up to here. */
const LARGEST = Number.MAX_SAFE_INTEGER;

export function startSeed() {
  form.field("seed")?.control.setAttribute("placeholder", "random");
  const lastSeed = () => jobs.pictures()[0]?.image.seed ?? null;

  /** @param {number | null} seed */
  function set(seed) {
    form.set("seed", seed === null ? undefined : Math.min(seed, LARGEST));
    say(seed === null ? "The next picture gets a random seed." : `Seed ${seed}`);
  }
  const again = button("Again", () => set(lastSeed()), { title: "The seed of the last picture" });
  const next = button(
    "Next",
    () => {
      const said = form.field("seed")?.get();
      const from = typeof said === "number" ? said : lastSeed();
      set(from === null ? null : from + 1);
    },
    { title: "One more than this seed" },
  );
  const random = button("Random", () => set(null), { title: "Another seed for each picture" });
  byId("seed-tools", HTMLElement).append(random, again, next);

  function update() {
    const isNone = lastSeed() === null;
    again.disabled = isNone;
    next.disabled = isNone && form.field("seed")?.get() === undefined;
  }
  jobs.subscribe(update);
  form.subscribe(update);
  update();
}
