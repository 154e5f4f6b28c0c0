/**
 * Its methods are the commands, each a call of its own; `run` and `batch` do several in one call. Calls wait for those before
 * them, so that `Promise.all` of calls does them in order. Each call that changes the session has a number, by which a call
 * whose answer got lost is repeated and yet done once; one that fails has none, and has changed nothing.
 *
 * @extends {Commands<Call<ShownAnswer>, Call<RunAnswer>>}
 */
export class Session extends Commands<Call<import("../types/wire.js").ShownAnswer>, Call<import("../types/wire.js").RunAnswer>> {
    /**
     * A new session. A key tells the server which attempts are the same one.
     *
     * @param {Transport} transport
     * @param {import("../types/wire.js").SessionOptions} [options]
     * @param {CallOptions} [callOptions]
     */
    static create(transport: Transport, { ttl, ...rest }?: import("../types/wire.js").SessionOptions, callOptions?: CallOptions): Promise<Session>;
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
     * @param {readonly import("../types/wire.js").Fetch[]} [fetch] ids, each for its value and gradient, or `{ id, what }`
     * @param {CallOptions} [options]
     * @returns {Call<RunAnswer>}
     */
    run(commands: readonly Command[], fetch?: readonly import("../types/wire.js").Fetch[], options?: CallOptions): Call<RunAnswer>;
    /** Commands to be gathered, and then run together. */
    batch(): Batch;
    /**
     * Value and gradient of one variable, or the state of a layer, a model or an optimizer, as numbers and nested lists; `run` with
     * a `fetch` shows them as arrays.
     *
     * @param {string} id
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").Shown>}
     */
    get(id: string, options?: CallOptions): Call<import("../types/wire.js").Shown>;
    /**
     * Ids, shapes and dtypes of all variables, and what else the session has.
     *
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").VariablesAnswer>}
     */
    variables(options?: CallOptions): Call<import("../types/wire.js").VariablesAnswer>;
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
     * @returns {Call<import("../types/wire.js").StateAnswer>}
     */
    state(id: string, options?: CallOptions): Call<import("../types/wire.js").StateAnswer>;
    /**
     * Gives a layer, a model or an optimizer all of a state.
     *
     * @param {string} id
     * @param {Uint8Array | Readonly<Record<string, import("../types/wire.js").Value>>} state a safetensors file, or values by name
     * @param {CallOptions} [options]
     * @returns {Call<{ seq: number }>}
     */
    putState(id: string, state: Uint8Array | Readonly<Record<string, import("../types/wire.js").Value>>, options?: CallOptions): Call<{
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
export type CallOptions = import("../types/wire.js").CallOptions;
export type Command = import("../types/wire.js").Command;
export type SessionInfo = import("../types/wire.js").SessionInfo;
export type ShownAnswer = import("../types/wire.js").ShownAnswer;
export type RunAnswer = import("../types/wire.js").RunAnswer;
export type Request = import("./transport.js").Request;
export type Transport = import("./transport.js").Transport;
import { Call } from "./call.js";
import { Commands } from "./commands.js";
import { Batch } from "./commands.js";
