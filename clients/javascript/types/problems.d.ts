/**
 * The error that a problem document stands for; a kind that this client does not know yet is a PullbackError.
 *
 * @param {import("../types/wire.js").Problem} problem
 * @param {Headers} headers of the answer
 */
export function errorOf(problem: import("../types/wire.js").Problem, headers: Headers): errors.PullbackError;
/** @type {Readonly<Record<string, typeof errors.PullbackError>>} slug -> class */
export const BY_SLUG: Readonly<Record<string, typeof errors.PullbackError>>;
import * as errors from "./errors.js";
