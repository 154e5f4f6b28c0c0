/** Programs that a server keeps, so that calls need only name them. */

import { Call } from "./call.js";
import { UnknownProgramError } from "./errors.js";
import { checkRequest } from "./transport.js";

/** @import { Transport } from "./transport.js" */
/**
 * @import {
 *   CallOptions, ListedProgram, Program, ProgramDetails, ProgramsPage, RegisterRequest
 * } from "../types/wire.js"
 */

/** @typedef {{ order?: number, wrt?: string }} PictureOptions of which derivative (0: none), and by which input */

const PATH = "/v1/programs";

/** The programs of one server. */
export class Programs {
  #transport;

  /** @param {Transport} transport */
  constructor(transport) {
    this.#transport = transport;
  }

  /**
   * Keeps a program; the same one again has the same id.
   *
   * @param {RegisterRequest} request
   * @param {CallOptions} [options]
   * @returns {Call<Program>}
   */
  register(request, options) {
    const send = async () => {
      checkRequest("register", request);
      const body = this.#transport.prepared(request);
      return this.#transport.send({ method: "POST", path: PATH, body }, options);
    };
    return new Call(send());
  }

  /**
   * A page of programs, in the order in which they came.
   *
   * @param {{ limit?: number, after?: string }} [page] at most so many (20), after the `next` of the page before
   * @param {CallOptions} [options]
   * @returns {Call<ProgramsPage>}
   */
  list({ limit, after } = {}, options) {
    return new Call(this.#transport.send({ method: "GET", path: PATH, query: { limit, after } }, options));
  }

  /**
   * All programs, page by page.
   *
   * @param {CallOptions} [options]
   * @returns {AsyncGenerator<ListedProgram, void, void>}
   */
  async *all(options) {
    let after;
    do {
      /** @type {ProgramsPage} */
      const page = await this.list({ limit: 100, after }, options);
      yield* page.programs;
      after = page.next ?? undefined;
    } while (after !== undefined);
  }

  /**
   * A program with its graph, its infix text and what is bound, by its id or a name.
   *
   * @param {string} program
   * @param {CallOptions} [options]
   * @returns {Call<ProgramDetails>}
   */
  get(program, options) {
    return new Call(this.#transport.send({ method: "GET", path: pathOf(program) }, options));
  }

  /**
   * Deletes a program with all its names.
   *
   * @param {string} program
   * @param {CallOptions} [options]
   * @returns {Promise<void>}
   */
  async delete(program, options) {
    try {
      await this.#transport.send({ method: "DELETE", path: pathOf(program) }, options);
    } catch (error) {
      // It was deleted by an attempt whose answer got lost.
      if (!(error instanceof UnknownProgramError && error.attempts > 1)) throw error;
    }
  }

  /**
   * A picture of a program or of its derivative, as DOT text.
   *
   * @param {string} program
   * @param {PictureOptions} [picture]
   * @param {CallOptions} [options]
   * @returns {Call<string>}
   */
  dot(program, { order, wrt } = {}, options) {
    const request = {
      method: "GET",
      path: `${pathOf(program)}/dot`,
      query: { order, wrt },
      accept: "text/vnd.graphviz",
    };
    return new Call(this.#transport.send(request, options));
  }

  /**
   * The same as SVG, where the server has Graphviz.
   *
   * @param {string} program
   * @param {PictureOptions} [picture]
   * @param {CallOptions} [options]
   * @returns {Call<string>}
   */
  svg(program, { order, wrt } = {}, options) {
    const request = {
      method: "GET",
      path: `${pathOf(program)}/dot.svg`,
      query: { order, wrt },
      accept: "image/svg+xml",
    };
    return new Call(this.#transport.send(request, options));
  }
}

/** @param {string} program */
function pathOf(program) {
  return `${PATH}/${encodeURIComponent(program)}`;
}
