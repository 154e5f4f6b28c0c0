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
export class Call<T> implements Promise<T> {
    /** @param {Promise<Answer<T>>} answer */
    constructor(answer: Promise<Answer<T>>);
    /** Status, headers, request id and the like beside the content. */
    withResponse(): Promise<Answer<T>>;
    /**
     * @template [Done=T], [Failed=never]
     * @param {((data: T) => Done | PromiseLike<Done>) | null} [onDone]
     * @param {((reason: any) => Failed | PromiseLike<Failed>) | null} [onFailed]
     * @returns {Promise<Done | Failed>}
     */
    then<Done = T, Failed = never>(onDone?: ((data: T) => Done | PromiseLike<Done>) | null, onFailed?: ((reason: any) => Failed | PromiseLike<Failed>) | null): Promise<Done | Failed>;
    /**
     * @template [Failed=never]
     * @param {((reason: any) => Failed | PromiseLike<Failed>) | null} [onFailed]
     * @returns {Promise<T | Failed>}
     */
    catch<Failed = never>(onFailed?: ((reason: any) => Failed | PromiseLike<Failed>) | null): Promise<T | Failed>;
    /** @param {(() => void) | null} [onEnd] @returns {Promise<T>} */
    finally(onEnd?: (() => void) | null): Promise<T>;
    get [Symbol.toStringTag](): string;
    #private;
}
/**
 * What came with an answer.
 */
export type ResponseInfo = {
    status: number;
    headers: Headers;
    /**
     * by which the server's log can be searched
     */
    requestId: string;
    /**
     * the server had done the call before, and repeated its answer (Idempotent-Replay)
     */
    isReplay: boolean;
    /**
     * how often it was tried, 1 where all went well
     */
    attempts: number;
};
/**
 * What was answered, and what came with it.
 */
export type Answer<T> = {
    data: T;
    response: ResponseInfo;
};
