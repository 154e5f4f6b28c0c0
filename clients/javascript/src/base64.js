/** Base64: bytes -> text and back, in pieces that fit a call's arguments. */

const PIECE = 0x6000;

/**
 * Base64 of bytes, with padding.
 *
 * @param {Uint8Array} bytes
 */
export function toBase64(bytes) {
  const pieces = [];
  // A multiple of three bytes, so that only the last piece is padded.
  for (let at = 0; at < bytes.length; at += PIECE) {
    pieces.push(btoa(String.fromCharCode(...bytes.subarray(at, at + PIECE))));
  }
  return pieces.join("");
}

/**
 * The bytes of a base64 text; throws a DOMException where it is none.
 *
 * @param {string} text
 */
export function fromBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}
