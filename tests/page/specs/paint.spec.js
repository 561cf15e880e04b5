/** Pictures as inputs: the mask, the margins, dropping and pasting. */

import { draw, drop, expect, jobsOf, pictures, pixels, test } from "../fixtures.js";

/** @import {Page} from "@playwright/test" */

/** Draws one picture and puts it under the brush. @param {Page} page */
async function paintable(page) {
  await draw(page, "a blue butterfly");
  await pictures(page, 1);
  await page.locator("#stage-tools").getByRole("button", { name: "Inpaint" }).click();
  await expect(page.locator("#source-name")).toContainText("128 × 128");
}

/**
 * A stroke over a part of the canvas, in shares of its middle.
 *
 * @param {Page} page
 * @param {number[]} from
 * @param {number[]} to
 */
async function stroke(page, from, to) {
  const box = await page.locator("#canvas").boundingBox();
  if (!box) throw new Error("the canvas is not shown");
  const at = (/** @type {number[]} */ [x, y]) =>
    /** @type {[number, number]} */ ([box.x + box.width / 2 + x, box.y + box.height / 2 + y]);
  await page.mouse.move(...at(from));
  await page.mouse.down();
  await page.mouse.move(...at(to), { steps: 8 });
  await page.mouse.up();
}

/** The mask of the next request, 255 where it is repainted. @param {Page} page */
async function sentMask(page) {
  const [request] = await Promise.all([
    page.waitForRequest((each) => each.url().endsWith("/api/jobs") && each.method() === "POST"),
    page.getByRole("button", { name: "Draw" }).click(),
  ]);
  const { request: fields, kind } = request.postDataJSON();
  const mask = await page.evaluate(async (dataUrl) => {
    // Without fetch, which the content security policy keeps to the server.
    const img = new Image();
    img.src = dataUrl;
    await img.decode();
    const canvas = new OffscreenCanvas(img.width, img.height);
    const context = canvas.getContext("2d");
    context?.drawImage(img, 0, 0);
    const data = context?.getImageData(0, 0, img.width, img.height).data ?? [];
    return Array.from({ length: data.length / 4 }, (_, pixel) => data[4 * pixel]);
  }, fields.mask);
  const painted = mask.filter((value) => value > 127).length;
  return { kind, fields, mask, share: painted / mask.length };
}

test("paints a mask, and only what is under it changes", async ({ page, server }) => {
  await paintable(page);
  await stroke(page, [-60, 0], [60, 0]);
  await page.getByRole("textbox", { name: "Prompt", exact: true }).fill("a red car");
  const { kind, mask, share } = await sentMask(page);
  expect(kind).toBe("inpaint");
  expect(share).toBeGreaterThan(0.02);
  expect(share).toBeLessThan(0.3);
  // The middle is painted, the corners are not.
  expect([mask[64 * 128 + 64], mask[0], mask[128 * 128 - 1]]).toEqual([255, 0, 0]);
  await pictures(page, 2);

  const [after, before] = (await jobsOf(server)).map(({ images }) => images[0].url);
  const [now, then] = [await pixels(page, after), await pixels(page, before)];
  const differs = (/** @type {number} */ pixel) =>
    [0, 1, 2].some((channel) => now.data[4 * pixel + channel] !== then.data[4 * pixel + channel]);
  const changed = mask.map((_, pixel) => differs(pixel));
  expect(changed.some(Boolean)).toBe(true);
  // The seam is some pixels wide; the corners are far from it.
  for (const pixel of [0, 127, 127 * 128, 128 * 128 - 1]) expect(changed[pixel]).toBe(false);
});

test("erases, inverts, clears, undoes", async ({ page }) => {
  await paintable(page);
  const undo = page.getByRole("button", { name: "Undo" });
  await expect(undo).toBeDisabled();
  await stroke(page, [-60, 0], [60, 0]);
  await page.getByRole("button", { name: "Invert" }).click();
  await page.getByRole("radio", { name: "Eraser" }).click();
  await stroke(page, [-100, -100], [100, -100]);
  await page.getByRole("button", { name: "Clear" }).click();
  await undo.click(); // the mask is back
  await undo.click(); // and what was erased
  const { mask, share } = await sentMask(page);
  expect(share).toBeGreaterThan(0.7);
  expect([mask[64 * 128 + 64], mask[0]]).toEqual([0, 255]);
});

test("an empty mask is refused with a hint", async ({ page }) => {
  await paintable(page);
  await page.getByRole("button", { name: "Draw" }).click();
  await expect(page.locator("#draw-problem")).toHaveText(/Paint over what should change/);
});

test("zooms around the pointer and fits again", async ({ page }) => {
  await paintable(page);
  const zoom = page.locator("#zoom-value");
  const fitted = await zoom.textContent();
  await page.locator("#canvas").hover();
  await page.keyboard.down("Control");
  await page.mouse.wheel(0, -400);
  await page.keyboard.up("Control");
  await expect(zoom).not.toHaveText(fitted ?? "");
  // The same stroke now covers fewer pixels of the picture.
  await stroke(page, [-20, 0], [20, 0]);
  await page.getByRole("button", { name: "Fit" }).click();
  await expect(zoom).toHaveText(fitted ?? "");
  expect((await sentMask(page)).share).toBeLessThan(0.1);
});

test("continues a picture beyond its edges", async ({ page, server }) => {
  await paintable(page);
  const handle = page.getByRole("slider", { name: "Continue the picture to the right" });
  const box = await handle.boundingBox();
  if (!box) throw new Error("the handle is not shown");
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 100, box.y + box.height / 2, { steps: 4 });
  await page.mouse.up();
  const pixelsAdded = Number(await handle.getAttribute("aria-valuenow"));
  expect(pixelsAdded % 8).toBe(0);
  expect(pixelsAdded).toBeGreaterThan(0);
  await handle.focus();
  await page.keyboard.press("Home");
  for (let press = 0; press < 4; press += 1) await page.keyboard.press("ArrowRight");
  await expect(page.locator("#field-width")).toHaveValue("160");
  await page.getByRole("button", { name: "Draw" }).click();
  await pictures(page, 2);
  const [job] = await jobsOf(server);
  expect(job.request.expand).toBe("0,32,0,0");
  expect([job.images[0].width, job.images[0].height]).toEqual([160, 128]);
});

test("takes a picture that is dropped, pasted or chosen", async ({ page, server }) => {
  await draw(page, "a pizza");
  await pictures(page, 1);
  const [{ images }] = await jobsOf(server);
  await drop(page, "#drop-source", images[0].url);
  await expect(page.getByRole("radio", { name: "Image to image" })).toBeChecked();
  await expect(page.locator("#source-name")).toContainText("dropped.png, 128 × 128");
  await page.getByRole("button", { name: "Remove", exact: true }).first().click();
  await expect(page.locator("#drop-zone")).toBeVisible();

  await page.evaluate(async (address) => {
    const data = new DataTransfer();
    const blob = await (await fetch(address)).blob();
    data.items.add(new File([blob], "pasted.png", { type: "image/png" }));
    const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
    document.body.dispatchEvent(event);
  }, images[0].url);
  await expect(page.locator("#source-name")).toContainText("pasted.png");

  const chosen = await (await fetch(server.url + images[0].url)).arrayBuffer();
  const file = { name: "chosen.png", mimeType: "image/png", buffer: Buffer.from(chosen) };
  await page.locator("#source-file").setInputFiles(file);
  await expect(page.locator("#source-name")).toContainText("chosen.png");
  await page.locator("#field-denoising_strength").fill("0.5");
  await draw(page, "a pizza", 4);
  await pictures(page, 2);
  const [job] = await jobsOf(server);
  expect([job.kind, job.request.denoising_strength]).toEqual(["img2img", 0.5]);

  const broken = { name: "broken.png", mimeType: "image/png", buffer: Buffer.from("no picture") };
  await page.locator("#source-file").setInputFiles(broken);
  await expect(page.getByRole("alert").filter({ hasText: "broken.png" })).toBeVisible();
});
