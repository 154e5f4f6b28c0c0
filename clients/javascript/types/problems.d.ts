/**
 * The error that a problem document stands for; a kind that this client does not know yet is a PullbackError.
 *
 * @param {Problem} problem
 * @param {Headers} headers of the answer
 */
export function errorOf(problem: Problem, headers: Headers): errors.PullbackError;
/** @import { Problem } from "../types/wire.js" */
/** @type {Readonly<Record<string, typeof errors.PullbackError>>} slug -> class */
export const BY_SLUG: Readonly<Record<string, typeof errors.PullbackError>>;
import type { Problem } from "../types/wire.js";
import * as errors from "./errors.js";
