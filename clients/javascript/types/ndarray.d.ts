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
export function array(data: TypedArray | readonly (number | boolean | bigint)[], shape?: readonly number[], dtype?: Dtype): NDArray;
/**
 * An int64 as a number, or as the bigint that it is where a number could not hold it.
 *
 * @param {bigint} integer
 */
export function toNumber(integer: bigint): number | bigint;
/** Arrays of any shape: a typed array in C order, its shape and its dtype. */
/** @import { Dtype, NestedResult, TypedArray } from "../types/wire.js" */
/** @typedef {Float64Array | Float32Array | BigInt64Array | Uint8Array} Data what holds each dtype's elements */
/** @typedef {number | boolean | bigint} Scalar */
/** What holds the elements of each dtype; a bool is a byte, 0 or 1. */
export const HOLDERS: Readonly<{
    float64: Float64ArrayConstructor;
    float32: Float32ArrayConstructor;
    int64: BigInt64ArrayConstructor;
    bool: Uint8ArrayConstructor;
}>;
/** An array of any shape. Its parts may be read, also written into; they are sent as they are at the time of a call. */
export class NDArray {
    /**
     * As `array` makes it, which also checks.
     *
     * @param {Data} data elements in C order
     * @param {readonly number[]} shape
     * @param {Dtype} dtype
     */
    constructor(data: Data, shape: readonly number[], dtype: Dtype);
    data: Data;
    shape: readonly number[];
    dtype: Dtype;
    /** How many elements there are. */
    get size(): number;
    /**
     * The only element, of whatever shape: a boolean, a number, or a bigint where an int64 is beyond 2**53.
     * Throws a RangeError where there are more elements, or none.
     */
    item(): Scalar;
    /**
     * The elements as nested lists, `shape` deep; a number, boolean or bigint for shape [].
     *
     * @returns {NestedResult}
     */
    toNested(): NestedResult;
    /** So that JSON.stringify shows nested lists. */
    toJSON(): NestedResult;
}
/**
 * what holds each dtype's elements
 */
export type Data = Float64Array | Float32Array | BigInt64Array | Uint8Array;
export type Scalar = number | boolean | bigint;
import type { TypedArray } from "../types/wire.js";
import type { Dtype } from "../types/wire.js";
import type { NestedResult } from "../types/wire.js";
