/** Errors: a class for each problem, and what bad use is answered with. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, test } from "node:test";

import * as pullback from "pullback";

import { BY_SLUG, errorOf } from "../src/problems.js";
import { serverUrl } from "./support.js";

const { Client, ConnectionError, PullbackError, TimeoutError, UnexpectedAnswerError, array } = pullback;
const url = await serverUrl();
const client = new Client({ url });

/** A server that does what `answer` does. */
async function listen(answer) {
  const server = createServer(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

const x = { x: [1, 2] };
const PROBLEMS = [
  ["ShapeMismatchError", 422, () => client.evaluate({ expr: "x @ w", inputs: { ...x, w: [1, 2, 3] } })],
  ["UnknownOpError", 422, () => client.evaluate({ expr: "sine(x)", inputs: x })],
  ["ProgramSyntaxError", 422, () => client.evaluate({ expr: "x +", inputs: x })],
  ["UnknownNameError", 422, () => client.evaluate({ expr: "x + y", inputs: x })],
  ["WrongArityError", 422, () => client.evaluate({ expr: "sin(x, x)", inputs: x })],
  ["BadAttributeError", 422, () => client.evaluate({ expr: "sum(x, axes=7)", inputs: x })],
  ["InvalidRequestError", 422, () => client.evaluate({ expr: "x", inputs: { x: [[1], 2] } })],
  ["InvalidRequestError", 422, () => client.evaluate({ expr: "x", input: x })],
  ["NotScalarError", 422, () => client.hessian({ expr: "x", inputs: x })],
  ["NotDifferentiableError", 422, () => client.evaluate({ expr: "x > 1", inputs: x, backward: true })],
  ["NoGradError", 422, () => client.evaluate({ expr: "x", inputs: x, backward: true, nograd: true })],
  ["CycleError", 422, () => client.evaluate({ graph: { nodes: [{ id: "a", op: "sin", args: ["a"] }] } })],
  ["UnknownProgramError", 404, () => client.evaluate({ program: "nothing" })],
  ["UnknownPathError", 404, () => client.op("nothing")],
  ["UnknownSessionError", 404, () => client.resume("s_0")],
  ["LimitExceededError", 413, () => client.evaluate({ expr: "broadcast_to(x, [1000000, 1000, 2])", inputs: x })],
  ["NotAcceptableError", 406, () => client.info({ headers: { accept: "text/plain" } })],
  [
    "UnsupportedMediaTypeError",
    415,
    () => client.evaluate({ expr: "x", inputs: x }, { headers: { "content-type": "text/plain" } }),
  ],
];

for (const [name, status, call] of PROBLEMS) {
  test(`${name}`, async () => {
    const error = await call().then(
      () => assert.fail("no error"),
      (reason) => reason,
    );
    assert.equal(error.name, name, `${error.stack}`);
    assert.ok(error instanceof pullback[name] && error instanceof PullbackError);
    assert.equal(error.status, status);
    assert.ok(error.title && error.detail && error.message.startsWith(error.detail));
    assert.match(error.type, /^\/problems\/[a-z-]+$/);
    assert.ok(Array.isArray(error.errors));
    assert.ok(error.requestId);
    assert.equal(error.headers.get("x-request-id"), error.requestId);
  });
}

test("an error names its places", async () => {
  for (const encoding of ["binary", "json"]) {
    const call = new Client({ url, encoding }).evaluate({ expr: "sine(x)", inputs: x });
    await assert.rejects(call, ({ errors: [{ loc, msg }] }) => {
      assert.deepEqual(loc, ["expr", 1, 1]);
      assert.match(msg, /nearest: sin/);
      return true;
    });
  }
});

test("every problem of the table has a page, a class of its own, and that class is public", async () => {
  assert.equal(new Set(Object.values(BY_SLUG)).size, Object.keys(BY_SLUG).length);
  for (const [slug, kind] of Object.entries(BY_SLUG)) {
    assert.equal((await fetch(`${url}/problems/${slug}`)).status, 200, slug);
    assert.equal(pullback[kind.name], kind);
  }
});

test("a kind that is not known yet is still a PullbackError", () => {
  const problem = {
    type: "/problems/constructor",
    title: "New",
    status: 418,
    detail: "tea",
    errors: [],
    request_id: "r",
  };
  const error = errorOf(problem, new Headers());
  assert.deepEqual([error.constructor, error.status, error.message, error.requestId], [PullbackError, 418, "tea", "r"]);
});

test("no server: how to start one", async () => {
  const nowhere = new Client({ url: "http://127.0.0.1:1", retries: 0 });
  await assert.rejects(nowhere.evaluate({ expr: "x", inputs: x }), (error) => {
    assert.ok(error instanceof ConnectionError);
    assert.match(error.message, /no answer from http:\/\/127\.0\.0\.1:1\/v1\/evaluate/);
    assert.match(error.message, /make serve.*pullback serve.*PULLBACK_URL/);
    assert.ok(error.cause);
    return true;
  });
  await assert.rejects(nowhere.ready(), ConnectionError);
});

test("something else than a server", async () => {
  const page = await listen((_, answer) =>
    answer.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html>Hi"),
  );
  const wrong = new Client({ url: page, retries: 0 });
  for (const call of [wrong.info(), wrong.programs.dot("p"), wrong.session()]) {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof UnexpectedAnswerError);
      assert.match(error.message, /answered 200 with text\/html.*is the address right.*<!doctype html>Hi/);
      return true;
    });
  }
  const missing = await listen((_, answer) =>
    answer.writeHead(404, { "Content-Type": "application/json" }).end('{"error": "no"}'),
  );
  await assert.rejects(new Client({ url: missing }).info(), UnexpectedAnswerError);
});

test("half an answer", async () => {
  const half = await listen((_, answer) =>
    answer.writeHead(200, { "Content-Type": "application/json" }).end('{"name":'),
  );
  await assert.rejects(new Client({ url: half, retries: 0 }).info(), (error) => {
    assert.ok(error instanceof ConnectionError);
    assert.match(error.message, /is not whole/);
    return true;
  });
});

test("a server that is not ready", async () => {
  const problem = {
    type: "/problems/unavailable",
    title: "Unavailable",
    status: 503,
    detail: "stopping",
    errors: [],
    request_id: "r",
  };
  const draining = await listen((_, answer) =>
    answer.writeHead(503, { "Content-Type": "application/problem+json" }).end(JSON.stringify(problem)),
  );
  assert.equal(await new Client({ url: draining }).ready(), false);
});

test("a server that is silent", async () => {
  const silent = await listen(() => {});
  const patient = new Client({ url: silent, timeout: 20 });
  await assert.rejects(patient.info(), (error) => {
    assert.ok(error instanceof TimeoutError);
    assert.match(error.message, /did not answer within 20 ms; it may still do/);
    assert.equal(error.attempts, 1);
    return true;
  });
  const ending = new AbortController();
  const call = patient.info({ timeout: 10_000, signal: ending.signal });
  ending.abort();
  await assert.rejects(call, { name: "AbortError" });
  await assert.rejects(patient.info({ signal: AbortSignal.abort(new Error("mine")) }), /mine/);
});

test("an aborted call leaves the session usable", async () => {
  const session = await client.session();
  await session.variable("x", 1);
  await assert.rejects(session.run([{ do: "assign", id: "x", value: 2 }], [], { signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
  assert.deepEqual([(await session.get("x")).value, (await session.variable("y", 1)).seq], [1, 2]);
});

test("an expired session: what is lost, and how to go on", async () => {
  const title = "Expired session";
  const problem = { type: "/problems/expired-session", title, status: 410, detail: "not used", errors: [], request_id: "r" };
  const made = { id: `s_${"0".repeat(32)}`, seq: 0, seed: 1, name: null, ttl_s: 1 };
  const forgetful = await listen(({ url: path }, answer) => {
    const [status, document] = path === "/v1/sessions" ? [201, made] : [410, problem];
    const kind = status === 201 ? "application/json" : "application/problem+json";
    answer.writeHead(status, { "Content-Type": kind, "Pullback-Version": "0.1.0" }).end(JSON.stringify(document));
  });
  const session = await new Client({ url: forgetful }).session();
  await assert.rejects(session.variable("x", 1), (error) => {
    assert.ok(error instanceof pullback.ExpiredSessionError);
    assert.equal(error.status, 410);
    assert.match(
      error.message,
      /variables, models and optimizers are gone: client\.session\(\{ ttl \}\).*putState\(\)/,
    );
    return true;
  });
});

const MISUSES = [
  [/url is "localhost:8000"; expected http:\/\/host:port/, () => new Client({ url: "localhost:8000" })],
  [/unknown option "adress"; known: url/, () => new Client({ adress: url })],
  [/encoding is "nested"; expected binary, base64, json/, () => new Client({ encoding: "nested" })],
  [/timeout is 0; expected milliseconds/, () => new Client({ timeout: 0 })],
  [/timeout is Infinity/, () => new Client({ timeout: Infinity })],
  [/shape \[2,2\] has 4 elements, data has 3/, () => array(new Float64Array(3), [2, 2])],
  [/shape is \[-1\]; expected lengths from 0/, () => array([1], [-1])],
  [/dtype is "int8"; expected one of float64/, () => array([1], [1], "int8")],
  [/data is BigUint64Array; expected a list or one of Float64Array/, () => array(BigUint64Array.of(1n))],
  [/0.5 is no int64/, () => array([0.5], [1], "int64")],
  [/9223372036854775808 is no int64/, () => array([2n ** 63n], [1], "int64")],
  [/shape \[2\] has 2 elements; expected 1/, () => array([1, 2]).item()],
];

for (const [message, use] of MISUSES) {
  test(`misuse: ${message.source}`, () =>
    assert.throws(use, (error) => error instanceof Error && message.test(error.message)));
}

const UNFIT = [
  [/request\.inputs\.x is a value of kind function/, () => 1],
  [/request\.inputs\.x is a value of kind Date/, new Date()],
  [/request\.inputs\.x is a value of kind Map/, new Map()],
  [/request\.inputs\.x\[1\] is a value of kind undefined/, [1, undefined]],
  [/request\.inputs\.x\[0\]\[1\] is a value of kind undefined/, [[1, , 2]]],
  [/data is BigUint64Array/, new BigUint64Array(1)],
];

for (const [message, value] of UNFIT) {
  test(`unfit: ${message.source}`, () => assert.rejects(client.evaluate({ expr: "x", inputs: { x: value } }), message));
}

test("settings reach the server", async () => {
  const seen = [];
  const echo = async (address, init) => {
    seen.push([address, Object.fromEntries(init.headers)]);
    return new Response(JSON.stringify({ status: "alive" }), { headers: { "Content-Type": "application/json" } });
  };
  const own = new Client({ url: "http://host/base//", apiKey: "secret", headers: { "X-Team": "a" }, fetch: echo });
  await own.health({ headers: { "X-Call": "b" } });
  const [[address, headers]] = seen;
  assert.equal(address, "http://host/base/healthz");
  assert.deepEqual([headers.authorization, headers["x-team"], headers["x-call"]], ["Bearer secret", "a", "b"]);
  process.env.PULLBACK_API_KEY = "from-env";
  try {
    await new Client({ url: "http://host", fetch: echo }).health();
    await new Client({ url: "http://host", apiKey: "", fetch: echo }).health();
  } finally {
    delete process.env.PULLBACK_API_KEY;
  }
  assert.deepEqual(seen.slice(1).map(([, sent]) => sent.authorization), ["Bearer from-env", undefined]);
});

test("a program and its inputs one after the other: refused with the call as it should be", async () => {
  const calls = "evaluate vjp jvp jacobian hessian hvp check infer".split(" ");
  const send = [...calls.map((call) => [call, client]), ["register", client.programs]];
  for (const [call, target] of send) {
    for (const request of ["x**2", undefined, null, 3, ["x**2"]]) {
      await assert.rejects(target[call](request, { x: 1 }), (error) => {
        assert.ok(error instanceof TypeError);
        assert.match(error.message, /expected one object, such as \w+\(\{ expr: "x\*\*2", inputs: \{ x: 1 \} \}\)$/);
        return error.message.startsWith(`${call}: the request is `);
      });
    }
    await assert.rejects(target[call]({ expr: "x" }, { inputs: { x: 1 } }), {
      name: "TypeError",
      message: 'unknown option "inputs" of a call; known: signal, timeout, headers, retries',
    });
  }
  const session = await client.session();
  await assert.rejects(session.run([], [], { timout: 5 }), { message: /unknown option "timout" of a call/ });
  assert.deepEqual((await client.evaluate({ expr: "x**2", inputs: { x: 3 } })).values, { out: 9 });
});

test("infer tells which limit refuses", async () => {
  const found = await client.infer({ expr: "x", inputs: { x: { shape: [10_000_001], dtype: "float64" } } });
  assert.deepEqual(
    found.exceeded.map(({ limit, setting }) => [limit, setting]),
    [["max_elements", "PULLBACK_MAX_ELEMENTS"]],
  );
});
