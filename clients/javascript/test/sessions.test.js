/** Sessions: every command and look, batches, turns and numbers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BadAttributeError,
  Client,
  NDArray,
  SequenceConflictError,
  UnknownSessionError,
  UnknownVariableError,
  array,
} from "pullback";

import { serverUrl } from "./support.js";

const url = await serverUrl();
const client = new Client({ url });

for (const encoding of ["binary", "base64", "json"]) {
  test(`${encoding}: step by step to the quickstart's gradient`, async () => {
    const session = await new Client({ url, encoding }).session({ seed: 7, ttl: 60, name: "steps" });
    assert.deepEqual(await session.variable("x", 0.5), { seq: 1, id: "x", value: 0.5, grad: null });
    await session.apply("square", ["x"], { out: "a" });
    await session.apply("exp", ["a"], { out: ["b"] });
    assert.equal((await session.expr("square(b)", { out: "y" })).value, 1.648721270700128);
    assert.equal((await session.backward("y")).id, "y");
    assert.equal((await session.get("x")).grad, 3.297442541400256);
    const { fetched } = await session.run(
      [],
      ["x", { id: "y", what: ["value", "creator", "generation", "shape", "dtype"] }],
    );
    assert.equal(fetched.x.grad, 3.297442541400256);
    assert.deepEqual(fetched.y, {
      value: 1.648721270700128,
      creator: "square",
      generation: 3,
      shape: [],
      dtype: "float64",
    });
    assert.equal(session.seq, 6);
    await session.close();
    await session.close();
    await assert.rejects(session.info(), UnknownSessionError);
  });
}

test("every command", async () => {
  const session = await client.session({ seed: 1 });
  const x = array([1, 2, 3, 4], [2, 2]);
  const { made, fetched } = await session
    .batch()
    .variable("x", x, { name: "the input" })
    .variable("c", 2, { constant: true })
    .variable(undefined, 5)
    .apply("sum", ["x"], { attrs: { axes: [0] }, out: "s" })
    .expr("sum(x**3) * c", { out: "y" })
    .backward("y", { create_graph: true })
    .grad("x", "gx")
    .cleargrad()
    .expr("sum(gx)", { out: "z" })
    .backward("z")
    .run(["x", "s", "gx"]);
  assert.deepEqual(made, ["v1"]);
  assert.deepEqual(fetched.x.value, x);
  assert.deepEqual(fetched.s.value, array([4, 6]));
  assert.deepEqual(fetched.gx.value, array([6, 24, 54, 96], [2, 2]));
  assert.deepEqual(fetched.x.grad, array([12, 24, 36, 48], [2, 2]));

  await session.cleargrad(["x"]);
  assert.equal((await session.get("x")).grad, null);
  await session.grad("gx", "ggx").catch((error) => assert.equal(error.type, "/problems/no-gradient"));
  await session.assign("x", Float64Array.of(1, 2));
  await session.variable("other", [3, 4]);
  await session.assignFrom("x", "other");
  assert.deepEqual((await session.get("x")).value, array([3, 4]));
  await session.unchain("z");
  await session.unchainBackward("y");
  await session.delete("z");
  await session.delete(["y", "gx"]);
  await assert.rejects(session.get("z"), UnknownVariableError);
  await session.set({ nograd: true, train: false });
  const { seq, ...flags } = await session.change({ nograd: false, train: true, ttl: 120 });
  assert.deepEqual(flags, { nograd: false, train: true });
  const info = await session.info();
  assert.deepEqual([info.seq, info.ttl_s, info.seed], [seq, 120, 1]);
  const { variables } = await session.variables();
  assert.deepEqual(variables.find(({ id }) => id === "x").shape, [2]);
});

test("layers, models, optimizers and their states", async () => {
  const session = await client.session({ seed: 1 });
  await session.layer("l", "linear", { out_size: 2, in_size: 2, bias: false });
  await session.model("m", "mlp", { out_sizes: [3, 1], activation: "tanh" });
  const hooks = [
    { kind: "clip_grad", max: 1 },
    { kind: "weight_decay", rate: 0.1 },
  ];
  await session.optimizer("o", "adam", { params: "m", config: { alpha: 0.1 }, hooks });
  const { made } = await session.call("m", [array([1, 2, 3, 4], [2, 2])]);
  await session.batch().expr(`mean(${made[0]}**2)`, { out: "loss" }).backward("loss").step("o").resetState("m").run();
  await session.call("l", [[[1, 2]]], { out: "h" });
  assert.deepEqual((await session.get("m.linear[0].w")).shape, [2, 3]);
  assert.deepEqual(Object.keys((await session.get("m")).state).length, 4);

  const { fetched } = await session.run([], ["m"]);
  const state = await session.state("m");
  assert.ok(state["linear[0].w"] instanceof NDArray);
  assert.deepEqual(state, fetched.m.state);
  const lists = await (await new Client({ url, encoding: "json" }).resume(session.id)).state("m");
  assert.deepEqual(lists["linear[0].w"], state["linear[0].w"].toNested());
  assert.deepEqual(await session.state("o"), (await session.run([], ["o"])).fetched.o.state);
  const file = await session.safetensors("m");
  assert.ok(file instanceof Uint8Array);

  const other = await client.session({ seed: 2 });
  await other.model("m", "mlp", { out_sizes: [3, 1], activation: "tanh" });
  await other.call("m", [[[1, 2]]]);
  assert.deepEqual(await other.putState("m", file), { seq: 3 });
  assert.deepEqual(await other.state("m"), state);
  await other.putState("m", fetched.m.state);
  await other.load("m", fetched.m.state);
  assert.equal(other.seq, 5);
  assert.deepEqual(await other.safetensors("m"), file);
});

test("a look at a variable shows arrays of every dtype and shape", async () => {
  const held = [
    array(BigInt64Array.of(2n ** 60n + 1n, -1n)),
    array(Float32Array.of(0.1, -0, NaN, Infinity), [2, 2]),
    array([1, 0], [2], "bool"),
    array([], [0, 3]),
  ];
  for (const encoding of ["binary", "base64"]) {
    const session = await new Client({ url, encoding }).session();
    for (const value of held) {
      await session.variable("x", value);
      const { value: found, grad, shape, dtype } = await session.get("x");
      assert.deepEqual([found, grad, shape, dtype], [value, null, value.shape, value.dtype]);
    }
    await session.variable("n", -Infinity);
    assert.equal((await session.get("n")).value, -Infinity);
  }
});

test("a picture of the tape", async () => {
  const session = await client.session();
  await session.batch().variable("x", 2, { name: "input" }).expr("x**2", { out: "y" }).run();
  assert.match(await session.dot("y"), /^digraph/);
  assert.match(await session.dot("y", { verbose: true }), /4/);
  const picture = await session.svg("y").catch((error) => error);
  if (picture.type !== "/problems/not-supported") assert.match(picture, /<svg/);
});

test("a batch runs again", async () => {
  const session = await client.session();
  await session.variable("x", 1);
  const double = session.batch().expr("x * 2", { out: "d" }).assignFrom("x", "d");
  for (const value of [2, 4, 8]) assert.equal((await double.run(["x"])).fetched.x.value, value);
});

test("calls at once are done in turn", async () => {
  const session = await client.session();
  await session.variable("x", 1);
  const runs = Array.from({ length: 20 }, () => session.run([{ do: "apply", expr: "x + 1", out: ["x"] }], ["x"]));
  const answers = await Promise.all([...runs, session.get("x")]);
  assert.deepEqual(
    answers.slice(0, 20).map(({ seq, fetched }) => [seq, fetched.x.value]),
    runs.map((_, n) => [n + 2, n + 2]),
  );
  assert.equal(answers[20].value, 21);
});

test("a call that fails has no number, and the next one goes on", async () => {
  const session = await client.session();
  const [first, failed, last] = await Promise.allSettled([
    session.variable("x", 1),
    session.model("m", "mlp", { sizes: [1] }),
    session.expr("x + 1", { out: "y" }),
  ]);
  assert.ok(failed.reason instanceof BadAttributeError);
  assert.deepEqual([first.value.seq, last.value.seq, session.seq], [1, 2, 2]);
  await assert.rejects(
    session.variable("f", () => 1),
    /request.value is a value of kind function/,
  );
  assert.equal((await session.get("y")).value, 2);
});

test("arrays are sent as they were when the call was made", async () => {
  const session = await client.session();
  const buffer = Float64Array.of(1, 2);
  const batch = session.batch();
  const calls = [];
  for (const id of ["a", "b"]) {
    calls.push(session.variable(id, buffer));
    batch.variable(`${id}2`, buffer);
    buffer.fill(7);
  }
  await Promise.all(calls);
  const { fetched } = await batch.run(["a2", "b2"]);
  assert.deepEqual(fetched.a2.value, array([1, 2]));
  assert.deepEqual(fetched.b2.value, array([7, 7]));
  assert.deepEqual((await session.get("a")).value, array([1, 2]));
});

test("two sessions at once keep to themselves", async () => {
  const sessions = await Promise.all([client.session({ seed: 1 }), client.session({ seed: 2 })]);
  await Promise.all(sessions.map((session, n) => session.variable("x", n)));
  for (let step = 0; step < 5; step++)
    await Promise.all(sessions.map((session) => session.expr("x + 10", { out: "x" })));
  const values = await Promise.all(sessions.map((session) => session.get("x")));
  assert.deepEqual(
    values.map(({ value }) => value),
    [50, 51],
  );
});

test("a session is resumed by its id", async () => {
  const first = await client.session({ name: "mine" });
  await first.variable("x", 3);
  const second = await client.resume(first.id);
  assert.deepEqual([second.seq, second.seed, second.name], [1, first.seed, "mine"]);
  assert.equal((await second.expr("x + 1", { out: "y" })).value, 4);
  await assert.rejects(client.resume("s_nothing"), UnknownSessionError);
});

test("another client in the same session is a conflict, which is thrown and not fought", async () => {
  const mine = await client.session();
  const theirs = await client.resume(mine.id);
  await theirs.variable("x", 1);
  const requests = [];
  const watched = new Client({ url, fetch: (...rest) => (requests.push(rest), fetch(...rest)) });
  const stale = await watched.resume(mine.id);
  await theirs.variable("y", 2);
  await assert.rejects(stale.variable("x", 5), (error) => {
    assert.ok(error instanceof SequenceConflictError);
    assert.deepEqual([error.expected, error.status, error.attempts], [3, 409, 1]);
    assert.match(error.message, /session\.sync\(\)/);
    return true;
  });
  assert.equal(requests.length, 2);
  assert.equal((await stale.sync()).seq, 2);
  assert.equal((await stale.variable("x", 5)).seq, 3);
});

test("a session is disposed of where its block ends", async () => {
  const session = await client.session();
  await session[Symbol.asyncDispose]();
  await assert.rejects(session.info(), UnknownSessionError);
});
