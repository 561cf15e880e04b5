/**
 * Starts `aquatint serve` with folders of its own, and stops it. Every test has its server, so that
 * no test sees the history of another.
 */

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const BINARY =
  process.env.AQUATINT ?? fileURLToPath(new URL("../../target/debug/aquatint", import.meta.url));

/** A port that was free a moment ago. @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

export class Server {
  /** @param {string[]} flags */
  constructor(flags) {
    this.flags = flags;
    this.port = 0;
    this.folder = "";
    /** @type {import("node:child_process").ChildProcess | null} */
    this.process = null;
    this.output = "";
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts it, or starts it again on the same port with the same folder. */
  async start() {
    this.folder ||= await mkdtemp(join(tmpdir(), "aquatint-page-"));
    this.port ||= await freePort();
    const flags = ["serve", "--port", String(this.port), "--output-dir", this.folder];
    const child = spawn(BINARY, [...flags, ...this.flags], { stdio: ["ignore", "pipe", "pipe"] });
    this.process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text) => (this.output += text));
    }
    for (let tries = 0; tries < 600; tries += 1) {
      if (child.exitCode !== null) throw new Error(`the server ended: ${this.output}`);
      if (
        await fetch(`${this.url}/`).then(
          (answer) => answer.ok,
          () => false,
        )
      )
        return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`the server does not answer: ${this.output}`);
  }

  /** Ends it at once, as a loss of power would. @param {"SIGKILL" | "SIGTERM"} signal */
  async stop(signal = "SIGKILL") {
    const child = this.process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async remove() {
    await this.stop();
    if (this.folder) await rm(this.folder, { recursive: true, force: true });
  }
}
