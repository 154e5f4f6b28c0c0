/**
 * What `attempt` gives, at the first time that it does not fail for what may pass: no or half an answer, status 429,
 * 502, 503. The error that is thrown in the end knows how many attempts there were.
 *
 * @template T
 * @param {(attempts: number) => Promise<T>} attempt does what may be repeated; given which attempt it is, from 1
 * @param {RetryPolicy} policy
 * @param {AbortSignal} [signal] ends the waiting too
 * @returns {Promise<T>}
 */
export function retried<T>(attempt: (attempts: number) => Promise<T>, policy: RetryPolicy, signal?: AbortSignal): Promise<T>;
/**
 * Milliseconds to wait before the next attempt; undefined: there is to be none.
 *
 * @param {PullbackError} error
 * @param {number} attempts
 * @param {RetryPolicy} policy
 */
export function delayAfter(error: PullbackError, attempts: number, { count, firstDelay, longestDelay }: RetryPolicy): number | undefined;
/**
 * How often and when to try again.
 * @typedef {object} RetryPolicy
 * @property {number} count how often at most, after the first time
 * @property {number} firstDelay milliseconds before the first time; twice as many before each one after it
 * @property {number} longestDelay milliseconds at most; a server that wants a longer wait is not waited for
 */
/** @type {Readonly<RetryPolicy>} */
export const DEFAULT_POLICY: Readonly<RetryPolicy>;
/**
 * How often and when to try again.
 */
export type RetryPolicy = {
    /**
     * how often at most, after the first time
     */
    count: number;
    /**
     * milliseconds before the first time; twice as many before each one after it
     */
    firstDelay: number;
    /**
     * milliseconds at most; a server that wants a longer wait is not waited for
     */
    longestDelay: number;
};
import { PullbackError } from "./errors.js";
