/** JSON that keeps what JSON.stringify loses: the sign of zero, integers beyond 2**53, numbers that are not finite. */

/**
 * A document as JSON text. Fields that are undefined are left out.
 *
 * @param {unknown} item numbers, bigints, booleans, null, texts, lists and plain objects. NaN and the infinities become
 *   the words that the server knows for them.
 * @returns {string}
 */
export function writeJson(item) {
  if (typeof item === "number") return writeNumber(item);
  if (typeof item === "bigint") return String(item);
  if (typeof item !== "object" || item === null) return JSON.stringify(item);
  if (Array.isArray(item)) return `[${item.map(writeJson).join(",")}]`;
  const fields = Object.entries(item).filter(([, value]) => value !== undefined);
  return `{${fields.map(([key, value]) => `${JSON.stringify(key)}:${writeJson(value)}`).join(",")}}`;
}

/** @param {number} number */
function writeNumber(number) {
  // A JSON reader takes -0 for an integer, which has no sign at zero.
  if (Object.is(number, -0)) return "-0.0";
  return Number.isFinite(number) ? String(number) : `"${number}"`;
}
