/**
 * MessagePack: documents -> bytes and back, as far as JSON has a counterpart, and binary data.
 * Format: https://github.com/msgpack/msgpack/blob/master/spec.md
 */

import { toNumber } from "./ndarray.js";

/** Documents nested deeper are refused before the stack is used up; a server allows far less. */
const MAX_DEPTH = 500;
const FIRST_CAPACITY = 256;
const MOST_ITEMS = 2 ** 32;

/** Of what has a length: the tag that one `below` a limit is added to, and the tags of longer ones by width. */
const KINDS = Object.freeze({
  map: { fixed: 0x80, below: 16, tags: [0, 0xde, 0xdf] },
  list: { fixed: 0x90, below: 16, tags: [0, 0xdc, 0xdd] },
  text: { fixed: 0xa0, below: 32, tags: [0xd9, 0xda, 0xdb] },
  bytes: { fixed: 0, below: 0, tags: [0xc4, 0xc5, 0xc6] },
});
/** Widths of lengths in bytes, in the order of `tags`. */
const WIDTHS = Object.freeze([1, 2, 4]);

/** Bytes that are no MessagePack document, or hold what JSON has no counterpart for. */
export class MalformedError extends Error {
  name = "MalformedError";
}

/**
 * A document as MessagePack. Fields that are undefined are left out.
 *
 * @param {unknown} document numbers (integers up to 2**53 as such, the rest and -0 as float64), bigints of 64 bits,
 *   booleans, null, texts, lists, plain objects, and Uint8Arrays as binary data
 */
export function encode(document) {
  const writer = new Writer();
  writer.item(document);
  return writer.bytes();
}

/**
 * The document that bytes hold. Integers beyond 2**53 are bigints; binary data is a view of `bytes`.
 * Throws a MalformedError where they are not one whole document.
 *
 * @param {Uint8Array} bytes
 * @returns {unknown}
 */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const document = reader.item(0);
  reader.checkEnd();
  return document;
}

/** Bytes that grow. */
class Writer {
  #bytes = new Uint8Array(FIRST_CAPACITY);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  #texts = new TextEncoder();

  /** What was written. */
  bytes() {
    return this.#bytes.subarray(0, this.#length);
  }

  /** @param {unknown} item */
  item(item) {
    if (item === null) return this.#tag(0xc0);
    if (typeof item === "boolean") return this.#tag(item ? 0xc3 : 0xc2);
    if (typeof item === "number") return this.#number(item);
    if (typeof item === "bigint") return this.#integer(item);
    if (typeof item === "string") return this.#data("text", this.#texts.encode(item));
    if (item instanceof Uint8Array) return this.#data("bytes", item);
    if (Array.isArray(item)) return this.#list(item);
    if (typeof item === "object") return this.#map(item);
    throw new TypeError(`a ${typeof item} cannot be written as MessagePack`);
  }

  /** @param {readonly unknown[]} list */
  #list(list) {
    this.#head("list", list.length);
    for (const item of list) this.item(item);
  }

  /** @param {object} map */
  #map(map) {
    const fields = Object.entries(map).filter(([, value]) => value !== undefined);
    this.#head("map", fields.length);
    for (const [key, value] of fields) {
      this.item(key);
      this.item(value);
    }
  }

  /** @param {number} number */
  #number(number) {
    if (Number.isSafeInteger(number) && !Object.is(number, -0)) return this.#integer(number);
    const at = this.#room(9);
    this.#view.setUint8(at, 0xcb);
    this.#view.setFloat64(at + 1, number);
  }

  /** @param {number | bigint} integer in the fewest bytes */
  #integer(integer) {
    if (integer >= -0x20 && integer < 0x80) return this.#tag(Number(integer) & 0xff);
    const isNegative = integer < 0;
    for (const [n, width] of WIDTHS.entries()) {
      const limit = 2 ** (8 * width - (isNegative ? 1 : 0));
      if (isNegative ? integer >= -limit : integer < limit) {
        this.#tag((isNegative ? 0xd0 : 0xcc) + n);
        return this.#big(Number(integer), width);
      }
    }
    this.#wide(BigInt(integer), isNegative);
  }

  /** @param {bigint} integer @param {boolean} isNegative */
  #wide(integer, isNegative) {
    const same = isNegative ? BigInt.asIntN(64, integer) : BigInt.asUintN(64, integer);
    if (same !== integer)
      throw new RangeError(`${integer} has more than the 64 bits that MessagePack has for integers`);
    const at = this.#room(9);
    this.#view.setUint8(at, isNegative ? 0xd3 : 0xcf);
    this.#view.setBigUint64(at + 1, BigInt.asUintN(64, integer));
  }

  /** @param {"text" | "bytes"} kind @param {Uint8Array} data */
  #data(kind, data) {
    this.#head(kind, data.length);
    const at = this.#room(data.length);
    this.#bytes.set(data, at);
  }

  /** @param {keyof typeof KINDS} kind @param {number} length */
  #head(kind, length) {
    const { fixed, below, tags } = KINDS[kind];
    if (length < below) return this.#tag(fixed + length);
    if (length >= MOST_ITEMS)
      throw new RangeError(`a ${kind} of length ${length}; MessagePack has lengths below 2**32`);
    const n = WIDTHS.findIndex((width, n) => tags[n] !== 0 && length < 2 ** (8 * width));
    this.#tag(tags[n]);
    this.#big(length, WIDTHS[n]);
  }

  /** @param {number} integer big-endian, of 1, 2 or 4 bytes, with or without a sign @param {number} width */
  #big(integer, width) {
    const at = this.#room(width);
    if (width === 1) this.#view.setUint8(at, integer);
    else if (width === 2) this.#view.setUint16(at, integer);
    else this.#view.setUint32(at, integer);
  }

  /** @param {number} tag */
  #tag(tag) {
    // Making room may put other bytes in the place of these.
    const at = this.#room(1);
    this.#bytes[at] = tag;
  }

  /** Where so many more bytes may be written. @param {number} length */
  #room(length) {
    const at = this.#length;
    this.#length += length;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}

/** Where in bytes the next item begins. */
class Reader {
  #bytes;
  #view;
  #at = 0;
  // Without ignoreBOM a text loses U+FEFF where it begins with it.
  #texts = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * The next item, which `depth` lists and maps hold.
   *
   * @param {number} depth
   * @returns {unknown}
   */
  item(depth) {
    if (depth > MAX_DEPTH) throw new MalformedError(`byte ${this.#at}: nested deeper than ${MAX_DEPTH}`);
    const at = this.#skip(1, "an item");
    const tag = this.#bytes[at];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.#list(tag & 0x0f, depth);
    if (tag < 0xc0) return this.#text(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.#tagged(tag, at, depth);
  }

  /** Refuses bytes that go on. */
  checkEnd() {
    const rest = this.#bytes.length - this.#at;
    if (rest > 0) throw new MalformedError(`byte ${this.#at}: the document ends here, ${rest} more bytes follow`);
  }

  /** @param {number} tag @param {number} at where it stands @param {number} depth @returns {unknown} */
  #tagged(tag, at, depth) {
    const view = this.#view;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#data(this.#big(1));
      case 0xc5:
        return this.#data(this.#big(2));
      case 0xc6:
        return this.#data(this.#big(4));
      case 0xca:
        return view.getFloat32(this.#skip(4, "a number"));
      case 0xcb:
        return view.getFloat64(this.#skip(8, "a number"));
      case 0xcc:
        return this.#big(1);
      case 0xcd:
        return this.#big(2);
      case 0xce:
        return this.#big(4);
      case 0xcf:
        return toNumber(view.getBigUint64(this.#skip(8, "a number")));
      case 0xd0:
        return view.getInt8(this.#skip(1, "a number"));
      case 0xd1:
        return view.getInt16(this.#skip(2, "a number"));
      case 0xd2:
        return view.getInt32(this.#skip(4, "a number"));
      case 0xd3:
        return toNumber(view.getBigInt64(this.#skip(8, "a number")));
      case 0xd9:
        return this.#text(this.#big(1));
      case 0xda:
        return this.#text(this.#big(2));
      case 0xdb:
        return this.#text(this.#big(4));
      case 0xdc:
        return this.#list(this.#big(2), depth);
      case 0xdd:
        return this.#list(this.#big(4), depth);
      case 0xde:
        return this.#map(this.#big(2), depth);
      case 0xdf:
        return this.#map(this.#big(4), depth);
      case 0xc1:
        throw new MalformedError(`byte ${at}: 0xc1, which begins nothing`);
      default:
        throw new MalformedError(
          `byte ${at}: an extension type (tag 0x${tag.toString(16)}); expected what JSON has too`,
        );
    }
  }

  /** @param {number} length @param {number} depth */
  #map(length, depth) {
    /** @type {[string, unknown][]} */
    const fields = [];
    for (let n = 0; n < length; n++) {
      const at = this.#at;
      const key = this.item(depth + 1);
      if (typeof key !== "string") throw new MalformedError(`byte ${at}: a key that is no text`);
      fields.push([key, this.item(depth + 1)]);
    }
    // Also the key "__proto__" becomes a field of its own here.
    return Object.fromEntries(fields);
  }

  /** @param {number} length @param {number} depth */
  #list(length, depth) {
    const items = [];
    for (let n = 0; n < length; n++) items.push(this.item(depth + 1));
    return items;
  }

  /** @param {number} length */
  #text(length) {
    const at = this.#at;
    try {
      return this.#texts.decode(this.#data(length));
    } catch (cause) {
      if (!(cause instanceof TypeError)) throw cause;
      throw new MalformedError(`byte ${at}: a text that is not UTF-8`, { cause });
    }
  }

  /** @param {number} length */
  #data(length) {
    const at = this.#skip(length, "data");
    return this.#bytes.subarray(at, at + length);
  }

  /** @param {number} width @returns {number} */
  #big(width) {
    const at = this.#skip(width, "a number");
    if (width === 1) return this.#view.getUint8(at);
    return width === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  /** Where the next bytes begin, which are passed. @param {number} length @param {string} what */
  #skip(length, what) {
    const at = this.#at;
    const rest = this.#bytes.length - at;
    if (length > rest) throw new MalformedError(`byte ${at}: ${what} of ${length} bytes was announced, ${rest} follow`);
    this.#at = at + length;
    return at;
  }
}
