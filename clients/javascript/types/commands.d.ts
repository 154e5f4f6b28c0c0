/** The commands of sessions, a method each: for a session to do at once, or for a batch to gather. */
/** @import { CallOptions, Command, Fetch, Hook, RunAnswer, Value } from "../types/wire.js" */
/** @import { Call } from "./call.js" */
/** @typedef {Record<string, unknown>} Config as GET /v1/ops lists it for the kind */
/**
 * Every command as a method; subclasses say what becomes of a command. Operands are ids or values.
 *
 * @template Shown what comes of a command that shows a variable
 * @template Done what comes of the others
 * @abstract
 */
export class Commands<Shown, Done> {
    /**
     * @param {(command: Command) => Shown} shows
     * @param {(command: Command) => Done} does
     */
    constructor(shows: (command: Command) => Shown, does: (command: Command) => Done);
    /**
     * A leaf; a constant has no gradient. `name` is what it is called in pictures.
     *
     * @param {string | undefined} id default: v1, v2, ...
     * @param {Value} value
     * @param {{ name?: string, constant?: boolean }} [more]
     */
    variable(id: string | undefined, value: Value, more?: {
        name?: string;
        constant?: boolean;
    }): Shown;
    /**
     * An operation by its name. Without `out` its results are called v1, v2, ...
     *
     * @param {string} op
     * @param {readonly (string | Value)[]} args
     * @param {{ attrs?: Config, out?: string | readonly string[] }} [more] `out`: ids of the results
     */
    apply(op: string, args: readonly (string | Value)[], { attrs, out }?: {
        attrs?: Config;
        out?: string | readonly string[];
    }): Shown;
    /**
     * An expression whose names are ids.
     *
     * @param {string} expr
     * @param {{ out?: string | readonly string[] }} [more]
     */
    expr(expr: string, { out }?: {
        out?: string | readonly string[];
    }): Shown;
    /**
     * Adds the gradient of a variable to every leaf that it was computed from, beginning with the cotangent, or ones.
     *
     * @param {string} of
     * @param {{ create_graph?: boolean, retain_grad?: boolean, cotangent?: string | Value }} [more]
     */
    backward(of: string, more?: {
        create_graph?: boolean;
        retain_grad?: boolean;
        cotangent?: string | Value;
    }): Shown;
    /**
     * Forgets gradients: all, or those of some ids; of a model those of its parameters.
     *
     * @param {string | readonly string[]} [ids]
     */
    cleargrad(ids?: string | readonly string[]): Shown;
    /**
     * Names a variable's gradient, so that it can be computed with.
     *
     * @param {string} of
     * @param {string} [out] default: v1, v2, ...
     */
    grad(of: string, out?: string): Done;
    /**
     * New data for a leaf; anything else becomes one.
     *
     * @param {string} id
     * @param {Value} value
     */
    assign(id: string, value: Value): Done;
    /**
     * The data of another variable for a leaf.
     *
     * @param {string} id
     * @param {string} from
     */
    assignFrom(id: string, from: string): Done;
    /**
     * Forgets what computed a variable.
     *
     * @param {string} id
     */
    unchain(id: string): Done;
    /**
     * Forgets what computed the variables that a variable was computed from.
     *
     * @param {string} id
     */
    unchainBackward(id: string): Done;
    /**
     * Drops ids; the tape keeps what it needs.
     *
     * @param {string | readonly string[]} ids
     */
    delete(ids: string | readonly string[]): Done;
    /**
     * Flags from here on: nothing is recorded; random operations are active.
     *
     * @param {{ nograd?: boolean, train?: boolean }} flags
     */
    set(flags: {
        nograd?: boolean;
        train?: boolean;
    }): Done;
    /**
     * A layer, whose parameters are variables such as `l.w`.
     *
     * @param {string} id
     * @param {string} kind
     * @param {Config} [config]
     */
    layer(id: string, kind: string, config?: Config): Done;
    /**
     * A model, whose parameters are variables such as `m.linear[0].w`.
     *
     * @param {string} id
     * @param {string} kind
     * @param {Config} [config]
     */
    model(id: string, kind: string, config?: Config): Done;
    /**
     * Calls a layer or a model.
     *
     * @param {string} id
     * @param {readonly (string | Value)[]} args
     * @param {{ out?: string | readonly string[] }} [more]
     */
    call(id: string, args: readonly (string | Value)[], { out }?: {
        out?: string | readonly string[];
    }): Done;
    /**
     * Makes recurrent layers forget earlier calls.
     *
     * @param {string} id
     */
    resetState(id: string): Done;
    /**
     * Gives a layer, a model or an optimizer a state: all of it, by name.
     *
     * @param {string} id
     * @param {Readonly<Record<string, Value>>} state
     */
    load(id: string, state: Readonly<Record<string, Value>>): Done;
    /**
     * An optimizer of a model's or layer's parameters, or of variables.
     *
     * @param {string} id
     * @param {string} kind
     * @param {{ params: string | readonly string[], config?: Config, hooks?: readonly Hook[] }} more
     */
    optimizer(id: string, kind: string, more: {
        params: string | readonly string[];
        config?: Config;
        hooks?: readonly Hook[];
    }): Done;
    /**
     * One step of an optimizer.
     *
     * @param {string} id
     */
    step(id: string): Done;
    #private;
}
/**
 * Commands that are run together, all of them or none; each method gives the batch itself. It may run more than once.
 *
 * @extends {Commands<Batch, Batch>}
 */
export class Batch extends Commands<Batch, Batch> {
    /**
     * @param {(command: Command) => unknown} prepared a copy of a command, so that arrays may change after it
     * @param {(commands: unknown[], ...rest: RunParameters) => Call<RunAnswer>} run
     */
    constructor(prepared: (command: Command) => unknown, run: (commands: unknown[], ...rest: RunParameters) => Call<RunAnswer>);
    /**
     * Runs the commands, and shows what some ids then are.
     *
     * @param {RunParameters} rest
     */
    run(fetch?: readonly Fetch[] | undefined, options?: CallOptions | undefined): Call<RunAnswer>;
    #private;
}
/**
 * What is to be seen after a run: ids, each for its value and gradient, or `{ id, what }`.
 */
export type RunParameters = [fetch?: readonly Fetch[], options?: CallOptions];
/**
 * as GET /v1/ops lists it for the kind
 */
export type Config = Record<string, unknown>;
import type { Value } from "../types/wire.js";
import type { Hook } from "../types/wire.js";
import type { Command } from "../types/wire.js";
import type { Fetch } from "../types/wire.js";
import type { CallOptions } from "../types/wire.js";
import type { RunAnswer } from "../types/wire.js";
import type { Call } from "./call.js";
