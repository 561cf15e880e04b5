/** Chromium of the distribution, one test at a time: the server draws on all cores. */

import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "specs",
  workers: 1,
  // The embedded model draws in seconds; a machine that is busy takes many times that.
  timeout: 240_000,
  expect: { timeout: 60_000 },
  forbidOnly: Boolean(process.env.CI),
  reporter: [["list"]],
  use: {
    viewport: { width: 1280, height: 900 },
    actionTimeout: 30_000,
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    },
  },
});
