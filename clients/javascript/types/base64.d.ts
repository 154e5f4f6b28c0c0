/**
 * Base64 of bytes, with padding.
 *
 * @param {Uint8Array} bytes
 */
export function toBase64(bytes: Uint8Array): string;
/**
 * The bytes of a base64 text; throws a DOMException where it is none.
 *
 * @param {string} text
 */
export function fromBase64(text: string): Uint8Array<ArrayBuffer>;
