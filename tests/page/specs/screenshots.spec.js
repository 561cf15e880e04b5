/** The pictures of the documentation; made only if SCREENSHOTS is set. */

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { draw, expect, pictures, test } from "../fixtures.js";

/** @import {Page} from "@playwright/test" */

const FOLDER = fileURLToPath(new URL("../../../cli/src/serve/page/screenshots/", import.meta.url));

test.skip(!process.env.SCREENSHOTS, "SCREENSHOTS is not set");
test.use({ viewport: { width: 1200, height: 780 } });

/** Chromium writes WebP where Playwright writes PNG only. @param {Page} page @param {string} name */
async function shoot(page, name) {
  const client = await page.context().newCDPSession(page);
  const { data } = await client.send("Page.captureScreenshot", { format: "webp", quality: 80 });
  await writeFile(`${FOLDER}${name}.webp`, Buffer.from(data, "base64"));
}

const PROMPTS = ["a castle at night", "a red car in the city", "a blue butterfly", "a pizza"];

test("light, painting, dark", async ({ page }) => {
  for (const [index, prompt] of PROMPTS.entries()) {
    await page.locator("#field-seed").fill(String(index + 1));
    await draw(page, prompt, 20);
    await pictures(page, index + 1);
  }
  await draw(page, "a penguin in the snow", 20);
  await expect(page.locator("#stage-status")).toContainText("Step 14");
  await page.locator(".form-fields").evaluate((each) => each.scrollTo(0, 0));
  await shoot(page, "draw");
  await pictures(page, PROMPTS.length + 1);

  await page.locator("#stage-tools").getByRole("button", { name: "Inpaint" }).click();
  const box = await page.locator("#canvas").boundingBox();
  if (!box) throw new Error("the canvas is not shown");
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.getByRole("slider", { name: "Continue the picture to the right" }).press("PageUp");
  await page.mouse.move(x - 90, y + 60);
  await page.mouse.down();
  for (let at = 0; at < 30; at += 1) {
    await page.mouse.move(x - 90 + 4 * at, y + 60 + 25 * Math.sin(at / 4));
  }
  await page.mouse.up();
  await shoot(page, "inpaint");

  await page.getByRole("tab", { name: "Result" }).click();
  await page.getByRole("button", { name: "Dark colours" }).click();
  await page.getByRole("button", { name: "How it works" }).click();
  await page.locator("#explain-step").fill("8");
  await page.locator("#explain-strip").scrollIntoViewIfNeeded();
  await shoot(page, "explain");
});

test.describe("on a phone", () => {
  test.use({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  test("phone", async ({ page }) => {
    await draw(page, "a fish under water", 20);
    await pictures(page, 1);
    await shoot(page, "phone");
  });
});
