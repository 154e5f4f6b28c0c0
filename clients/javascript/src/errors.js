/** Errors: one class for each kind of problem that a server knows, and three for what no server said. */

/** @import { Problem } from "../types/wire.js" */

/**
 * What an error was made from.
 * @typedef {object} Origin
 * @property {Problem} [problem] the server's own words (RFC 9457)
 * @property {number} [status] of the answer
 * @property {Headers} [headers] of the answer
 * @property {unknown} [cause] what was thrown below
 */

/** Base of all errors that this client makes of answers, and of the want of them. */
export class PullbackError extends Error {
  /** What to do, where the server cannot know it. */
  static hint = "";

  /**
   * @param {string} detail what was wrong, where, and what would be right
   * @param {Origin} [origin]
   */
  constructor(detail, { problem, status = 0, headers = new Headers(), cause } = {}) {
    super([detail, new.target.hint].filter(Boolean).join("; "), cause === undefined ? {} : { cause });
    this.name = new.target.name;
    this.detail = detail;
    /** The problem's kind, `/problems/<slug>`; "about:blank" where no server named one. */
    this.type = problem?.type ?? "about:blank";
    this.title = problem?.title ?? "";
    /** HTTP status; 0 without an answer. */
    this.status = status;
    /** Every place that is wrong: a path into the request, and what is wrong there. */
    this.errors = problem?.errors ?? [];
    /** By this the server's log can be searched. */
    this.requestId = problem?.request_id ?? headers.get("x-request-id") ?? "";
    this.headers = headers;
    /** All that the server said, kinds' own members too. */
    this.problem = problem;
    /** How often the call was tried. */
    this.attempts = 1;
  }

  /** Seconds after which the server wants to be asked again, if it said so. */
  get retryAfter() {
    const said = this.headers.get("retry-after");
    if (said === null) return undefined;
    const seconds = /^\s*\d+\s*$/.test(said) ? Number(said) : (Date.parse(said) - Date.now()) / 1000;
    return Number.isNaN(seconds) ? undefined : Math.max(seconds, 0);
  }
}

/** There was no answer, or not all of it. */
export class ConnectionError extends PullbackError {}

/** There was no answer in time; what was asked may have been done. */
export class TimeoutError extends PullbackError {}

/** There was an answer that no Pullback server gives. */
export class UnexpectedAnswerError extends PullbackError {}

export class UnknownPathError extends PullbackError {}
export class MethodNotAllowedError extends PullbackError {}
export class UnauthorizedError extends PullbackError {
  static hint = "a key is given by new Client({ apiKey })";
}
export class ForbiddenError extends PullbackError {}
export class RateLimitedError extends PullbackError {}
export class MalformedRequestError extends PullbackError {}
export class WrongHostError extends PullbackError {}
export class HeadersTooLargeError extends PullbackError {}
export class SlowRequestError extends PullbackError {}
export class OverloadedError extends PullbackError {}
export class UnavailableError extends PullbackError {}
export class StorageFullError extends PullbackError {}
export class BodyTooLargeError extends PullbackError {}
export class UnsupportedMediaTypeError extends PullbackError {}
export class NotAcceptableError extends PullbackError {}
export class MalformedBodyError extends PullbackError {}
export class UnknownProgramError extends PullbackError {}
export class UnknownSessionError extends PullbackError {
  static hint =
    "client.session() makes a new one; its variables are to be made again, saved weights go back with putState()";
}
export class UnknownVariableError extends PullbackError {}
export class UnknownJobError extends PullbackError {}
export class ExpiredSessionError extends PullbackError {
  static hint =
    "its variables, models and optimizers are gone: client.session({ ttl }) makes a new one that may live longer, " +
    "saved weights go back with putState()";
}
export class SequenceConflictError extends PullbackError {
  static hint =
    "a call before it whose answer got lost was done after all, or another client uses the session: look at its " +
    "variables, then session.sync() goes on from there";

  /** The number that the session expects next. */
  get expected() {
    return Number(this.problem?.expected);
  }
}
export class NameConflictError extends PullbackError {}
export class InvalidRequestError extends PullbackError {}
export class ProgramSyntaxError extends PullbackError {}
export class UnknownOpError extends PullbackError {}
export class WrongArityError extends PullbackError {}
export class BadAttributeError extends PullbackError {}
export class UnknownNameError extends PullbackError {}
export class CycleError extends PullbackError {}
export class ShapeMismatchError extends PullbackError {}
export class NotScalarError extends PullbackError {}
export class NotDifferentiableError extends PullbackError {}
export class NoGradError extends PullbackError {}
export class NoGradientError extends PullbackError {}
export class NotSupportedError extends PullbackError {}
export class LimitExceededError extends PullbackError {}
export class DeadlineExceededError extends PullbackError {}
export class InternalError extends PullbackError {}
