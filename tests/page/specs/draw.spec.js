/** From a prompt to a picture, and what the page says on the way. */

import { draw, expect, jobsOf, pictures, test } from "../fixtures.js";

test("draws with the model in the program, without any setting", async ({ page, server }) => {
  await expect(page.getByText("Describe a picture and press Draw.")).toBeVisible();
  await expect(page.locator("#estimate")).toHaveText(/\d+ MB/);
  await draw(page, "a penguin in the snow");
  await pictures(page, 1);
  // Once it has drawn, the server also knows how fast it is.
  await page.locator("#field-steps").fill("4");
  await expect(page.locator("#estimate")).toHaveText(/about .+ s · \d+ MB|under 1 s · \d+ MB/);
  const shown = page.getByRole("tabpanel", { name: "Result" }).getByRole("img");
  await expect(shown).toHaveAttribute("alt", "a penguin in the snow");
  expect(await shown.evaluate((/** @type {HTMLImageElement} */ img) => img.naturalWidth)).toBe(128);

  await page.getByText("Settings of this picture").click();
  const [job] = await jobsOf(server);
  const settings = page.locator("#stage-settings");
  await expect(settings).toContainText(`Seed${job.images[0].seed}`);
  await expect(settings).toContainText("Steps3");
  // What the person did not say is not in the request: the model decides.
  expect(job.request).toEqual({ prompt: "a penguin in the snow", steps: 3 });
});

test("shows each step while it draws", async ({ page }) => {
  await draw(page, "a red car", 60);
  await expect(page.locator("#stage-status")).toHaveText(/Step \d+ of 60 · σ [\d.]+ · .+ left/);
  await expect(page.getByAltText("Preview of the picture")).toHaveAttribute("src", /^data:image/);
  await expect(page).toHaveTitle(/^\d+% · aquatint$/);
  await pictures(page, 1);
  await expect(page).toHaveTitle("aquatint");
});

test("a batch is several pictures, each with its seed", async ({ page }) => {
  await page.locator("#field-n_iter").fill("3");
  await page.locator("#field-seed").fill("7");
  await draw(page, "a fish");
  await pictures(page, 3);
  const batch = page.getByRole("group", { name: "Pictures of this batch" });
  await batch.getByRole("button", { name: "Picture 3 of 3" }).click();
  await expect(page.locator("#stage-settings")).toContainText("Seed9");
});

test("cancels within a step", async ({ page, server }) => {
  await draw(page, "a castle at night", 500);
  await expect(page.locator("#stage-status")).toContainText("Step");
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await expect(page.locator("#stage-hint")).toHaveText("Cancelled.");
  await expect.poll(async () => (await jobsOf(server))[0].state).toBe("cancelled");
  expect((await jobsOf(server))[0].step).toBeLessThan(500);
});

test.describe("a mistake", () => {
  test.use({ expected: [/status of 422/] });
  test("is said beside the field, in words", async ({ page }) => {
    await page.locator("#field-steps").fill("0");
    await page.getByRole("button", { name: "Draw" }).click();
    const problem = page.locator("#field-steps-problem");
    await expect(problem).toHaveText(/1/);
    await expect(page.locator("#field-steps")).toBeFocused();

    // What only the server can judge: the width of this model's pictures.
    await page.locator("#field-width").evaluate((/** @type {HTMLInputElement} */ input) => {
      input.removeAttribute("step");
    });
    await page.locator("#field-width").fill("130");
    await draw(page, "a fox");
    await expect(page.locator("#form .problem").filter({ hasText: "130" })).toBeVisible();
  });
});

test("a second pass is asked for when one of its settings is set", async ({ page }) => {
  await page.getByText("A second, larger pass").click();
  await page.locator("#field-hr_scale").fill("1.5");
  const [request] = await Promise.all([
    page.waitForRequest((each) => each.url().endsWith("/api/jobs") && each.method() === "POST"),
    draw(page, "a fish", 2),
  ]);
  expect(request.postDataJSON().request).toEqual({
    prompt: "a fish",
    steps: 2,
    hr_scale: 1.5,
    enable_hr: true,
  });
  await pictures(page, 1);
  await page.getByText("Settings of this picture").click();
  await expect(page.locator("#stage-settings")).toContainText("Hires upscale1.5");
});

test("the seed: again, next, random", async ({ page, server }) => {
  await draw(page, "a cactus");
  await pictures(page, 1);
  const seed = (await jobsOf(server))[0].images[0].seed;
  await page.getByRole("button", { name: "Again", exact: true }).click();
  await expect(page.locator("#field-seed")).toHaveValue(String(seed));
  await page.getByRole("button", { name: "Next" }).click();
  await expect(page.locator("#field-seed")).toHaveValue(String(seed + 1));
  await page.getByRole("button", { name: "Random" }).click();
  await expect(page.locator("#field-seed")).toHaveValue("");
});

test("the form is kept over a reload, and presets as well", async ({ page, server }) => {
  await page.getByRole("textbox", { name: "Prompt", exact: true }).fill("a sailboat");
  await page.locator("#field-steps").fill("11");
  await page.getByLabel("Presets").selectOption("save");
  await page.getByRole("textbox", { name: "Name" }).fill("eleven");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.waitForTimeout(500); // the form is stored a moment after the last change
  await page.reload();
  await expect(page.getByRole("textbox", { name: "Prompt", exact: true })).toHaveValue(
    "a sailboat",
  );
  await expect(page.locator("#field-steps")).toHaveValue("11");
  await page.locator("#field-steps").fill("30");
  await page.getByLabel("Presets").selectOption("eleven");
  await expect(page.locator("#field-steps")).toHaveValue("11");

  const [{ name, request }] = await (await fetch(`${server.url}/api/presets`)).json();
  await page.getByLabel("Presets").selectOption(name);
  await expect(page.locator("#field-steps")).toHaveValue(String(request.steps));
  await expect(page.locator("#field-prompt")).toHaveValue("a sailboat");
});
