/** Values on the wire: arrays in requests -> array objects, array objects in answers -> NDArrays and plain scalars. */

import { fromBase64, toBase64 } from "./base64.js";
import { HOLDERS, NDArray, array } from "./ndarray.js";

/** @import { Dtype, Result, TypedArray } from "../types/wire.js" */

/** @typedef {{ shape: number[], dtype: Dtype, data?: Uint8Array | unknown[], base64?: string }} ArrayObject */

/** JSON's words for numbers that are not finite. @type {Readonly<Record<string, number>>} */
const WORDS = Object.freeze({ NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity });
/** Fields of answers whose value, list or (nested) object holds values and nothing else. */
const VALUE_FIELDS = new Set(
  (
    "values grads higher node_grads vjps jvps jacobian hessian hvp max_error analytic numeric rounding value grad " +
    "state"
  ).split(" "),
);
/** Fields that hold documents with such fields, in a list or by name. */
const NESTING_FIELDS = new Set(["worst", "uncertain", "fetched", "variables"]);

/**
 * A copy of a request in which arrays are array objects, so that it is written the same however its arrays change.
 *
 * @param {unknown} item typed arrays, and what has a typed array `data`, a `shape` and a `dtype`, become array objects
 * @param {"bytes" | "base64"} form what holds their elements
 * @param {string} path where it stands, for errors
 * @returns {any}
 */
export function toWire(item, form, path = "request") {
  if (isPlain(item)) return item;
  if (typeof item !== "object" || item === null) throw unfit(item, path);
  // Array.from also meets what was never set.
  if (Array.isArray(item))
    return Array.from(item, (one, n) => (isPlain(one) ? one : toWire(one, form, `${path}[${n}]`)));
  if (isTypedArray(item)) return arrayObject(array(item), form);
  const held = /** @type {any} */ (item);
  if (isTypedArray(held.data) && Array.isArray(held.shape)) {
    return arrayObject(array(held.data, held.shape, held.dtype), form);
  }
  const prototype = Object.getPrototypeOf(item);
  // Objects of another realm are plain too: theirs is the prototype that has none.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) throw unfit(item, path);
  const fields = Object.entries(item).filter(([, value]) => value !== undefined);
  return Object.fromEntries(fields.map(([key, value]) => [key, toWire(value, form, `${path}.${key}`)]));
}

/**
 * A document of an answer in which array objects are NDArrays, or plain scalars where their shape is [].
 *
 * @param {any} document changed in its fields that hold values
 */
export function fromWire(document) {
  if (typeof document !== "object" || document === null) return document;
  for (const [key, held] of Object.entries(document)) {
    if (VALUE_FIELDS.has(key)) document[key] = toResults(held);
    else if (NESTING_FIELDS.has(key) && typeof held === "object" && held !== null)
      Object.values(held).forEach(fromWire);
  }
  return document;
}

/** @param {any} held a value in any form, or a list or object of them @returns {any} */
function toResults(held) {
  if (typeof held === "string" && Object.hasOwn(WORDS, held)) return WORDS[held];
  if (typeof held !== "object" || held === null) return held;
  if (Array.isArray(held)) return held.map(toResults);
  if (isArrayObject(held)) return toResult(held);
  return Object.fromEntries(Object.entries(held).map(([key, value]) => [key, toResults(value)]));
}

/** @param {ArrayObject} held @returns {Result} */
function toResult({ shape, dtype, data, base64 }) {
  const found = new NDArray(elements(dtype, base64 === undefined ? data : fromBase64(base64)), shape, dtype);
  return shape.length === 0 ? found.item() : found;
}

/** @param {Dtype} dtype @param {Uint8Array | unknown[] | undefined} data */
function elements(dtype, data) {
  // A typed array begins at a multiple of its width, which a part of an answer need not: slice makes it so.
  if (data instanceof Uint8Array) return new HOLDERS[dtype](data.slice().buffer);
  return array(toResults(data), undefined, dtype).data;
}

/** @param {any} held @returns {held is ArrayObject} */
function isArrayObject(held) {
  return Array.isArray(held.shape) && typeof held.dtype === "string" && ("data" in held || "base64" in held);
}

/** @param {NDArray} held @param {"bytes" | "base64"} form */
function arrayObject({ data, shape, dtype }, form) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return form === "bytes" ? { shape, dtype, data: bytes.slice() } : { shape, dtype, base64: toBase64(bytes) };
}

/** @param {any} item @returns {item is TypedArray} */
function isTypedArray(item) {
  return ArrayBuffer.isView(item) && !(item instanceof DataView);
}

/** @param {unknown} item */
function isPlain(item) {
  return item === null || ["number", "string", "boolean", "bigint"].includes(typeof item);
}

/** @param {unknown} item @param {string} path */
function unfit(item, path) {
  const name = typeof item === "object" ? Object.prototype.toString.call(item).slice(8, -1) : typeof item;
  return new TypeError(
    `${path} is a value of kind ${name}; expected numbers, booleans, texts, lists, plain objects or arrays`,
  );
}
