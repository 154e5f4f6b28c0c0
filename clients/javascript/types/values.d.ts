/**
 * A copy of a request in which arrays are array objects, so that it is written the same however its arrays change.
 *
 * @param {unknown} item typed arrays, and what has a typed array `data`, a `shape` and a `dtype`, become array objects
 * @param {"bytes" | "base64"} form what holds their elements
 * @param {string} path where it stands, for errors
 * @returns {any}
 */
export function toWire(item: unknown, form: "bytes" | "base64", path?: string): any;
/**
 * A document of an answer in which array objects are NDArrays, or plain scalars where their shape is [].
 *
 * @param {any} document changed in its fields that hold values
 */
export function fromWire(document: any): any;
export type ArrayObject = {
    shape: number[];
    dtype: Dtype;
    data?: Uint8Array | unknown[];
    base64?: string;
};
import type { Dtype } from "../types/wire.js";
