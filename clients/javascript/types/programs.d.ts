/** The programs of one server. */
export class Programs {
    /** @param {Transport} transport */
    constructor(transport: Transport);
    /**
     * Keeps a program; the same one again has the same id.
     *
     * @param {RegisterRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<Program>}
     */
    register(request: RegisterRequest, options?: CallOptions): Call<Program>;
    /**
     * A page of programs, in the order in which they came.
     *
     * @param {{ limit?: number, after?: string }} [page] at most so many (20), after the `next` of the page before
     * @param {CallOptions} [options]
     * @returns {Call<ProgramsPage>}
     */
    list({ limit, after }?: {
        limit?: number;
        after?: string;
    }, options?: CallOptions): Call<ProgramsPage>;
    /**
     * All programs, page by page.
     *
     * @param {CallOptions} [options]
     * @returns {AsyncGenerator<ListedProgram, void, void>}
     */
    all(options?: CallOptions): AsyncGenerator<ListedProgram, void, void>;
    /**
     * A program with its graph, its infix text and what is bound, by its id or a name.
     *
     * @param {string} program
     * @param {CallOptions} [options]
     * @returns {Call<ProgramDetails>}
     */
    get(program: string, options?: CallOptions): Call<ProgramDetails>;
    /**
     * Deletes a program with all its names.
     *
     * @param {string} program
     * @param {CallOptions} [options]
     * @returns {Promise<void>}
     */
    delete(program: string, options?: CallOptions): Promise<void>;
    /**
     * A picture of a program or of its derivative, as DOT text.
     *
     * @param {string} program
     * @param {PictureOptions} [picture]
     * @param {CallOptions} [options]
     * @returns {Call<string>}
     */
    dot(program: string, { order, wrt }?: PictureOptions, options?: CallOptions): Call<string>;
    /**
     * The same as SVG, where the server has Graphviz.
     *
     * @param {string} program
     * @param {PictureOptions} [picture]
     * @param {CallOptions} [options]
     * @returns {Call<string>}
     */
    svg(program: string, { order, wrt }?: PictureOptions, options?: CallOptions): Call<string>;
    #private;
}
/**
 * of which derivative (0: none), and by which input
 */
export type PictureOptions = {
    order?: number;
    wrt?: string;
};
import type { RegisterRequest } from "../types/wire.js";
import type { CallOptions } from "../types/wire.js";
import { Call } from "./call.js";
import type { Program } from "../types/wire.js";
import type { ProgramsPage } from "../types/wire.js";
import type { ListedProgram } from "../types/wire.js";
import type { ProgramDetails } from "../types/wire.js";
import type { Transport } from "./transport.js";
