/**
 * A document as MessagePack. Fields that are undefined are left out.
 *
 * @param {unknown} document numbers (integers up to 2**53 as such, the rest and -0 as float64), bigints of 64 bits,
 *   booleans, null, texts, lists, plain objects, and Uint8Arrays as binary data
 */
export function encode(document: unknown): Uint8Array<ArrayBuffer>;
/**
 * The document that bytes hold. Integers beyond 2**53 are bigints; binary data is a view of `bytes`.
 * Throws a MalformedError where they are not one whole document.
 *
 * @param {Uint8Array} bytes
 * @returns {unknown}
 */
export function decode(bytes: Uint8Array): unknown;
/** Bytes that are no MessagePack document, or hold what JSON has no counterpart for. */
export class MalformedError extends Error {
}
