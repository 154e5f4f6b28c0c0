/** Safetensors files -> arrays by name. Format: https://github.com/huggingface/safetensors#format */

import { HOLDERS, NDArray } from "./ndarray.js";

/** @import { Dtype, Results } from "../types/wire.js" */

/** @type {Readonly<Record<string, Dtype>>} */
const DTYPES = Object.freeze({ F64: "float64", F32: "float32", I64: "int64", BOOL: "bool" });
/** A file begins with the length of its header. */
const LENGTH_BYTES = 8;

/**
 * The arrays of a file as a server writes it; those of shape [] are plain scalars.
 *
 * @param {Uint8Array} file
 * @returns {Results}
 */
export function readSafetensors(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const begin = LENGTH_BYTES + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(LENGTH_BYTES, begin)));
  const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
  return Object.fromEntries(
    entries.map(
      ([
        name,
        {
          dtype: code,
          shape,
          data_offsets: [from, to],
        },
      ]) => {
        const dtype = DTYPES[code];
        const held = new NDArray(new HOLDERS[dtype](file.slice(begin + from, begin + to).buffer), shape, dtype);
        return [name, shape.length === 0 ? held.item() : held];
      },
    ),
  );
}
