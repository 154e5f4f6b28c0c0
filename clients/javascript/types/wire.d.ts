/** The documents of the HTTP API as this client takes and gives them: arrays are typed arrays and NDArrays. */

import type { NDArray } from "./ndarray.js";

export type Dtype = "float64" | "float32" | "int64" | "bool";

export type TypedArray =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

export type Nested = readonly (number | boolean | Nested)[];

/** An array as JSON has it, flat in C order. */
export interface ArrayObject {
  readonly shape: readonly number[];
  readonly dtype: Dtype;
  readonly data: TypedArray | readonly (number | boolean | bigint)[];
}

/** A value in a request: a typed array is one axis, `array(data, shape)` any number of them. */
export type Value = number | boolean | bigint | Nested | TypedArray | NDArray | ArrayObject;

export type NestedResult = number | boolean | bigint | NestedResult[];

/** A value in an answer: a plain scalar where the shape is [], else an NDArray; with encoding "json" nested lists. */
export type Result = number | boolean | bigint | NDArray | NestedResult[];

export type Results = Record<string, Result>;

export interface CallOptions {
  /** Ends the call, the waiting for another attempt included. */
  signal?: AbortSignal;
  /** Milliseconds that one attempt may take. */
  timeout?: number;
  /** How often to try again what may pass by itself. */
  retries?: number;
  headers?: HeadersInit;
}

/** RFC 9457, with what this kind of problem has beside it. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  errors: { loc: (string | number)[]; msg: string }[];
  request_id: string;
  [more: string]: unknown;
}

/** The canonical form of a program. */
export interface Graph {
  nodes: readonly object[];
  outputs?: readonly string[];
  inputs?: Readonly<Record<string, Declaration>>;
}

/** Exactly one of the three forms of a program. */
export type Source =
  | { expr: string; graph?: never; program?: never }
  | { graph: Graph; expr?: never; program?: never }
  | { program: string; expr?: never; graph?: never };

interface Inputs {
  inputs?: Readonly<Record<string, Value>>;
  batched?: readonly string[];
  train?: boolean;
  seed?: number | bigint;
}

export interface Backward {
  of?: string;
  wrt?: readonly string[];
  cotangent?: Value;
  order?: number;
  create_graph?: boolean;
  retain_grad?: boolean;
}

export type EvaluateRequest = Source &
  Inputs & {
    outputs?: readonly string[] | "all";
    backward?: boolean | Backward;
    nograd?: boolean;
  };

interface Evaluated {
  values: Results;
  /** The id that the program has; it is not stored. */
  program: string;
}

interface Differentiated extends Evaluated {
  grads: Results;
  higher?: Record<string, Result[]>;
  node_grads?: Results;
  grad_program?: string;
}

/** With gradients where the request has a `backward` that isn't false. */
export type EvaluateAnswer<R extends EvaluateRequest> = R extends { backward: true | Backward }
  ? Differentiated
  : R extends { backward: boolean }
    ? Evaluated & Partial<Differentiated>
    : Evaluated;

interface Wrt {
  wrt?: readonly string[];
}

interface Many {
  /** Directions, and results, carry a leading axis of directions. */
  many?: boolean;
}

export type VjpRequest = Source & Inputs & Wrt & Many & { cotangents: Readonly<Record<string, Value>> };
export type JvpRequest = Source &
  Inputs &
  Many & { tangents: Readonly<Record<string, Value>>; outputs?: readonly string[] };
export type JacobianRequest = Source & Inputs & Wrt & { of?: string; mode?: "auto" | "reverse" | "forward" };
export type HessianRequest = Source & Inputs & Wrt & { of?: string };
export type HvpRequest = Source & Inputs & Wrt & Many & { of?: string; vectors: Readonly<Record<string, Value>> };
export type CheckRequest = Source & Inputs & Wrt & { eps?: number; order?: 1 | 2 };
export type InferRequest = Source &
  Omit<Inputs, "inputs"> & { inputs?: Readonly<Record<string, Value | { shape: readonly number[]; dtype?: Dtype }>> };

export interface VjpAnswer {
  values: Results;
  vjps: Results;
}

export interface JvpAnswer {
  values: Results;
  jvps: Results;
}

export interface JacobianAnswer {
  values: Results;
  jacobian: Record<string, Results>;
}

export interface HessianAnswer {
  values: Results;
  hessian: Record<string, Results>;
  grads: Results;
}

export interface HvpAnswer {
  values: Results;
  hvp: Results;
  grads: Results;
}

export interface CheckAnswer {
  values: Results;
  ok: boolean;
  max_error: number;
  worst: Difference | null;
  /** Where the differences cancel and confirm nothing; `ok` is false then. */
  uncertain: (Difference & { rounding: number })[];
}

export interface Difference {
  order: number;
  input: string;
  index: number[];
  analytic: number;
  numeric: number;
}

export interface Known {
  shape: number[];
  dtype: Dtype;
}

export interface Cost {
  nodes: number;
  bytes: number;
  flops: number;
}

export interface InferAnswer {
  inputs: Record<string, Known>;
  nodes: Record<string, Known>;
  outputs: Record<string, Known>;
  cost: Cost;
  limits: Record<string, number>;
  /** the limits that would refuse to run it; `limit` is a key of `limits` */
  exceeded: { limit: string; setting: string; msg: string }[];
}

/** What is known of an input; -1 or null for a length that is free. */
export interface Declaration {
  shape?: readonly (number | null)[] | null;
  dtype?: Dtype | null;
}

export type RegisterRequest = Source & {
  name?: string;
  inputs?: Readonly<Record<string, Declaration>>;
  bind?: Readonly<Record<string, Value>>;
  replace?: boolean;
};

export interface Program {
  id: string;
  name: string | null;
  inputs: Record<string, Declaration>;
  outputs: string[];
  nodes: number;
  cost: Cost | null;
}

/** What is damaged in the store is null. */
export interface ListedProgram {
  id: string;
  name: string | null;
  inputs: Record<string, Declaration> | null;
  outputs: string[] | null;
  nodes: number | null;
  cost: Cost | null;
}

export interface ProgramsPage {
  programs: ListedProgram[];
  next: string | null;
}

export interface ProgramDetails extends Program {
  graph: Graph;
  expr: string;
  bound: Record<string, Known>;
  created_at: string;
}

export interface Operation {
  name: string;
  aliases: string[];
  alias_of: string | null;
  symbol: string | null;
  signature: string;
  doc: string;
  operands: Record<string, unknown>[];
  variadic: boolean;
  attributes: Record<string, unknown>[];
  several_outputs: boolean;
  differentiable: boolean;
  batched: boolean;
  random: boolean;
}

export interface OperationsAnswer {
  operations: Operation[];
  kinds: Record<
    "layers" | "models" | "optimizers" | "hooks",
    { kind: string; doc: string; config: Record<string, unknown>[] }[]
  >;
}

export interface InfoAnswer {
  name: string;
  version: string;
  contract: number;
  limits: Record<string, number>;
}

export interface SessionOptions {
  /** Where random numbers come from; default: the server makes one. */
  seed?: number | bigint;
  /** Seconds for which the session is kept without use. */
  ttl?: number;
  /** For people. */
  name?: string;
}

export interface SessionInfo {
  id: string;
  name: string | null;
  seq: number;
  seed: number | bigint;
  nograd: boolean;
  train: boolean;
  created_at: string;
  expires_at: string;
  ttl_s: number;
  bytes: number;
}

/** A command as the HTTP API has it; `Commands` has a method for each. */
export interface Command {
  do: string;
  [field: string]: unknown;
}

export type Hook = { kind: "weight_decay"; rate: number } | { kind: "clip_grad"; max: number };

export type Aspect = "value" | "grad" | "shape" | "dtype" | "creator" | "generation";

/** What to show: value and gradient of an id, or what is said; of a layer, a model or an optimizer its state. */
export type Fetch = string | { id: string; what: readonly Aspect[] };

/** Those that were asked for. */
export interface Aspects {
  value?: Result;
  grad?: Result | null;
  shape?: number[];
  dtype?: Dtype;
  creator?: string | null;
  generation?: number;
  state?: Results;
}

export interface Shown extends Aspects {
  id: string;
}

export interface RunAnswer {
  seq: number;
  /** Ids of results that were not told any. */
  made: string[];
  fetched: Record<string, Aspects>;
}

/** The variable that a command made or went from; `variables` where there are several, or none. */
export interface ShownAnswer extends Partial<Shown> {
  seq: number;
  variables?: Shown[];
}

export interface VariablesAnswer {
  variables: Shown[];
  others: { id: string; kind: string }[];
}
