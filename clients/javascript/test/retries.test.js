/** Retries: what is lost on the way is done once; delays grow and are the server's where it says so. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, ConnectionError, PullbackError, UnexpectedAnswerError } from "pullback";

import { delayAfter, retried } from "../src/retries.js";
import { FAULTS, startProxy } from "./proxy.js";
import { QUICK, bits, randomFrom, serverUrl } from "./support.js";

const url = await serverUrl();
const STEPS = 300;

/** Trains a small network, and gives its weights and losses, and how often an answer was a repeated one. */
async function train(client) {
  const session = await client.session({ seed: 3 });
  await session
    .batch()
    .variable("x", [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ])
    .variable("t", [[0], [1], [1], [0]])
    .model("m", "mlp", { out_sizes: [4, 1], activation: "tanh" })
    .optimizer("o", "adam", { params: "m", config: { alpha: 0.05 } })
    .run();
  const step = session.batch().call("m", ["x"], { out: "y" }).expr("mean((y - t)**2)", { out: "loss" });
  step.cleargrad("m").backward("loss").step("o");
  const losses = [];
  let replays = 0;
  for (let n = 0; n < STEPS; n++) {
    const { data, response } = await step.run(["loss"]).withResponse();
    losses.push(data.fetched.loss.value);
    replays += response.isReplay;
  }
  const { fetched } = await session.run([], ["m", "o"]);
  const weights = Object.fromEntries(Object.entries(fetched.m.state).map(([name, value]) => [name, bits(value)]));
  return { weights, losses, replays, seq: session.seq, info: await session.info() };
}

test("a training through faults ends with the same weights, bit for bit", async () => {
  const undisturbed = await train(new Client({ url }));
  assert.ok(undisturbed.losses.at(-1) < undisturbed.losses[0] / 10);
  for (const encoding of ["binary", "base64"]) {
    const random = randomFrom(5);
    const choose = () => (random() < 0.4 ? FAULTS[Math.floor(random() * FAULTS.length)] : "pass");
    const proxy = await startProxy(url, choose);
    const disturbed = await train(new Client({ url: proxy.url, retries: QUICK, encoding }));
    assert.deepEqual(disturbed.weights, undisturbed.weights);
    assert.deepEqual(disturbed.losses, undisturbed.losses);
    assert.deepEqual([disturbed.seq, disturbed.info.seq], [STEPS + 2, STEPS + 2]);
    assert.ok(disturbed.replays > 10, `${disturbed.replays} replays`);
    for (const fault of FAULTS) assert.ok(proxy.faults.includes(fault), `${fault} never happened`);
  }
});

for (const fault of FAULTS) {
  test(`${fault}: every kind of call is tried again, and done once`, async () => {
    // Every other request meets the fault, so that each call does.
    let count = 0;
    const proxy = await startProxy(url, () => (count++ % 2 ? "pass" : fault));
    const client = new Client({ url: proxy.url, retries: QUICK });
    const { response } = await client.evaluate({ expr: "x", inputs: { x: 1 } }).withResponse();
    assert.equal(response.attempts, 2);
    const { id } = await client.programs.register({ expr: `x + 1 # ${fault}`, name: `faulty-${fault}`, replace: true });
    assert.match(await client.programs.dot(id), /digraph/);
    await client.programs.delete(id);
    const { data, response: made } = await client.programs.list({ limit: 1 }).withResponse();
    assert.ok(data.programs.length <= 1 && made.attempts === 2);
    const session = await client.session({ seed: 1 });
    await session.layer("l", "linear", { out_size: 1, in_size: 1 });
    await session.putState("l", await session.safetensors("l"));
    await session.change({ train: false });
    assert.equal((await session.info()).seq, 3);
    await session.close();
  });
}

test("a session whose creation got lost is made once", async () => {
  const keys = [];
  const proxy = await startProxy(url, ({ method, headers }) => {
    if (method !== "POST") return "pass";
    keys.push(headers["idempotency-key"]);
    return keys.length === 1 ? "drop-after" : "pass";
  });
  const client = new Client({ url: proxy.url, retries: QUICK });
  await client.session();
  await client.session();
  assert.match(keys[0], /^[0-9a-f]{32}$/);
  assert.equal(keys[0], keys[1]);
  assert.notEqual(keys[1], keys[2]);
});

test("what the client gave up may be repeated by its user, and is done once", async () => {
  let fault = "pass";
  const proxy = await startProxy(url, () => fault);
  const session = await new Client({ url: proxy.url, retries: 0 }).session();
  await session.variable("x", 1);
  fault = "drop-after";
  await assert.rejects(session.expr("x + 1", { out: "x" }), ConnectionError);
  fault = "pass";
  const { data, response } = await session.expr("x + 1", { out: "x" }).withResponse();
  assert.deepEqual([data.value, data.seq, response.isReplay], [2, 2, true]);
});

test("an end to retries", async () => {
  const proxy = await startProxy(url, () => "bad-gateway");
  const client = new Client({ url: proxy.url, retries: { ...QUICK, count: 2 } });
  await assert.rejects(client.info(), (error) => {
    assert.ok(error instanceof UnexpectedAnswerError);
    assert.deepEqual([error.status, error.attempts], [502, 3]);
    return true;
  });
  assert.equal(proxy.faults.length, 3);
  await assert.rejects(client.info({ retries: 0 }), UnexpectedAnswerError);
  assert.equal(proxy.faults.length, 4);
});

const busy = (status, said) => new PullbackError("busy", { status, headers: new Headers({ "Retry-After": said }) });
const POLICY = { count: 5, firstDelay: 100, longestDelay: 10_000 };
const DELAYS = [
  ["a lost connection, first time", new ConnectionError("lost"), 1, [50, 100]],
  ["a lost connection, fourth time", new ConnectionError("lost"), 4, [400, 800]],
  ["busy for two seconds", busy(429, "2"), 1, [2000, 3000]],
  ["busy for nearly as long as it may be", busy(503, "9"), 1, [9000, 10_000]],
  ["busy for no time", busy(503, "0"), 1, [50, 100]],
  ["busy until a date that is over", busy(503, "Sun, 06 Nov 1994 08:49:37 GMT"), 1, [50, 100]],
  ["nonsense", busy(503, "soon"), 1, [50, 100]],
];

for (const [what, error, attempts, [least, most]] of DELAYS) {
  test(`delay: ${what}`, () => {
    const delay = delayAfter(error, attempts, POLICY);
    assert.ok(least <= delay && delay <= most, String(delay));
  });
}

const FINAL = [
  ["once too often", new ConnectionError("lost"), 6],
  ["busy until a date that is far", busy(503, "Fri, 31 Dec 9999 23:59:59 GMT"), 1],
  ["a wait that is too long", busy(429, "3600"), 1],
  ["a wrong request", new PullbackError("wrong", { status: 422 }), 1],
  ["a bug", new PullbackError("bug", { status: 500 }), 1],
  ["a deadline", new PullbackError("late", { status: 504 }), 1],
];

for (const [what, error, attempts] of FINAL) {
  test(`no other attempt: ${what}`, () => assert.equal(delayAfter(error, attempts, POLICY), undefined));
}

test("the waiting for another attempt is aborted too", async () => {
  const ending = new AbortController();
  const waiting = retried(() => Promise.reject(busy(503, "5")), POLICY, ending.signal);
  ending.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
});
