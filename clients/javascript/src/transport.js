/** One request and its answer: written, sent, tried again, read, and turned into an error where it is one. */

import { ConnectionError, TimeoutError, UnexpectedAnswerError } from "./errors.js";
import { writeJson } from "./json.js";
import { MalformedError, decode, encode } from "./msgpack.js";
import { errorOf } from "./problems.js";
import { retried } from "./retries.js";
import { fromWire, toWire } from "./values.js";

/** @import { CallOptions } from "../types/wire.js" */
/** @import { Answer, ResponseInfo } from "./call.js" */
/** @import { RetryPolicy } from "./retries.js" */

const JSON_TYPE = "application/json";
const PROBLEM_TYPE = "application/problem+json";
export const MSGPACK_TYPE = "application/msgpack";
export const SAFETENSORS_TYPE = "application/safetensors";
/** Of an answer that is not understood an error shows so many letters. */
const LONGEST_EXCERPT = 200;

/** How documents travel, by the client's `encoding`: the media type, what holds arrays in requests and in answers. */
const FORMATS = Object.freeze({
  binary: { mediaType: MSGPACK_TYPE, form: /** @type {const} */ ("bytes"), arrays: "binary" },
  base64: { mediaType: JSON_TYPE, form: /** @type {const} */ ("base64"), arrays: "base64" },
  json: { mediaType: JSON_TYPE, form: /** @type {const} */ ("base64"), arrays: "nested" },
});

/** @typedef {keyof typeof FORMATS} Encoding */

/**
 * What is sent.
 * @typedef {object} Request
 * @property {string} method
 * @property {string} path
 * @property {Record<string, unknown>} [query] parameters; those that are undefined are left out
 * @property {Record<string, unknown>} [body] a document, as `prepared` makes it
 * @property {Uint8Array} [file] a safetensors file in place of a document
 * @property {string} [accept] a media type that is wanted in place of a document: text, or safetensors as bytes
 * @property {Record<string, string>} [headers]
 */

/**
 * Where a server is and how it is spoken to.
 * @typedef {object} Settings
 * @property {string} url without a slash at its end
 * @property {Headers} headers of every request
 * @property {number} timeout milliseconds
 * @property {RetryPolicy} retries
 * @property {Encoding} encoding
 * @property {typeof fetch} fetch
 */

export const ENCODINGS = Object.freeze(Object.keys(FORMATS));

/** Sends requests to one server. */
export class Transport {
  #settings;
  #format;

  /** @param {Settings} settings */
  constructor(settings) {
    this.#settings = settings;
    this.#format = FORMATS[settings.encoding];
  }

  /** What `encoding` a request names, for its answer to have arrays in. */
  get arrays() {
    return this.#format.arrays;
  }

  /**
   * A copy of a part of a request, as it is to be written.
   *
   * @param {unknown} document
   * @returns {any}
   */
  prepared(document) {
    return toWire(document, this.#format.form);
  }

  /**
   * The answer to a request, which may be sent more than once.
   *
   * @param {Request} request
   * @param {CallOptions} [options]
   * @returns {Promise<Answer<any>>}
   */
  async send(request, options = {}) {
    checkOptions(options);
    const { signal, timeout = this.#settings.timeout, headers, retries } = options;
    checkTimeout(timeout);
    const policy = retries === undefined ? this.#settings.retries : { ...this.#settings.retries, count: retries };
    const url = this.#settings.url + request.path + written(request.query);
    const init = { method: request.method, headers: this.#headers(request, headers), body: this.#body(request) };
    return retried(
      async (attempts) => {
        const { response, bytes } = await this.#exchange(url, init, timeout, signal);
        const data = read(response, bytes, request.accept, url);
        return { data, response: infoOf(response, attempts) };
      },
      policy,
      signal,
    );
  }

  /** @param {Request} request @param {HeadersInit} [more] */
  #headers(request, more) {
    const headers = new Headers(this.#settings.headers);
    // A problem may be a document all the same.
    headers.set("accept", request.accept ? `${request.accept}, */*;q=0.1` : this.#format.mediaType);
    if (request.body) headers.set("content-type", this.#format.mediaType);
    if (request.file) headers.set("content-type", SAFETENSORS_TYPE);
    Object.entries(request.headers ?? {}).forEach(([name, value]) => headers.set(name, value));
    new Headers(more).forEach((value, name) => headers.set(name, value));
    return headers;
  }

  /** @param {Request} request @returns {any} what `fetch` takes */
  #body({ body, file }) {
    if (file || !body) return file;
    return this.#format.mediaType === MSGPACK_TYPE ? encode(body) : writeJson(body);
  }

  /**
   * One try: the whole answer, of whatever status.
   *
   * @param {string} url
   * @param {RequestInit} init
   * @param {number} timeout
   * @param {AbortSignal} [signal]
   */
  async #exchange(url, init, timeout, signal) {
    signal?.throwIfAborted();
    const { fetch } = this.#settings;
    const ending = new AbortController();
    const abort = () => ending.abort();
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      abort();
    }, timeout);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const response = await fetch(url, { ...init, signal: ending.signal });
      return { response, bytes: new Uint8Array(await response.arrayBuffer()) };
    } catch (cause) {
      signal?.throwIfAborted();
      if (isLate)
        throw new TimeoutError(`${url} did not answer within ${timeout} ms; it may still do what was asked`, { cause });
      throw unreachable(url, cause);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** @param {number} timeout */
export function checkTimeout(timeout) {
  // Timers take longer times for none.
  if (!(timeout > 0 && timeout < 2 ** 31)) {
    throw new RangeError(`timeout is ${timeout}; expected milliseconds above 0 and below 2**31`);
  }
}

/** @param {Record<string, unknown>} [query] */
function written(query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return given.length ? `?${new URLSearchParams(given.map(([key, value]) => [key, String(value)]))}` : "";
}

/**
 * The content of an answer that is as it was wanted; throws an error for any other.
 *
 * @param {Response} response
 * @param {Uint8Array} bytes its body
 * @param {string | undefined} accept what was wanted in place of a document
 * @param {string} url
 */
function read(response, bytes, accept, url) {
  if (response.status === 204) return undefined;
  const mediaType = (response.headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();
  if (!response.ok) throw failure(response, mediaType, bytes, url);
  if (accept !== undefined && mediaType === accept) {
    return accept === SAFETENSORS_TYPE ? bytes : new TextDecoder().decode(bytes);
  }
  if (accept !== undefined || ![JSON_TYPE, MSGPACK_TYPE].includes(mediaType))
    throw unexpected(response, mediaType, bytes, url);
  return fromWire(parsed(mediaType, bytes, url));
}

/** @param {Response} response @param {string} mediaType @param {Uint8Array} bytes @param {string} url */
function failure(response, mediaType, bytes, url) {
  if ([JSON_TYPE, PROBLEM_TYPE, MSGPACK_TYPE].includes(mediaType)) {
    const problem = parsed(mediaType, bytes, url);
    if (typeof problem?.type === "string" && typeof problem.detail === "string")
      return errorOf(problem, response.headers);
  }
  return unexpected(response, mediaType, bytes, url);
}

/** @param {string} mediaType @param {Uint8Array} bytes @param {string} url @returns {any} */
function parsed(mediaType, bytes, url) {
  try {
    return mediaType === MSGPACK_TYPE ? decode(bytes) : JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    if (!(cause instanceof SyntaxError || cause instanceof MalformedError)) throw cause;
    throw new ConnectionError(`the answer of ${url} is not whole: ${cause.message}`, { cause });
  }
}

/** @param {Response} response @param {string} mediaType @param {Uint8Array} bytes @param {string} url */
function unexpected({ status, headers }, mediaType, bytes, url) {
  const begin = new TextDecoder().decode(bytes.subarray(0, LONGEST_EXCERPT)).trim();
  const detail =
    `${url} answered ${status} with ${mediaType || "no Content-Type"}, as no Pullback server does: ` +
    `is the address right? The answer begins: ${JSON.stringify(begin)}`;
  return new UnexpectedAnswerError(detail, { status, headers });
}

/** @param {string} url @param {unknown} cause what `fetch` threw */
function unreachable(url, cause) {
  const below = cause instanceof Error ? /** @type {any} */ (cause.cause) : undefined;
  const reason = below?.code ?? below?.message ?? (cause instanceof Error ? cause.message : String(cause));
  const inPage = "document" in globalThis ? "; a page also has to be among the server's PULLBACK_CORS_ORIGINS" : "";
  const detail =
    `no answer from ${url} (${reason}): start a server with "make serve" or "pullback serve", ` +
    `or say where it is with new Client({ url }) or PULLBACK_URL${inPage}`;
  return new ConnectionError(detail, { cause });
}

/** @param {Response} response @param {number} attempts @returns {ResponseInfo} */
function infoOf({ status, headers }, attempts) {
  return {
    status,
    headers,
    requestId: headers.get("x-request-id") ?? "",
    isReplay: headers.get("idempotent-replay") === "true",
    attempts,
  };
}

/**
 * Refuses a request that is no object, as where a program and its inputs are given one after the other.
 *
 * @param {string} call
 * @param {unknown} request
 */
export function checkRequest(call, request) {
  if (typeof request === "object" && request !== null && !Array.isArray(request)) return;
  const shown = typeof request === "string" ? JSON.stringify(request) : String(request);
  const expr = typeof request === "string" ? shown : '"x**2"';
  throw new TypeError(
    `${call}: the request is ${shown}; expected one object, such as ${call}({ expr: ${expr}, inputs: { x: 1 } })`,
  );
}

const CALL_OPTIONS = ["signal", "timeout", "headers", "retries"];

/** @param {any} options of a call */
function checkOptions(options) {
  const isObject = typeof options === "object" && options !== null;
  const unknown = isObject ? Object.keys(options).find((key) => !CALL_OPTIONS.includes(key)) : String(options);
  if (unknown === undefined) return;
  throw new TypeError(`unknown option "${unknown}" of a call; known: ${CALL_OPTIONS.join(", ")}`);
}
