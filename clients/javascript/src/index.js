/** What the package offers. */

export { Call } from "./call.js";
export { Client } from "./client.js";
export { Batch } from "./commands.js";
export * from "./errors.js";
export { NDArray, array } from "./ndarray.js";
export { Session } from "./session.js";
