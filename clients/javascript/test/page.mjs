/** Loads the client where there is nothing but the web's own globals, as in a page; platforms.test.js runs it. */

import { readFile } from "node:fs/promises";
import { SourceTextModule, createContext } from "node:vm";

const { AbortController, Headers, TextDecoder, TextEncoder, URLSearchParams } = globalThis;
const { atob, btoa, clearTimeout, console, crypto, fetch, setTimeout } = globalThis;
const web = { AbortController, Headers, TextDecoder, TextEncoder, URLSearchParams };
const context = createContext({ ...web, atob, btoa, clearTimeout, console, crypto, fetch, setTimeout });
const modules = new Map();

async function load(url) {
  if (!modules.has(url.href)) {
    const source = await readFile(url, "utf8");
    modules.set(url.href, new SourceTextModule(source, { context, identifier: url.href }));
  }
  return modules.get(url.href);
}

const SCRIPT = `
  import { Client, array } from "./index.js";
  for (const encoding of ["binary", "base64", "json"]) {
    const client = new Client({ url: ${JSON.stringify(process.env.PULLBACK_URL)}, encoding });
    const { grads } = await client.evaluate({ expr: "sum(x**2)", inputs: { x: array([1, 2], [2]) }, backward: true });
    const session = await client.session();
    const { value } = await session.variable("x", 1);
    await session.close();
    console.log(JSON.stringify([grads.x, value]));
  }
`;
const identifier = new URL("../src/page.js", import.meta.url).href;
const script = new SourceTextModule(SCRIPT, { context, identifier });
await script.link((name, from) => load(new URL(name, from.identifier)));
await script.evaluate();
