/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Its methods are the commands, each a call of its own; `run` and `batch` do several in one call. Calls wait for those
 * before them, so that `Promise.all` of calls does them in order. Each call that changes the session has a number, by
 * which a call whose answer got lost is repeated and yet done once; one that fails has none, and has changed nothing.
 *
 * @extends {Commands<Call<ShownAnswer>, Call<RunAnswer>>}
 */
export class Session extends Commands<Call<ShownAnswer>, Call<RunAnswer>> {
    /**
     * A new session. A key tells the server which attempts are the same one.
     *
     * @param {Transport} transport
     * @param {SessionOptions} [options]
     * @param {CallOptions} [callOptions]
     */
    static create(transport: Transport, { ttl, ...rest }?: SessionOptions, callOptions?: CallOptions): Promise<Session>;
    /**
     * A session that is there already.
     *
     * @param {Transport} transport
     * @param {string} id
     * @param {CallOptions} [options]
     */
    static resume(transport: Transport, id: string, options?: CallOptions): Promise<Session>;
    /**
     * Use `client.session()` or `client.resume()`.
     *
     * @param {Transport} transport
     * @param {SessionInfo} info
     */
    constructor(transport: Transport, { id, seq, seed, name }: SessionInfo);
    /** A secret: who knows it may use the session. */
    id: string;
    /** Where its random numbers come from. */
    seed: number | bigint;
    name: string | null;
    /** The number of the last call that changed the session, as far as is known here. */
    get seq(): number;
    /**
     * Runs commands in order, all of them or none, and shows what some ids then are.
     *
     * @param {readonly Command[]} commands
     * @param {readonly Fetch[]} [fetch] ids, each for its value and gradient, or `{ id, what }`
     * @param {CallOptions} [options]
     * @returns {Call<RunAnswer>}
     */
    run(commands: readonly Command[], fetch?: readonly Fetch[], options?: CallOptions): Call<RunAnswer>;
    /** Commands to be gathered, and then run together. */
    batch(): Batch;
    /**
     * What there is to see of one variable, its value and gradient first; of a layer, a model or an optimizer its state.
     *
     * @param {string} id
     * @param {CallOptions} [options]
     * @returns {Call<Shown>}
     */
    get(id: string, options?: CallOptions): Call<Shown>;
    /**
     * Ids, shapes and dtypes of all variables, and what else the session has.
     *
     * @param {CallOptions} [options]
     * @returns {Call<VariablesAnswer>}
     */
    variables(options?: CallOptions): Call<VariablesAnswer>;
    /**
     * A picture of what a variable was computed from, as DOT text; verbose: with values in place of names.
     *
     * @param {string} of
     * @param {{ verbose?: boolean }} [picture]
     * @param {CallOptions} [options]
     * @returns {Call<string>}
     */
    dot(of: string, { verbose }?: {
        verbose?: boolean;
    }, options?: CallOptions): Call<string>;
    /**
     * The same as SVG, where the server has Graphviz.
     *
     * @param {string} of
     * @param {{ verbose?: boolean }} [picture]
     * @param {CallOptions} [options]
     * @returns {Call<string>}
     */
    svg(of: string, { verbose }?: {
        verbose?: boolean;
    }, options?: CallOptions): Call<string>;
    /**
     * The state of a layer, a model or an optimizer as a safetensors file.
     *
     * @param {string} id
     * @param {CallOptions} [options]
     * @returns {Call<Uint8Array>}
     */
    safetensors(id: string, options?: CallOptions): Call<Uint8Array>;
    /**
     * The state of a layer, a model or an optimizer as values by name.
     *
     * @param {string} id
     * @param {CallOptions} [options]
     * @returns {Call<Results>}
     */
    state(id: string, options?: CallOptions): Call<Results>;
    /**
     * Gives a layer, a model or an optimizer all of a state.
     *
     * @param {string} id
     * @param {Uint8Array | Readonly<Record<string, Value>>} state a safetensors file, or values by name
     * @param {CallOptions} [options]
     * @returns {Call<{ seq: number }>}
     */
    putState(id: string, state: Uint8Array | Readonly<Record<string, Value>>, options?: CallOptions): Call<{
        seq: number;
    }>;
    /**
     * Flags from here on, and the seconds for which the session is kept without use.
     *
     * @param {{ nograd?: boolean, train?: boolean, ttl?: number }} changes
     * @param {CallOptions} [options]
     * @returns {Call<{ seq: number, nograd: boolean, train: boolean }>}
     */
    change({ ttl, ...flags }: {
        nograd?: boolean;
        train?: boolean;
        ttl?: number;
    }, options?: CallOptions): Call<{
        seq: number;
        nograd: boolean;
        train: boolean;
    }>;
    /**
     * How the session is.
     *
     * @param {CallOptions} [options]
     * @returns {Call<SessionInfo>}
     */
    info(options?: CallOptions): Call<SessionInfo>;
    /**
     * Takes over the server's number, after a conflict: it goes on from whatever the session is now.
     *
     * @param {CallOptions} [options]
     * @returns {Promise<SessionInfo>}
     */
    sync(options?: CallOptions): Promise<SessionInfo>;
    /**
     * Deletes the session, if it is still there.
     *
     * @param {CallOptions} [options]
     * @returns {Promise<void>}
     */
    close(options?: CallOptions): Promise<void>;
    /** For `await using session = await client.session()`. */
    [Symbol.asyncDispose](): Promise<void>;
    #private;
}
import type { ShownAnswer } from "../types/wire.js";
import { Call } from "./call.js";
import type { RunAnswer } from "../types/wire.js";
import { Commands } from "./commands.js";
import type { Command } from "../types/wire.js";
import type { Fetch } from "../types/wire.js";
import type { CallOptions } from "../types/wire.js";
import { Batch } from "./commands.js";
import type { Shown } from "../types/wire.js";
import type { VariablesAnswer } from "../types/wire.js";
import type { Results } from "../types/wire.js";
import type { Value } from "../types/wire.js";
import type { SessionInfo } from "../types/wire.js";
import type { Transport } from "./transport.js";
import type { SessionOptions } from "../types/wire.js";
