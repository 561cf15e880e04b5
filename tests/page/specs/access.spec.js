/** For everybody: small screens, no pointer, screen readers, both themes. */

import { AxeBuilder } from "@axe-core/playwright";

import { draw, expect, pictures, test, watch } from "../fixtures.js";

/** @import {Page} from "@playwright/test" */

/** @param {Page} page @param {string} where */
async function isAccessible(page, where) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(
    ({ id, impact, nodes }) => `${impact}: ${id}: ${nodes.map(({ target }) => target).join(" ")}`,
  );
  expect(found, where).toEqual([]);
}

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test.describe(`${colorScheme} theme`, () => {
    test.use({ colorScheme });
    test("axe finds nothing", async ({ page }) => {
      await isAccessible(page, "empty");
      await page.getByText("More settings").click();
      await draw(page, "a penguin in the snow", 4);
      await pictures(page, 1);
      await draw(page, "a cat and a dog", 4);
      await pictures(page, 2);
      await page.getByText("Settings of this picture").click();
      await isAccessible(page, "with pictures");
      await page.getByRole("button", { name: "How it works" }).click();
      await isAccessible(page, "how it works");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Compare…" }).click();
      await page.locator("#gallery-grid li button").nth(1).click();
      await isAccessible(page, "compare");
      await page.keyboard.press("Escape");
      await page.getByRole("tab", { name: /Queue and history/ }).click();
      await page.locator("#stage-tools").getByRole("button", { name: "Inpaint" }).click();
      await isAccessible(page, "painter and history");
    });
  });
}

test("the theme can be changed, and stays", async ({ page }) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole("button", { name: "Dark colours" }).click();
  const dark = await ground();
  expect(dark).not.toBe(light);
  await page.reload();
  await page.waitForSelector("body[data-ready]");
  expect(await ground()).toBe(dark);
});

test("draws and inpaints with the keyboard alone", async ({ page }) => {
  const keys = page.keyboard;
  /** Tab until an element has the focus. @param {string} selector */
  const tabTo = async (selector) => {
    for (let press = 0; press < 80; press += 1) {
      await keys.press("Tab");
      if (
        await page
          .locator(selector)
          .first()
          .evaluate((each) => each === document.activeElement)
      ) {
        return;
      }
    }
    throw new Error(`Tab does not reach ${selector}`);
  };
  await tabTo("#field-prompt");
  await keys.type("a cactus");
  await tabTo("#field-steps");
  await keys.press("Control+A");
  await keys.type("3");
  await keys.press("Control+Enter");
  await pictures(page, 1);

  await tabTo("#stage-tools button:has-text('Inpaint')");
  await keys.press("Enter");
  await expect(page.getByRole("radio", { name: "Inpaint" })).toBeChecked();
  await tabTo("#canvas");
  for (let press = 0; press < 3; press += 1) {
    await keys.press("ArrowRight");
    await keys.press("Space");
  }
  await expect(page.locator("#spoken")).toHaveText("Painted");
  await expect(page.getByRole("button", { name: "Undo" })).toBeEnabled();
  await keys.press("Control+Enter");
  await pictures(page, 2);
  await expect(page.locator("#spoken")).toHaveText("The picture is finished.");
});

test.describe("on a phone", () => {
  test.use({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  test("nothing is wider than the screen, and everything works", async ({ page }) => {
    const width = () => page.evaluate(() => document.documentElement.scrollWidth);
    expect(await width()).toBe(360);
    await draw(page, "a pizza");
    await pictures(page, 1);
    await expect(page.locator("#stage-image")).toBeInViewport();
    await page.locator("#stage-tools").getByRole("button", { name: "Inpaint" }).tap();
    expect(await width()).toBe(360);
    await page.locator("#canvas").tap();
    await expect(page.getByRole("button", { name: "Undo" })).toBeEnabled();
    await page.getByRole("button", { name: "Draw" }).tap();
    await pictures(page, 2);
    await page.getByRole("button", { name: "How it works" }).tap();
    expect(await width()).toBe(360);
    // Fingers need room.
    for (const each of await page.locator("button:visible, select:visible").all()) {
      const box = await each.boundingBox();
      expect.soft(box?.height ?? 0, await each.innerText()).toBeGreaterThanOrEqual(24);
    }
  });
});

test.describe("with a key", () => {
  test.use({ flags: ["--api-key", "s3cret"], expected: [/status of 401/] });
  test("the page asks for it once", async ({ browser, server }) => {
    const page = await browser.newPage();
    /** @type {string[]} */
    const problems = [];
    watch(page, server.url, problems);
    await page.goto(server.url);
    const dialog = page.getByRole("dialog", { name: "This server wants its key" });
    await dialog.getByLabel("Key").fill("wrong");
    await dialog.getByRole("button", { name: "Open" }).click();
    await expect(dialog.getByRole("alert")).toHaveText("This is not the server’s key.");
    await dialog.getByLabel("Key").fill("s3cret");
    await dialog.getByRole("button", { name: "Open" }).click();
    await page.waitForSelector("body[data-ready]");
    await draw(page, "a fish");
    await pictures(page, 1);
    expect(problems.filter((problem) => !/status of 401/.test(problem))).toEqual([]);
    await page.close();
  });
});
