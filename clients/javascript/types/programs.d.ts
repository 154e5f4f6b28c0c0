/** The programs of one server. */
export class Programs {
    /** @param {import("./transport.js").Transport} transport */
    constructor(transport: import("./transport.js").Transport);
    /**
     * Keeps a program; the same one again has the same id.
     *
     * @param {import("../types/wire.js").RegisterRequest} request
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").Program>}
     */
    register(request: import("../types/wire.js").RegisterRequest, options?: CallOptions): Call<import("../types/wire.js").Program>;
    /**
     * A page of programs, in the order in which they came.
     *
     * @param {{ limit?: number, after?: string }} [page] at most so many (20), after the `next` of the page before
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").ProgramsPage>}
     */
    list({ limit, after }?: {
        limit?: number;
        after?: string;
    }, options?: CallOptions): Call<import("../types/wire.js").ProgramsPage>;
    /**
     * All programs, page by page.
     *
     * @param {CallOptions} [options]
     * @returns {AsyncGenerator<import("../types/wire.js").ListedProgram, void, void>}
     */
    all(options?: CallOptions): AsyncGenerator<import("../types/wire.js").ListedProgram, void, void>;
    /**
     * A program with its graph, its infix text and what is bound, by its id or a name.
     *
     * @param {string} program
     * @param {CallOptions} [options]
     * @returns {Call<import("../types/wire.js").ProgramDetails>}
     */
    get(program: string, options?: CallOptions): Call<import("../types/wire.js").ProgramDetails>;
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
export type CallOptions = import("../types/wire.js").CallOptions;
/**
 * of which derivative, 0 for the program itself, and by which input
 */
export type PictureOptions = {
    order?: number;
    wrt?: string;
};
import { Call } from "./call.js";
