/** @param {number} timeout */
export function checkTimeout(timeout: number): void;
/**
 * Refuses a request that is no object, as where a program and its inputs are given one after the other.
 *
 * @param {string} call
 * @param {unknown} request
 */
export function checkRequest(call: string, request: unknown): void;
export const MSGPACK_TYPE: "application/msgpack";
export const SAFETENSORS_TYPE: "application/safetensors";
/** @typedef {keyof typeof FORMATS} Encoding */
/**
 * What is sent.
 * @typedef {object} Request
 * @property {string} method
 * @property {string} path
 * @property {Record<string, unknown>} [query] parameters; those that are undefined are left out
 * @property {Record<string, unknown>} [body] a document, as `prepared` makes it
 * @property {Uint8Array} [file] a safetensors file in place of a document
 * @property {string} [accept] a media type that is wanted in place of a document: text, or safetensors as bytes
 * @property {Record<string, string>} [headers]
 */
/**
 * Where a server is and how it is spoken to.
 * @typedef {object} Settings
 * @property {string} url without a slash at its end
 * @property {Headers} headers of every request
 * @property {number} timeout milliseconds
 * @property {RetryPolicy} retries
 * @property {Encoding} encoding
 * @property {typeof fetch} fetch
 */
export const ENCODINGS: readonly string[];
/** Sends requests to one server. */
export class Transport {
    /** @param {Settings} settings */
    constructor(settings: Settings);
    /** What `encoding` a request names, for its answer to have arrays in. */
    get arrays(): string;
    /**
     * A copy of a part of a request, as it is to be written.
     *
     * @param {unknown} document
     * @returns {any}
     */
    prepared(document: unknown): any;
    /**
     * The answer to a request, which may be sent more than once.
     *
     * @param {Request} request
     * @param {CallOptions} [options]
     * @returns {Promise<Answer<any>>}
     */
    send(request: Request, options?: CallOptions): Promise<Answer<any>>;
    #private;
}
export type Encoding = keyof typeof FORMATS;
/**
 * What is sent.
 */
export type Request = {
    method: string;
    path: string;
    /**
     * parameters; those that are undefined are left out
     */
    query?: Record<string, unknown> | undefined;
    /**
     * a document, as `prepared` makes it
     */
    body?: Record<string, unknown> | undefined;
    /**
     * a safetensors file in place of a document
     */
    file?: Uint8Array<ArrayBufferLike> | undefined;
    /**
     * a media type that is wanted in place of a document: text, or safetensors as bytes
     */
    accept?: string | undefined;
    headers?: Record<string, string> | undefined;
};
/**
 * Where a server is and how it is spoken to.
 */
export type Settings = {
    /**
     * without a slash at its end
     */
    url: string;
    /**
     * of every request
     */
    headers: Headers;
    /**
     * milliseconds
     */
    timeout: number;
    retries: RetryPolicy;
    encoding: Encoding;
    fetch: typeof fetch;
};
import type { CallOptions } from "../types/wire.js";
import type { Answer } from "./call.js";
/** How documents travel, by the client's `encoding`: the media type, what holds arrays in requests and in answers. */
declare const FORMATS: Readonly<{
    binary: {
        mediaType: string;
        form: "bytes";
        arrays: string;
    };
    base64: {
        mediaType: string;
        form: "base64";
        arrays: string;
    };
    json: {
        mediaType: string;
        form: "base64";
        arrays: string;
    };
}>;
import type { RetryPolicy } from "./retries.js";
export {};
