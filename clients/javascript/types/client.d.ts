/**
 * Speaks to a Pullback server. Requests and answers are the documents of the HTTP API, whose arrays are typed arrays
 * and NDArrays. Calls give a `Call`: await it for the answer, or its `withResponse()` for headers and request id too.
 * What fails throws a PullbackError of the problem's kind.
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
     * @template {EvaluateRequest} R
     * @param {R} request
     * @param {CallOptions} [options]
     * @returns {Call<EvaluateAnswer<R>>}
     */
    evaluate<R extends EvaluateRequest>(request: R, options?: CallOptions): Call<EvaluateAnswer<R>>;
    /**
     * Cotangents of outputs carried back to inputs.
     *
     * @param {VjpRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<VjpAnswer>}
     */
    vjp(request: VjpRequest, options?: CallOptions): Call<VjpAnswer>;
    /**
     * Tangents of inputs carried to outputs.
     *
     * @param {JvpRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<JvpAnswer>}
     */
    jvp(request: JvpRequest, options?: CallOptions): Call<JvpAnswer>;
    /**
     * All first derivatives, each of shape output.shape + input.shape.
     *
     * @param {JacobianRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<JacobianAnswer>}
     */
    jacobian(request: JacobianRequest, options?: CallOptions): Call<JacobianAnswer>;
    /**
     * All second derivatives of an output of one element.
     *
     * @param {HessianRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<HessianAnswer>}
     */
    hessian(request: HessianRequest, options?: CallOptions): Call<HessianAnswer>;
    /**
     * The Hessian times vectors.
     *
     * @param {HvpRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<HvpAnswer>}
     */
    hvp(request: HvpRequest, options?: CallOptions): Call<HvpAnswer>;
    /**
     * Gradients beside central differences.
     *
     * @param {CheckRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<CheckAnswer>}
     */
    check(request: CheckRequest, options?: CallOptions): Call<CheckAnswer>;
    /**
     * Shapes, dtypes and cost of a program; nothing runs.
     *
     * @param {InferRequest} request inputs as values, or as `{ shape, dtype }`
     * @param {CallOptions} [options]
     * @returns {Call<InferAnswer>}
     */
    infer(request: InferRequest, options?: CallOptions): Call<InferAnswer>;
    /**
     * All operations, and the kinds of layers, models, optimizers and hooks with their configuration.
     *
     * @param {CallOptions} [options]
     * @returns {Call<OperationsAnswer>}
     */
    ops(options?: CallOptions): Call<OperationsAnswer>;
    /**
     * One operation, by its name or an alias.
     *
     * @param {string} name
     * @param {CallOptions} [options]
     * @returns {Call<Operation>}
     */
    op(name: string, options?: CallOptions): Call<Operation>;
    /**
     * Name, version and limits of the server.
     *
     * @param {CallOptions} [options]
     * @returns {Call<InfoAnswer>}
     */
    info(options?: CallOptions): Call<InfoAnswer>;
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
     * @param {SessionOptions} [options]
     * @param {CallOptions} [callOptions]
     * @returns {Promise<Session>}
     */
    session(options?: SessionOptions, callOptions?: CallOptions): Promise<Session>;
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
export type ClientOptions = {
    /**
     * where the server is; default: PULLBACK_URL where there is an environment, else
     * http://127.0.0.1:8000
     */
    url?: string | undefined;
    /**
     * sent as Authorization: Bearer; PULLBACK_API_KEY where it is left out
     */
    apiKey?: string | undefined;
    /**
     * milliseconds that one attempt of a call may take; default 60,000
     */
    timeout?: number | undefined;
    /**
     * how often to try again what may pass by itself, default 3; or
     * also how long to wait in between
     */
    retries?: number | Partial<RetryPolicy> | undefined;
    /**
     * how arrays travel: as bytes in MessagePack (the default), as
     * base64 in JSON, both of which give NDArrays, or as nested lists, which integers beyond 2**53 do not survive
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
import type { EvaluateRequest } from "../types/wire.js";
import type { CallOptions } from "../types/wire.js";
import { Call } from "./call.js";
import type { EvaluateAnswer } from "../types/wire.js";
import type { VjpRequest } from "../types/wire.js";
import type { VjpAnswer } from "../types/wire.js";
import type { JvpRequest } from "../types/wire.js";
import type { JvpAnswer } from "../types/wire.js";
import type { JacobianRequest } from "../types/wire.js";
import type { JacobianAnswer } from "../types/wire.js";
import type { HessianRequest } from "../types/wire.js";
import type { HessianAnswer } from "../types/wire.js";
import type { HvpRequest } from "../types/wire.js";
import type { HvpAnswer } from "../types/wire.js";
import type { CheckRequest } from "../types/wire.js";
import type { CheckAnswer } from "../types/wire.js";
import type { InferRequest } from "../types/wire.js";
import type { InferAnswer } from "../types/wire.js";
import type { OperationsAnswer } from "../types/wire.js";
import type { Operation } from "../types/wire.js";
import type { InfoAnswer } from "../types/wire.js";
import type { SessionOptions } from "../types/wire.js";
import { Session } from "./session.js";
import type { RetryPolicy } from "./retries.js";
