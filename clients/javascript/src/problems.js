/** Problem documents -> errors, in one table by slug. */

import * as errors from "./errors.js";

/** @import { Problem } from "../types/wire.js" */

/** @type {Readonly<Record<string, typeof errors.PullbackError>>} slug -> class */
export const BY_SLUG = Object.freeze({
  "unknown-path": errors.UnknownPathError,
  "method-not-allowed": errors.MethodNotAllowedError,
  unauthorized: errors.UnauthorizedError,
  forbidden: errors.ForbiddenError,
  "rate-limited": errors.RateLimitedError,
  "malformed-request": errors.MalformedRequestError,
  "wrong-host": errors.WrongHostError,
  "headers-too-large": errors.HeadersTooLargeError,
  "request-timeout": errors.SlowRequestError,
  overloaded: errors.OverloadedError,
  unavailable: errors.UnavailableError,
  "storage-full": errors.StorageFullError,
  "body-too-large": errors.BodyTooLargeError,
  "unsupported-media-type": errors.UnsupportedMediaTypeError,
  "not-acceptable": errors.NotAcceptableError,
  "malformed-body": errors.MalformedBodyError,
  "unknown-program": errors.UnknownProgramError,
  "unknown-session": errors.UnknownSessionError,
  "unknown-variable": errors.UnknownVariableError,
  "unknown-job": errors.UnknownJobError,
  "expired-session": errors.ExpiredSessionError,
  "sequence-conflict": errors.SequenceConflictError,
  "name-conflict": errors.NameConflictError,
  "invalid-request": errors.InvalidRequestError,
  "syntax-error": errors.ProgramSyntaxError,
  "unknown-op": errors.UnknownOpError,
  "wrong-arity": errors.WrongArityError,
  "bad-attribute": errors.BadAttributeError,
  "unknown-name": errors.UnknownNameError,
  cycle: errors.CycleError,
  "shape-mismatch": errors.ShapeMismatchError,
  "not-scalar": errors.NotScalarError,
  "not-differentiable": errors.NotDifferentiableError,
  nograd: errors.NoGradError,
  "no-gradient": errors.NoGradientError,
  "not-supported": errors.NotSupportedError,
  "limit-exceeded": errors.LimitExceededError,
  "deadline-exceeded": errors.DeadlineExceededError,
  "internal-error": errors.InternalError,
});

/**
 * The error that a problem document stands for; a kind that this client does not know yet is a PullbackError.
 *
 * @param {Problem} problem
 * @param {Headers} headers of the answer
 */
export function errorOf(problem, headers) {
  const slug = problem.type.slice(problem.type.lastIndexOf("/") + 1);
  const kind = Object.hasOwn(BY_SLUG, slug) ? BY_SLUG[slug] : errors.PullbackError;
  return new kind(problem.detail, { problem, status: problem.status, headers });
}
