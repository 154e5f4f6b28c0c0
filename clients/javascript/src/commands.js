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
export class Commands {
  #shows;
  #does;

  /**
   * @param {(command: Command) => Shown} shows
   * @param {(command: Command) => Done} does
   */
  constructor(shows, does) {
    this.#shows = shows;
    this.#does = does;
  }

  /**
   * A leaf; a constant has no gradient. `name` is what it is called in pictures.
   *
   * @param {string | undefined} id default: v1, v2, ...
   * @param {Value} value
   * @param {{ name?: string, constant?: boolean }} [more]
   */
  variable(id, value, more) {
    return this.#shows({ do: "variable", id, value, ...more });
  }

  /**
   * An operation by its name. Without `out` its results are called v1, v2, ...
   *
   * @param {string} op
   * @param {readonly (string | Value)[]} args
   * @param {{ attrs?: Config, out?: string | readonly string[] }} [more] `out`: ids of the results
   */
  apply(op, args, { attrs, out } = {}) {
    return this.#shows({ do: "apply", op, args, attrs, out: listed(out) });
  }

  /**
   * An expression whose names are ids.
   *
   * @param {string} expr
   * @param {{ out?: string | readonly string[] }} [more]
   */
  expr(expr, { out } = {}) {
    return this.#shows({ do: "apply", expr, out: listed(out) });
  }

  /**
   * Adds the gradient of a variable to every leaf that it was computed from, beginning with the cotangent, or ones.
   *
   * @param {string} of
   * @param {{ create_graph?: boolean, retain_grad?: boolean, cotangent?: string | Value }} [more]
   */
  backward(of, more) {
    return this.#shows({ do: "backward", of, ...more });
  }

  /**
   * Forgets gradients: all, or those of some ids; of a model those of its parameters.
   *
   * @param {string | readonly string[]} [ids]
   */
  cleargrad(ids) {
    return this.#shows({ do: "cleargrad", ids: listed(ids) });
  }

  /**
   * Names a variable's gradient, so that it can be computed with.
   *
   * @param {string} of
   * @param {string} [out] default: v1, v2, ...
   */
  grad(of, out) {
    return this.#does({ do: "grad", of, out });
  }

  /**
   * New data for a leaf; anything else becomes one.
   *
   * @param {string} id
   * @param {Value} value
   */
  assign(id, value) {
    return this.#does({ do: "assign", id, value });
  }

  /**
   * The data of another variable for a leaf.
   *
   * @param {string} id
   * @param {string} from
   */
  assignFrom(id, from) {
    return this.#does({ do: "assign", id, from });
  }

  /**
   * Forgets what computed a variable.
   *
   * @param {string} id
   */
  unchain(id) {
    return this.#does({ do: "unchain", id });
  }

  /**
   * Forgets what computed the variables that a variable was computed from.
   *
   * @param {string} id
   */
  unchainBackward(id) {
    return this.#does({ do: "unchain_backward", id });
  }

  /**
   * Drops ids; the tape keeps what it needs.
   *
   * @param {string | readonly string[]} ids
   */
  delete(ids) {
    return this.#does({ do: "delete", ids: listed(ids) });
  }

  /**
   * Flags from here on: nothing is recorded; random operations are active.
   *
   * @param {{ nograd?: boolean, train?: boolean }} flags
   */
  set(flags) {
    return this.#does({ do: "set", ...flags });
  }

  /**
   * A layer, whose parameters are variables such as `l.w`.
   *
   * @param {string} id
   * @param {string} kind
   * @param {Config} [config]
   */
  layer(id, kind, config) {
    return this.#does({ do: "layer", id, kind, config });
  }

  /**
   * A model, whose parameters are variables such as `m.linear[0].w`.
   *
   * @param {string} id
   * @param {string} kind
   * @param {Config} [config]
   */
  model(id, kind, config) {
    return this.#does({ do: "model", id, kind, config });
  }

  /**
   * Calls a layer or a model.
   *
   * @param {string} id
   * @param {readonly (string | Value)[]} args
   * @param {{ out?: string | readonly string[] }} [more]
   */
  call(id, args, { out } = {}) {
    return this.#does({ do: "call", id, args, out: listed(out) });
  }

  /**
   * Makes recurrent layers forget earlier calls.
   *
   * @param {string} id
   */
  resetState(id) {
    return this.#does({ do: "reset_state", id });
  }

  /**
   * Gives a layer, a model or an optimizer a state: all of it, by name.
   *
   * @param {string} id
   * @param {Readonly<Record<string, Value>>} state
   */
  load(id, state) {
    return this.#does({ do: "load", id, state });
  }

  /**
   * An optimizer of a model's or layer's parameters, or of variables.
   *
   * @param {string} id
   * @param {string} kind
   * @param {{ params: string | readonly string[], config?: Config, hooks?: readonly Hook[] }} more
   */
  optimizer(id, kind, more) {
    return this.#does({ do: "optimizer", id, kind, ...more });
  }

  /**
   * One step of an optimizer.
   *
   * @param {string} id
   */
  step(id) {
    return this.#does({ do: "step", id });
  }
}

/**
 * Commands that are run together, all of them or none; each method gives the batch itself. It may run more than once.
 *
 * @extends {Commands<Batch, Batch>}
 */
export class Batch extends Commands {
  #run;

  /**
   * @param {(command: Command) => unknown} prepared a copy of a command, so that arrays may change after it
   * @param {(commands: unknown[], ...rest: RunParameters) => Call<RunAnswer>} run
   */
  constructor(prepared, run) {
    /** @type {unknown[]} */
    const commands = [];
    const take = (/** @type {Command} */ command) => {
      commands.push(prepared(command));
      return this;
    };
    super(take, take);
    this.#run = run.bind(undefined, commands);
  }

  /**
   * Runs the commands, and shows what some ids then are.
   *
   * @param {RunParameters} rest
   */
  run(...rest) {
    return this.#run(...rest);
  }
}

/**
 * What is to be seen after a run: ids, each for its value and gradient, or `{ id, what }`.
 * @typedef {[fetch?: readonly Fetch[], options?: CallOptions]} RunParameters
 */

/** @param {string | readonly string[]} [ids] */
function listed(ids) {
  return typeof ids === "string" ? [ids] : ids;
}
