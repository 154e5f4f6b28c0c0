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
    static hint: string;
    /**
     * @param {string} detail what was wrong, where, and what would be right
     * @param {Origin} [origin]
     */
    constructor(detail: string, { problem, status, headers, cause }?: Origin);
    detail: string;
    /** The problem's kind, `/problems/<slug>`; "about:blank" where no server named one. */
    type: string;
    title: string;
    /** HTTP status; 0 without an answer. */
    status: number;
    /** Every place that is wrong: a path into the request, and what is wrong there. */
    errors: {
        loc: (string | number)[];
        msg: string;
    }[];
    /** By this the server's log can be searched. */
    requestId: string;
    headers: Headers;
    /** All that the server said, kinds' own members too. */
    problem: Problem | undefined;
    /** How often the call was tried. */
    attempts: number;
    /** Seconds after which the server wants to be asked again, if it said so. */
    get retryAfter(): number | undefined;
}
/** There was no answer, or not all of it. */
export class ConnectionError extends PullbackError {
}
/** There was no answer in time; what was asked may have been done. */
export class TimeoutError extends PullbackError {
}
/** There was an answer that no Pullback server gives. */
export class UnexpectedAnswerError extends PullbackError {
}
export class UnknownPathError extends PullbackError {
}
export class MethodNotAllowedError extends PullbackError {
}
export class UnauthorizedError extends PullbackError {
}
export class ForbiddenError extends PullbackError {
}
export class RateLimitedError extends PullbackError {
}
export class MalformedRequestError extends PullbackError {
}
export class WrongHostError extends PullbackError {
}
export class HeadersTooLargeError extends PullbackError {
}
export class SlowRequestError extends PullbackError {
}
export class OverloadedError extends PullbackError {
}
export class UnavailableError extends PullbackError {
}
export class StorageFullError extends PullbackError {
}
export class BodyTooLargeError extends PullbackError {
}
export class UnsupportedMediaTypeError extends PullbackError {
}
export class NotAcceptableError extends PullbackError {
}
export class MalformedBodyError extends PullbackError {
}
export class UnknownProgramError extends PullbackError {
}
export class UnknownSessionError extends PullbackError {
}
export class UnknownVariableError extends PullbackError {
}
export class UnknownJobError extends PullbackError {
}
export class ExpiredSessionError extends PullbackError {
}
export class SequenceConflictError extends PullbackError {
    /** The number that the session expects next. */
    get expected(): number;
}
export class NameConflictError extends PullbackError {
}
export class InvalidRequestError extends PullbackError {
}
export class ProgramSyntaxError extends PullbackError {
}
export class UnknownOpError extends PullbackError {
}
export class WrongArityError extends PullbackError {
}
export class BadAttributeError extends PullbackError {
}
export class UnknownNameError extends PullbackError {
}
export class CycleError extends PullbackError {
}
export class ShapeMismatchError extends PullbackError {
}
export class NotScalarError extends PullbackError {
}
export class NotDifferentiableError extends PullbackError {
}
export class NoGradError extends PullbackError {
}
export class NoGradientError extends PullbackError {
}
export class NotSupportedError extends PullbackError {
}
export class LimitExceededError extends PullbackError {
}
export class DeadlineExceededError extends PullbackError {
}
export class InternalError extends PullbackError {
}
/**
 * What an error was made from.
 */
export type Origin = {
    /**
     * the server's own words (RFC 9457)
     */
    problem?: Problem | undefined;
    /**
     * of the answer
     */
    status?: number | undefined;
    /**
     * of the answer
     */
    headers?: Headers | undefined;
    /**
     * what was thrown below
     */
    cause?: unknown;
};
import type { Problem } from "../types/wire.js";
