/** Retries: what may pass by itself is tried again, later and later. */

import { ConnectionError, PullbackError } from "./errors.js";

/**
 * How often and when to try again.
 * @typedef {object} RetryPolicy
 * @property {number} count how often at most, after the first time
 * @property {number} firstDelay milliseconds before the first time; twice as many before each one after it
 * @property {number} longestDelay milliseconds at most; a server that wants a longer wait is not waited for
 */

/** @type {Readonly<RetryPolicy>} */
export const DEFAULT_POLICY = Object.freeze({ count: 3, firstDelay: 250, longestDelay: 30_000 });

/** Too many requests, a proxy without its server, and a server that cannot just now. */
const PASSING_STATUSES = Object.freeze([429, 502, 503]);

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
export async function retried(attempt, policy, signal) {
  for (let attempts = 1; ; attempts++) {
    try {
      return await attempt(attempts);
    } catch (error) {
      if (!(error instanceof PullbackError)) throw error;
      error.attempts = attempts;
      const delay = delayAfter(error, attempts, policy);
      if (delay === undefined) throw error;
      await pause(delay, signal);
    }
  }
}

/**
 * Milliseconds to wait before the next attempt; undefined: there is to be none.
 *
 * @param {PullbackError} error
 * @param {number} attempts
 * @param {RetryPolicy} policy
 */
export function delayAfter(error, attempts, { count, firstDelay, longestDelay }) {
  const mayPass = error instanceof ConnectionError || PASSING_STATUSES.includes(error.status);
  if (!mayPass || attempts > count) return undefined;
  const wanted = (error.retryAfter ?? 0) * 1000;
  if (wanted > longestDelay) return undefined;
  // Random, so that clients that failed together do not come back together.
  const chance = Math.random();
  const asked = wanted + chance * Math.min(wanted / 2, longestDelay - wanted);
  return Math.max(asked, (0.5 + chance / 2) * Math.min(firstDelay * 2 ** (attempts - 1), longestDelay));
}

/** @param {number} delay milliseconds @param {AbortSignal} [signal] @returns {Promise<void>} */
function pause(delay, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, delay);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
