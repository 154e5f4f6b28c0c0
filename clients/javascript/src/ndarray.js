/** Arrays of any shape: a typed array in C order, its shape and its dtype. */

/** @import { Dtype, NestedResult, TypedArray } from "../types/wire.js" */

/** @typedef {Float64Array | Float32Array | BigInt64Array | Uint8Array} Data what holds each dtype's elements */
/** @typedef {number | boolean | bigint} Scalar */

/** What holds the elements of each dtype; a bool is a byte, 0 or 1. */
export const HOLDERS = Object.freeze({
  float64: Float64Array,
  float32: Float32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
});

/** @type {Readonly<Record<string, Dtype>>} by typed array; integers of every width are int64 */
const DTYPES = Object.freeze({
  Float64Array: "float64",
  Float32Array: "float32",
  BigInt64Array: "int64",
  Int32Array: "int64",
  Uint32Array: "int64",
  Int16Array: "int64",
  Uint16Array: "int64",
  Int8Array: "int64",
  Uint8Array: "int64",
});

// The wire is little-endian, and the bytes of typed arrays are sent as they are.
if (new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1) {
  throw new Error("pullback: this machine is big-endian; typed arrays here have their bytes in the wrong order");
}

/** An array of any shape. Its parts may be read, also written into; they are sent as they are at the time of a call. */
export class NDArray {
  /**
   * As `array` makes it, which also checks.
   *
   * @param {Data} data elements in C order
   * @param {readonly number[]} shape
   * @param {Dtype} dtype
   */
  constructor(data, shape, dtype) {
    this.data = data;
    this.shape = shape;
    this.dtype = dtype;
  }

  /** How many elements there are. */
  get size() {
    return this.data.length;
  }

  /**
   * The only element, of whatever shape: a boolean, a number, or a bigint where an int64 is beyond 2**53.
   * Throws a RangeError where there are more elements, or none.
   */
  item() {
    if (this.size !== 1) throw new RangeError(`item: shape [${this.shape}] has ${this.size} elements; expected 1`);
    return scalar(this, 0);
  }

  /**
   * The elements as nested lists, `shape` deep; a number, boolean or bigint for shape [].
   *
   * @returns {NestedResult}
   */
  toNested() {
    const width = this.shape.reduceRight(
      (widths, length) => [length * (widths[0] ?? 1), ...widths],
      /** @type {number[]} */ ([]),
    );
    /** @type {(depth: number, at: number) => NestedResult} */
    const rows = (depth, at) => {
      if (depth === this.shape.length) return scalar(this, at);
      const step = width[depth + 1] ?? 1;
      return Array.from({ length: this.shape[depth] }, (_, n) => rows(depth + 1, at + n * step));
    };
    return rows(0, 0);
  }

  /** So that JSON.stringify shows nested lists. */
  toJSON() {
    return this.toNested();
  }
}

/**
 * An array of a shape.
 *
 *     array(Float32Array.of(1, 2, 3, 4), [2, 2])   // float32
 *     array([1, 2, 3, 4], [2, 2])                  // float64
 *     array([1, 0, 1], [3], "bool")
 *
 * @param {TypedArray | readonly (number | boolean | bigint)[]} data elements in C order; a Float64Array, Float32Array,
 *   BigInt64Array and, for bool, Uint8Array is kept, not copied
 * @param {readonly number[]} [shape] default: one axis
 * @param {Dtype} [dtype] default: the typed array's, int64 for integers of any width; float64 for a list
 */
export function array(data, shape = [data.length], dtype = dtypeOf(data)) {
  const holder = HOLDERS[dtype];
  if (holder === undefined) {
    throw new TypeError(`array: dtype is "${dtype}"; expected one of ${Object.keys(HOLDERS).join(", ")}`);
  }
  if (!shape.every((length) => Number.isSafeInteger(length) && length >= 0)) {
    throw new RangeError(`array: shape is [${shape}]; expected lengths from 0`);
  }
  const size = shape.reduce((product, length) => product * length, 1);
  if (size !== data.length) {
    throw new RangeError(`array: shape [${shape}] has ${size} elements, data has ${data.length}`);
  }
  return new NDArray(data instanceof holder ? data : converted(data, dtype), [...shape], dtype);
}

/**
 * An int64 as a number, or as the bigint that it is where a number could not hold it.
 *
 * @param {bigint} integer
 */
export function toNumber(integer) {
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

/**
 * @param {NDArray} held
 * @param {number} at
 * @returns {Scalar}
 */
function scalar({ data, dtype }, at) {
  const element = data[at];
  if (dtype === "bool") return element !== 0;
  return typeof element === "bigint" ? toNumber(element) : element;
}

/**
 * @param {TypedArray | readonly unknown[]} data
 * @returns {Dtype}
 */
function dtypeOf(data) {
  if (Array.isArray(data)) return "float64";
  const name = Object.prototype.toString.call(data).slice("[object ".length, -1);
  if (Object.hasOwn(DTYPES, name)) return DTYPES[name];
  throw new TypeError(`array: data is ${name}; expected a list or one of ${Object.keys(DTYPES).join(", ")}`);
}

/**
 * @param {Iterable<number | boolean | bigint>} data
 * @param {Dtype} dtype
 * @returns {Data}
 */
function converted(data, dtype) {
  if (dtype === "int64") return BigInt64Array.from(data, (element) => exactInt64(element));
  if (dtype === "bool") return Uint8Array.from(data, (element) => (element ? 1 : 0));
  return dtype === "float32" ? Float32Array.from(data, Number) : Float64Array.from(data, Number);
}

/** @param {number | boolean | bigint} element */
function exactInt64(element) {
  if (typeof element === "number" && !Number.isInteger(element)) {
    throw new RangeError(`array: ${element} is no int64; expected an integer`);
  }
  const integer = BigInt(element);
  if (BigInt.asIntN(64, integer) !== integer) {
    throw new RangeError(`array: ${element} is no int64; expected -2**63 to 2**63 - 1`);
  }
  return integer;
}
