/** What the declarations say, checked by the compiler: this file is never run. */

import { Client, PullbackError, SequenceConflictError, Session, array } from "pullback";
import type { CallOptions, Results } from "../types/wire.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <_ extends true>() => {};

const client = new Client({ url: "http://127.0.0.1:8000", retries: { count: 5 }, encoding: "base64" });

// @ts-expect-error an option that there is not
new Client({ adress: "http://127.0.0.1:8000" });
// @ts-expect-error an encoding that there is not
new Client({ encoding: "nested" });

export async function calls(options: CallOptions) {
  const inputs = { x: 1, w: Float64Array.of(1), X: array([1, 2, 3, 4], [2, 2]), list: [[1, 2]], flag: true };
  const plain = await client.evaluate({ expr: "x", inputs });
  is<Same<typeof plain.values, Results>>();
  // @ts-expect-error no gradients were asked for
  plain.grads;

  const differentiated = await client.evaluate({ expr: "x", inputs, backward: true }, options);
  is<Same<typeof differentiated.grads, Results>>();
  const higher = await client.evaluate({ program: "p", backward: { order: 2, wrt: ["x"] } });
  is<Same<typeof higher.grads, Results>>();
  const isAsked: boolean = Math.random() > 0.5;
  const perhaps = await client.evaluate({ expr: "x", backward: isAsked });
  is<Same<typeof perhaps.grads, Results | undefined>>();

  // @ts-expect-error two programs
  client.evaluate({ expr: "x", program: "p" });
  // @ts-expect-error no program
  client.evaluate({ inputs });
  // @ts-expect-error a date is no value
  client.evaluate({ expr: "x", inputs: { x: new Date() } });
  // @ts-expect-error no cotangents
  client.vjp({ expr: "x" });
  await client.infer({ expr: "x @ w", inputs: { x: { shape: [5, 3] }, w: [1, 2, 3] } });

  const { data, response } = await client.jacobian({ expr: "x", mode: "forward" }).withResponse();
  is<Same<typeof data.jacobian, Record<string, Results>>>();
  is<Same<typeof response.requestId, string>>();
  for await (const program of client.programs.all()) is<Same<typeof program.name, string | null>>();
  is<Same<Awaited<ReturnType<typeof client.ready>>, boolean>>();
}

export async function sessions() {
  await using session = await client.session({ seed: 2n ** 63n, ttl: 60, name: "mine" });
  is<Same<typeof session, Session>>();
  const { value } = await session.variable("x", Float32Array.of(1));
  if (typeof value === "object" && !Array.isArray(value)) is<Same<typeof value.shape, readonly number[]>>();
  const batch = session.batch().variable("y", 1).apply("sin", ["y", 2], { out: "z" }).step("o");
  const { fetched } = await batch.run(["z", { id: "z", what: ["shape"] }], { timeout: 1000 });
  is<Same<typeof fetched.z.shape, number[] | undefined>>();
  // @ts-expect-error an aspect that there is not
  session.run([], [{ id: "z", what: ["size"] }]);
  // @ts-expect-error an optimizer needs parameters
  session.optimizer("o", "adam", { config: {} });
}

export function failures(error: unknown) {
  if (error instanceof SequenceConflictError) is<Same<typeof error.expected, number>>();
  if (error instanceof PullbackError) is<Same<typeof error.errors, { loc: (string | number)[]; msg: string }[]>>();
}

export function arrays() {
  const held = array(BigInt64Array.of(1n), [1, 1]);
  is<Same<ReturnType<typeof held.item>, number | boolean | bigint>>();
  // @ts-expect-error a shape is a list
  array([1, 2], 2);
}
