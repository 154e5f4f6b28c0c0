/** A proxy before the server that fails in ways that networks and servers do, one fault a request. */

import { once } from "node:events";
import { createServer, request } from "node:http";
import { after } from "node:test";

/** What may befall a request; `pass` befalls most. */
export const FAULTS = Object.freeze(["drop-before", "drop-after", "busy", "bad-gateway", "truncate"]);

/**
 * Starts a proxy.
 *
 * @param {string} target the server's address
 * @param {(request: import("node:http").IncomingMessage) => string} choose the fault of a request, or "pass"
 * @returns its address, and the faults so far
 */
export async function startProxy(target, choose) {
  const faults = [];
  const proxy = createServer(async (asked, answer) => {
    const body = [];
    for await (const chunk of asked) body.push(chunk);
    const fault = choose(asked);
    faults.push(fault);
    if (fault === "drop-before") return asked.socket.destroy();
    if (fault === "busy") return refuse(answer, 503, { "Retry-After": "0" });
    if (fault === "bad-gateway") return refuse(answer, 502, { "Content-Type": "text/html" });
    const { status, headers, content } = await forward(target, asked, Buffer.concat(body));
    if (fault === "drop-after") return asked.socket.destroy();
    answer.writeHead(status, headers);
    if (fault === "truncate")
      return answer.write(content.subarray(0, content.length / 2), () => asked.socket.destroy());
    answer.end(content);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${proxy.address().port}`, faults };
}

function refuse(answer, status, headers) {
  answer.writeHead(status, headers);
  answer.end("<html>not now</html>");
}

async function forward(target, { method, url, headers }, body) {
  const passed = request(target + url, { method, headers });
  passed.end(body);
  const [answered] = await once(passed, "response");
  const content = [];
  for await (const chunk of answered) content.push(chunk);
  return { status: answered.statusCode, headers: answered.headers, content: Buffer.concat(content) };
}
