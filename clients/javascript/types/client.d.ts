/**
 * Speaks to a Pullback server. Requests and answers are the documents of the HTTP API, whose arrays are typed arrays and
 * NDArrays. Calls give a `Call`: await it for the answer, or its `withResponse()` for headers and request id too. What fails
 * throws a PullbackError of the problem's kind.
 */
export class Client {
    /** @param {ClientOptions} [options] */
    constructor(options?: ClientOptions);
    /** Where the server is. */
    url: string;
    /** Programs that the server keeps. */
    programs: Programs;
    /**
     * Values of a program and, with `backward`, gradients.
     *
     * @template {import("../types/wire.js").EvaluateRequest} R
     * @param {R} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").EvaluateAnswer<R>>}
     */
    evaluate<R extends import("../types/wire.js").EvaluateRequest>(request: R, options?: CallOptions): Call<import("../types/wire.js").EvaluateAnswer<R>>;
    /**
     * Cotangents of outputs carried back to inputs.
     *
     * @param {import("../types/wire.js").VjpRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").VjpAnswer>}
     */
    vjp(request: import("../types/wire.js").VjpRequest, options?: CallOptions): Call<import("../types/wire.js").VjpAnswer>;
    /**
     * Tangents of inputs carried to outputs.
     *
     * @param {import("../types/wire.js").JvpRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").JvpAnswer>}
     */
    jvp(request: import("../types/wire.js").JvpRequest, options?: CallOptions): Call<import("../types/wire.js").JvpAnswer>;
    /**
     * All first derivatives, each of shape output.shape + input.shape.
     *
     * @param {import("../types/wire.js").JacobianRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").JacobianAnswer>}
     */
    jacobian(request: import("../types/wire.js").JacobianRequest, options?: CallOptions): Call<import("../types/wire.js").JacobianAnswer>;
    /**
     * All second derivatives of an output of one element.
     *
     * @param {import("../types/wire.js").HessianRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").HessianAnswer>}
     */
    hessian(request: import("../types/wire.js").HessianRequest, options?: CallOptions): Call<import("../types/wire.js").HessianAnswer>;
    /**
     * The Hessian times vectors.
     *
     * @param {import("../types/wire.js").HvpRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").HvpAnswer>}
     */
    hvp(request: import("../types/wire.js").HvpRequest, options?: CallOptions): Call<import("../types/wire.js").HvpAnswer>;
    /**
     * Gradients beside central differences.
     *
     * @param {import("../types/wire.js").CheckRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").CheckAnswer>}
     */
    check(request: import("../types/wire.js").CheckRequest, options?: CallOptions): Call<import("../types/wire.js").CheckAnswer>;
    /**
     * Shapes, dtypes and cost of a program; nothing runs.
     *
     * @param {import("../types/wire.js").InferRequest} request inputs as values, or as `{ shape, dtype }`
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").InferAnswer>}
     */
    infer(request: import("../types/wire.js").InferRequest, options?: CallOptions): Call<import("../types/wire.js").InferAnswer>;
    /**
     * All operations, and the kinds of layers, models, optimizers and hooks with their configuration.
     *
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").OperationsAnswer>}
     */
    ops(options?: CallOptions): Call<import("../types/wire.js").OperationsAnswer>;
    /**
     * One operation, by its name or an alias.
     *
     * @param {string} name
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").Operation>}
     */
    op(name: string, options?: CallOptions): Call<import("../types/wire.js").Operation>;
    /**
     * Name, version and limits of the server.
     *
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").InfoAnswer>}
     */
    info(options?: CallOptions): Call<import("../types/wire.js").InfoAnswer>;
    /**
     * Answers as long as the server is alive.
     *
     * @param {CallOptions} [options]
     * @returns {Call<{ status: string }>}
     */
    health(options?: CallOptions): Call<{
        status: string;
    }>;
    /**
     * Whether the server takes requests: not while it stops, or its store does not work.
     *
     * @param {CallOptions} [options]
     * @returns {Promise<boolean>}
     */
    ready(options?: CallOptions): Promise<boolean>;
    /**
     * A new session: variables on a tape that stay from call to call.
     *
     * @param {import("../types/wire.js").SessionOptions} [options]
     * @param {CallOptions} [callOptions]
     * @returns {Promise<Session>}
     */
    session(options?: import("../types/wire.js").SessionOptions, callOptions?: CallOptions): Promise<Session>;
    /**
     * A session that is there already, to go on with.
     *
     * @param {string} id
     * @param {CallOptions} [options]
     * @returns {Promise<Session>}
     */
    resume(id: string, options?: CallOptions): Promise<Session>;
    #private;
}
export type CallOptions = import("../types/wire.js").CallOptions;
export type ClientOptions = {
    /**
     * where the server is; default: PULLBACK_URL where there is an environment, then http://127.0.0.1:8000
     */
    url?: string | undefined;
    /**
     * sent as Authorization: Bearer
     */
    apiKey?: string | undefined;
    /**
     * milliseconds that one attempt of a call may take; default 60,000
     */
    timeout?: number | undefined;
    /**
     * how often to try again what may pass by
     * itself, default 3; or also how long to wait in between
     */
    retries?: number | Partial<import("./retries.js").RetryPolicy> | undefined;
    /**
     * how arrays travel: as bytes in MessagePack (the default), as base64
     * in JSON, both of which give NDArrays, or as nested lists, which numbers beyond 2**53 do not survive
     */
    encoding?: "json" | "base64" | "binary" | undefined;
    /**
     * in place of the global one
     */
    fetch?: typeof fetch | undefined;
    /**
     * of every request
     */
    headers?: HeadersInit | undefined;
};
import { Programs } from "./programs.js";
import { Call } from "./call.js";
import { Session } from "./session.js";
