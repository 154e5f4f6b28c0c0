/** A call under way: a promise of what was answered, and on request of what came with the answer. */

/**
 * What came with an answer.
 * @typedef {object} ResponseInfo
 * @property {number} status
 * @property {Headers} headers
 * @property {string} requestId by which the server's log can be searched
 * @property {boolean} isReplay the server had done the call before, and repeated its answer (Idempotent-Replay)
 * @property {number} attempts how often it was tried, 1 where all went well
 */

/**
 * What was answered, and what came with it.
 * @template T
 * @typedef {{ data: T, response: ResponseInfo }} Answer
 */

/**
 * Awaited, it is the answer's content.
 *
 * @template T
 * @implements {Promise<T>}
 */
export class Call {
  #answer;

  /** @param {Promise<Answer<T>>} answer */
  constructor(answer) {
    this.#answer = answer;
  }

  get [Symbol.toStringTag]() {
    return "Call";
  }

  /** Status, headers, request id and the like beside the content. */
  withResponse() {
    return this.#answer;
  }

  /**
   * @template [Done=T], [Failed=never]
   * @param {((data: T) => Done | PromiseLike<Done>) | null} [onDone]
   * @param {((reason: any) => Failed | PromiseLike<Failed>) | null} [onFailed]
   * @returns {Promise<Done | Failed>}
   */
  then(onDone, onFailed) {
    return this.#answer.then(({ data }) => data).then(onDone, onFailed);
  }

  /**
   * @template [Failed=never]
   * @param {((reason: any) => Failed | PromiseLike<Failed>) | null} [onFailed]
   * @returns {Promise<T | Failed>}
   */
  catch(onFailed) {
    return this.then(undefined, onFailed);
  }

  /** @param {(() => void) | null} [onEnd] @returns {Promise<T>} */
  finally(onEnd) {
    return this.then().finally(onEnd);
  }
}
