/** Models, LoRAs and embeddings. */

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { draw, expect, jobsOf, pictures, test } from "../fixtures.js";
import { BINARY } from "../server.js";

const FOLDER = mkdtempSync(join(tmpdir(), "aquatint-models-"));
const LORAS = join(FOLDER, "loras");
const MODELS = join(FOLDER, "models");

test.use({ flags: ["--models-dir", MODELS, "--lora-model-dir", LORAS] });

test.beforeAll(() => {
  mkdirSync(LORAS, { recursive: true });
  mkdirSync(MODELS);
  // It is only listed here, never read.
  writeFileSync(join(LORAS, "watercolour.safetensors"), "");
  execFileSync(BINARY, ["random-model", join(MODELS, "noise")]);
});

test.afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

test("another model is loaded, and its defaults are shown", async ({ page, server }) => {
  const guidance = page.locator("#field-cfg_scale");
  await expect(guidance).toHaveValue("4"); // what the model in the program asks for
  await page.locator("#field-steps").fill("2");
  await page.getByLabel("Model").selectOption("noise");
  await expect(page.getByText("noise is the model now.")).toBeVisible();
  await expect(guidance).toHaveValue("7.5");
  // What the person has set stays.
  await expect(page.locator("#field-steps")).toHaveValue("2");
  await draw(page, "anything", 2);
  await pictures(page, 1);
  const [{ request }] = await jobsOf(server);
  expect(request).toEqual({ prompt: "anything", steps: 2 });
  await page.getByText("Settings of this picture").click();
  await expect(page.locator("#stage-settings")).toContainText("noise");
});

test("a LoRA is written into the prompt, once", async ({ page }) => {
  const prompt = page.locator("#field-prompt");
  await prompt.fill("a fox");
  const picker = page.getByRole("combobox", { name: "Add a LoRA…" });
  await picker.selectOption("watercolour");
  await picker.selectOption("watercolour");
  await expect(prompt).toHaveValue("a fox <lora:watercolour:0.8>");
});
