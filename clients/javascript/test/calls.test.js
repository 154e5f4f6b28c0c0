/** Every method of the client, in every encoding. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, NDArray, UnknownPathError, UnknownProgramError, array } from "pullback";

import { bits, serverUrl } from "./support.js";

const url = await serverUrl();
const nested = (value) => (value instanceof NDArray ? value.toNested() : value);
const ROSENBROCK = "(1 - x)**2 + 100*(y - x**2)**2";

for (const encoding of ["binary", "base64", "json"]) {
  const client = new Client({ url, encoding });
  const check = (name, body) => test(`${encoding}: ${name}`, body);

  check("the quickstart's digits", async () => {
    const answer = await client.evaluate({ expr: "square(exp(square(x)))", inputs: { x: 0.5 }, backward: true });
    assert.deepEqual(answer, {
      values: { out: 1.648721270700128 },
      grads: { x: 3.297442541400256 },
      program: "p_2fd0ea63ef3e6c9d30a3cddcd5a28ab2",
    });
  });

  check("a graph, several outputs, higher orders, gradients of nodes", async () => {
    const graph = { nodes: [{ id: "y", op: "sin", args: ["x"] }], outputs: ["y"] };
    const backward = { order: 3, retain_grad: true, create_graph: true };
    const { values, grads, higher, grad_program } = await client.evaluate({ graph, inputs: { x: 0 }, backward });
    assert.deepEqual([values.y, grads.x], [0, 1]);
    assert.deepEqual(
      higher.x.map((value) => value + 0),
      [1, 0, -1],
    );
    const again = await client.evaluate({ program: grad_program, inputs: { x: 0 } });
    assert.deepEqual(again.values, { grad_x: -1 });
    const all = await client.evaluate({ expr: "h = x*2; sum(h)", inputs: { x: [1, 2] }, outputs: "all" });
    assert.deepEqual(nested(all.values.h), [2, 4]);
    const retained = await client.evaluate({ expr: "h = x*2; h*h", inputs: { x: 1 }, backward: { retain_grad: true } });
    assert.equal(retained.node_grads.h, 4);
  });

  check("arrays of every kind go in", async () => {
    const w = array(Float32Array.of(1, 2, 3, 4), [2, 2]);
    const inputs = {
      X: Float64Array.of(1, 2),
      w,
      n: BigInt64Array.of(3n, 4n),
      list: [5, 6],
      flag: true,
      i: Int32Array.of(1, 0),
    };
    const { values } = await client.evaluate({
      expr: "a = X @ w; b = n * 2; c = list + flag; d = take(X, i); a, b, c, d",
      inputs,
    });
    assert.deepEqual(Object.values(values).map(nested), [
      [7, 10],
      [6, 8],
      [6, 7],
      [2, 1],
    ]);
  });

  check("vjp, jvp and their many directions", async () => {
    const cotangents = { y: [1, 10] };
    const { vjps } = await client.vjp({ expr: "y = x**2", inputs: { x: [1, 2] }, cotangents });
    assert.deepEqual(nested(vjps.x), [2, 40]);
    const tangents = { x: array([1, 0, 0, 1], [2, 2]) };
    const { jvps, values } = await client.jvp({ expr: "y = x**2", inputs: { x: [1, 2] }, tangents, many: true });
    assert.deepEqual(nested(jvps.y), [
      [2, 0],
      [0, 4],
    ]);
    assert.deepEqual(nested(values.y), [1, 4]);
  });

  check("jacobian, hessian, hvp", async () => {
    const { jacobian } = await client.jacobian({ expr: "y = x**2", inputs: { x: [1, 2] } });
    assert.deepEqual(nested(jacobian.y.x), [
      [2, 0],
      [0, 4],
    ]);
    const { hessian, grads } = await client.hessian({ expr: ROSENBROCK, inputs: { x: 0, y: 1 } });
    assert.deepEqual(hessian, { x: { x: -398, y: -0 }, y: { x: -0, y: 200 } });
    assert.deepEqual(grads, { x: -2, y: 200 });
    const { hvp } = await client.hvp({ expr: ROSENBROCK, inputs: { x: 0, y: 1 }, vectors: { x: 1 } });
    assert.deepEqual([hvp.x, hvp.y + 0], [-398, 0]);
  });

  check("check and infer", async () => {
    const checked = await client.check({ expr: "sin(x)", inputs: { x: [1, 2] } });
    assert.equal(checked.ok, true);
    assert.equal(typeof checked.worst.analytic, "number");
    assert.deepEqual(checked.uncertain, []);
    const saturated = await client.check({ expr: "tanh(x)", inputs: { x: 20 } });
    assert.equal(saturated.ok, false);
    assert.deepEqual([saturated.uncertain[0].input, saturated.uncertain[0].numeric], ["x", 0]);
    const broken = await client.check({ expr: "log(x)", inputs: { x: -1 } });
    assert.equal(typeof broken.max_error, "number");
    const inferred = await client.infer({
      expr: "x @ w",
      inputs: { x: { shape: [5, 3] }, w: array(new Float64Array(3)) },
    });
    assert.deepEqual(inferred.outputs.out, { shape: [5], dtype: "float64" });
    assert.deepEqual(inferred.inputs.w, { shape: [3], dtype: "float64" });
  });

  check("batched rows, seeds and dropout", async () => {
    const inputs = {
      x: [
        [1, 2],
        [3, 4],
      ],
    };
    const { grads } = await client.evaluate({ expr: "sum(x**2)", inputs, batched: ["x"], backward: true });
    assert.deepEqual(nested(grads.x), [
      [2, 4],
      [6, 8],
    ]);
    const request = { expr: "dropout(x, 0.5)", inputs, train: true, seed: 2n ** 64n - 1n };
    assert.deepEqual(await client.evaluate(request), await client.evaluate(request));
  });

  check("programs: register, list, get, pictures, delete", async () => {
    const name = `logistic-${encoding}`;
    const bind = { X: array([1, 2, 1, -1, 1, 0], [3, 2]), t: [1, 0, 1] };
    const inputs = { theta: { shape: [2] } };
    const expr = `z = X @ theta; sum(t * z - softplus(z)) - sum(theta**2) / 2 # ${encoding}`;
    const { data: kept, response } = await client.programs
      .register({ expr, inputs, bind, name, replace: true })
      .withResponse();
    assert.match(kept.id, /^p_[0-9a-f]{32}$/);
    assert.ok([200, 201].includes(response.status));
    assert.equal((await client.programs.register({ expr, inputs, bind, name })).id, kept.id);
    const { grads } = await client.evaluate({
      program: name,
      inputs: { theta: Float64Array.of(0.1, 0.2) },
      backward: true,
    });
    assert.deepEqual(nested(grads.theta), [0.27754066879814543, 1.0301021501173508]);
    const found = await client.programs.get(name);
    assert.deepEqual([found.id, found.bound.X], [kept.id, { shape: [3, 2], dtype: "float64" }]);
    assert.match(await client.programs.dot(name), /^digraph/);
    const { id } = await client.programs.register({ expr: "x**3" });
    assert.match(await client.programs.dot(id, { order: 2, wrt: "x" }), /^digraph/);
    assert.equal((await client.programs.list({ limit: 1 })).programs.length, 1);
    const ids = [];
    for await (const program of client.programs.all()) ids.push(program.id);
    assert.ok(ids.includes(kept.id));
    assert.equal(await client.programs.delete(name), undefined);
    await assert.rejects(client.programs.delete(name), UnknownProgramError);
  });

  check("what the server is", async () => {
    const { name, contract, limits } = await client.info();
    assert.deepEqual([name, contract], ["pullback", 1]);
    assert.ok(limits.max_nodes > 0);
    assert.deepEqual(await client.health(), { status: "alive" });
    assert.equal(await client.ready(), true);
    const { operations, kinds } = await client.ops();
    assert.ok(operations.some((operation) => operation.name === "sin"));
    assert.ok(kinds.optimizers.some(({ kind }) => kind === "adam"));
    assert.equal((await client.op("multiply")).name, "mul");
    await assert.rejects(client.op("sine"), UnknownPathError);
  });

  check("numbers come back bit for bit", async () => {
    const x = Float64Array.of(
      -0,
      0,
      Infinity,
      -Infinity,
      5e-324,
      2.2250738585072009e-308,
      1 / 3,
      1.7976931348623157e308,
      -1e21,
    );
    const lists = new Client({ url });
    for (const input of [x, [...x]]) {
      const { values } = await client.evaluate({ expr: "x", inputs: { x: input } });
      assert.ok(
        [...(values.x.data ?? values.x)].every((value, n) => Object.is(value, x[n])),
        String(nested(values.x)),
      );
      if (encoding !== "json")
        assert.equal(bits(values.x), bits((await lists.evaluate({ expr: "x", inputs: { x } })).values.x));
    }
    for (const value of [...x, NaN]) {
      const { values } = await client.evaluate({ expr: "x", inputs: { x: value } });
      assert.ok(Object.is(values.x, value), `${value} came back as ${values.x}`);
    }
    const { values } = await client.evaluate({
      expr: "x",
      inputs: {
        x: [
          [NaN, 1],
          [Infinity, 2],
        ],
      },
    });
    assert.deepEqual(nested(values.x), [
      [NaN, 1],
      [Infinity, 2],
    ]);
  });

  check("every dtype and shape comes back", async () => {
    const shapes = {
      none: array([], [0, 3]),
      cube: array([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2]),
      one: array([7], [1, 1]),
    };
    for (const held of Object.values(shapes)) {
      const { values } = await client.evaluate({ expr: "x", inputs: { x: held } });
      assert.deepEqual(nested(values.x), held.toNested());
    }
    for (const dtype of ["float64", "float32", "int64", "bool"]) {
      const held = array([1, 0, 1], [3], dtype);
      const { values } = await client.evaluate({ expr: "x", inputs: { x: held } });
      if (encoding === "json") assert.deepEqual(values.x, held.toNested());
      else assert.deepEqual(values.x, held);
      const scalar = await client.evaluate({ expr: "x", inputs: { x: array([1], [], dtype) } });
      assert.equal(scalar.values.x, dtype === "bool" ? true : 1);
    }
  });

  check("names that JavaScript knows are only names", async () => {
    const inputs = Object.fromEntries([
      ["__proto__", 2],
      ["constructor", 3],
      ["value", 4],
    ]);
    const { grads } = await client.evaluate({ expr: "__proto__ * constructor * value", inputs, backward: true });
    assert.deepEqual(Object.entries(grads), [
      ["__proto__", 12],
      ["constructor", 8],
      ["value", 6],
    ]);
  });
}

test("integers beyond 2**53 are exact in typed arrays", async () => {
  const x = BigInt64Array.of(2n ** 53n + 1n, -(2n ** 63n), 3n);
  for (const encoding of ["binary", "base64"]) {
    const { values } = await new Client({ url, encoding }).evaluate({ expr: "x", inputs: { x } });
    assert.deepEqual(values.x.data, x);
    assert.deepEqual(values.x.toNested(), [2n ** 53n + 1n, -(2n ** 63n), 3]);
    const first = await new Client({ url, encoding }).evaluate({ expr: "x[0]", inputs: { x } });
    assert.equal(first.values.out, 2n ** 53n + 1n);
  }
});

test("an array that was cloned for a worker is still one", async () => {
  const held = structuredClone(array(Float32Array.of(1, 2, 3, 4), [2, 2]));
  const { values } = await new Client({ url }).evaluate({ expr: "x", inputs: { x: held } });
  assert.deepEqual(values.x, array(Float32Array.of(1, 2, 3, 4), [2, 2]));
});

test("a request's own encoding is kept", async () => {
  const request = { expr: "x", inputs: { x: [1, Infinity] } };
  const client = new Client({ url, encoding: "json" });
  assert.deepEqual((await client.evaluate({ ...request, encoding: "flat" })).values.x, array([1, Infinity]));
  assert.deepEqual((await new Client({ url }).evaluate({ ...request, encoding: "nested" })).values.x, [1, Infinity]);
});

test("status, headers and request id come with an answer", async () => {
  const headers = { "X-Request-ID": "mine-1" };
  const { data, response } = await new Client({ url })
    .evaluate({ expr: "1 + x", inputs: { x: 1 } }, { headers })
    .withResponse();
  assert.equal(data.values.out, 2);
  assert.deepEqual(
    [response.status, response.requestId, response.isReplay, response.attempts],
    [200, "mine-1", false, 1],
  );
  assert.match(response.headers.get("pullback-version"), /^\d/);
});

test("a call is a promise", async () => {
  const client = new Client({ url });
  const call = client.health();
  assert.deepEqual(await call, await call);
  assert.deepEqual(await Promise.all([client.health(), client.health()]), [{ status: "alive" }, { status: "alive" }]);
  let ended = false;
  assert.equal(
    await client
      .op("sine")
      .catch((error) => error.status)
      .finally(() => (ended = true)),
    404,
  );
  assert.ok(ended);
});

test("pictures as SVG", async (t) => {
  const client = new Client({ url });
  const { id } = await client.programs.register({ expr: "x**3" });
  const picture = await client.programs.svg(id, { order: 1 }).catch((error) => error);
  if (picture.type === "/problems/not-supported") return t.skip("the server has no Graphviz");
  assert.match(picture, /<svg/);
});
