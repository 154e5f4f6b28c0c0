/**
 * The arrays of a file as a server writes it; those of shape [] are plain scalars.
 *
 * @param {Uint8Array} file
 * @returns {Results}
 */
export function readSafetensors(file: Uint8Array): Results;
import type { Results } from "../types/wire.js";
