/** What is done with finished pictures. */

import { draw, drop, expect, jobsOf, pictures, pixels, test } from "../fixtures.js";

test("a dropped PNG restores all its settings, and the same picture", async ({ page, server }) => {
  await page.locator("#field-seed").fill("42");
  await page.locator("#field-negative_prompt").fill("blurry");
  await page.locator("#field-cfg_scale").fill("6");
  await page.locator("#field-width").fill("96");
  await page.locator("#field-sampler_name").selectOption("Euler");
  await draw(page, "a fox, sitting", 5);
  await pictures(page, 1);
  const [first] = await jobsOf(server);

  await page.getByLabel("Presets").selectOption("reset");
  await page.locator("#field-prompt").fill("something else");
  await drop(page, "#drop-settings", first.images[0].url);
  await expect(page.locator("#field-prompt")).toHaveValue("a fox, sitting");
  for (const [field, value] of Object.entries({
    negative_prompt: "blurry",
    seed: "42",
    cfg_scale: "6",
    width: "96",
    steps: "5",
    sampler_name: "Euler",
  })) {
    await expect(page.locator(`#field-${field}`)).toHaveValue(value);
  }
  await page.getByRole("button", { name: "Draw" }).click();
  await pictures(page, 2);
  const [second] = await jobsOf(server);
  const [one, other] = [first, second].map(({ images }) => images[0].url);
  expect(await pixels(page, one)).toEqual(await pixels(page, other));
});

test("a picture without settings says so", async ({ page }) => {
  const drawn = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(8, 8);
    canvas.getContext("2d")?.fillRect(0, 0, 8, 8);
    return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
  });
  const file = { name: "plain.png", mimeType: "image/png", buffer: Buffer.from(drawn) };
  await page.locator("#restore-file").setInputFiles(file);
  await expect(page.getByRole("alert").filter({ hasText: "plain.png" })).toContainText(
    "says nothing about how it was made",
  );
});

test("settings again, with mask and input", async ({ page, server }) => {
  await draw(page, "two green apples");
  await pictures(page, 1);
  await page.locator("#stage-tools").getByRole("button", { name: "Inpaint" }).click();
  await page.locator("#canvas").click();
  await page.getByRole("button", { name: "Draw" }).click();
  await pictures(page, 2);
  await page.getByRole("tab", { name: "Result" }).click();
  await page.locator("#remove-source").evaluate((/** @type {HTMLElement} */ each) => each.click());
  await page.getByRole("radio", { name: "Text to image" }).check();
  await page.getByRole("button", { name: "Settings again" }).click();
  await expect(page.getByRole("radio", { name: "Inpaint" })).toBeChecked();
  await expect(page.locator("#source-name")).toContainText("128 × 128");
  await expect(page.getByRole("button", { name: "Undo" })).toBeEnabled();
  const [{ images }] = await jobsOf(server);
  await expect(page.locator("#field-seed")).toHaveValue(String(images[0].seed));
});

test("two pictures are compared under a slider", async ({ page }) => {
  await draw(page, "a fish", 2);
  await pictures(page, 1);
  await draw(page, "a house", 2);
  await pictures(page, 2);
  await page.getByRole("button", { name: "Compare…" }).click();
  await page.locator("#gallery-grid li button").nth(1).click();
  const dialog = page.getByRole("dialog", { name: "Compare" });
  await expect(dialog.getByRole("row", { name: "Prompt a house a fish" })).toBeVisible();
  const slider = dialog.getByRole("slider");
  await expect(slider).toBeFocused();
  await page.keyboard.press("Home");
  await expect(dialog.locator("#compare-frame")).toHaveCSS("--split", "0%");
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
});

test("how it works: tokens, noise levels, predicted pictures", async ({ page }) => {
  await draw(page, "a house in autumn", 6);
  await pictures(page, 1);
  await page.getByRole("button", { name: "How it works" }).click();
  const dialog = page.getByRole("dialog", { name: "How this picture was made" });
  const tokens = dialog.getByRole("list", { name: "Tokens of the prompt" }).getByRole("listitem");
  await expect(tokens.first()).toContainText("<start>");
  expect(await tokens.allTextContents()).toEqual(
    expect.arrayContaining([expect.stringContaining("house"), expect.stringContaining("autumn")]),
  );
  const caption = dialog.locator("#explain-caption");
  await expect(caption).toHaveText(/^Step 1 of \d+: timestep \d+, σ = 14\.\d$/);
  const first = await dialog.locator("#explain-preview").getAttribute("src");
  await dialog.getByRole("slider", { name: "Step" }).press("End");
  await expect(caption).not.toHaveText(/^Step 1 /);
  await expect(dialog.locator("#explain-preview")).not.toHaveAttribute("src", first ?? "");
});
