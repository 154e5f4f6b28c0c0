/** JSON that keeps what JSON.stringify loses: the sign of zero, integers beyond 2**53, numbers that are not finite. */
/**
 * A document as JSON text. Fields that are undefined are left out.
 *
 * @param {unknown} item numbers, bigints, booleans, null, texts, lists and plain objects. NaN and the infinities become
 *   the words that the server knows for them.
 * @returns {string}
 */
export function writeJson(item: unknown): string;
