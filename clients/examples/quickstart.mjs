// The quickstart in JavaScript, with the client that lies beside these examples: node quickstart.mjs
import { Client, PullbackError } from "../javascript/src/index.js";

const client = new Client({ url: process.env.PULLBACK_URL ?? "http://127.0.0.1:8000" });

// Whatever is not caught below ends here.
process.on("uncaughtException", (error) => {
  console.error(error.status ? said(error) : error);
  process.exitCode = 1;
});

/** What the server says of a request that it refuses. */
function said({ status, type, detail }) {
  return `${status} ${type}: ${detail}`;
}

// Value and gradient of one expression
const first = await client.evaluate({ expr: "square(exp(square(x)))", inputs: { x: 0.5 }, backward: true });
console.log(first.values.out, first.grads.x);

// The Matyas function: all partial derivatives come with one call
const matyas = { expr: "0.26*(x**2 + y**2) - 0.48*x*y", inputs: { x: 1, y: 1 }, backward: true };
const { values, grads } = await client.evaluate(matyas);
console.log(values.out, grads.x, grads.y);

// Forward only: nothing is kept for a gradient
const forward = await client.evaluate({ expr: "square(exp(square(x)))", inputs: { x: 0.5 }, nograd: true });
console.log(forward.values.out);

// sin(1) and its first six derivatives
const sine = await client.evaluate({ expr: "sin(x)", inputs: { x: 1 }, backward: { order: 6 } });
console.log(sine.values.out, ...sine.higher.x);

// A mistake: the error says what was wrong, and what would be right
try {
  await client.evaluate({ expr: "sine(x)", inputs: { x: 1 } });
} catch (error) {
  if (!(error instanceof PullbackError)) throw error;
  console.log(said(error));
}
