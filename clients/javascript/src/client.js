/** The client: a method for each thing that a server does without a session. */

import { Call } from "./call.js";
import { UnavailableError } from "./errors.js";
import { Programs } from "./programs.js";
import { DEFAULT_POLICY } from "./retries.js";
import { Session } from "./session.js";
import { ENCODINGS, Transport, checkRequest, checkTimeout } from "./transport.js";

/** @import { RetryPolicy } from "./retries.js" */
/** @import { Settings } from "./transport.js" */
/**
 * @import {
 *   CallOptions, CheckAnswer, CheckRequest, EvaluateAnswer, EvaluateRequest, HessianAnswer, HessianRequest, HvpAnswer,
 *   HvpRequest, InferAnswer, InferRequest, InfoAnswer, JacobianAnswer, JacobianRequest, JvpAnswer, JvpRequest,
 *   Operation, OperationsAnswer, SessionOptions, VjpAnswer, VjpRequest
 * } from "../types/wire.js"
 */

/**
 * @typedef {object} ClientOptions
 * @property {string} [url] where the server is; default: PULLBACK_URL where there is an environment, else
 *   http://127.0.0.1:8000
 * @property {string} [apiKey] sent as Authorization: Bearer; PULLBACK_API_KEY where it is left out
 * @property {number} [timeout] milliseconds that one attempt of a call may take; default 60,000
 * @property {number | Partial<RetryPolicy>} [retries] how often to try again what may pass by itself, default 3; or
 *   also how long to wait in between
 * @property {"binary" | "base64" | "json"} [encoding] how arrays travel: as bytes in MessagePack (the default), as
 *   base64 in JSON, both of which give NDArrays, or as nested lists, which integers beyond 2**53 do not survive
 * @property {typeof fetch} [fetch] in place of the global one
 * @property {HeadersInit} [headers] of every request
 */

const OPTIONS = Object.freeze(["url", "apiKey", "timeout", "retries", "encoding", "fetch", "headers"]);
const DEFAULT_URL = "http://127.0.0.1:8000";
const DEFAULT_TIMEOUT = 60_000;

/**
 * Speaks to a Pullback server. Requests and answers are the documents of the HTTP API, whose arrays are typed arrays
 * and NDArrays. Calls give a `Call`: await it for the answer, or its `withResponse()` for headers and request id too.
 * What fails throws a PullbackError of the problem's kind.
 */
export class Client {
  #transport;

  /** @param {ClientOptions} [options] */
  constructor(options = {}) {
    const unknown = Object.keys(options).find((key) => !OPTIONS.includes(key));
    if (unknown !== undefined) throw new TypeError(`unknown option "${unknown}"; known: ${OPTIONS.join(", ")}`);
    /** Where the server is. */
    this.url = checkedUrl(options.url ?? environment().PULLBACK_URL ?? DEFAULT_URL);
    this.#transport = new Transport(settingsOf(this.url, options));
    /** Programs that the server keeps. */
    this.programs = new Programs(this.#transport);
  }

  /**
   * Values of a program and, with `backward`, gradients.
   *
   * @template {EvaluateRequest} R
   * @param {R} request
   * @param {CallOptions} [options]
   * @returns {Call<EvaluateAnswer<R>>}
   */
  evaluate(request, options) {
    return this.#post("evaluate", request, options);
  }

  /**
   * Cotangents of outputs carried back to inputs.
   *
   * @param {VjpRequest} request
   * @param {CallOptions} [options]
   * @returns {Call<VjpAnswer>}
   */
  vjp(request, options) {
    return this.#post("vjp", request, options);
  }

  /**
   * Tangents of inputs carried to outputs.
   *
   * @param {JvpRequest} request
   * @param {CallOptions} [options]
   * @returns {Call<JvpAnswer>}
   */
  jvp(request, options) {
    return this.#post("jvp", request, options);
  }

  /**
   * All first derivatives, each of shape output.shape + input.shape.
   *
   * @param {JacobianRequest} request
   * @param {CallOptions} [options]
   * @returns {Call<JacobianAnswer>}
   */
  jacobian(request, options) {
    return this.#post("jacobian", request, options);
  }

  /**
   * All second derivatives of an output of one element.
   *
   * @param {HessianRequest} request
   * @param {CallOptions} [options]
   * @returns {Call<HessianAnswer>}
   */
  hessian(request, options) {
    return this.#post("hessian", request, options);
  }

  /**
   * The Hessian times vectors.
   *
   * @param {HvpRequest} request
   * @param {CallOptions} [options]
   * @returns {Call<HvpAnswer>}
   */
  hvp(request, options) {
    return this.#post("hvp", request, options);
  }

  /**
   * Gradients beside central differences.
   *
   * @param {CheckRequest} request
   * @param {CallOptions} [options]
   * @returns {Call<CheckAnswer>}
   */
  check(request, options) {
    return this.#post("check", request, options);
  }

  /**
   * Shapes, dtypes and cost of a program; nothing runs.
   *
   * @param {InferRequest} request inputs as values, or as `{ shape, dtype }`
   * @param {CallOptions} [options]
   * @returns {Call<InferAnswer>}
   */
  infer(request, options) {
    return this.#post("infer", request, options);
  }

  /**
   * All operations, and the kinds of layers, models, optimizers and hooks with their configuration.
   *
   * @param {CallOptions} [options]
   * @returns {Call<OperationsAnswer>}
   */
  ops(options) {
    return this.#get("/v1/ops", options);
  }

  /**
   * One operation, by its name or an alias.
   *
   * @param {string} name
   * @param {CallOptions} [options]
   * @returns {Call<Operation>}
   */
  op(name, options) {
    return this.#get(`/v1/ops/${encodeURIComponent(name)}`, options);
  }

  /**
   * Name, version and limits of the server.
   *
   * @param {CallOptions} [options]
   * @returns {Call<InfoAnswer>}
   */
  info(options) {
    return this.#get("/v1", options);
  }

  /**
   * Answers as long as the server is alive.
   *
   * @param {CallOptions} [options]
   * @returns {Call<{ status: string }>}
   */
  health(options) {
    return this.#get("/healthz", options);
  }

  /**
   * Whether the server takes requests: not while it stops, or its store does not work.
   *
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async ready(options) {
    try {
      await this.#transport.send({ method: "GET", path: "/readyz" }, { ...options, retries: 0 });
      return true;
    } catch (error) {
      if (error instanceof UnavailableError) return false;
      throw error;
    }
  }

  /**
   * A new session: variables on a tape that stay from call to call.
   *
   * @param {SessionOptions} [options]
   * @param {CallOptions} [callOptions]
   * @returns {Promise<Session>}
   */
  session(options, callOptions) {
    return Session.create(this.#transport, options, callOptions);
  }

  /**
   * A session that is there already, to go on with.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<Session>}
   */
  resume(id, options) {
    return Session.resume(this.#transport, id, options);
  }

  /** @param {string} name @param {object} request @param {CallOptions} [options] @returns {Call<any>} */
  #post(name, request, options) {
    const send = async () => {
      checkRequest(name, request);
      const body = this.#transport.prepared({ encoding: this.#transport.arrays, ...request });
      return this.#transport.send({ method: "POST", path: `/v1/${name}`, body }, options);
    };
    return new Call(send());
  }

  /** @param {string} path @param {CallOptions} [options] @returns {Call<any>} */
  #get(path, options) {
    return new Call(this.#transport.send({ method: "GET", path }, options));
  }
}

/** @returns {Record<string, string | undefined>} empty in a browser */
function environment() {
  return /** @type {any} */ (globalThis).process?.env ?? {};
}

/** @param {string} url */
function checkedUrl(url) {
  if (!/^https?:\/\/[^/]/.test(url)) throw new TypeError(`url is "${url}"; expected http://host:port, or https`);
  return url.replace(/\/+$/, "");
}

/** @param {string} url @param {ClientOptions} options @returns {Settings} */
function settingsOf(url, { apiKey, timeout = DEFAULT_TIMEOUT, retries = {}, encoding = "binary", fetch, headers }) {
  checkTimeout(timeout);
  if (!ENCODINGS.includes(encoding)) throw new TypeError(`encoding is "${encoding}"; expected ${ENCODINGS.join(", ")}`);
  const all = new Headers(headers);
  const key = apiKey ?? environment().PULLBACK_API_KEY;
  if (key) all.set("authorization", `Bearer ${key}`);
  const policy = { ...DEFAULT_POLICY, ...(typeof retries === "number" ? { count: retries } : retries) };
  // Browsers want their own to be called as a function of the window.
  return { url, headers: all, timeout, retries: policy, encoding, fetch: fetch ?? globalThis.fetch.bind(globalThis) };
}
