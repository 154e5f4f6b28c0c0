/** Nothing but the web's own globals is needed, so that it runs wherever they are. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { serverUrl } from "./support.js";

const url = await serverUrl();

test("a page has all that is needed", async () => {
  const page = fileURLToPath(new URL("page.mjs", import.meta.url));
  const words = ["--experimental-vm-modules", "--no-warnings", page];
  const { stdout } = await promisify(execFile)(process.execPath, words, { env: { ...process.env, PULLBACK_URL: url } });
  assert.deepEqual(
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
    Array(3).fill([[2, 4], 1]),
  );
});
