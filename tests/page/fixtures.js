/**
 * What every test starts with: a server, its page open, and the promise that the page broke no
 * rule: no error in the console, no request to another host.
 */

import { test as base, expect } from "@playwright/test";

import { Server } from "./server.js";

/** @import {Page} from "@playwright/test" */

export { expect };

/**
 * @typedef {object} Fixtures
 * @property {Server} server
 * @property {string[]} flags Further flags of the server.
 * @property {string[]} problems What the page did that it should not.
 * @property {(string | RegExp)[]} expected Messages in the console that a test causes on purpose.
 */

/**
 * @import {
 *   Fixtures as FixturesOf,
 *   PlaywrightTestArgs as Given,
 *   PlaywrightTestOptions as Options,
 *   PlaywrightWorkerArgs as OfWorker,
 *   PlaywrightWorkerOptions as WorkerOptions
 * } from "@playwright/test"
 */

/** @typedef {FixturesOf<Fixtures, {}, Given & Options, OfWorker & WorkerOptions>} AllFixtures */

/** @type {AllFixtures} */
const fixtures = {
  flags: [[], { option: true }],
  expected: [[], { option: true }],
  server: async ({ flags }, use) => {
    const server = new Server(flags);
    await server.start();
    await use(server);
    await server.remove();
  },
  problems: async ({}, use) => {
    await use([]);
  },
  page: async ({ page, server, problems, expected }, use) => {
    watch(page, server.url, problems);
    await page.goto(server.url);
    await page.waitForSelector("body[data-ready]");
    await use(page);
    const unexpected = problems.filter(
      (problem) => !expected.some((pattern) => problem.match(pattern)),
    );
    expect(unexpected).toEqual([]);
  },
};

/**
 * JavaScript cannot give `extend` its type argument, so the result says it.
 *
 * @type {import("@playwright/test").TestType<Given & Options & Fixtures, OfWorker & WorkerOptions>}
 */
export const test = base.extend(/** @type {any} */ (fixtures));

/** @param {Page} page @param {string} origin @param {string[]} problems */
export function watch(page, origin, problems) {
  page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    const isOurs = url.origin === origin || ["data:", "blob:"].includes(url.protocol);
    if (!isOurs) problems.push(`request to ${url.origin}`);
  });
}

/**
 * Few steps: what is tested is the page.
 *
 * @param {Page} page
 * @param {string} prompt
 * @param {number} [steps]
 */
export async function draw(page, prompt, steps = 3) {
  await page.getByRole("textbox", { name: "Prompt", exact: true }).fill(prompt);
  await page.locator("#field-steps").fill(String(steps));
  await page.getByRole("button", { name: "Draw" }).click();
}

/** Waits for a number of pictures in the gallery. @param {Page} page @param {number} count */
export async function pictures(page, count) {
  await expect(page.locator("#gallery-grid li")).toHaveCount(count, { timeout: 180_000 });
}

/** The jobs, as the server knows them. @param {Server} server @returns {Promise<any[]>} */
export async function jobsOf(server) {
  return (await fetch(`${server.url}/api/jobs?limit=100`)).json();
}

/**
 * RGBA of a picture of the server, decoded by the browser.
 *
 * @param {Page} page
 * @param {string} url
 * @returns {Promise<{width: number, height: number, data: number[]}>}
 */
export function pixels(page, url) {
  return page.evaluate(async (address) => {
    const bitmap = await createImageBitmap(await (await fetch(address)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    if (!context) throw new Error("no 2D canvas");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    return { width: bitmap.width, height: bitmap.height, data: [...data] };
  }, url);
}

/**
 * Drops a file of the server on an element, as from a file manager.
 *
 * @param {Page} page
 * @param {string} selector
 * @param {string} url
 */
export async function drop(page, selector, url) {
  const data = await page.evaluateHandle(async (address) => {
    const transfer = new DataTransfer();
    const blob = await (await fetch(address)).blob();
    transfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
    return transfer;
  }, url);
  await page.dispatchEvent("body", "dragenter", { dataTransfer: data });
  await page.dispatchEvent(selector, "dragenter", { dataTransfer: data });
  await page.dispatchEvent(selector, "drop", { dataTransfer: data });
}
