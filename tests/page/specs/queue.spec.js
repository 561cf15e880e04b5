/** The queue, and servers that go away. */

import { draw, expect, jobsOf, pictures, test } from "../fixtures.js";

test("a queue can be seen and cancelled", async ({ page, server }) => {
  await draw(page, "first", 900);
  await draw(page, "second", 900);
  await draw(page, "third", 900);
  await page.getByRole("tab", { name: /Queue and history/ }).click();
  const list = page.getByRole("listitem").filter({ hasText: "Text to image" });
  await expect(list).toHaveCount(3);
  await expect(list.filter({ hasText: "third" })).toContainText("waits, 2 before it");
  await page.getByRole("button", { name: "Cancel: second" }).click();
  await expect(list.filter({ hasText: "second" })).toContainText("cancelled");
  await page.getByRole("button", { name: "Cancel all" }).click();
  await expect(list.filter({ hasText: "cancelled" })).toHaveCount(3);
  const states = (await jobsOf(server)).map(({ state }) => state);
  expect(states).toEqual(["cancelled", "cancelled", "cancelled"]);

  await page.getByRole("button", { name: "Remove from the history: first" }).click();
  await expect(list).toHaveCount(2);
});

test.describe("a queue with little room", () => {
  test.use({ flags: ["--max-queue", "1"], expected: [/status of 429/] });
  test("says when it is full, and takes the job later", async ({ page }) => {
    await draw(page, "first", 500);
    await expect(page.locator("#stage-status")).toContainText("Step");
    await draw(page, "second", 2);
    await expect(page.locator("#queue-count")).toHaveText("2");
    await draw(page, "third", 2);
    await expect(page.locator("#draw-problem")).toContainText(/full|wait/);
    await page.getByRole("tab", { name: /Queue and history/ }).click();
    await page.getByRole("button", { name: "Cancel: first" }).click();
    await pictures(page, 1);
    await page.getByRole("button", { name: "Draw" }).click();
    await pictures(page, 2);
    await expect(page.locator("#draw-problem")).toBeEmpty();
  });
});

test.describe("while the server is away", () => {
  // The browser logs every connection that fails.
  test.use({ expected: [/ERR_|Failed to load resource|EventSource/] });

  test("nothing that was accepted is lost", async ({ page, server }) => {
    for (const name of ["one", "two", "three"]) {
      await draw(page, name, 40);
      await expect.poll(async () => (await jobsOf(server))[0].request.prompt).toBe(name);
    }
    await server.stop("SIGKILL");
    await expect(page.locator("#offline")).toBeVisible();
    await server.start();
    await expect(page.locator("#offline")).toBeHidden();
    await pictures(page, 3);
    const jobs = await jobsOf(server);
    expect(jobs.map(({ state }) => state)).toEqual(["done", "done", "done"]);
  });

  test("an attempt to draw says so", async ({ page, server }) => {
    await server.stop();
    await expect(page.locator("#offline")).toContainText("The server does not answer.");
    await draw(page, "a house");
    await expect(page.locator("#draw-problem")).toHaveText(/does not answer/);
  });
});

test("everything comes from the server itself", async ({ page, server, context }) => {
  // As on a machine without a network: whatever goes elsewhere fails, and nothing is missing.
  /** @type {string[]} */
  const elsewhere = [];
  await context.route(
    (url) => url.origin !== server.url,
    (route) => {
      elsewhere.push(route.request().url());
      return route.abort();
    },
  );
  await page.reload();
  await page.waitForSelector("body[data-ready]");
  await draw(page, "a rocket");
  await pictures(page, 1);
  expect(elsewhere).toEqual([]);
});
