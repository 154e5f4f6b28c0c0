/** What tests share: a real server, clients of it, and random numbers that are the same each time. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { Client } from "pullback";

const PROGRAM = fileURLToPath(new URL("../../../.venv/bin/pullback", import.meta.url));
const URL_LINE = /http:\/\/[\d.]+:\d+/;

/** Retries that do not slow a test down. */
export const QUICK = Object.freeze({ count: 8, firstDelay: 1, longestDelay: 20 });

/** Where a server is: the one of PULLBACK_URL, else one of our own until the tests of this file are over. */
export async function serverUrl() {
  return process.env.PULLBACK_URL ?? (await startServer());
}

async function startServer() {
  const folder = await mkdtemp(join(tmpdir(), "pullback-"));
  const env = { ...process.env, PULLBACK_DATA_DIR: folder, PULLBACK_ACCESS_LOG: "false" };
  const server = spawn(PROGRAM, ["serve", "--port", "0"], { env, stdio: ["ignore", "pipe", "ignore"] });
  const ended = once(server, "exit");
  after(async () => {
    server.kill();
    await ended;
    await rm(folder, { recursive: true });
  });
  const lines = createInterface(server.stdout);
  const url = await Promise.race([once(lines, "line").then(([line]) => line.match(URL_LINE)[0]), failed(server)]);
  const client = new Client({ url, retries: { count: 40, firstDelay: 50, longestDelay: 250 } });
  await client.health();
  return url;
}

async function failed(server) {
  const [code] = await once(server, "exit");
  throw new Error(`the server ended with ${code}`);
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The bytes of an NDArray's elements, to compare bit for bit. */
export function bits({ data }) {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");
}
