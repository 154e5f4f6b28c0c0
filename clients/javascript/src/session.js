/// <reference lib="esnext.disposable" preserve="true" />
/** A session: variables that stay on the server from call to call; its calls are numbered and made in turn. */

import { Call } from "./call.js";
import { Batch, Commands } from "./commands.js";
import { array } from "./ndarray.js";
import { readSafetensors } from "./safetensors.js";
import { MSGPACK_TYPE, SAFETENSORS_TYPE } from "./transport.js";

/** @import { Answer } from "./call.js" */
/** @import { Request, Transport } from "./transport.js" */
/**
 * @import {
 *   CallOptions, Command, Fetch, Result, Results, RunAnswer, SessionInfo, SessionOptions, Shown, ShownAnswer, Value,
 *   VariablesAnswer
 * } from "../types/wire.js"
 */

const PATH = "/v1/sessions";
const KEY_BYTES = 16;

/**
 * Its methods are the commands, each a call of its own; `run` and `batch` do several in one call. Calls wait for those
 * before them, so that `Promise.all` of calls does them in order. Each call that changes the session has a number, by
 * which a call whose answer got lost is repeated and yet done once; one that fails has none, and has changed nothing.
 *
 * @extends {Commands<Call<ShownAnswer>, Call<RunAnswer>>}
 */
export class Session extends Commands {
  #transport;
  #seq;
  /** @type {Promise<unknown>} settles when all calls so far are done */
  #turn = Promise.resolve();

  /**
   * Use `client.session()` or `client.resume()`.
   *
   * @param {Transport} transport
   * @param {SessionInfo} info
   */
  constructor(transport, { id, seq, seed, name }) {
    super(
      (command) => this.#single(command),
      (command) => this.run([command]),
    );
    this.#transport = transport;
    this.#seq = seq;
    /** A secret: who knows it may use the session. */
    this.id = id;
    /** Where its random numbers come from. */
    this.seed = seed;
    this.name = name;
  }

  /**
   * A new session. A key tells the server which attempts are the same one.
   *
   * @param {Transport} transport
   * @param {SessionOptions} [options]
   * @param {CallOptions} [callOptions]
   */
  static async create(transport, { ttl, ...rest } = {}, callOptions) {
    const body = transport.prepared({ ttl_s: ttl, ...rest });
    const request = { method: "POST", path: PATH, body, headers: { "idempotency-key": makeKey() } };
    const { data } = await transport.send(request, callOptions);
    return new Session(transport, data);
  }

  /**
   * A session that is there already.
   *
   * @param {Transport} transport
   * @param {string} id
   * @param {CallOptions} [options]
   */
  static async resume(transport, id, options) {
    const { data } = await transport.send({ method: "GET", path: `${PATH}/${encodeURIComponent(id)}` }, options);
    return new Session(transport, data);
  }

  /** The number of the last call that changed the session, as far as is known here. */
  get seq() {
    return this.#seq;
  }

  /**
   * Runs commands in order, all of them or none, and shows what some ids then are.
   *
   * @param {readonly Command[]} commands
   * @param {readonly Fetch[]} [fetch] ids, each for its value and gradient, or `{ id, what }`
   * @param {CallOptions} [options]
   * @returns {Call<RunAnswer>}
   */
  run(commands, fetch, options) {
    return this.#change(
      "POST",
      "/run",
      () => ({ commands: this.#transport.prepared(commands), ...this.#shown(fetch) }),
      options,
    );
  }

  /** Commands to be gathered, and then run together. */
  batch() {
    return new Batch(
      (command) => this.#transport.prepared(command),
      (commands, fetch, options) =>
        this.#change("POST", "/run", () => ({ commands: [...commands], ...this.#shown(fetch) }), options),
    );
  }

  /**
   * What there is to see of one variable, its value and gradient first; of a layer, a model or an optimizer its state.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Call<Shown>}
   */
  get(id, options) {
    const path = `/variables/${encodeURIComponent(id)}`;
    if (this.#isNested) return this.#look({ path }, options);
    // In JSON its integers could lose digits.
    const headers = { accept: MSGPACK_TYPE };
    return new Call(
      this.#lookAt({ path, headers }, options).then(({ data, response }) => ({ data: shaped(data), response })),
    );
  }

  /**
   * Ids, shapes and dtypes of all variables, and what else the session has.
   *
   * @param {CallOptions} [options]
   * @returns {Call<VariablesAnswer>}
   */
  variables(options) {
    return this.#look({ path: "/variables" }, options);
  }

  /**
   * A picture of what a variable was computed from, as DOT text; verbose: with values in place of names.
   *
   * @param {string} of
   * @param {{ verbose?: boolean }} [picture]
   * @param {CallOptions} [options]
   * @returns {Call<string>}
   */
  dot(of, { verbose } = {}, options) {
    return this.#look({ path: "/dot", query: { of, verbose }, accept: "text/vnd.graphviz" }, options);
  }

  /**
   * The same as SVG, where the server has Graphviz.
   *
   * @param {string} of
   * @param {{ verbose?: boolean }} [picture]
   * @param {CallOptions} [options]
   * @returns {Call<string>}
   */
  svg(of, { verbose } = {}, options) {
    return this.#look({ path: "/dot.svg", query: { of, verbose }, accept: "image/svg+xml" }, options);
  }

  /**
   * The state of a layer, a model or an optimizer as a safetensors file.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Call<Uint8Array>}
   */
  safetensors(id, options) {
    return this.#look({ path: statePath(id), accept: SAFETENSORS_TYPE }, options);
  }

  /**
   * The state of a layer, a model or an optimizer as values by name.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Call<Results>}
   */
  state(id, options) {
    const path = statePath(id);
    const answer = this.#isNested
      ? this.#lookAt({ path }, options).then(({ data, response }) => ({ data: data.state, response }))
      : this.#lookAt({ path, accept: SAFETENSORS_TYPE }, options).then(readState);
    return new Call(answer);
  }

  /**
   * Gives a layer, a model or an optimizer all of a state.
   *
   * @param {string} id
   * @param {Uint8Array | Readonly<Record<string, Value>>} state a safetensors file, or values by name
   * @param {CallOptions} [options]
   * @returns {Call<{ seq: number }>}
   */
  putState(id, state, options) {
    if (!(state instanceof Uint8Array)) {
      return this.#change("PUT", statePath(id), () => ({ state: this.#transport.prepared(state) }), options);
    }
    const file = state.slice();
    return new Call(this.#numbered((seq) => ({ method: "PUT", path: statePath(id), query: { seq }, file }), options));
  }

  /**
   * Flags from here on, and the seconds for which the session is kept without use.
   *
   * @param {{ nograd?: boolean, train?: boolean, ttl?: number }} changes
   * @param {CallOptions} [options]
   * @returns {Call<{ seq: number, nograd: boolean, train: boolean }>}
   */
  change({ ttl, ...flags }, options) {
    return this.#change("PATCH", "", () => ({ ttl_s: ttl, ...flags }), options);
  }

  /**
   * How the session is.
   *
   * @param {CallOptions} [options]
   * @returns {Call<SessionInfo>}
   */
  info(options) {
    return this.#look({ path: "" }, options);
  }

  /**
   * Takes over the server's number, after a conflict: it goes on from whatever the session is now.
   *
   * @param {CallOptions} [options]
   * @returns {Promise<SessionInfo>}
   */
  async sync(options) {
    const info = await this.info(options);
    this.#seq = info.seq;
    return info;
  }

  /**
   * Deletes the session, if it is still there.
   *
   * @param {CallOptions} [options]
   * @returns {Promise<void>}
   */
  async close(options) {
    await this.#inTurn(() => this.#transport.send({ method: "DELETE", path: this.#path("") }, options));
  }

  /** For `await using session = await client.session()`. */
  [Symbol.asyncDispose]() {
    return this.close();
  }

  /**
   * One command by a path of its own, whose answer is the variable.
   *
   * @param {Command} command
   * @returns {Call<ShownAnswer>}
   */
  #single({ do: name, ...fields }) {
    const path = name === "variable" ? "/variables" : `/${name}`;
    return this.#change("POST", path, () => ({
      ...this.#transport.prepared(fields),
      encoding: this.#transport.arrays,
    }));
  }

  /** @param {readonly Fetch[]} [fetch] */
  #shown(fetch) {
    return { fetch, encoding: this.#transport.arrays };
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {() => Record<string, unknown>} write makes the body, at once
   * @param {CallOptions} [options]
   * @returns {Call<any>}
   */
  #change(method, path, write, options) {
    const send = async () => {
      const body = write();
      return this.#numbered((seq) => ({ method, path, body: { seq, ...body } }), options);
    };
    return new Call(send());
  }

  /**
   * A call with the next number, which is used up only if it succeeds.
   *
   * @param {(seq: number) => Request} request
   * @param {CallOptions} [options]
   */
  #numbered(request, options) {
    return this.#inTurn(async () => {
      const { path, ...rest } = request(this.#seq + 1);
      const answer = await this.#transport.send({ path: this.#path(path), ...rest }, options);
      this.#seq = answer.data.seq;
      return answer;
    });
  }

  /** @param {Omit<Request, "method">} request @param {CallOptions} [options] @returns {Call<any>} */
  #look(request, options) {
    return new Call(this.#lookAt(request, options));
  }

  /** @param {Omit<Request, "method">} request @param {CallOptions} [options] */
  #lookAt({ path, ...rest }, options) {
    return this.#inTurn(() => this.#transport.send({ method: "GET", path: this.#path(path), ...rest }, options));
  }

  /** Whether arrays are wanted as nested lists. */
  get #isNested() {
    return this.#transport.arrays === "nested";
  }

  /**
   * What `work` gives, once the calls before it are done.
   *
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  async #inTurn(work) {
    const done = this.#turn.then(work);
    // Whoever made a call hears of its failure, by the promise that is returned; the next call only waits for its end.
    this.#turn = done.then(ignore, ignore);
    return done;
  }

  /** @param {string} rest */
  #path(rest) {
    return `${PATH}/${encodeURIComponent(this.id)}${rest}`;
  }
}

function ignore() {}

/** @param {Answer<Uint8Array>} answer */
function readState({ data, response }) {
  return { data: readSafetensors(data), response };
}

/** A variable whose value and gradient, which are nested lists, become arrays. @param {Shown} shown */
function shaped(shown) {
  const { value, grad, shape, dtype } = shown;
  if (shape === undefined) return shown;
  /** @type {(lists: any) => Result} */
  const toArray = (lists) => (Array.isArray(lists) ? array(lists.flat(Infinity), shape, dtype) : lists);
  return { ...shown, value: toArray(value), grad: toArray(grad) };
}

/** @param {string} id */
function statePath(id) {
  return `/state/${encodeURIComponent(id)}`;
}

/** A text that is never made twice. It tells attempts from one another, and is no secret. */
function makeKey() {
  // Node 18 has no global crypto.
  const bytes =
    globalThis.crypto?.getRandomValues(new Uint8Array(KEY_BYTES)) ?? Array.from({ length: KEY_BYTES }, randomByte);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function randomByte() {
  return Math.floor(Math.random() * 256);
}
