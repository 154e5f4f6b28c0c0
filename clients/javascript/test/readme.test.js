/** README is true: each of its blocks runs by itself, and prints what its comments say. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { serverUrl } from "./support.js";

const FOLDER = fileURLToPath(new URL("..", import.meta.url));
const url = await serverUrl();
const readme = await readFile(join(FOLDER, "README.md"), "utf8");
const blocks = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, block]) => block);

// A project that the package is installed in.
const project = await mkdtemp(join(tmpdir(), "pullback-"));
await mkdir(join(project, "node_modules"));
await symlink(FOLDER, join(project, "node_modules", "pullback"), "junction");
after(() => rm(project, { recursive: true }));

test("README has blocks, and no others than these", () => {
  assert.ok(blocks.length >= 6);
  assert.equal(readme.match(/^```/gm).length, 2 * blocks.length);
});

for (const [n, block] of blocks.entries()) {
  test(`block ${n}`, async () => {
    const file = join(project, `block-${n}.mjs`);
    await writeFile(file, block);
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      env: { ...process.env, PULLBACK_URL: url },
    });
    const said = [...block.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, text]) => text);
    assert.ok(said.length > 0);
    assert.equal(stdout.trim(), said.join("\n"));
  });
}
